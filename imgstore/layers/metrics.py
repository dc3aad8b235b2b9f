"""The metrics layer: innermost, it sees every attempt and tells of it by events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from imgstore.layers import _observed_facets as facets
from imgstore.layers.base import Layer, StreamReader, T, passed
from imgstore.model import Call, Event, ObjectInfo, Version
from imgstore.store import Store
from imgstore.stream import ByteStream, Opened


class MetricsLayer(Layer):
    """Emits `opened`, `delivered` and `failed` for each attempt, to the call's and the store's observer.

    `observe` is the store's own: it is told of every call, in the thread of the call, and must be quick.
    """

    def __init__(self, inner: Store, *, observe: Callable[[Event], None] | None = None) -> None:
        super().__init__(inner)
        self._observe = observe
        self.writer = inner.writer and facets.ObservedWriter(inner.writer, self.observed)
        self.uploader = inner.uploader and facets.ObservedUploader(inner.uploader, self.observed)

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        def attempt() -> ByteStream:
            return self._inner_stream(key, start, stop, version, call)

        stream = self.observed("get", key, call, attempt, offset=start)
        return passed(stream, _CountingReader(self, stream, key, start - stream.lead, call))

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        return self.observed("stat", key, call, lambda: self.inner.stat(key, call=call))

    def observed(
        self, operation: str, key: str, call: Call, attempt: Callable[[], T], *, offset: int = 0
    ) -> T:
        """Gives what `attempt` gives, and tells how long it took or how it failed."""
        began = self.clock.now()
        try:
            result = attempt()
        except Exception as exc:
            self.emit(call, "failed", key, operation=operation, offset=offset, error=exc, opening=True)
            raise
        self.emit(call, "opened", key, operation=operation, offset=offset, seconds=self.clock.now() - began)
        return result

    def observes(self, call: Call) -> bool:
        """Whether there is anybody to tell."""
        return call.observe is not None or self._observe is not None

    def emit(self, call: Call, kind: Any, key: str, **fields: Any) -> None:
        """Tells the observers, if there are any."""
        if not self.observes(call):
            return
        event = Event(kind, self.store_id, key, **fields)
        for observe in (call.observe, self._observe):
            if observe is not None:
                observe(event)


class _CountingReader(StreamReader):
    """A stream whose receives are counted."""

    def __init__(self, layer: MetricsLayer, stream: ByteStream, key: str, offset: int, call: Call) -> None:
        super().__init__(stream)
        self._layer = layer
        self._key = key
        self._offset = offset
        self._call = call
        self._observed = layer.observes(call)

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            count = super().readinto(buffer)
        except Exception as exc:
            self._layer.emit(self._call, "failed", self._key, offset=self._offset, error=exc)
            raise
        if count and self._observed:
            self._layer.emit(self._call, "delivered", self._key, offset=self._offset, count=count)
        self._offset += count
        return count
