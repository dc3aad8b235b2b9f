"""A memory store that is watched and can stall: what layers are wrapped around."""

from __future__ import annotations

import threading

from imgstore.backends.memory import MemoryStore
from imgstore.clock import SYSTEM
from imgstore.errors import ConnectionLostError, ImgstoreError, TimedOutError, UnavailableError
from imgstore.model import Call, Version
from imgstore.stream import Opened, RawReader

STALLED_AT = 1000  # bytes that a stalled body gives first
LONGEST = 30.0  # seconds after which a stalled body fails by itself, so that a faulty layer ends its test


class Weather(Exception):  # noqa: N818  # what a client library raises, not an error of ours
    """The one exception that `WatchedStore` knows as transient."""


class WatchedStore(MemoryStore):
    """Counts its open bodies and keeps what `_open` was given."""

    OPTIONS = ()

    def __init__(self) -> None:
        super().__init__()
        self.stalled: set[str] = set()
        self.opens: list[tuple[int, int | None, Version, Call]] = []
        self.now_open = 0
        self.most_open = 0
        self.closes = 0
        self._count = threading.Lock()

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        opened = super()._open(key, start, stop, version, call)
        with self._count:
            self.opens.append((start, stop, version, call))
            self.now_open += 1
            self.most_open = max(self.most_open, self.now_open)
        return Opened(_WatchedReader(self, opened.raw, key, call), opened.info, opened.range)

    def translate(self, exc: Exception) -> ImgstoreError:
        return UnavailableError("the weather is bad") if isinstance(exc, Weather) else super().translate(exc)

    def close(self) -> None:
        super().close()
        self.closes += 1

    def ended(self) -> None:
        """Counts a body that was closed."""
        with self._count:
            self.now_open -= 1


class _WatchedReader:
    def __init__(self, store: WatchedStore, inner: RawReader, key: str, call: Call) -> None:
        self._store = store
        self._inner = inner
        self._key = key
        self._call = call
        self._given = 0
        self._woken = threading.Event()
        self._open = threading.Lock()

    def readinto(self, buffer: memoryview, /) -> int:
        if self._key in self._store.stalled:
            if self._given >= STALLED_AT:
                self._stall()
            buffer = buffer[: STALLED_AT - self._given]
        count = self._inner.readinto(buffer)
        self._given += count
        return count

    def abort(self) -> None:
        self._woken.set()
        self._inner.abort()

    def close(self) -> None:
        self._inner.close()
        if self._open.acquire(blocking=False):
            self._store.ended()

    def _stall(self) -> None:
        remaining = self._call.remaining(SYSTEM)
        if self._woken.wait(LONGEST if remaining is None else max(0.0, min(remaining, LONGEST))):
            raise ConnectionLostError("the read was aborted")
        raise TimedOutError("nothing came any more")
