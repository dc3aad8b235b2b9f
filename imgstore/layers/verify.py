"""The verify layer: a byte is delivered only out of a chunk that matched its digest."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from imgstore.buffer import paged
from imgstore.errors import (
    DigestMismatchError,
    ImgstoreError,
    ManifestError,
    RangeNotSatisfiableError,
    TruncatedError,
    VersionChangedError,
)
from imgstore.layers import _verified_facets as facets
from imgstore.layers.base import Layer
from imgstore.manifest import Manifest
from imgstore.model import ANY, ByteRange, Call, CancelToken, Event, ObjectInfo, Version
from imgstore.store import Store
from imgstore.stream import ByteStream, Opened

LOG = logging.getLogger(__name__)

# Chunks that are hashed while the next is received. One worker keeps up with SHA-256 (1.6 GB/s a core), and a
# second with SHA-512, which takes twice as long.
AHEAD: Final = 2
# Of the chunks of an image, how many may be bad before the source is called a liar: four, or one in fifty.
BAD_CHUNKS: Final = 4
BAD_SHARE: Final = 50


class Manifests(Protocol):
    """Where the layer gets manifests from. Callable from many threads."""

    def find(self, key: str, call: Call) -> Manifest | None:
        """Gives the manifest of an image, None where there is none.

        Raises: ManifestError for what is no manifest; as `Store.get`.
        """

    def forget(self, key: str) -> bool:
        """Drops what is remembered of `key`; tells whether that was anything, and so `find` worth asking."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """The chunk that was verified last, for small reads that follow one another."""

    key: str
    info: ObjectInfo
    manifest: Manifest
    number: int
    data: memoryview


class VerifyLayer(Layer):
    """Proves every byte by the digest of its chunk, and fetches a bad chunk again.

    Reads are widened to whole chunks. An image without a manifest is read as it is, unless manifests are
    `required`: then it is ManifestError, as a stale one is. Memory of a read: `AHEAD` + 1 chunks of the
    manifest, one for a read of at most two; one more for the layer, which keeps the last one verified.
    """

    def __init__(
        self,
        inner: Store,
        manifests: Manifests,
        *,
        required: bool = False,
        observe: Callable[[Event], None] | None = None,
    ) -> None:
        """Wraps `inner`; `observe` is the store's own, as that of the metrics layer."""
        super().__init__(inner)
        self._manifests = manifests
        self._required = required
        self._observe = observe
        self._kept: _Kept | None = None
        self.extents = inner.extents and facets.VerifiedExtents(inner.extents, self.manifest)

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        kept = self._kept
        if kept is not None and isinstance(version, str) and (kept.key, kept.info.version) == (key, version):
            whole = kept.manifest.chunk_range(kept.number)
            served = _clipped(kept.manifest, key, start, stop)
            if whole.start <= start < (served.stop or 0) <= (whole.stop or 0):
                return Opened(_Given(kept.data[start - whole.start :][: served.size]), kept.info, served)
        manifest = self.manifest(key, call)
        while manifest is not None:
            wanted = _clipped(manifest, key, start, stop)
            reader = _Verified(self, key, manifest, wanted, version=version, call=call)
            try:
                info = reader.begin()
            except _StaleError as stale:
                reader.close()
                manifest = self._renewed(key, stale, call)
            except BaseException:
                reader.close()
                raise
            else:
                return Opened(reader, info, reader.range)
        return super()._open(key, start, stop, version, call)

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        info = super()._stat(key, call)
        manifest = self.manifest(key, call)
        if manifest is None or difference(manifest, info) is not None:
            return info
        return described(manifest, info)

    def manifest(self, key: str, call: Call) -> Manifest | None:
        """Gives the manifest of an image.

        Raises: ManifestError where there must be one and is none; NotFoundError where the image is not there,
        either.
        """
        manifest = self._manifests.find(key, call)
        if manifest is None and self._required:
            self.inner.stat(key, call=call)
            raise ManifestError(f"there is no manifest of {key!r}, and the store's 'verify' requires one")
        return manifest

    def keep(self, kept: _Kept) -> None:
        """Remembers the chunk that was verified last."""
        self._kept = kept

    def emit(self, call: Call, event: Event) -> None:
        """Tells the observers, if there are any."""
        for observe in (call.observe, self._observe):
            if observe is not None:
                observe(event)

    def _renewed(self, key: str, stale: _StaleError, call: Call) -> Manifest | None:
        """Gives the manifest anew where the one that was stale had been remembered; else none."""
        if self._manifests.forget(key):
            return self.manifest(key, call)
        if self._required:
            raise ManifestError(f"the manifest of {key!r} is of another image: {stale}")
        LOG.warning("store %s: %r is read unverified: its manifest is of another image: %s",
                    self.store_id, key, stale)  # fmt: skip
        return None


class _StaleError(Exception):
    """A manifest and the image beside it do not belong together; says how they differ."""


def difference(manifest: Manifest, info: ObjectInfo) -> str | None:
    """Says what tells that `manifest` is not of the image `info`; None where nothing does."""
    if info.size is not None and info.size != manifest.size:
        return f"that has {manifest.size} bytes, the store's {info.size}"
    if None not in {manifest.version, info.version} and manifest.version != info.version:
        return "it names another version"
    return None


def described(manifest: Manifest, info: ObjectInfo) -> ObjectInfo:
    """Gives `info` with what the manifest knows: the size, and digests of the whole image."""
    return replace(info, size=manifest.size, digests={**info.digests, **manifest.digests})


def _clipped(manifest: Manifest, key: str, start: int, stop: int | None) -> ByteRange:
    size = manifest.size
    if start > size or start == size > 0:
        raise RangeNotSatisfiableError(
            f"offset {start} lies behind the end of the image ({size} bytes)", key=key
        )
    return ByteRange(start, size if stop is None else min(stop, size))


class _Given:
    """Bytes at hand, as a raw reader."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def readinto(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    def abort(self) -> None:
        """Nothing is waited for."""

    def close(self) -> None:
        self._data = memoryview(b"")


class _Verified:
    """The raw reader of a range: whole chunks of the inner store, each delivered after it matched."""

    def __init__(
        self,
        layer: VerifyLayer,
        key: str,
        manifest: Manifest,
        wanted: ByteRange,
        *,
        version: Version,
        call: Call,
    ) -> None:
        """Opens nothing yet; `wanted` lies in the image."""
        self.range = wanted
        self._layer = layer
        self._key = key
        self._manifest = manifest
        # the chunk digests prove what a version would
        self._version: Version = ANY if version is None else version
        self._cancel = call.cancel.child() if call.cancel is not None else CancelToken()
        self._call = replace(call, cancel=self._cancel)
        numbers = manifest.covering(wanted.start, wanted.stop or 0)
        self._next = numbers.start  # the chunk to be received next
        self._stop = numbers.stop
        self._at = numbers.start  # the chunk to be delivered next
        self._pool: ThreadPoolExecutor | None = None
        self._free = [paged(manifest.chunk_size)] if numbers else []
        if len(numbers) > AHEAD:
            self._pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="imgstore-verify")
            self._free += [paged(manifest.chunk_size) for _ in range(AHEAD)]
        self._waiting: deque[tuple[memoryview, Future[bool] | bool]] = deque()
        self._ready = memoryview(b"")
        self._spent: memoryview | None = None  # the memory that `_ready` is of
        self._stream: ByteStream | None = None
        self._failure: ImgstoreError | None = None  # of what was to be received next
        self._held = 0.0
        self._bad = 0
        self._info: ObjectInfo | None = None

    def begin(self) -> ObjectInfo:
        """Opens the store's own stream, and holds the manifest against what it serves."""
        bound = self._bounds(self._next, self._stop)
        self._stream = self._layer.inner._stream(self._key, *bound, self._version, self._call)
        info = self._stream.info
        if (told := difference(self._manifest, info)) is not None:
            raise _StaleError(told)
        self._info = info
        return described(self._manifest, info)

    @property
    def held(self) -> float:
        return self._held + (0.0 if self._stream is None else self._stream.held)

    def readinto(self, buffer: memoryview, /) -> int:
        while not self._ready:
            if self._spent is not None:
                self._free.append(self._spent)
                self._spent = None
            if self._at == self._stop:
                return 0
            receives = self._failure is None and self._next < self._stop and bool(self._free)
            if self._waiting and not (receives and self._is_hashed_still()):
                self._ready = self._proven()
            elif self._failure is not None:
                raise self._failure
            else:
                self._receive()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def abort(self) -> None:
        self._cancel.cancel()

    def close(self) -> None:
        self._close_stream()
        self._cancel.cancel()
        if self._pool is not None:
            self._pool.shutdown()

    def _is_hashed_still(self) -> bool:
        _, matched = self._waiting[0]
        return isinstance(matched, Future) and not matched.done()

    def _proven(self) -> memoryview:
        """Gives the wanted bytes of the chunk that was received first, proven."""
        data, matched = self._waiting.popleft()
        number, self._at = self._at, self._at + 1
        self._spent = data
        if not (matched.result() if isinstance(matched, Future) else matched):
            self._repair(number, data)
        whole = self._manifest.chunk_range(number)
        if self._at == self._stop:
            self._keep(number, data)
        first = max(self.range.start - whole.start, 0)
        return data[first : min(self.range.stop or 0, whole.stop or 0) - whole.start]

    def _keep(self, number: int, data: memoryview) -> None:
        if self._info is not None and self._info.version is not None:
            info = described(self._manifest, self._info)
            self._layer.keep(_Kept(self._key, info, self._manifest, number, data))

    def _receive(self) -> None:
        """Receives the next chunk, and has it hashed; what fails waits until those before are delivered."""
        number, memory = self._next, self._free[-1]
        data = memory[: self._manifest.chunk_range(number).size]
        try:
            if self._stream is None:
                self._stream = self._open(number, self._stop)
            _fill(self._stream, data)
        except ImgstoreError as exc:
            self._failure = exc
            return
        self._free.pop()
        self._next += 1
        if self._next == self._stop:
            self._close_stream()
        matches = self._manifest.matches
        if self._pool is None:
            self._waiting.append((data, matches(number, data)))
        else:
            self._waiting.append((data, self._pool.submit(matches, number, data)))

    def _repair(self, number: int, data: memoryview) -> None:
        """Fetches a bad chunk once more, alone."""
        self._close_stream()
        whole = self._manifest.chunk_range(number)
        self._bad += 1
        limit = max(BAD_CHUNKS, len(self._manifest.chunks) // BAD_SHARE)
        if self._bad <= limit:
            with self._open(number, number + 1) as stream:
                _fill(stream, data)
            self._emit("refetched", whole)
            if self._manifest.matches(number, data):
                self._emit("repaired", whole)
                return
        told = "twice" if self._bad <= limit else f"and {limit} others were wrong before it"
        raise DigestMismatchError(
            f"chunk {number} of {self._key!r} (bytes {whole.start} to {whole.stop}) does not match its "
            f"{self._manifest.algorithm} digest, {told}",
            chunks=(number,),
        )

    def _open(self, first: int, stop: int) -> ByteStream:
        """Opens the chunks from `first` up to `stop`, of the image that was begun with."""
        stream = self._layer.inner._stream(self._key, *self._bounds(first, stop), self._version, self._call)
        began, now = self._info, stream.info
        if began is not None and difference(self._manifest, now) is not None:
            stream.close()
            raise VersionChangedError("the image was replaced while it was read", key=self._key)
        return stream

    def _bounds(self, first: int, stop: int) -> tuple[int, int | None]:
        if first >= stop:
            return self.range.start, None  # an empty image
        return self._manifest.chunk_range(first).start, self._manifest.chunk_range(stop - 1).stop

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._held += stream.held
            stream.close()

    def _emit(self, kind: Literal["refetched", "repaired"], whole: ByteRange) -> None:
        event = Event(kind, self._layer.store_id, self._key, offset=whole.start, count=whole.size or 0)
        self._layer.emit(self._call, event)


def _fill(stream: ByteStream, data: memoryview) -> None:
    """Fills `data`, which is what the manifest says that comes."""
    done = 0
    while done < len(data):
        count = stream.readinto(data[done:])
        if not count:
            raise TruncatedError("the store ended the image before the size in its manifest")
        done += count
