"""A range of an image as whole chunks, received, hashed and, where bad, fetched once more."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from imgstore.buffer import paged
from imgstore.errors import DigestMismatchError, ImgstoreError, TruncatedError, VersionChangedError
from imgstore.layers._repairs import Repairs
from imgstore.layers.base import lead_of
from imgstore.manifest import Manifest
from imgstore.model import ANY, ByteRange, Call, CancelToken, Event, ObjectInfo, Version
from imgstore.store import Store
from imgstore.stream import ByteStream

# Chunks that are hashed while the next is received. One worker keeps up with SHA-256 (1.6 GB/s a core), and a
# second with SHA-512, which takes twice as long.
AHEAD: Final = 2
# Of the chunks of an image, how many may be bad before the source is called a liar: four, or one in fifty.
BAD_CHUNKS: Final = 4
BAD_SHARE: Final = 50


class StaleError(Exception):
    """A manifest and the image in the store do not belong together; says how they differ."""


class Layer(Protocol):
    """Whom a reader tells what it found. `spare`: whether it may have a second stream open."""

    spare: bool
    repairs: Repairs

    def keep(self, chunk: VerifiedChunk) -> None: ...
    def emit(self, call: Call, event: Event) -> None: ...


@dataclass(frozen=True, slots=True)
class VerifiedChunk:
    """A chunk that matched, and the image that it is of. Nobody writes to `data` any more."""

    info: ObjectInfo
    manifest: Manifest
    number: int
    data: memoryview

    def part(self, wanted: ByteRange) -> Bytes | None:
        """Gives the bytes of a range as a raw reader; None where it is empty, or not all of it here."""
        whole = self.manifest.chunk_range(self.number)
        if not whole.start <= wanted.start < (wanted.stop or 0) <= (whole.stop or 0):
            return None
        return Bytes(self.data[wanted.start - whole.start : (wanted.stop or 0) - whole.start])


class Bytes:
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


class ChunkReader:
    """The raw reader of the verify layer: each chunk is delivered after it matched by the manifest `proof`.

    While a chunk is received, those before it are hashed in threads, which `close` ends; a read of at most
    `AHEAD` chunks is hashed in the caller's. One stream of the store is open at a time; and a second one
    while a bad chunk is fetched again, if the layer has one to spare: then the first goes on where it is.

    Memory: `AHEAD` + 1 chunks of the manifest; one for a read of at most `AHEAD`.
    """

    def __init__(
        self,
        inner: Store,
        key: str,
        manifest: Manifest,
        wanted: ByteRange,
        *,
        version: Version,
        call: Call,
        layer: Layer,
    ) -> None:
        """Opens nothing yet; `wanted` lies in the image."""
        self._inner = inner
        self._key = key
        self.proof = manifest
        self._wanted = wanted
        # the chunk digests prove what a version would
        self._version: Version = ANY if version is None else version
        self._cancel = call.cancel.child() if call.cancel is not None else CancelToken()
        self._call = replace(call, cancel=self._cancel)
        self._layer = layer
        numbers = manifest.covering(wanted.start, wanted.stop or 0)
        self._next = numbers.start  # the chunk to be received next
        self._at = numbers.start  # the chunk to be delivered next
        self._stop = numbers.stop
        self._pool: ThreadPoolExecutor | None = None
        self._free = [paged(manifest.chunk_size)] if numbers else []
        if len(numbers) > AHEAD:
            self._pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="imgstore-verify")
            self._free += [paged(manifest.chunk_size) for _ in range(AHEAD)]
        self._waiting: deque[tuple[memoryview, Future[bool] | bool]] = deque()
        self._ready = memoryview(b"")
        self._spent: memoryview | None = None  # the memory that `_ready` is of
        self._failure: ImgstoreError | None = None  # of what was to be received next
        self._stream: ByteStream | None = None
        self._held = 0.0
        self._bad = 0
        self._info: ObjectInfo | None = None

    def begin(self) -> ObjectInfo:
        """Opens the store's own stream, and holds the manifest against what it serves.

        Raises: StaleError where they do not belong together; as `Store.get`.
        """
        self._stream = self._open(self._next, self._stop)
        info = self._stream.info
        if (told := difference(self.proof, info)) is not None:
            raise StaleError(told)
        self._info = replace(info, size=self.proof.size)
        return self._info

    @property
    def lead(self) -> int:
        """As that of the store's own stream."""
        return 0 if self._stream is None else lead_of(self._stream)

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
            self._step()
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

    def _step(self) -> None:
        """Makes the chunk that was received first ready if it is hashed; receives another in the meantime.

        What fails waits until the chunks before it are delivered.
        """
        receives = self._failure is None and self._next < self._stop and bool(self._free)
        if self._waiting and not (receives and self._is_hashed_still()):
            self._ready = self._proven()
        elif self._failure is not None:
            raise self._failure
        else:
            self._receive()

    def _is_hashed_still(self) -> bool:
        _, matched = self._waiting[0]
        return isinstance(matched, Future) and not matched.done()

    def _proven(self) -> memoryview:
        """Gives the wanted bytes of the chunk that was received first, once it is known to be good."""
        data, matched = self._waiting.popleft()
        number, self._at = self._at, self._at + 1
        self._spent = data
        if not (matched.result() if isinstance(matched, Future) else matched):
            self._repair(number, data)
        whole = self.proof.chunk_range(number)
        if self._at == self._stop and self._info is not None:
            self._layer.keep(VerifiedChunk(self._info, self.proof, number, data))
        first = max(self._wanted.start - whole.start, 0)
        return data[first : min(self._wanted.stop or 0, whole.stop or 0) - whole.start]

    def _receive(self) -> None:
        number, memory = self._next, self._free[-1]
        data = memory[: self.proof.chunk_range(number).size]
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
        matches = self.proof.matches
        hashed = matches(number, data) if self._pool is None else self._pool.submit(matches, number, data)
        self._waiting.append((data, hashed))

    def _repair(self, number: int, data: memoryview) -> None:
        """Fetches a bad chunk once more, alone. Raises: DigestMismatchError where it stays bad."""
        if not self._layer.spare:
            self._close_stream()
        whole = self.proof.chunk_range(number)
        self._bad += 1
        limit = max(BAD_CHUNKS, len(self.proof.chunks) // BAD_SHARE)
        if self._bad <= limit:
            self._fetch_again(number, data)
            if self.proof.matches(number, data):
                self._emit("repaired", whole)
                return
        told = "twice" if self._bad <= limit else f"and {limit} others were wrong before it"
        raise DigestMismatchError(
            f"chunk {number} of {self._key!r} (bytes {whole.start} to {whole.stop}) does not match its "
            f"{self.proof.algorithm} digest, {told}",
            chunks=(number,),
        )

    def _fetch_again(self, number: int, data: memoryview) -> None:
        """Fills `data` anew, from the store or with what another reader of the layer is just fetching.

        That one may have another manifest: what does not match is fetched after all.
        """

        def fetch() -> None:
            with self._open(number, number + 1) as stream:
                _fill(stream, data)
            self._emit("refetched", self.proof.chunk_range(number))

        is_own = self._layer.repairs.once(
            self._key,
            data,
            self.proof.chunk_range(number).start,
            fetch=fetch,
            check=lambda: self._call.check(self._inner.clock, key=self._key),
        )
        if not is_own and not self.proof.matches(number, data):
            fetch()

    def _open(self, first: int, stop: int) -> ByteStream:
        """Opens the chunks from `first` up to `stop`, of the image that was begun with."""
        if first < stop:
            whole, last = self.proof.chunk_range(first), self.proof.chunk_range(stop - 1)
            stream = self._inner._stream(self._key, whole.start, last.stop, self._version, self._call)
        else:
            stream = self._inner._stream(self._key, self._wanted.start, None, self._version, self._call)
        if self._info is not None and difference(self.proof, stream.info) is not None:
            stream.close()
            raise VersionChangedError("the image was replaced while it was read", key=self._key)
        return stream

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._held += stream.held
            stream.close()

    def _emit(self, kind: Literal["refetched", "repaired"], whole: ByteRange) -> None:
        event = Event(kind, self._inner.store_id, self._key, offset=whole.start, count=whole.size or 0)
        self._layer.emit(self._call, event)


def difference(manifest: Manifest, info: ObjectInfo) -> str | None:
    """Says what tells that `manifest` is not of the image `info`; None where nothing does."""
    if info.size is not None and info.size != manifest.size:
        return f"that has {manifest.size} bytes, the store's {info.size}"
    if None not in {manifest.version, info.version} and manifest.version != info.version:
        return "it names another version"
    return None


def _fill(stream: ByteStream, data: memoryview) -> None:
    """Fills `data`, which is what the manifest says that comes."""
    done = 0
    while done < len(data):
        count = stream.readinto(data[done:])
        if not count:
            raise TruncatedError("the store ended the image before the size in its manifest")
        done += count
