"""A position in an image: blocks asked for ahead, and given in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from imgstore.backends.rbd.bindings import Completion
from imgstore.backends.rbd.failures import by_number
from imgstore.backends.rbd.pins import Pinned
from imgstore.backends.rbd.waiting import Wait
from imgstore.errors import BadReplyError, VersionChangedError

_SLOW: Final = 1.0  # seconds; a cluster at work brings a block in some 20 ms


class _Block:
    """A stretch of the image on its way, into memory of its own."""

    __slots__ = ("code", "come", "data", "proven", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.code = 0
        self.data: bytes | None = None
        self.come = threading.Event()
        self.proven = False

    def arrived(self, completion: Completion, data: bytes | None) -> None:
        """Takes what librbd read; in a thread of its."""
        self.code = completion.get_return_value()
        self.data = data
        self.come.set()


class RbdReader:
    """Reads [start, stop) of an open image, several blocks at once.

    Memory: `in_flight` blocks of `io_size` bytes, and one that the caller is taking; librbd and its messenger
    hold as much twice over (measured with the defaults: 18 MiB here, 60 in all). Reading begins with one
    block. Each that is taken doubles what is asked for ahead, or halves it where it was long in coming: who
    wants little gets no more. No byte is given before the image was proven to be what it was, after the byte
    had come.

    librbd cannot call a read off: it ends by itself, after `op_timeout` at the latest, into memory that
    nobody else sees.
    """

    def __init__(
        self,
        pinned: Pinned,
        start: int,
        stop: int,
        *,
        wait: Wait,
        receive_timeout: float,
        lost: Callable[[], Exception],
        closed: Callable[[], None],
    ) -> None:
        """Takes `pinned` over until `closed` is called; `lost` says what became of an image that is gone."""
        self._pinned = pinned
        self._asked_to = start
        self._stop = stop
        self._wait = wait
        self._receive_timeout = receive_timeout
        self._lost = lost
        self._closed: Callable[[], None] | None = closed
        self._settings = pinned.connection.settings
        self._window = 1
        self._blocks: deque[_Block] = deque()
        self._ready = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        if not self._ready:
            self._ready = memoryview(self._next())
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def abort(self) -> None:
        self._wait.abort()

    def close(self) -> None:
        closed, self._closed = self._closed, None
        self._blocks.clear()
        self._ready = memoryview(b"")
        if closed is not None:
            closed()

    def _next(self) -> bytes:
        """Gives the next block, empty at the end."""
        self._ask()
        if not self._blocks:
            return b""
        block, late = self._blocks[0], self._wait.after(_SLOW)
        self._wait.until(block.come, self._receive_timeout)
        if block.code < 0:
            self._pinned.note(-block.code)
            raise by_number(-block.code)
        if block.code != block.size or block.data is None:
            raise BadReplyError(f"librbd read {block.code} bytes where there are {block.size}")
        if not block.proven:
            self._prove()
        self._blocks.popleft()
        # Blocks of one reader share the way: where it is slow, each waits for all, and all would be late.
        slow = self._wait.passed(late)
        self._window = max(1, self._window // 2) if slow else min(2 * self._window, self._settings.in_flight)
        self._ask()
        return block.data

    def _ask(self) -> None:
        while len(self._blocks) < self._window and self._asked_to < self._stop:
            at, step = self._asked_to, self._settings.io_size
            self._asked_to = min(at - at % step + step, self._stop)
            block = _Block(self._asked_to - at)
            self._pinned.image.aio_read(at, block.size, block.arrived)
            self._blocks.append(block)

    def _prove(self) -> None:
        """Proves all blocks that have come."""
        come = [block for block in self._blocks if block.come.is_set()]
        try:
            self._pinned.prove(self._wait, self._receive_timeout)
        except VersionChangedError as exc:
            raise self._lost() from exc
        for block in come:
            block.proven = True
