"""Where an image lies: its object's key in the bucket, and what of the bucket is the driver's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from imgstore.errors import ConfigError, UnsafeLocationError
from imgstore.model import KEY_LIMIT, check_key

OWN: Final = ".imgstore/"
RECORDS: Final = f"{OWN}uploads/"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}|arn:[A-Za-z0-9:/_-]{1,2000}")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket, and what the keys of a store's objects begin with there.

    Raises: ConfigError for a name that no bucket has, or a prefix that leaves no room for keys.
    """

    name: str
    prefix: str = ""

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.name):
            raise ConfigError(
                f"the option 'bucket' is {self.name[:80]!r}; a bucket's name has letters, digits, - and ."
            )
        if len(self.prefix.encode("utf-8", "replace")) > KEY_LIMIT // 2 or "\0" in self.prefix:
            raise ConfigError(f"the option 'prefix' holds a NUL, or more than {KEY_LIMIT // 2} bytes")

    def object_key(self, key: str) -> str:
        """Gives the object's key for the image `key`.

        Raises: UnsafeLocationError for one that is too long with the prefix, or the driver's own.
        """
        if key.startswith(OWN):
            raise UnsafeLocationError(f"keys that begin with {OWN!r} are the driver's own", key=key)
        name = self.prefix + key
        if len(name.encode()) > KEY_LIMIT:
            raise UnsafeLocationError(
                f"with the prefix of this store the key has more than {KEY_LIMIT} bytes", key=key
            )
        return name

    def key_of(self, name: str) -> str | None:
        """Gives the key of the image whose object is `name`; None for what is no image of this store."""
        key = name.removeprefix(self.prefix)
        if not name.startswith(self.prefix) or key.startswith(OWN):
            return None
        try:
            return check_key(key)
        except UnsafeLocationError:
            return None  # a folder that a console made, for one

    def is_own(self, name: str) -> bool:
        """Tells whether an object is one that the driver keeps for itself."""
        return name.startswith(self.prefix + OWN)

    def record(self, marker: str) -> str:
        """Gives the object's key for the record of the upload `marker`."""
        return f"{self.prefix}{RECORDS}{marker}"

    @property
    def records(self) -> str:
        """What the keys of all records begin with."""
        return self.prefix + RECORDS
