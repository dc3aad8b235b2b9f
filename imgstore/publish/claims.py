"""Claims of what is written to a half image."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Final

from imgstore.checksum import Checksum
from imgstore.journal import Journal
from imgstore.model import ByteRange
from imgstore.publish.settler import Settler

_PIECE: Final = 256 << 10


@dataclass(slots=True)
class _Begun:
    """A part of which something is written: the bytes that are missing, and the checksum of its front.

    `at` is where that front ends, None when the part is not written from its start to its end.
    """

    left: int
    at: int | None
    sum: Checksum
    busy: bool = False


class Claims:
    """Claims each part of the half image `file` in its journal as soon as all of it is written.

    The checksum is computed by whoever writes: from the bytes it has at hand that costs the machine less than
    reading them back in a thread. A part that is not written in its order is read back.
    Callable from many threads.
    """

    def __init__(self, file: int, found: Journal, path: str) -> None:
        """`path` is what errors name."""
        self._file = file
        self._journal = found
        self._settler = Settler(file, found, path)
        self._begun: dict[int, _Begun] = {}
        self._lock = threading.Lock()

    def wrote(self, data: memoryview, start: int) -> None:
        """Notes that `data` is written from `start` on: each byte of the image once.

        Raises: OSError, StorageIOError; what a sync has raised.
        """
        size, done = self._journal.part_size, 0
        while done < len(data):
            number = (start + done) // size
            count = min(len(data) - done, (number + 1) * size - start - done)
            self._wrote(number, start + done, count, data[done : done + count])
            done += count

    def zeroed(self, start: int, stop: int) -> None:
        """Notes that [start, stop) is zeros; of whole parts nobody reads them. Raises: as `wrote`."""
        size = self._journal.part_size
        first, last = -(-start // size), stop // size
        if stop == self._journal.size:
            last = len(self._journal)
        if first < last:
            self._journal.claim_zeros(range(first, last))
            for number in range(first, last):
                self._settler.add(number)
        for at, end in ((start, min(first * size, stop)), (max(last, first) * size, stop)):
            if at < end:
                self._wrote(at // size, at, end - at, None)

    def stop(self) -> None:
        """Ends the syncs. What is not settled then is proven by who goes on with it. Idempotent."""
        self._settler.stop()

    def finish(self) -> None:
        """Ends the syncs, of what is to be published. Raises: what a sync has raised."""
        self._settler.finish()

    def _wrote(self, number: int, at: int, count: int, data: memoryview | None) -> None:
        part = self._journal.part(number)
        with self._lock:
            begun = self._begun.get(number)
            if begun is None:
                begun = _Begun(part.size or 0, part.start, self._journal.checksum())
                self._begun[number] = begun
            # Two at once: who comes second cannot know yet what the checksum of the first one's bytes is.
            in_order = data is not None and begun.at == at and not begun.busy
            begun.at = at + count if in_order else None
            begun.busy = begun.busy or in_order
        if in_order and data is not None:
            begun.sum.update(data)
        with self._lock:
            begun.left -= count
            if in_order:
                begun.busy = False
            if begun.left:
                return
            del self._begun[number]
        if begun.at is None:
            self._journal.claim(number, checksum_of(self._file, part, self._journal.checksum()))
        else:
            self._journal.claim(number, begun.sum.value())
        self._settler.add(number)


def checksum_of(file: int, part: ByteRange, found: Checksum) -> int:
    """Gives the checksum of what the file has there; of what is cut off, that of less. Raises: OSError."""
    at, stop = part.start, part.stop or 0
    while at < stop and (data := os.pread(file, min(_PIECE, stop - at), at)):
        found.update(data)
        at += len(data)
    return found.value()
