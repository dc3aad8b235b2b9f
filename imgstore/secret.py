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
        self.option = option

    def __call__(self) -> str:
        """Reads the file. Raises: ConfigError where it cannot be read or holds none: no text, or too much."""
        try:
            with open(self.path, "rb") as file:
                data = file.read(SECRET_LIMIT + 1)
        except OSError as exc:
            raise ConfigError(f"the {self.option} {self.path!r} cannot be read: {exc.strerror}") from exc
        if len(data) > SECRET_LIMIT:
            raise self._wrong(f"is larger than {SECRET_LIMIT >> 10} KiB")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = ""
        if not text.strip():
            raise self._wrong("is empty or no UTF-8")
        return text.removesuffix("\n").removesuffix("\r")

    def __repr__(self) -> str:
        return f"<SecretFile {self.path!r}>"

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(f"the {self.option} {self.path!r} {what}; the secret and nothing else would do")
