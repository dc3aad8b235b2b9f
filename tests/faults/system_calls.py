"""What Python code asks of the kernel about files, call by call: to be counted, failed, or written down."""

from __future__ import annotations

import builtins
import fcntl
import functools
import io
import os
import posix
import types
from collections.abc import Callable
from typing import Any

# What asks for no file, or is used to end a process that has been watched long enough.
_OTHERS = {
    "_exit", "abort", "cpu_count", "fork", "fspath", "getegid", "geteuid", "getgid", "getpid", "getuid",
    "kill", "register_at_fork", "sched_getaffinity", "strerror", "urandom", "waitpid",
    "waitstatus_to_exitcode",
}  # fmt: skip

Watch = Callable[[str, Callable[[], Any], tuple[Any, ...], dict[str, Any]], Any]


def _watched() -> list[tuple[types.ModuleType, str]]:
    """Gives every function of `os`, `fcntl` and of opening files that is the kernel's, whoever calls it."""
    own = [name for name, each in vars(posix).items() if isinstance(each, types.BuiltinFunctionType)]
    places = [(os, name) for name in own if name not in _OTHERS and hasattr(os, name)]
    return [*places, (fcntl, "flock"), (fcntl, "ioctl"), (builtins, "open"), (io, "open")]


class Calls:
    """While it is entered, each call is `watch`'s to make: it gets the name, the call, and its arguments.

    It sees what goes through the modules' names, in every thread; not what C code or ctypes asks for itself,
    nor what a file object of Python's does after it was opened. For those there is strace.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._real: list[tuple[types.ModuleType, str, Any]] = []

    def __enter__(self) -> Calls:
        for module, name in _watched():
            real = getattr(module, name)
            self._real.append((module, name, real))
            setattr(module, name, self._stand_in(name, real))
        return self

    def __exit__(self, *_: object) -> None:
        while self._real:
            module, name, real = self._real.pop()
            setattr(module, name, real)

    def _stand_in(self, name: str, real: Any) -> Any:
        @functools.wraps(real)
        def call(*args: Any, **options: Any) -> Any:
            return self._watch(name, functools.partial(real, *args, **options), args, options)

        return call
