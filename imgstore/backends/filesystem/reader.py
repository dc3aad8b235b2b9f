"""One open file of one version."""

from __future__ import annotations

import contextlib
import os
from typing import Final

from imgstore.backends.filesystem.stamp import settle, unsettled, version_of
from imgstore.backends.filesystem.walk import check_regular
from imgstore.clock import Clock
from imgstore.errors import (
    OperationCancelledError,
    RangeNotSatisfiableError,
    StorageIOError,
    UnsafeLocationError,
    VersionChangedError,
)
from imgstore.model import ByteRange, Call, ObjectInfo, Version

# One read of the medium: far below a second even on a slow one, so that a cancelled read ends in time.
_RECEIVE: Final = 8 << 20


class FileReader:
    """A position in an open file, which stays the file it was opened as: a rename does not change it."""

    def __init__(self, descriptor: int, key: str) -> None:
        """Takes `descriptor` over, also when it raises.

        Raises: UnsafeLocationError for what is no plain file, NotFoundError for a folder.
        """
        self.descriptor = descriptor
        self._key = key
        self._at = self._stop = 0
        self._aborted = False
        self._settled = True
        try:
            self._found = os.fstat(descriptor)
            check_regular(self._found, key)
            # /proc and its like call every file empty.
            if self.size == 0 and os.pread(descriptor, 1, 0):
                self.check_unchanged()
                raise UnsafeLocationError(f"{key!r} holds more than its size tells; it is no plain file")
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        return self._found.st_size

    @property
    def info(self) -> ObjectInfo:
        version = version_of(self._found) if self._settled else None
        return ObjectInfo(self._key, self.size, version, self._found.st_mtime)

    def pin(self, version: Version, clock: Clock, call: Call) -> None:
        """Holds the file against `version`; without one, waits until the version it has means something.

        A token that is asked for was settled when it was given. A file that is written to during the wait has
        no version, and can be described, but not be read to its end.

        Raises: VersionChangedError; what `call` raises where it ends the wait.
        """
        if isinstance(version, str):
            if version_of(self._found) != version:
                raise VersionChangedError(f"{self._key!r} is not the version that was asked for any more")
            return
        waited = settle(self._found, clock, call)
        if not waited:
            call.check(clock)
        now = os.fstat(self.descriptor)
        self._settled = waited
        if not _same_bytes(self._found, now):
            self._found = now
            self._settled = waited and not unsettled(now)

    def clip(self, start: int, stop: int | None) -> ByteRange:
        """Gives [start, stop) as far as the file reaches. Raises: RangeNotSatisfiableError."""
        if start > self.size or start == self.size > 0:
            raise RangeNotSatisfiableError(
                f"offset {start} lies behind the end of {self._key!r} ({self.size} bytes)"
            )
        return ByteRange(start, self.size if stop is None else min(stop, self.size))

    def begin(self, served: ByteRange) -> None:
        """Sets what is read."""
        self._at = served.start
        self._stop = self.size if served.stop is None else served.stop

    def readinto(self, buffer: memoryview, /) -> int:
        if self._aborted:
            raise OperationCancelledError(f"reading {self._key!r} was cancelled")
        wanted = min(len(buffer), self._stop - self._at, _RECEIVE)
        if not wanted:
            return 0
        count = os.preadv(self.descriptor, [buffer[:wanted]], self._at)
        self._at += count
        # Before the last bytes are handed out, and before a short file is blamed on the medium.
        if self._at == self._stop or not count:
            self.check_unchanged()
        if not count:
            raise StorageIOError(
                f"{self._key!r} ended at {self._at}, before its size of {self.size} bytes", offset=self._at
            )
        return count

    def abort(self) -> None:
        self._aborted = True

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            # What was read was judged when it was read; nothing was written that could be lost now.
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def check_unchanged(self) -> None:
        """Raises: VersionChangedError where the file was written to since it was opened."""
        if not self._settled or not _same_bytes(self._found, os.fstat(self.descriptor)):
            raise VersionChangedError(f"{self._key!r} was written to while it was being read")


def _same_bytes(then: os.stat_result, now: os.stat_result) -> bool:
    # A removed or replaced name changes the count of links and with it the ctime, but not the bytes.
    unlinked = (
        now.st_nlink < then.st_nlink and now.st_mtime_ns == then.st_mtime_ns and now.st_size == then.st_size
    )
    return unlinked or version_of(now) == version_of(then)
