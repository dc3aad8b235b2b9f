"""A store that holds its images in the memory of this process."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import ClassVar

from oslo_config import cfg

from imgstore.backends.memory._facets import MemoryCopier, MemoryExtents, MemoryLister, MemorySpace
from imgstore.backends.memory._images import Images
from imgstore.backends.memory._uploads import MemoryUploader
from imgstore.backends.memory._writer import MemoryWriter
from imgstore.errors import (
    ConnectionLostError,
    ImgstoreError,
    RangeNotSatisfiableError,
    StorageIOError,
)
from imgstore.model import ByteRange, Call, ObjectInfo, Version
from imgstore.store import Store, UploadLimits, unknown
from imgstore.stream import Opened


class MemoryStore(Store):
    """Images in memory, with every facet but `device` and `acls`. They live as long as the store object.

    A reader holds the bytes that it began with, as an open file does: after a replacement or a deletion it
    goes on exactly with those, while a new `get` with the old version raises. Each put gives a fresh version.
    """

    OPTIONS: ClassVar[Sequence[cfg.Opt]] = (
        cfg.IntOpt(
            "capacity",
            min=0,
            help="The bytes that the images and the parts of pending uploads may take together. Without it "
            "the machine's memory is the limit.",
        ),
        cfg.IntOpt(
            "min_part",
            default=1,
            min=1,
            help="The smallest part of an upload in bytes; the last one may be smaller.",
        ),
        cfg.IntOpt("max_part", default=1 << 30, min=1, help="The largest part of an upload in bytes."),
        cfg.IntOpt("max_parts", default=10_000, min=1, help="The largest number of parts of one upload."),
        cfg.BoolOpt("ordered", default=False, help="Whether the parts of an upload must be put in order."),
    )

    def __init__(
        self,
        *,
        capacity: int | None = None,
        min_part: int = 1,
        max_part: int = 1 << 30,
        max_parts: int = 10_000,
        ordered: bool = False,
    ) -> None:
        self._images = Images(self, capacity)
        self.writer: MemoryWriter = MemoryWriter(self._images)
        self.uploader: MemoryUploader = MemoryUploader(
            self._images, UploadLimits(min_part, max_part, max_parts, ordered)
        )
        self.lister: MemoryLister = MemoryLister(self._images)
        self.extents: MemoryExtents = MemoryExtents(self._images)
        self.copier: MemoryCopier = MemoryCopier(self._images)
        self.space: MemorySpace = MemorySpace(self._images)

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        return self._images.find(key).info

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        image = self._images.find(key, version)
        size = len(image.data)
        if start > size or start == size > 0:
            raise RangeNotSatisfiableError(f"offset {start} lies behind the end of the image ({size} bytes)")
        stop = size if stop is None else min(stop, size)
        return Opened(MemoryReader(image.data, start, stop), image.info, ByteRange(start, stop))

    def translate(self, exc: Exception) -> ImgstoreError:
        if isinstance(exc, ImgstoreError):
            return exc
        if isinstance(exc, MemoryError):
            error = StorageIOError("no memory for the image", errno=errno.ENOMEM)
            error.__cause__ = exc
            return error
        return unknown(exc)


class MemoryReader:
    """A position in the bytes of one version of an image."""

    def __init__(self, data: bytes, start: int, stop: int) -> None:
        self._left = memoryview(data)[start:stop]
        self._aborted = False

    def readinto(self, buffer: memoryview, /) -> int:
        if self._aborted:
            raise ConnectionLostError("the read was aborted")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def abort(self) -> None:
        self._aborted = True

    def close(self) -> None:
        self._aborted = True
        self._left = memoryview(b"")
