"""How many connections help: a slow start that goes on while the throughput grows. Pure: no clock inside."""

from __future__ import annotations

from typing import Final

# Connections at the beginning, as far as there may be so many: half of what most people ask for. With
# one, each doubling would cost a round trip and a judgement: half a second in all, of a server 50 ms away.
FIRST: Final = 4
# What of their full share connections that were added must bring to be kept. Two cores that are both busy
# give four connections a tenth more than two; a server that limits each connection gives them all of it.
SHARE: Final = 0.2
# Seconds in which connections that were added are not judged yet, unless they are known to receive: a round
# trip or two to connect and to ask.
SETTLE: Final = 0.1
# Seconds measured after that. Growth is believed soon, sooner where nothing pauses for as long; that there
# is none, with patience: nginx, for one, keeps to its `limit_rate` in bursts a third of a second apart.
SOONEST: Final = 0.1
SOON: Final = 0.2
PATIENCE: Final = 1.0
# Seconds until a step that brought nothing is tried again: once soon, since what was there before may have
# been measured at a lucky moment, and then ever more seldom. A trial takes a second, so that a tenth of the
# time at most goes into them.
RECHECK: Final = 0.5
FIRST_HOLD: Final = 10.0
LONGEST_HOLD: Final = 160.0


class Ramp:
    """Says how many connections are to be open at a time, told nothing but how many bytes have come.

    It begins with `FIRST` and doubles while the throughput grows: twice the connections bring at least 1.2
    times the bytes a second, within `PATIENCE` seconds at the latest. A doubling that does not is taken back,
    and tried again after `RECHECK` seconds, then after `FIRST_HOLD`, twice as long each time, up to
    `LONGEST_HOLD`. Belongs to one thread at a time.

    >>> ramp = Ramp(8)
    >>> [ramp.observe(second / 2, second * ramp.wanted << 20) for second in range(1, 5)]
    [4, 4, 8, 8]
    """

    def __init__(self, most: int, *, first: int = FIRST) -> None:
        """At most `most` connections, `first` of them from the beginning. Raises: ValueError below 1."""
        if most < 1:
            raise ValueError(f"most is {most}; there is at least one connection")
        self.most = most
        self.wanted = min(first, most)
        self._fewer = self.wanted  # connections before the last step up
        self._needed = 0.0  # bytes a second that this step is to bring
        self._tries = True  # whether the last step is still to be judged
        self._hold = 0.0  # seconds from a trial in vain to the next
        self._settled: float | None = None  # when measuring begins at the earliest
        self._began: tuple[float, int] | None = None  # when it began, and the bytes until then
        self._last = 0.0  # when bytes came last
        self._pause = 0.0  # the longest time without any

    def observe(self, now: float, total_bytes: int, *, receiving: int = 0) -> int:
        """Gives the connections wanted at `now` (seconds, only differences count), with `total_bytes` so far.

        To be called whenever bytes have come; the time before the first of them does not count. Time in which
        nobody wanted any is to be left out of `now`. Who knows how many connections are `receiving` at the
        moment says so, and they are judged sooner.
        """
        if self._began is None:
            if not total_bytes:
                return self.wanted
            if self._settled is None:
                self._settled = now + SETTLE if self.wanted > 1 else now
            if now < self._settled and receiving < self.wanted:
                return self.wanted
            self._began = now, total_bytes
            self._last, self._pause = now, 0.0
        self._last, self._pause = now, max(self._pause, now - self._last)
        seconds, count = now - self._began[0], total_bytes - self._began[1]
        if self._tries:
            self._judge(now, seconds, count)
        elif self.wanted < self.most and seconds >= self._hold:
            self._step_up(now, count / seconds)
        return self.wanted

    def _judge(self, now: float, seconds: float, count: int) -> None:
        soon = SOONEST if self._pause < SOONEST else SOON
        if seconds >= soon and count and count >= self._needed * seconds:
            self._hold = 0.0
            if self.wanted < self.most:
                self._step_up(now, count / seconds)
            else:
                self._tries = False
        elif seconds >= PATIENCE and self._fewer < self.wanted:
            self._hold = min(max(2 * self._hold, FIRST_HOLD), LONGEST_HOLD) if self._hold else RECHECK
            self._measure(now, self._fewer, tries=False)

    def _step_up(self, now: float, rate: float) -> None:
        """Doubles, as far as there may be more: `rate` is what the present ones bring."""
        self._fewer, more = self.wanted, min(2 * self.wanted, self.most)
        self._needed = rate * (1 + SHARE * (more / self._fewer - 1))
        self._measure(now, more, tries=True)

    def _measure(self, now: float, wanted: int, *, tries: bool) -> None:
        self.wanted = wanted
        self._tries = tries
        self._began = None
        self._settled = now + SETTLE
