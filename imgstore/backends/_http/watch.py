"""The watch over the waits of one request: a cancel or the end of its time cuts them short within a second.

Blocking receives are cut into slices, and between two of them the watch is asked. So a cancel from another
thread touches no socket: no descriptor is closed under a read, and none that was reused is shut by mistake.
"""

from __future__ import annotations

from math import inf
from typing import Final

from imgstore.clock import Clock
from imgstore.errors import DeadlineExceededError, OperationCancelledError, TimedOutError
from imgstore.model import Call

# A quarter of the second within which a cancel must end a wait: four calls a second for an idle stream.
SLICE: Final = 0.25


class Watch:
    """Knows when the waits of one request must end. `abort` may come from any thread."""

    __slots__ = ("_aborted", "_cancel", "_clock", "_deadline", "_late", "_until")

    def __init__(self, call: Call, clock: Clock) -> None:
        """Takes the deadline of `call` over to the clock that never steps."""
        remaining = call.remaining(clock)
        self._clock = clock
        self._cancel = call.cancel
        self._deadline = inf if remaining is None else clock.now() + remaining
        self._until = inf
        self._late = ""
        self._aborted = False

    def allow(self, seconds: float, late: str) -> None:
        """From now on the waits may take `seconds` in all; then TimedOutError says `late`."""
        self._until = self._clock.now() + seconds
        self._late = late

    def abort(self) -> None:
        """Ends the waits with OperationCancelledError. Idempotent."""
        self._aborted = True

    def pause(self) -> float:
        """Gives the seconds that may be waited before the watch is asked again: more than 0, at most a slice.

        Raises: OperationCancelledError, DeadlineExceededError, TimedOutError.
        """
        if self._aborted or (self._cancel is not None and self._cancel.cancelled):
            raise OperationCancelledError("the operation was cancelled")
        now = self._clock.now()
        if now >= self._deadline:
            raise DeadlineExceededError("the deadline passed while the server was waited for")
        if now >= self._until:
            raise TimedOutError(self._late)
        return min(SLICE, self._deadline - now, self._until - now)

    def seconds_from_now(self, seconds: float) -> float:
        """Gives the point in time, on the watch's own clock, that `over` compares."""
        return self._clock.now() + seconds

    def over(self, point: float) -> bool:
        """Whether `point` has passed."""
        return self._clock.now() >= point


class Leash:
    """Ties the socket of a connection to the watch of the request it serves at the moment."""

    __slots__ = ("watch",)

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
