"""The digest of a whole image that a store tells, held against the bytes as they go by."""

from __future__ import annotations

import hashlib
from typing import Final

from imgstore.errors import DigestMismatchError
from imgstore.model import ByteRange, ObjectInfo

_STRONGEST_FIRST: Final = ("sha512", "sha384", "sha256", "blake2b", "sha1", "md5")


class WholeDigest:
    """What all bytes of an image are to have, of which `update` takes one after the other."""

    def __init__(self, name: str, digest: str) -> None:
        self._name = name
        self._digest = digest
        self._hash = hashlib.new(name, usedforsecurity=False)

    def update(self, data: memoryview) -> None:
        self._hash.update(data)

    def check(self) -> None:
        """Returns if they have it. Raises: DigestMismatchError."""
        if self._hash.hexdigest() != self._digest:
            raise DigestMismatchError(
                f"the image's bytes do not have the {self._name} that the store gave before the first of"
                " them",
                offset=0,
            )


def whole_digest(info: ObjectInfo, served: ByteRange) -> WholeDigest | None:
    """Gives what the bytes of a whole image are held against; None for a part of one, or with no digest."""
    if served.start or served.stop != info.size or (found := usable_digest(info)) is None:
        return None
    return WholeDigest(*found)


def usable_digest(info: ObjectInfo) -> tuple[str, str] | None:
    """Gives the strongest digest that a store tells and this Python knows: its name, and it in lower case."""
    for name in _STRONGEST_FIRST:
        if name in info.digests and name in hashlib.algorithms_available:
            return name, info.digests[name].lower()
    return None
