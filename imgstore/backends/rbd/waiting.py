"""Waits for the cluster that a deadline or a cancel cuts short within a second.

Most calls of librados and librbd block, and none can be called off: each is made in a thread of its own, and
whoever waits for it may leave. What the thread brings then is undone by itself.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from math import inf
from typing import Any, Final, Generic, TypeVar

from imgstore.clock import Clock
from imgstore.errors import DeadlineExceededError, OperationCancelledError, TimedOutError
from imgstore.model import Call

# A quarter of the second within which a cancel must end a wait: four looks a second for an idle stream.
SLICE: Final = 0.25

T = TypeVar("T")


class Wait:
    """Knows when the waits of one call must end. `abort` may come from any thread."""

    __slots__ = ("_aborted", "_cancel", "_clock", "_deadline")

    def __init__(self, call: Call, clock: Clock) -> None:
        """Takes the deadline of `call` over to the clock that never steps."""
        remaining = call.remaining(clock)
        self._clock = clock
        self._cancel = call.cancel
        self._deadline = inf if remaining is None else clock.now() + remaining
        self._aborted = False

    def abort(self) -> None:
        """Ends the waits with OperationCancelledError. Idempotent."""
        self._aborted = True

    def check(self) -> None:
        """Returns while the call may go on. Raises: OperationCancelledError, DeadlineExceededError."""
        if self._aborted or (self._cancel is not None and self._cancel.cancelled):
            raise OperationCancelledError("the operation was cancelled")
        if self._clock.now() >= self._deadline:
            raise DeadlineExceededError("the deadline passed while the cluster was waited for")

    def until(self, event: threading.Event, seconds: float = inf) -> None:
        """Returns when `event` is set.

        Raises: TimedOutError after `seconds`, OperationCancelledError, DeadlineExceededError.
        """
        limit = self._clock.now() + seconds
        while not event.is_set():
            self.check()
            left = min(limit, self._deadline) - self._clock.now()
            if self._clock.now() >= limit:
                raise TimedOutError(f"the cluster did not answer within {seconds:g} seconds")
            event.wait(min(SLICE, max(left, 0.0)))

    def after(self, seconds: float) -> float:
        """Gives the point in time, on the wait's own clock, that `passed` compares."""
        return self._clock.now() + seconds

    def passed(self, point: float) -> bool:
        """Whether `point` is in the past."""
        return self._clock.now() >= point

    def pause(self, seconds: float) -> None:
        """Returns after `seconds`, at most a slice. Raises: as `check`."""
        self.check()
        self._clock.sleep(min(seconds, SLICE), self._cancel)


class Errand(Generic[T]):
    """A blocking call in a thread of its own. `leave` may come while it runs; the rest is done by itself."""

    def __init__(
        self,
        work: Callable[[], T],
        undo: Callable[[T], Any] | None = None,
        finish: Callable[[], Any] = lambda: None,
    ) -> None:
        """Begins; `undo` is given what comes of `work` if nobody waits for it; `finish` ends the thread."""
        self._work = work
        self._undo = undo
        self._finish = finish
        self._lock = threading.Lock()
        self._left = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self.done = threading.Event()
        threading.Thread(target=self._run, name="imgstore-rbd", daemon=True).start()

    @property
    def failed(self) -> bool:
        """Whether it ended with an error."""
        return self.done.is_set() and self._error is not None

    @property
    def come(self) -> T | None:
        """What has come of it by now, if anything."""
        return self._result

    def result(self, wait: Wait, seconds: float = inf) -> T:
        """Waits for the end and gives what came of it. Raises: what the work raised; as `Wait.until`."""
        wait.until(self.done, seconds)
        if self._error is not None:
            raise self._error
        result: Any = self._result
        return result  # type: ignore[no-any-return]

    def leave(self) -> None:
        """Says that nobody waits any more: what has come, or is still to come, is undone. Idempotent."""
        with self._lock:
            come = self.done.is_set() and not self._left
            self._left = True
        if come:
            self._undone()

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as exc:  # noqa: BLE001  # raised where it is waited for
            self._error = exc
        with self._lock:
            self.done.set()
            left = self._left
        try:
            if left:
                self._undone()
        finally:
            self._finish()

    def _undone(self) -> None:
        if self._undo is not None and self._error is None:
            result: Any = self._result
            with contextlib.suppress(Exception):  # nobody is there to be told
                self._undo(result)
