"""How a transfer is going at a moment: how fast, and how long it will yet take."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

_SILENCE: Final = 2.0  # without a byte for so long, the average of what came before means nothing
_WINDOW: Final = 10.0  # the rate is that of these last seconds: smooth, and soon zero in a stall


@dataclass(frozen=True, slots=True)
class Progress:
    """A transfer at one moment.

    `bytes` of `total` (None where that is not known) are in the target, `held` of them since before. `rate`
    is in bytes a second, 0 while nothing moves; `left` the seconds that the rest takes at that rate, None
    where nobody can tell. `repaired` bytes had to be replaced; `sources` tells the bytes received from each.
    """

    bytes: int
    total: int | None
    held: int
    seconds: float
    rate: float
    left: float | None
    resumes: int
    repaired: int
    sources: Mapping[str, int]


class Counts(Protocol):
    """What a transfer has come to: a `Report`, or the sum of several."""

    @property
    def bytes(self) -> int: ...
    @property
    def total(self) -> int | None: ...
    @property
    def held(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def resumes(self) -> int: ...
    @property
    def repaired(self) -> int: ...
    @property
    def sources(self) -> Mapping[str, int]: ...


class Pace:
    """Looks at a transfer now and then. Belongs to whoever looks. Memory: one mark a look in ten seconds."""

    def __init__(self, counts: Counts) -> None:
        """Takes what is looked at."""
        self._counts = counts
        self._moved = 0.0
        self._marks: deque[tuple[float, int]] = deque([(0.0, 0)])

    def look(self) -> Progress:
        """Gives how it is going."""
        counts = self._counts
        done, total, rate = counts.bytes, counts.total, self._rate()
        # An estimate from less than a byte a second is none.
        left = None if total is None or rate < 1 else max(0, total - done) / rate
        return Progress(
            bytes=done,
            total=total,
            held=counts.held,
            seconds=counts.seconds,
            rate=rate,
            left=left,
            resumes=counts.resumes,
            repaired=counts.repaired,
            sources=counts.sources,
        )

    def _rate(self) -> float:
        now, count = self._counts.seconds, self._counts.bytes - self._counts.held
        if count > self._marks[-1][1]:
            self._moved = now
        elif now - self._moved > _SILENCE:
            return 0.0
        self._marks.append((now, count))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW:
            self._marks.popleft()
        then, before = self._marks[0]
        return (count - before) / max(now - then, 1e-3)


class Follower:
    """Tells a callback how a transfer is going, at most once in `every` seconds and never twice at once."""

    def __init__(self, counts: Counts, tell: Callable[[Progress], None], every: float) -> None:
        """Takes whom to tell."""
        self._counts = counts
        self._pace = Pace(counts)
        self._tell = tell
        self._every = every
        self._due = every
        self._telling = threading.Lock()

    def moved(self) -> None:
        """Called when bytes have come, from any thread. Raises: what the callback raises."""
        if self._counts.seconds < self._due or not self._telling.acquire(blocking=False):
            return
        try:
            self._due = self._counts.seconds + self._every
            self._tell(self._pace.look())
        finally:
            self._telling.release()
