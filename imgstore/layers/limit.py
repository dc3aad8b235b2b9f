"""The limit layer: how many streams at once, and how fast all of them together."""

from __future__ import annotations

import os
import threading

from imgstore.clock import Clock
from imgstore.errors import ImgstoreError
from imgstore.layers.base import Layer, StreamReader, passed
from imgstore.model import Call, CancelToken, Version
from imgstore.store import Store
from imgstore.stream import ByteStream, Opened

_BURST = 0.25  # seconds of bandwidth in one receive: short enough for a smooth flow and a quick cancel
_POLL = 0.2  # how often a wait for a permit looks at the deadline and the cancellation, in seconds


def is_rate_limited(store: Store) -> bool:
    """Whether a layer of `store` holds back the bytes of its streams."""
    while isinstance(store, Layer):
        if isinstance(store, LimitLayer) and store.limits_rate:
            return True
        store = store.inner
    return False


class LimitLayer(Layer):
    """Holds streams back on our own side; the wait is told as `held`, and is no stall of the store.

    A permit is taken before a stream is opened and given back when it is closed or at its end. Memory: none
    that grows.
    """

    def __init__(
        self, inner: Store, *, max_streams: int | None = None, rate_limit: float | None = None
    ) -> None:
        """Wraps `inner`: at most `max_streams` open at once, `rate_limit` bytes a second in all."""
        super().__init__(inner)
        self._max_streams = max_streams
        self._permits = None if max_streams is None else threading.Semaphore(max_streams)
        self._process = os.getpid()
        self._bandwidth = None if rate_limit is None else _Bandwidth(rate_limit, self.clock)

    @property
    def limits_rate(self) -> bool:
        """Whether all streams together get only so many bytes a second."""
        return self._bandwidth is not None

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        began = self.clock.now()
        permits = self._acquire(call)
        held = self.clock.now() - began
        try:
            stream = self._inner_stream(key, start, stop, version, call)
        except BaseException as exc:
            _release(permits)
            if isinstance(exc, ImgstoreError):
                exc.held += held
            raise
        return passed(stream, _HeldReader(self, stream, call, held, permits))

    def _acquire(self, call: Call) -> threading.Semaphore | None:
        if self._max_streams is not None and self._process != os.getpid():
            # After a fork the streams of the parent hold no permits here, and nobody would give them back.
            self._permits, self._process = threading.Semaphore(self._max_streams), os.getpid()
        permits = self._permits
        while permits is not None and not permits.acquire(timeout=_POLL):
            call.check(self.clock)
        return permits

    def flow(self, call: Call) -> float:
        """Waits until the bandwidth allows another receive; gives the seconds that took."""
        if self._bandwidth is None:
            return 0.0
        seconds = self._bandwidth.debt()
        remaining = call.remaining(self.clock)
        began = self.clock.now()
        # The stream inside has the same call: it says what ended the wait.
        self.clock.sleep(seconds if remaining is None else min(seconds, remaining), call.cancel)
        return self.clock.now() - began

    def portion(self, buffer: memoryview) -> memoryview:
        """Gives as much of `buffer` as one receive may fill."""
        return buffer if self._bandwidth is None else buffer[: self._bandwidth.burst]

    def spent(self, count: int) -> None:
        """Notes `count` bytes received."""
        if self._bandwidth is not None:
            self._bandwidth.charge(count)


class _HeldReader(StreamReader):
    """A stream that waits for bandwidth and gives its permit back once."""

    def __init__(
        self,
        layer: LimitLayer,
        stream: ByteStream,
        call: Call,
        held: float,
        permits: threading.Semaphore | None,
    ) -> None:
        super().__init__(stream)
        self._layer = layer
        self._cancel = call.cancel.child() if call.cancel is not None else CancelToken()
        self._call = Call(call.deadline, self._cancel)
        self._held = held
        self._permits = permits
        self._over = threading.Lock()

    @property
    def held(self) -> float:
        return self._held + self.stream.held

    def readinto(self, buffer: memoryview, /) -> int:
        self._held += self._layer.flow(self._call)
        count = super().readinto(self._layer.portion(buffer))
        self._layer.spent(count)
        return count

    def abort(self) -> None:
        self._cancel.cancel()
        super().abort()

    def close(self) -> None:
        try:
            super().close()
        finally:
            if self._over.acquire(blocking=False):
                _release(self._permits)


def _release(permits: threading.Semaphore | None) -> None:
    if permits is not None:
        permits.release()


class _Bandwidth:
    """A rate shared by threads: each pays for what it received before it receives more."""

    def __init__(self, rate: float, clock: Clock) -> None:
        self.burst = max(1, int(rate * _BURST))
        self._rate = rate
        self._clock = clock
        self._free_at = clock.now()
        self._lock = threading.Lock()

    def debt(self) -> float:
        """Seconds until what was received so far is paid for; negative or 0 when it is."""
        with self._lock:
            return self._free_at - self._clock.now()

    def charge(self, count: int) -> None:
        with self._lock:
            self._free_at = max(self._free_at, self._clock.now()) + count / self._rate
