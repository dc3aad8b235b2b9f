"""A secret that a store uses: the text itself, or what gives it at each use."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, TypeAlias

from imgstore.errors import ConfigError

SECRET_LIMIT: Final = 64 << 10  # bytes of a secret's file: a larger one is the wrong file

# A callable is asked at each use, so that a secret that was renewed counts at once.
Secret: TypeAlias = "str | Callable[[], str]"  # noqa: S105  # a type


def reveal(secret: Secret) -> str:
    """Gives the text of `secret` as it is now. Raises: what its callable raises, ConfigError as a rule."""
    return secret() if callable(secret) else secret


class SecretFile:
    """The secret that a file holds, read at each call: small, and in the cache of the system.

    One line break at the end is not part of it. `path` may begin with `~`; `option` names the option that
    gave it, for errors, which never show what the file holds. Callable from any thread.
    """

    def __init__(self, path: str, option: str) -> None:
        self.path = os.path.expanduser(path)
        self._option = option

    def __call__(self) -> str:
        """Reads the file. Raises: ConfigError where it is not there, unreadable, empty, or no such file."""
        try:
            with open(self.path, "rb") as file:
                data = file.read(SECRET_LIMIT + 1)
        except (OSError, ValueError) as exc:  # a null in the path is a ValueError
            why = getattr(exc, "strerror", None) or "the path is none"
            raise ConfigError(f"the {self._option} {self.path!r} cannot be read: {why}") from exc
        if len(data) > SECRET_LIMIT:
            raise ConfigError(
                f"the {self._option} {self.path!r} is above {SECRET_LIMIT >> 10} KiB: no secret is"
            )
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = ""
        if not text.strip():
            raise ConfigError(
                f"the {self._option} {self.path!r} holds no text; it holds the secret and nothing else"
            )
        return text.removesuffix("\n").removesuffix("\r")

    def __repr__(self) -> str:
        return f"<SecretFile {self.path!r}>"
