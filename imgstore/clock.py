"""Time, injected: the real clock here, a simulated one in `imgstore.testing`."""

from __future__ import annotations

import time
from typing import Protocol


class Wakeable(Protocol):
    """Something that can cut a sleep short; `threading.Event` and `CancelToken` are."""

    def wait(self, timeout: float | None = None, /) -> bool: ...


class Clock(Protocol):
    """What the library knows of time. Callable from any thread."""

    def now(self) -> float:
        """Seconds of a clock that never steps; only differences mean anything."""

    def time(self) -> float:
        """POSIX seconds; may step."""

    def sleep(self, seconds: float, wake: Wakeable | None = None) -> None:
        """Returns after `seconds`, or as soon as `wake` is set. A negative time does not wait."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    def sleep(self, seconds: float, wake: Wakeable | None = None) -> None:
        if seconds <= 0:
            return
        if wake is None:
            time.sleep(seconds)
        else:
            wake.wait(seconds)


SYSTEM: Clock = SystemClock()
