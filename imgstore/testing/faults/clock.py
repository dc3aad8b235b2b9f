"""Time that passes only when somebody waits: hours of stalls and pauses take no time at all."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

from imgstore.clock import Wakeable

EPOCH = 1_700_000_000.0  # an ordinary POSIX time, so that no test mistakes it for the seconds since the start


class SimClock:
    """A clock whose time moves by `sleep` and `advance` alone. Callable from any thread.

    `pauses` lists what every `sleep` asked for, in order. `at` sets a timer: what happens "meanwhile" happens
    inside the wait that passes its time, in the thread that waits.
    """

    def __init__(self, epoch: float = EPOCH) -> None:
        self.pauses: list[float] = []
        self._epoch = epoch
        self._now = 0.0
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._lock = threading.RLock()

    def now(self) -> float:
        return self._now

    def time(self) -> float:
        return self._epoch + self._now

    def sleep(self, seconds: float, wake: Wakeable | None = None) -> None:
        self.pauses.append(seconds)
        self._pass(seconds, wake)

    def advance(self, seconds: float, wake: Wakeable | None = None) -> None:
        """Lets `seconds` pass, fewer when a timer sets `wake`; timers that fall into them run in order."""
        self._pass(seconds, wake)

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Calls `action` as soon as `now()` reaches `when`."""
        with self._lock:
            heapq.heappush(self._timers, (when, next(self._order), action))

    def _pass(self, seconds: float, wake: Wakeable | None) -> None:
        with self._lock:
            end = self._now + max(0.0, seconds)
            while wake is None or not wake.wait(0):
                if not self._timers or self._timers[0][0] > end:
                    self._now = max(self._now, end)
                    return
                when, _, action = heapq.heappop(self._timers)
                self._now = max(self._now, when)
                action()
