"""A secret that a store uses: the text itself, or what gives it at each use."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from imgstore.errors import ConfigError

SECRET_LIMIT: Final = 64 << 10  # bytes of a secret's file: a larger one is the wrong file
_SHOWN: Final = 4  # letters of the shortest text that is looked for: less is in every message by chance
_URL: Final = re.compile(
    r"https?://(?P<authority>[^/?#]*)(?P<path>[^?#]*)\??(?P<rest>.*)", re.IGNORECASE | re.DOTALL
)

# A callable is asked at each use, so that a secret that was renewed counts at once.
Secret: TypeAlias = "str | Callable[[], str]"  # noqa: S105  # a type


def reveal(secret: Secret) -> str:
    """Gives the text of `secret` as it is now. Raises: what its callable raises, ConfigError as a rule."""
    return secret() if callable(secret) else secret


def secret_texts(value: Any) -> set[str]:
    """Gives what must not be shown of the value of a secret option.

    That is its lines, and what follows a colon in them, as in a header. A URL is shown but for user, password
    and query; one that may have a password cut in two is not.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    given = value if isinstance(value, (list, tuple)) else [value]
    parts = [
        part.strip() for each in given for line in str(each).splitlines() for part in _parts(line.strip())
    ]
    return {part for part in parts if len(part) >= _SHOWN}


def _parts(line: str) -> Iterator[str]:
    found = _URL.fullmatch(line)
    if found is None or "@" in found["path"]:
        yield from (line, line.partition(":")[2], line.partition("//")[2])
        return
    user = found["authority"].rpartition("@")[0]
    values = [each.partition("=")[2] for each in re.split("[&#]", found["rest"])]
    for part in (user, *user.split(":", 1), found["rest"], *values):
        yield from (part, unquote(part))


class SecretFile:
    """The secret that a file holds, read at each call: small, and in the cache of the system.

    One line break at the end is not part of it. `path` may begin with `~`; `option` names the option that
    gave it, for errors, which never show what the file holds. Callable from any thread.
    """

    def __init__(self, path: str, option: str) -> None:
        self.path = os.path.expanduser(path)
        self.option = option

    def __call__(self) -> str:
        """Reads the file.

        Raises: ConfigError where it cannot be read, is no regular file, or holds no secret: no text, or too
        much.
        """
        try:
            with open(self.path, "rb", opener=_at_once) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise self._wrong("is no regular file")
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
        return ConfigError(
            f"the {self.option} {self.path!r} {what}; a file with the secret and nothing else would do"
        )


def _at_once(path: str, flags: int) -> int:
    """Opens without waiting for who would write: a pipe in place of the file holds nothing up."""
    return os.open(path, flags | os.O_NONBLOCK)
