"""Where a file holds data, and where it has holes."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final

from imgstore.backends.filesystem.directories import Directories
from imgstore.backends.filesystem.failures import typed
from imgstore.backends.filesystem.reader import FileReader
from imgstore.model import NO_CALL, ByteRange, Call, Extent
from imgstore.store import Store

# A file system that cannot tell says one of these (lseek(2)).
_CANNOT_TELL: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP})


class FilesystemExtents:
    """Asks the file system for holes (SEEK_DATA, SEEK_HOLE); one that cannot tell has data only.

    The whole map is of one version, of one open file.
    """

    def __init__(self, owner: Store, directories: Directories) -> None:
        self._owner = owner
        self._directories = directories

    def extents(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        version: str | None = None,
        call: Call = NO_CALL,
    ) -> Iterator[Extent]:
        self._owner._admit(key, call)
        return self._extents(key, ByteRange(start, stop), version, call)

    def _extents(self, key: str, wanted: ByteRange, version: str | None, call: Call) -> Iterator[Extent]:
        with typed(self._owner, key):
            _, descriptor = self._directories.find(key)
            with contextlib.closing(FileReader(descriptor, key)) as reader:
                reader.pin(version, self._owner.clock, call)
                served = reader.clip(wanted.start, wanted.stop)
                for extent in extents_of(reader.descriptor, served.start, served.start + (served.size or 0)):
                    reader.check_unchanged()
                    call.check(self._owner.clock)
                    yield extent
                reader.check_unchanged()


def extents_of(descriptor: int, start: int, stop: int) -> Iterator[Extent]:
    """Gives the extents of an open file that cover [start, stop). It moves the descriptor's position."""
    at = start
    while at < stop:
        data = min(_seek(descriptor, at, os.SEEK_DATA, stop), stop)
        if data > at:
            yield Extent(ByteRange(at, data), "hole")
        if data < stop:
            at = min(_seek(descriptor, data, os.SEEK_HOLE, stop), stop)
            yield Extent(ByteRange(data, at), "data")
        else:
            at = stop


def _seek(descriptor: int, at: int, whence: int, stop: int) -> int:
    try:
        return os.lseek(descriptor, at, whence)
    except OSError as exc:
        if exc.errno == errno.ENXIO:  # no data behind `at`
            return stop
        if exc.errno in _CANNOT_TELL:
            return at if whence == os.SEEK_DATA else stop
        raise
