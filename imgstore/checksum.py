"""Checksums by which bytes are known again after a crash: fast, and no proof against anybody.

XXH3, where xxhash is installed, takes a fifteenth of the time of zlib's CRC-32: 0.03 s of a core for 1 GiB
where that takes 0.45.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Checksum(Protocol):
    """One that is being computed. Belongs to one thread at a time."""

    def update(self, data: memoryview | bytes, /) -> None:
        """Takes what comes next."""

    def value(self) -> int:
        """Gives the checksum of all of it, in 32 bits."""


class Crc32:
    """That of zlib and gzip (RFC 1952 §8)."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: memoryview | bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def value(self) -> int:
        return self._value


class Xxh3:
    """The lower half of XXH3's 64 bits."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._state = make()
        self.update = self._state.update

    def value(self) -> int:
        found: int = self._state.intdigest()
        return found & 0xFFFFFFFF


@functools.cache
def known() -> Mapping[str, Callable[[], Checksum]]:
    """Gives what begins each checksum that this machine can compute, by its name; the best one first."""
    try:
        import xxhash
    except ImportError:
        return {"crc32": Crc32}
    return {"xxh3": lambda: Xxh3(xxhash.xxh3_64), "crc32": Crc32}


@functools.cache
def of_zeros(name: str, size: int) -> int:
    """Gives the checksum of `size` zeros."""
    found = known()[name]()
    found.update(bytes(size))
    return found.value()
