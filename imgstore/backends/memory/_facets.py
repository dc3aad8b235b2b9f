"""Listing, extents, copying and the room that is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from imgstore.backends.memory._images import Images
from imgstore.errors import RangeNotSatisfiableError
from imgstore.model import NO_CALL, ByteRange, Call, Extent, ObjectInfo

BLOCK = 4096  # what file systems allocate by, so that a test sees the extents a disk would have
_ZEROS = bytes(BLOCK)


class MemoryLister:
    """Lists the images as they were when the listing began."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def list(self, prefix: str = "", *, call: Call = NO_CALL) -> Iterator[ObjectInfo]:
        self._images.owner._admit(None, call)
        infos = [each.info for each in self._images.snapshot() if each.info.key.startswith(prefix)]
        infos.sort(key=lambda info: info.key.encode())
        return iter(infos)


class MemoryExtents:
    """Tells blocks of zeros from data. There are no holes: a memory store allocates every byte."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def extents(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        version: str | None = None,
        call: Call = NO_CALL,
    ) -> Iterator[Extent]:
        owner = self._images.owner
        owner._admit(key, call)
        wanted = ByteRange(start, stop)
        data = self._images.find(key, version).data
        if start > len(data) or start == len(data) > 0:
            raise RangeNotSatisfiableError(
                f"offset {start} lies behind the end of the image ({len(data)} bytes)",
                key=key,
                store=owner.store_id,
            )
        return _extents(data, wanted.start, len(data) if stop is None else min(stop, len(data)))


def _extents(data: bytes, start: int, stop: int) -> Iterator[Extent]:
    at = begin = start
    kind: Literal["data", "zero"] | None = None
    while at < stop:
        base = at - at % BLOCK
        found: Literal["data", "zero"] = "zero" if _ZEROS.startswith(data[base : base + BLOCK]) else "data"
        if kind is not None and found != kind:
            yield Extent(ByteRange(begin, at), kind)
            begin = at
        kind = found
        at = min(base + BLOCK, stop)
    if kind is not None:
        yield Extent(ByteRange(begin, stop), kind)


class MemoryCopier:
    """Copies by sharing the bytes; the copy counts against the capacity all the same."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def copy(
        self, source_key: str, target_key: str, *, overwrite: bool = False, call: Call = NO_CALL
    ) -> ObjectInfo:
        owner = self._images.owner
        owner._admit(source_key, call)
        owner._admit(target_key, call)
        image = self._images.find(source_key)
        return self._images.publish(target_key, image.data, overwrite=overwrite, digests=image.info.digests)


class MemorySpace:
    """Knows the capacity that was configured."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def free(self, *, call: Call = NO_CALL) -> int | None:
        self._images.owner._admit(None, call)
        return self._images.room()
