"""A complete read-only driver, to start one's own from: the images are the files in a tar archive.

`Store.get` and `ByteStream` judge keys, ranges, versions, counts, deadlines and cancellation for it. It is
proven by tests/conformance/test_example_driver.py; an entry point `imgstore.drivers` would announce it.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence
from typing import ClassVar

from oslo_config import cfg

from imgstore.errors import (
    ConnectionLostError,
    ImgstoreError,
    NotFoundError,
    StorageIOError,
    UnsupportedError,
)
from imgstore.model import ByteRange, Call, ObjectInfo, Version
from imgstore.store import Store, unknown
from imgstore.stream import Opened


class TarStore(Store):
    """The files of one uncompressed tar archive, which is replaced by renaming another onto it."""

    OPTIONS: ClassVar[Sequence[cfg.Opt]] = (cfg.StrOpt("path", required=True, help="The archive."),)

    def __init__(self, *, path: str) -> None:
        self._path = path  # no I/O here: a store is built long before it is used

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        with open(self._path, "rb", buffering=0) as file:
            return _find(file, key)[0]

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        file = open(self._path, "rb", buffering=0)  # noqa: SIM115  # the reader closes it
        try:
            info, begin = _find(file, key)
            size = info.size or 0
            served = ByteRange(start, max(start, size if stop is None else min(stop, size)))
            file.seek(begin + min(start, size))
            return Opened(_Reader(file, served.size or 0), info, served)
        except BaseException:
            file.close()
            raise

    def translate(self, exc: Exception) -> ImgstoreError:
        if isinstance(exc, ImgstoreError):
            return exc
        if isinstance(exc, OSError):
            return StorageIOError(f"reading the archive failed: {exc.strerror}", errno=exc.errno)
        if isinstance(exc, tarfile.TarError):
            return StorageIOError(f"the archive is damaged: {exc}")
        return unknown(exc)


def _find(file: io.FileIO, key: str) -> tuple[ObjectInfo, int]:
    """Gives the image and where its bytes begin. Its version is new with each archive."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        try:
            member = archive.getmember(key)
        except KeyError:
            raise NotFoundError("the archive has no such file") from None
        if not member.isreg() or member.issparse():
            raise UnsupportedError("not a plain file in the archive")
        now = os.fstat(file.fileno())
        version = (
            f"{now.st_ino:x}-{now.st_size:x}-{now.st_mtime_ns:x}-{now.st_ctime_ns:x}-{member.offset_data:x}"
        )
        return ObjectInfo(key, member.size, version, float(member.mtime)), member.offset_data


class _Reader:
    """A stretch of the archive. The file stays the one that was opened, whatever is renamed onto its name."""

    def __init__(self, file: io.FileIO, left: int) -> None:
        self._file = file
        self._left = left
        self._aborted = False

    def readinto(self, buffer: memoryview, /) -> int:
        if self._aborted:
            raise ConnectionLostError("the read was aborted")
        count = self._file.readinto(buffer[: self._left])
        self._left -= count
        return count

    def abort(self) -> None:
        self._aborted = True  # a read of a local file does not wait long enough to be cut short

    def close(self) -> None:
        self._file.close()
