"""Planted faults of layers. They stand on `Store` alone, as a layer of somebody else's might."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imgstore.errors import ImgstoreError
from imgstore.model import ANY, ByteRange, Call, ObjectInfo, Version
from imgstore.store import FACETS, Store
from imgstore.stream import ByteStream, Opened


class GoodLayer(Store):
    """The layer that every planted one is made of: it passes everything on."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.store_id = inner.store_id
        self.clock = inner.clock
        for name in FACETS:
            setattr(self, name, getattr(inner, name))

    @property
    def OPTIONS(self) -> Sequence[Any]:  # type: ignore[override]  # noqa: N802
        return self.inner.OPTIONS

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        return self.inner.stat(key, call=call)

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        length = None if stop is None else stop - start
        return self.served(self.inner.get(key, start, length, version=version, call=call))

    def served(self, stream: ByteStream) -> Opened:
        """Gives the stream of the store inside as a body."""
        return Opened(_Inner(stream), stream.info, ByteRange(stream.range.start, stream.range.stop))

    def translate(self, exc: Exception) -> ImgstoreError:
        return self.inner.translate(exc)

    def close(self) -> None:
        super().close()
        self.inner.close()


class _Inner:
    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream

    def readinto(self, buffer: memoryview, /) -> int:
        return self.stream.readinto(buffer)

    def abort(self) -> None:
        self.stream.cancel()

    def close(self) -> None:
        self.stream.close()


class FacetDropped(GoodLayer):
    """The lister of the store inside is not passed on."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.lister = None


class StoreLeftOpen(GoodLayer):
    """Closing the layer leaves the store inside open."""

    def close(self) -> None:
        Store.close(self)


class StreamLeftOpen(GoodLayer):
    """Closing a stream in mid-body leaves that of the store inside open."""

    def served(self, stream: ByteStream) -> Opened:
        opened = super().served(stream)
        return Opened(_Keeping(stream), opened.info, opened.range)


class _Keeping(_Inner):
    def close(self) -> None:
        pass


class TwoPermits(GoodLayer):
    """A range is opened twice at once."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        if stop is None:
            return super()._open(key, start, stop, version, call)
        with self.inner.get(key, start, stop - start, version=version, call=call):
            return super()._open(key, start, stop, version, call)


class AnyVersionForgotten(GoodLayer):
    """`ANY` is not passed on."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        return super()._open(key, start, stop, None if version is ANY else version, call)


class OwnTranslation(GoodLayer):
    """The layer translates by itself, and knows less than the store inside."""

    def translate(self, exc: Exception) -> ImgstoreError:
        error = super().translate(exc)
        if error is exc or error.__cause__ is exc:
            return error
        return self.translate(RuntimeError(str(exc)))


class CallForgotten(GoodLayer):
    """The observer is not passed on."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        return super()._open(key, start, stop, version, Call(call.deadline, call.cancel))
