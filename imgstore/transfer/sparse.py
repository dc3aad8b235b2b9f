"""An image read as what it is: stretches of data, and holes that nobody needs to read."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final

from imgstore.errors import TruncatedError, VersionChangedError
from imgstore.model import NO_CALL, ByteRange, Call, Extent, ObjectInfo
from imgstore.store import Store, bounds
from imgstore.stream import ByteStream

# A stretch more costs an open, some 100 us through all layers, in which a local disk reads about this much.
LEAST_HOLE: Final = 256 << 10
# Zeros may have to be hashed: some half a second's worth at once, so that a cancel ends in time.
MOST_HOLE: Final = 256 << 20


def open_source(
    store: Store,
    key: str,
    offset: int = 0,
    length: int | None = None,
    *,
    version: str | None = None,
    call: Call = NO_CALL,
) -> ByteStream | SparseStream:
    """Opens a range of an image for a transfer: with its holes, where the store knows them.

    Without a facet `extents`, or a version that holds the map and the bytes together, it is `Store.get`.

    Raises: as `Store.get`.
    """
    if store.extents is None:
        return store.get(key, offset, length, version=version, call=call)
    info = store.stat(key, call=call)
    if info.version is None or info.size is None:
        return store.get(key, offset, length, version=version, call=call)
    if version is not None and info.version != version:
        raise VersionChangedError(
            "the store holds another version of the image", key=key, store=store.store_id
        )
    start, stop = bounds(offset, length)
    return SparseStream(store, info, start, stop, call=call)


class SparseStream:
    """Exactly the bytes of one range of one version of an image, as `ByteStream`, and its holes as holes.

    `hole` passes over what needs not be read; to a caller that never asks, holes read as zeros. One stream of
    the store is open at a time, and only in a stretch of data: an image that is replaced between two of them
    is not read to its end, it is VersionChangedError. Memory: none that grows. Belongs to one thread.
    """

    def __init__(
        self, store: Store, info: ObjectInfo, start: int, stop: int | None, *, call: Call = NO_CALL
    ) -> None:
        """Takes [start, stop) of the image `info` of `store`, which has its size, version and extents.

        Raises: as `Extents.extents`.
        """
        extents: Any = store.extents
        size = info.size or 0
        self.info = info
        self.delivered = 0
        self._store = store
        self._call = call
        self._stream: ByteStream | None = None
        self._stretches = _stretches(
            extents.extents(info.key, start=start, stop=stop, version=info.version, call=call)
        )
        # Asked at once, so that what is wrong with the range is told before anything is written.
        self._stop, self._is_hole = next(self._stretches, (start, False))
        self.range = ByteRange(start, size if stop is None else min(stop, size))

    def hole(self) -> int:
        """Passes over a hole, or the next 256 MiB of it, and gives the bytes; 0 where none begins here.

        Raises: as `ByteStream.readinto`.
        """
        self._call.check(self._store.clock, key=self.info.key, store=self._store.store_id)
        self._advance()
        return self._passed(min(self._stop - self._at, MOST_HOLE)) if self._is_hole else 0

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fills the front of `buffer` and gives the number of bytes; 0 only when all is delivered.

        Raises: as `ByteStream.readinto`.
        """
        self._advance()
        if self._is_hole:
            count = min(len(buffer), self._stop - self._at)
            buffer[:count] = bytes(count)
            return self._passed(count)
        if self._stream is None:
            if self._at == self._stop:
                return 0
            self._stream = self._store.get(
                self.info.key, self._at, self._stop - self._at, version=self.info.version, call=self._call
            )
        return self._passed(self._stream.readinto(buffer))

    def read(self, size: int) -> bytes:
        """Gives at most `size` bytes, none only at the end. Raises: as `ByteStream.readinto`."""
        with memoryview(bytearray(size)) as view:
            count = self.readinto(view)
            return bytes(view[:count])

    def close(self) -> None:
        """Closes what is open. Idempotent."""
        self._close_stream()
        self._stretches.close()

    def __enter__(self) -> SparseStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _at(self) -> int:
        return self.range.start + self.delivered

    def _passed(self, count: int) -> int:
        self.delivered += count
        return count

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _advance(self) -> None:
        """Goes on to the stretch that begins here, where the last one has ended."""
        while self._at >= self._stop and self._at != self.range.stop:
            self._close_stream()
            found = next(self._stretches, None)
            if found is None:
                raise TruncatedError(
                    f"the map of extents ends at {self._at}", key=self.info.key, offset=self._at
                )
            self._stop, self._is_hole = found


def _stretches(extents: Iterator[Extent]) -> Generator[tuple[int, bool], None, None]:
    """Gives where each stretch ends and whether it is a hole; holes too small to be worth it are data."""
    now: tuple[int, bool] | None = None
    for extent in extents:
        start, stop = extent.range.start, extent.range.stop or 0
        is_hole = extent.kind != "data" and stop - start >= LEAST_HOLE
        if now is not None and is_hole != now[1]:
            yield now
        now = (stop, is_hole)
    if now is not None:
        yield now
