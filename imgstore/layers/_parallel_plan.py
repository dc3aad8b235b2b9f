"""Which connection receives which bytes of a range, and where they wait: no thread, no clock, no I/O.

The range is cut into parts, each with a buffer of its own, that lie in a ring: the first is delivered while
the last may still be on its way. A connection receives a piece, which is a part, or what another connection
was to receive of one and was too slow for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from imgstore.buffer import paged

# Seconds. What a connection needs longer for is worth another request, which takes a round trip or two.
SLOW: Final = 0.5
# Bytes. At most so many come in one receive, so that a piece that is split ends soon behind it: 1 GB/s makes
# 4000 receives a second of them, each some 10 us through all layers.
RECEIVE: Final = 256 << 10


class Piece:
    """A stretch of `part` for one connection, of which [at, stop) is still to come.

    `began`: when its stream was open, None before that.
    """

    __slots__ = ("at", "began", "part", "start", "stop")

    def __init__(self, part: Part, start: int, stop: int) -> None:
        self.part = part
        self.start = self.at = start
        self.stop = stop
        self.began: float | None = None

    def seconds_left(self, now: float) -> float:
        """How long what is still to come takes at the speed that it had so far."""
        if self.began is None or now <= self.began:
            return 0.0
        received = self.at - self.start
        if not received:
            return now - self.began  # it grows until something comes
        return (self.stop - self.at) * (now - self.began) / received


class Part:
    """A part of the range, the buffer for it, and the pieces that fill it, in order."""

    __slots__ = ("memory", "pieces", "start", "stop")

    def __init__(self, start: int, stop: int, memory: memoryview) -> None:
        self.start = start
        self.stop = stop
        self.memory = memory
        self.pieces = [Piece(self, start, stop)]


class PartPlan:
    """The parts of [at, stop): what is on its way, what waits to be delivered. The caller holds a lock.

    `at` is the next byte to be delivered, `active` the pieces that a connection is busy with. Memory: `ring`
    parts at most, made when they are needed first.
    """

    def __init__(
        self,
        start: int,
        stop: int,
        *,
        part_size: int,
        ring: int,
        grain: int = 1,
        memory: Callable[[int], memoryview] = paged,
    ) -> None:
        """Parts end at multiples of `part_size`, and pieces of split parts at those of `grain`."""
        self.at = start
        self.stop = stop
        self.active: list[Piece] = []
        self._next = start  # from here on nobody was given anything
        self._back: list[Piece] = []  # what was given back
        self._part_size = part_size
        self._grain = grain
        self._step = max(1, min(RECEIVE, part_size // 8))
        self._parts: deque[Part] = deque()
        self._free: list[memoryview] = []
        self._unmade = ring
        self._memory = memory

    @property
    def finished(self) -> bool:
        """Whether everything is delivered."""
        return self.at >= self.stop

    @property
    def given_out(self) -> bool:
        """Whether nothing is left that a connection could be given, now or later."""
        return self._next >= self.stop and not self.active and not self._back

    @property
    def receiving(self) -> int:
        """How many of the active pieces have an open stream."""
        return sum(piece.began is not None for piece in self.active)

    def take(self) -> Piece | None:
        """Gives what was given back, or the next part; None where there is none, or no room for it."""
        if self._back:
            piece = min(self._back, key=lambda each: each.at)
            self._back.remove(piece)
            self.active.append(piece)
            return piece
        if self._next >= self.stop or not (self._free or self._unmade):
            return None
        start = self._next
        self._next = min(next_edge(start, self._part_size), self.stop)
        part = Part(start, self._next, self._room())
        self._parts.append(part)
        self.active.append(part.pieces[0])
        return part.pieces[0]

    def split(self, now: float) -> Piece | None:
        """Gives the second half of what the slowest connection has left; None where that is soon there."""
        slowest = max(self.active, key=lambda piece: piece.seconds_left(now), default=None)
        if slowest is None or slowest.seconds_left(now) < SLOW:
            return None
        # A receive that is pending may write this far.
        middle = slowest.at + max(self._step, (slowest.stop - slowest.at) // 2)
        middle = -(-middle // self._grain) * self._grain
        if middle >= slowest.stop:
            return None
        piece = Piece(slowest.part, middle, slowest.stop)
        slowest.stop = middle
        pieces = slowest.part.pieces
        pieces.insert(pieces.index(slowest) + 1, piece)
        self.active.append(piece)
        return piece

    def target(self, piece: Piece) -> memoryview:
        """Gives where the next receive of `piece` may write; empty when it is complete, or not wanted."""
        if piece.part.start >= self.stop:
            return memoryview(b"")
        begin = piece.at - piece.part.start
        return piece.part.memory[begin : begin + min(self._step, piece.stop - piece.at)]

    def received(self, piece: Piece, count: int) -> bool:
        """Notes `count` bytes of `piece`; tells whether they are the next to be delivered."""
        was_next = piece.at == self.at
        piece.at += count
        return was_next

    def ended(self, piece: Piece) -> None:
        """Notes that no connection is busy with `piece` any more."""
        self.active.remove(piece)

    def give_back(self, piece: Piece) -> None:
        """Has another connection receive what is left of `piece`, which has ended."""
        piece.start, piece.began = piece.at, None
        self._back.append(piece)

    def cut(self, offset: int) -> None:
        """Ends the range at `offset`, where a part begins. What is on its way behind it is not delivered."""
        self.stop = self._next = min(self.stop, offset)
        self._back = [piece for piece in self._back if piece.part.start < self.stop]

    def ready(self) -> memoryview:
        """Gives what can be delivered at once: bytes that nobody writes to any more."""
        if not self._parts or self.finished:
            return memoryview(b"")
        head = self._parts[0]
        piece = next(each for each in head.pieces if self.at < each.stop)
        return head.memory[self.at - head.start : max(piece.at, self.at) - head.start]

    def delivered(self, count: int) -> bool:
        """Notes that the caller has `count` bytes of what was ready; tells whether there is room again."""
        self.at += count
        head = self._parts[0]
        if self.at < head.stop:
            return False
        self._parts.popleft()
        self._free.append(head.memory)
        return True

    def _room(self) -> memoryview:
        if self._free:
            return self._free.pop()
        self._unmade -= 1
        return self._memory(self._part_size)


def next_edge(offset: int, part_size: int) -> int:
    """Gives where the part ends that begins at `offset`: at a multiple of the size."""
    return (offset // part_size + 1) * part_size
