"""Who hashes what next: lanes of work, each in its own order, shared out among threads."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final, NamedTuple

from imgstore.buffer import paged

# A hole is sent out in pieces of this many bytes: a thread that is told to stop ends its piece first, and the
# slowest digests take some tenths of a second for one.
HOLE: Final = 16 << 20

# What holes are hashed from, by everybody. Long enough that the GIL, which each update gives back and has to
# get again, is no cost; never written, so that the kernel maps its one page of zeros.
_ZEROS: Final = memoryview(bytes(1 << 20))


@dataclass(slots=True)
class Piece:
    """The next stretch of the image: what `buffer` holds, or zeros. `users`: parts still to be hashed."""

    number: int
    buffer: memoryview | None
    users: int


class Lane:
    """What takes its bytes in order, from one thread at a time: the digest of a whole image, say."""

    __slots__ = ("parts", "take")

    def __init__(self, take: Callable[[memoryview], object]) -> None:
        self.take = take
        # The first is the one in work, if the lane is in somebody's hands.
        self.parts: deque[tuple[Piece, memoryview | int]] = deque()

    def __lt__(self, other: Lane) -> bool:
        """Whether this lane is further behind."""
        return self.parts[0][0].number < other.parts[0][0].number

    def step(self) -> None:
        """Hashes the first part."""
        data = self.parts[0][1]
        if not isinstance(data, int):
            self.take(data)
            return
        for done in range(0, data, len(_ZEROS)):
            self.take(_ZEROS[: data - done])


class Part(NamedTuple):
    """Bytes for a lane, or how many zeros."""

    lane: Lane
    data: memoryview | int


class Schedule:
    """Lanes, the threads that work on them, and the buffers between those and the reader.

    Whoever is free takes the lane that is furthest behind: buffers come back in the order they went out, the
    slowest lane never waits, and no thread is idle while as many lanes have work. The reader works too when
    it would only wait.

    At most `most` pieces are out, the one that the reader fills among them.
    """

    def __init__(self, most: int, size: int) -> None:
        """Takes the number of pieces and the bytes of a buffer. No buffer is made before it is needed."""
        self._most = most
        self._size = size
        # Reentrant, because what the garbage collector closes it closes in the midst of anything.
        self._lock = threading.RLock()
        self._more = threading.Condition(self._lock)  # threads wait for work
        self._progress = threading.Condition(self._lock)  # the reader waits for room, or for the end
        self._ready: list[Lane] = []  # a heap of those with a part that nobody is at
        self._free: list[memoryview] = []
        self._out = 0
        self._left = 0
        self._count = 0
        self._stopped = False
        self._error: BaseException | None = None

    def room(self) -> None:
        """Waits until another piece may go out, and counts it as out. Raises: as `check`."""
        self._advance(lambda: self._out < self._most)
        with self._lock:
            self._out += 1

    def buffer(self) -> memoryview:
        """Gives a buffer, for which there must be room."""
        return self._free.pop() if self._free else paged(self._size)

    def add(self, parts: Sequence[Part], buffer: memoryview | None) -> None:
        """Sends out the next piece, for which there must be room."""
        with self._lock:
            piece = Piece(self._count, buffer, len(parts))
            self._count += 1
            self._left += len(parts)
            for lane, data in parts:
                lane.parts.append((piece, data))
                if len(lane.parts) == 1:
                    heappush(self._ready, lane)
                    self._more.notify()
            if not parts:
                self._give_back(piece)

    def drain(self) -> None:
        """Returns when all that was sent out is hashed. Raises: as `check`."""
        self._advance(lambda: not self._left)

    def serve(self) -> None:
        """Works until it is stopped: what a thread runs."""
        try:
            self._work(lambda: False, self._more)
        except BaseException as exc:  # noqa: BLE001  # the reader raises it
            self.fail(exc)

    def fail(self, error: BaseException) -> None:
        """Stops all work. The first error is the one that is told."""
        with self._lock:
            if self._error is None:
                self._error = error
            self.stop()

    def stop(self) -> None:
        """Has every thread return once it is done with its part. Idempotent, from any thread."""
        with self._lock:
            self._stopped = True
            self._more.notify_all()
            self._progress.notify_all()

    def end(self) -> None:
        """Stops, for the reader, who is at nothing else: and lets go of the lock, whatever an interrupt left.

        One that comes when the lock is taken and its block not entered yet (CPython 3.13) leaves it taken for
        ever, and no thread could return.
        """
        self.stop()
        with contextlib.suppress(RuntimeError):
            while True:
                self._lock.release()

    def check(self) -> None:
        """Raises what a thread has met."""
        if self._error is not None:
            raise self._error

    def _advance(self, until: Callable[[], bool]) -> None:
        self._work(until, self._progress)
        self.check()
        with self._lock:
            if self._ready:  # left by the reader, who worked on it
                self._more.notify()

    def _work(self, until: Callable[[], bool], idle: threading.Condition) -> None:
        while (lane := self._take(until, idle)) is not None:
            lane.step()
            self._done(lane)

    def _take(self, until: Callable[[], bool], idle: threading.Condition) -> Lane | None:
        with self._lock:
            while not (self._stopped or until()):
                if self._ready:
                    return heappop(self._ready)
                idle.wait()
            return None

    def _done(self, lane: Lane) -> None:
        with self._lock:
            piece, _ = lane.parts.popleft()
            self._left -= 1
            piece.users -= 1
            if not piece.users:
                self._give_back(piece)
            if lane.parts:
                heappush(self._ready, lane)  # nobody is woken for it: who has done this goes on
            self._progress.notify()

    def _give_back(self, piece: Piece) -> None:
        self._out -= 1
        if piece.buffer is not None:
            self._free.append(piece.buffer)
