"""Claims of what is written to a half image, made behind the back of who writes."""

from __future__ import annotations

import os
import threading
import zlib
from typing import Final

from imgstore.journal import Journal
from imgstore.model import ByteRange
from imgstore.publish.batches import Batches
from imgstore.publish.failures import typed

_PIECE: Final = 1 << 20

# Parts that are written and not claimed yet. With the one that each writer is at, it is what a kill may cost.
_UNCLAIMED: Final = 2
# What a power loss may cost, in bytes and in seconds.
_UNSETTLED: Final = 64 << 20
_PATIENCE: Final = 2.0


class Claims:
    """Claims each part of the half image `file` in its journal when all of it is written.

    One thread reads a part back, for its CRC-32, and claims it; who writes waits while two parts are not
    claimed yet. Another one syncs the file every 64 MiB or two seconds, and settles what was claimed before.
    The first error of either is raised by whatever is called next. Callable from many threads.
    """

    def __init__(self, file: int, found: Journal, path: str) -> None:
        """`path` is what errors name. Nothing is started before there is something to claim."""
        self._file = file
        self._journal = found
        self._path = path
        self._left: dict[int, int] = {}  # bytes that are missing of parts of which there are some
        self._lock = threading.Lock()
        enough = max(1, _UNSETTLED // found.part_size)
        self._settler = Batches("imgstore-sync", self._settle, enough=enough, patience=_PATIENCE)
        self._claimer = Batches("imgstore-claims", self._claim, most=_UNCLAIMED)

    def wrote(self, start: int, stop: int) -> None:
        """Notes that [start, stop) is written: each byte once. Raises: NoSpaceError, StorageIOError..."""
        size = self._journal.part_size
        for number in range(start // size, -(-stop // size)):
            part = self._journal.part(number)
            count = min(stop, part.start + (part.size or 0)) - max(start, part.start)
            with self._lock:
                left = self._left.pop(number, part.size or 0) - count
                if left:
                    self._left[number] = left
            if not left:
                self._claimer.add(number)

    def zeroed(self, start: int, stop: int) -> None:
        """Notes that [start, stop) is zeros; nobody reads them for that. Raises: as `wrote`."""
        size = self._journal.part_size
        first, last = -(-start // size), stop // size
        if stop == self._journal.size:
            last = len(self._journal)
        if first >= last:
            self.wrote(start, stop)
            return
        self.wrote(start, first * size)
        with typed(f"cannot write {self._path}"):
            self._journal.claim_zeros(range(first, last))
        for number in range(first, last):
            self._settler.add(number)
        self.wrote(min(last * size, stop), stop)

    def finish(self) -> None:
        """Claims what is written, and ends. What is not settled then is proven by who goes on with it."""
        self._claimer.finish()
        self._settler.stop()

    def stop(self) -> None:
        """Ends, whatever is left to be claimed. Idempotent."""
        self._claimer.stop()
        self._settler.stop()

    def _claim(self, numbers: list[int]) -> None:
        with typed(f"cannot write {self._path}"):
            for number in numbers:
                self._journal.claim(number, crc_of(self._file, self._journal.part(number)))
                self._settler.add(number)

    def _settle(self, numbers: list[int]) -> None:
        with typed(f"cannot write {self._path}"):
            os.fdatasync(self._file)
            self._journal.settle(numbers)


def crc_of(file: int, part: ByteRange) -> int:
    """Gives the CRC-32 of what the file has there; of what is cut off, that of less. Raises: OSError."""
    crc, at, stop = 0, part.start, part.stop or 0
    while at < stop and (data := os.pread(file, min(_PIECE, stop - at), at)):
        crc, at = zlib.crc32(data, crc), at + len(data)
    return crc
