"""What every layer is: a store around a store that passes on whatever it does not change."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from imgstore.errors import ImgstoreError
from imgstore.model import ByteRange, Call, ObjectInfo, Version
from imgstore.store import Store
from imgstore.stream import ByteStream, Opened

if TYPE_CHECKING:
    from imgstore.manifest import Manifest

T = TypeVar("T")


class Layer(Store):
    """Forwards every public member of `inner`. A subclass overrides what it adds.

    The facets are taken over at construction; a layer that has something to add to one sets its own in place.
    Closing a layer closes the store inside.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.OPTIONS = inner.OPTIONS  # type: ignore[misc]  # a driver's class has them; a layer, its inner's
        self.store_id = inner.store_id
        self.endpoint = inner.endpoint
        self.clock = inner.clock
        self.writer = inner.writer
        self.uploader = inner.uploader
        self.lister = inner.lister
        self.extents = inner.extents
        self.device = inner.device
        self.copier = inner.copier
        self.acls = inner.acls
        self.space = inner.space

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        return passed(self._inner_stream(key, start, stop, version, call))

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        return self.inner.stat(key, call=call)

    def translate(self, exc: Exception) -> ImgstoreError:
        return self.inner.translate(exc)

    def close(self) -> None:
        super().close()
        self.inner.close()

    def _pinned(self, stream: ByteStream) -> Store:
        """Gives the store that further ranges of what `stream`, one of this layer's, is of are read from.

        What this layer looked up for that stream it does not look up again.
        """
        return self

    def _inner_stream(
        self, key: str, start: int, stop: int | None, version: Version, call: Call
    ) -> ByteStream:
        return self.inner._stream(key, start, stop, version, call)


class StreamReader:
    """A stream of the inner store as the raw reader of an outer one, bytes before the range included."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream

    @property
    def held(self) -> float:
        return self.stream.held

    def readinto(self, buffer: memoryview, /) -> int:
        stream = self.stream
        return (stream.discard(buffer) if stream.lead else 0) or stream._fill(buffer)

    def abort(self) -> None:
        self.stream.cancel()

    def close(self) -> None:
        self.stream.close()


def difference(first: ObjectInfo, other: ObjectInfo) -> str | None:
    """Says what tells that two replies are of different images, None where nothing does.

    Their versions apart, which are sent and judged with each request.
    """
    if other.size != first.size:
        return f"it had {first.size} bytes, and has {other.size}"
    if any(first.digests.get(name, value) != value for name, value in other.digests.items()):
        return "it has another digest"
    return None


def proof_of(stream: ByteStream) -> Manifest | None:
    """Gives the manifest that each byte of a stream is held against, by what its raw reader says."""
    proof: Manifest | None = getattr(stream._raw, "proof", None)
    return proof


def lead_of(stream: ByteStream) -> int:
    """Gives the bytes before the range that the store sends along, also where a layer below skips them."""
    lead: int = getattr(stream._raw, "lead", 0)
    return stream.lead or lead


def passed(stream: ByteStream, raw: StreamReader | None = None) -> Opened:
    """Gives `stream` as an open body, read through `raw`."""
    served = ByteRange(stream.range.start - stream.lead, stream.range.stop)
    return Opened(raw or StreamReader(stream), stream.info, served)
