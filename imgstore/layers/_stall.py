"""Tells a stalled stream from a slow one. Pure: it is told how long was waited and what came."""

from __future__ import annotations

from collections import deque

_BUCKETS = 16  # a verdict comes at most a sixteenth of the window late; P7 allows a second in sixteen


class StallMeter:
    """A throughput floor over a sliding window of the time that we wait on the store.

    Reopens and pauses count as waiting; the caller's own time does not. A stream is dropped only after it was
    waited on for half a window itself: one that gives twice the floor is never dropped, however long its
    opening took. Memory: a few numbers for each sixteenth of the window.
    """

    def __init__(self, window: float, floor: float) -> None:
        """`window` in seconds, `floor` in bytes a second."""
        self._window = window
        self._least = floor * window
        self._buckets: deque[tuple[float, int]] = deque()
        self._waited = 0.0
        self._count = 0
        self._open_waited = 0.0
        self._open_count = 0
        self._on_stream = 0.0

    def opened(self) -> None:
        """Notes that a new stream begins; what was waited before still counts."""
        self._on_stream = 0.0

    def waited(self, seconds: float) -> None:
        """Notes a wait that was not on a stream: a pause or an opening."""
        self._add(seconds, 0)

    def received(self, seconds: float, count: int) -> bool:
        """Notes a receive; tells whether the stream is stalled, and begins a new window if it is."""
        self._on_stream += seconds
        self._add(seconds, count)
        stalled = (
            self._waited >= self._window and self._count < self._least and self._on_stream >= self._window / 2
        )
        if stalled:
            self._buckets.clear()
            self._waited = self._open_waited = 0.0
            self._count = self._open_count = 0
        return stalled

    def _add(self, seconds: float, count: int) -> None:
        self._waited += seconds
        self._count += count
        self._open_waited += seconds
        self._open_count += count
        if self._open_waited >= self._window / _BUCKETS:
            self._buckets.append((self._open_waited, self._open_count))
            self._open_waited, self._open_count = 0.0, 0
        while self._buckets and self._waited - self._buckets[0][0] >= self._window:
            seconds, count = self._buckets.popleft()
            self._waited -= seconds
            self._count -= count
