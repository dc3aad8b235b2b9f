"""The functions of `os` that a module calls, watched and made to fail."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from imgstore.publish import names, pending, target

WATCHED = (
    "open", "stat", "dup", "write", "lseek", "ftruncate", "fchmod", "fsync", "fstat", "close", "link",
    "rename", "unlink",
)  # fmt: skip

# A failed close has closed all the same.
LOSES = {"close"}


class Disk:
    """Stands in for the module `os`: notes each watched call and fails those that `plan` picks.

    `plan(name, number)` is asked before each call, with its number among all watched calls of that name, from
    1; it gives an exception to raise, or None. With `after`, the call is made first.
    """

    def __init__(
        self, plan: Callable[[str, int], BaseException | None] | None = None, *, after: bool = False
    ):
        self.calls: list[tuple[str, Any]] = []
        self._plan = plan
        self._after = after
        self._counts: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in WATCHED:
            return real

        def call(*args: Any, **options: Any) -> Any:
            self._counts[name] = self._counts.get(name, 0) + 1
            error = self._plan(name, self._counts[name]) if self._plan else None
            self.calls.append((name, len(args[1]) if name == "write" else args[0]))
            if error is None:
                return real(*args, **options)
            if self._after or name in LOSES:
                with contextlib.suppress(OSError):
                    result = real(*args, **options)
                    if name in {"open", "dup"}:
                        os.close(result)
            raise error

        return call


def install(monkeypatch: Any, disk: Disk) -> None:
    """Puts `disk` under the publishing of files."""
    for module in (names, pending, target):
        monkeypatch.setattr(module, "os", disk)
