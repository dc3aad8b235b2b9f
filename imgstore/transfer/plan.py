"""Which connection fetches what, of the ranges of an image that are missing: no thread, no clock, no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from imgstore.model import ByteRange

# Bytes of a request, at least. A stretch is long, so that each connection writes its own part of the file;
# but what is asked for at once is not given to another connection without loss, and so is not all of it.
REQUEST: Final = 8 << 20
# Seconds that a request takes, at the speed that the connection had so far, if opening it takes no longer
# than usual. Not more: servers that limit each connection send the beginning of every reply at once, or its
# end (nginx waits after what it has sent).
LASTING: Final = 0.5
# What of that opening may take: where a round trip is long, so are requests; as far as that, if not a round
# trip but tries in vain took so long.
OPENING: Final = 0.05
LONGEST: Final = 10.0
# Seconds. What a connection needs longer for, of the last that is missing, is worth another request.
SLOW: Final = 0.5


class Stretch:
    """A range that is one connection's: [at, stop) is still to come, and asked for as far as `asked`.

    `busy` is where the receive under way may end; nobody else writes before it. `opening` is how many seconds
    its last request took until there was a stream.
    """

    __slots__ = ("asked", "at", "began", "busy", "opening", "start", "stop")

    def __init__(self, start: int, stop: int, now: float) -> None:
        self.start = self.at = self.asked = self.busy = start
        self.stop = stop
        self.began = now
        self.opening = 0.0

    def seconds(self, count: int, now: float) -> float:
        """How long `count` bytes take at the speed that it had so far."""
        received = self.at - self.start
        return (now - self.began) * count / received if received else now - self.began


class Stretches:
    """The missing ranges, and the stretches of them that connections are busy with. The caller holds a lock.

    Whoever is idle takes a range that nobody has, or half of what the one with most left has not asked for
    yet; in the end half of what the slowest has left. Halves begin at multiples of `grain`.
    """

    def __init__(self, missing: Iterable[ByteRange], grain: int, *, slow: float = SLOW) -> None:
        """Each range has an end. What takes less than `slow` seconds is left to who has asked for it."""
        self.active: list[Stretch] = []
        self._waiting = deque((each.start, each.stop or each.start) for each in missing)
        self._grain = grain
        self._slow = slow

    @property
    def finished(self) -> bool:
        """Whether nothing is missing any more."""
        return not self._waiting and not self.active

    def take(self, now: float) -> Stretch | None:
        """Gives the next stretch; None where the others have theirs nearly done."""
        found = self._waiting.popleft() if self._waiting else self._half(now)
        if found is None:
            return None
        stretch = Stretch(*found, now)
        self.active.append(stretch)
        return stretch

    def ask(self, stretch: Stretch, now: float, open_to: int | None = None) -> ByteRange | None:
        """Gives the range of its next request; None when all of it has come.

        With a stream that is `open_to` some byte nothing is requested: it is only read on so far.
        """
        end = stretch.stop if open_to is None else min(open_to, stretch.stop)
        if stretch.at >= end:
            return None
        took = stretch.seconds(REQUEST, now)
        lasting = min(max(LASTING, stretch.opening / OPENING), LONGEST)
        more = lasting / took if stretch.at > stretch.start and took else 1.0
        stretch.asked = min(self._edge(stretch.at + int(REQUEST * max(1.0, more))), end)
        return ByteRange(stretch.at, stretch.asked)

    def receive(self, stretch: Stretch, most: int) -> int:
        """Gives how much of the request may be received next, at most `most`; 0 when it is over."""
        count = min(most, min(stretch.asked, stretch.stop) - stretch.at)
        stretch.busy = stretch.at + count
        return count

    def received(self, stretch: Stretch, count: int) -> None:
        """Notes `count` bytes that are written."""
        stretch.at += count
        stretch.busy = stretch.at

    def ended(self, stretch: Stretch) -> None:
        """Takes the stretch back; what has not come of it is anybody's, first of all who is before it."""
        self.active.remove(stretch)
        if stretch.at >= stretch.stop:
            return
        before = next((each for each in self.active if each.stop == stretch.at), None)
        if before is None:
            self._waiting.append((stretch.at, stretch.stop))
        else:
            before.stop = stretch.stop

    def _half(self, now: float) -> tuple[int, int] | None:
        if not self.active:
            return None
        most = max(self.active, key=lambda each: each.stop - each.asked)
        found = self._behind(most, most.asked)
        if found is None:
            slowest = max(self.active, key=lambda each: each.seconds(each.stop - each.at, now))
            if slowest.seconds(slowest.stop - slowest.at, now) >= self._slow:
                found = self._behind(slowest, slowest.busy)
        return found

    def _behind(self, stretch: Stretch, start: int) -> tuple[int, int] | None:
        """Gives away the second half of what the stretch has behind `start`; None if it is too little."""
        if stretch.stop - start < 2 * self._grain:
            return None
        middle = self._edge((start + stretch.stop) // 2)
        stop, stretch.stop = stretch.stop, middle
        stretch.asked = min(stretch.asked, middle)
        return middle, stop

    def _edge(self, offset: int) -> int:
        """Gives the multiple of the grain that is at the offset, or the next one behind."""
        return -(-offset // self._grain) * self._grain
