"""Writes to an image, several at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Final

from imgstore.backends._zeros import runs
from imgstore.backends.rbd.bindings import Completion, Image
from imgstore.backends.rbd.connection import Connection
from imgstore.backends.rbd.failures import FENCED, by_number
from imgstore.backends.rbd.waiting import Wait
from imgstore.errors import StorageIOError

# The least that a hole is worth: what BlueStore allocated at least on disks (bluestore_min_alloc_size_hdd).
LEAST_HOLE: Final = 64 << 10


class _Write:
    """One write that is under way, and its bytes, which librbd reads until it is done."""

    __slots__ = ("code", "data", "done", "size")

    def __init__(self, data: bytes, size: int) -> None:
        self.data = data
        self.size = size
        self.code = 0
        self.done = threading.Event()

    def ended(self, completion: Completion) -> None:
        """Takes note of the end; in a thread of librbd's."""
        self.code = completion.get_return_value()
        self.data = b""
        self.done.set()


class Outflow:
    """Writes to one open image. Belongs to one thread.

    Memory: `in_flight` times `io_size` bytes, and the piece that waits to join them. A write that fails fails
    the next call.
    """

    def __init__(self, connection: Connection, image: Image, wait: Wait) -> None:
        self._connection = connection
        self._image = image
        self._wait = wait
        self._timeout = connection.settings.op_timeout
        self._room = connection.settings.in_flight * connection.settings.io_size
        self._writes: deque[_Write] = deque()

    def write(self, data: bytes, offset: int) -> None:
        """Begins to write `data`, at most `io_size` bytes. Raises: as `drain`."""
        write = self._admit(data, len(data))
        self._image.aio_write(data, offset, write.ended)
        self._writes.append(write)

    def zero(self, offset: int, length: int) -> None:
        """Begins to make zeros of what is there, giving back its room. Raises: as `drain`."""
        write = self._admit(b"", 0)
        self._image.aio_write_zeroes(offset, length, write.ended)
        self._writes.append(write)

    def drain(self) -> None:
        """Returns when all is written.

        Raises: what the first write that failed met; StorageIOError where the cluster has fenced this client
        off, as it does to one whose lock was broken; TimedOutError; as `Wait.until`.
        """
        while self._writes:
            self._take()

    def _admit(self, data: bytes, size: int) -> _Write:
        """Waits for room for `size` bytes more; one write goes in any case."""
        while self._writes and (
            sum(each.size for each in self._writes) + size > self._room or self._writes[0].done.is_set()
        ):
            self._take()
        return _Write(data, size)

    def _take(self) -> None:
        write = self._writes[0]
        self._wait.until(write.done, self._timeout)
        self._writes.popleft()
        if -write.code in FENCED:
            self._connection.retire()
            raise StorageIOError("the cluster fenced this client off while it wrote", errno=-write.code)
        if write.code < 0:
            raise by_number(-write.code)


def stretches(piece: bytes, offset: int) -> Iterator[tuple[bool, int, int]]:
    """Gives `piece`, which stands at `offset`, as stretches (zeros or not, start, stop) in turn.

    Zeros of less than 64 KiB belong to the data around them.
    """
    begin = 0
    for zeros, start, stop in runs(piece, offset):
        if zeros and stop - start >= LEAST_HOLE:
            if start > begin:
                yield False, begin, start
            yield True, start, stop
            begin = stop
    if len(piece) > begin:
        yield False, begin, len(piece)
