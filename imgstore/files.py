"""An image as a file object: seekable, of one version from the first byte to the last."""

from __future__ import annotations

import io
import os
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from errno import EINVAL
from operator import index
from typing import TYPE_CHECKING, Final, NoReturn

from imgstore.errors import (
    ImgstoreError,
    OperationCancelledError,
    UnpinnableError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.model import NO_CALL, Call, CancelToken, ObjectInfo
from imgstore.store import Store
from imgstore.stream import ByteStream

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

# Ten segments, 14 KiB, are what a server sends before it waits for the first acknowledgement (RFC 6928 §2):
# to ask for less would bring nothing sooner.
BLOCK: Final = 16 << 10
# At 1 Gbit/s as long on the way as a quick round trip, half a millisecond: skipped rather than asked around.
NEAR: Final = 64 << 10
# With 10 ms between two requests three quarters of 1 Gbit/s are left; more memory would bring little.
READ_AHEAD: Final = 4 << 20
# From here on a copy costs more than what spares it: 16 KiB 7 us against 3, 1 MiB 100 to 900 against 40 to
# 60, by how often the kernel has to clear the pages.
_LARGE: Final = 16 << 10


def open_image(
    store: Store,
    key: str,
    *,
    version: str | None = None,
    call: Call = NO_CALL,
    read_ahead: int = READ_AHEAD,
) -> RangeFile:
    """Gives the image as a file that `zipfile`, `tarfile`, `io.BufferedReader` and their like can read.

    One request is made now, for the first 16 KiB. Its reply sets the size and the version, which all later
    reads keep to; with `version` it must be that one. `call` holds for the life of the file: its deadline
    ends every later read too. `read_ahead` is the most that one request brings beyond what was asked, in
    bytes; 0 fetches exactly what is asked, and one byte to begin with.

    >>> import io
    >>> from imgstore.backends.memory import MemoryStore
    >>> store = MemoryStore()
    >>> _ = store.writer.put("disk", io.BytesIO(b"boot" * 4096))
    >>> with open_image(store, "disk") as file:
    ...     file.seek(-6, io.SEEK_END), file.read()
    (16378, b'otboot')

    Raises: as `Store.get`; UnsupportedError where the store tells no length; UnpinnableError where it has no
    version to hold the later reads to, unless the first request brought the whole image; ValueError for a
    negative `read_ahead`.
    """
    if index(read_ahead) < 0:
        raise ValueError(f"read_ahead is {read_ahead}; 0 reads nothing ahead")
    return RangeFile(_Pinned(store, key, version, call, read_ahead))


class RangeFile(io.RawIOBase):
    """One version of an image as a read-only binary file, made by `open_image`.

    As `io.FileIO`, but a read is short only at the end of the image, so that it may be used unbuffered. A
    position behind the end is legal and reads nothing. Every byte is of the version in `info`: where the
    store holds another one by now, a read that needs it raises VersionChangedError.

    The first error is final: every later read raises it again. A read that raises moves nothing, and what it
    left in the buffer is not of use.

    Small reads come from memory. A read that is not there fetches at least 16 KiB; one that goes on where
    the last request ended, or at most 64 KiB behind it, fetches twice as much as that one did, up to
    `read_ahead`; any other begins small again. A read of more than that goes past the memory straight into
    the caller's buffer, and nothing is read ahead of it. Whoever jumps between distant places opens a file
    for each. Between two reads nothing is held: no connection, no permit of `max_streams`, no thread.

    Memory: one buffer of at most `read_ahead` bytes, whatever the image; `read()` without a size is a bytes
    object of all that is left, however much that is.

    Belongs to one thread at a time, as raw files do; a second one that reads meanwhile gets UnsupportedError.
    `io.BufferedReader` around it may be shared. `close` may come from any thread, and a pending read then
    ends with OperationCancelledError.
    """

    mode = "rb"

    def __init__(self, image: _Pinned) -> None:
        self._image = image
        self._at = 0
        self._error: ImgstoreError | None = None
        # Reentrant: an interrupt may come just after it was taken, and would leave it taken for ever.
        self._busy = threading.RLock()

    @property
    def info(self) -> ObjectInfo:
        """What the store said of the image when the file was opened."""
        return self._image.info

    @property
    def name(self) -> str:
        """The image's key."""
        return self.info.key

    @property
    def size(self) -> int:
        """The size of the image in bytes."""
        return self._image.size

    @property
    def version(self) -> str | None:
        """The version that every byte is of; None only for an image that came whole with the opening."""
        return self.info.version

    def readable(self) -> bool:
        self._check_open()
        return True

    def seekable(self) -> bool:
        self._check_open()
        return True

    def writable(self) -> bool:
        self._check_open()
        return False

    def tell(self) -> int:
        self._check_open()
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Moves to `offset` from the start, the position or the end; gives the new position.

        Raises: ValueError for another `whence`; for a place before the start an error that is both the
        OSError of files, which zipfile expects, and a ValueError.
        """
        self._check_open()
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self.size}
        if whence not in bases:
            raise ValueError(f"whence is {whence!r}; it is 0 (start), 1 (position) or 2 (end)")
        target = bases[whence] + index(offset)
        if target < 0:
            raise io.UnsupportedOperation(EINVAL, f"position {target} lies before the start of the image")
        self._at = target
        return target

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fills `buffer`, or the front of it where the image ends; gives the number of bytes.

        Raises: ValueError after `close`; ImgstoreError, then and in every later read.
        """
        with memoryview(buffer) as given, given.cast("B") as view:
            if view.readonly:
                raise TypeError("readinto needs a writable buffer")
            return self._read(view[: self._left])

    def read(self, size: int | None = -1, /) -> bytes:
        """Gives `size` bytes, fewer only at the end of the image; all that is left for -1 or None.

        Raises: as `readinto`. Memory: what it gives; `readinto` takes none.
        """
        if size is None or size < 0:
            return self.readall()
        count = min(size, self._left)
        if count >= _LARGE:
            return _Once(self._read).give(count)
        data = bytearray(count)
        with memoryview(data) as view:
            self._read(view)
        return bytes(data)

    def readall(self) -> bytes:
        """Gives all that is left, with at most one request. Raises: as `readinto`; MemoryError."""
        return self.read(self._left)

    def write(self, data: ReadableBuffer, /) -> NoReturn:
        """Raises: io.UnsupportedOperation."""
        self._check_open()
        raise io.UnsupportedOperation("the image is open for reading only")

    def close(self) -> None:
        """Ends the file and lets go of its memory; a read pending in another thread is cancelled."""
        if not self.closed:
            super().close()
            self._image.close()

    def __repr__(self) -> str:
        where = "closed" if self.closed else f"at {self._at} of {self.size}"
        return f"<{type(self).__name__} {self.name!r} {where}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a RangeFile cannot be pickled; a StoreRef names its image to another process")

    @property
    def _left(self) -> int:
        return max(0, self.size - self._at)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the file is closed")

    def _read(self, view: memoryview) -> int:
        """Fills `view`, which ends with the image at the latest, and moves behind it."""
        if not self._busy.acquire(blocking=False):
            raise UnsupportedError("two threads read one file; io.BufferedReader around it may be shared")
        try:
            self._check_open()
            if self._error is not None:
                raise self._error
            self._image.readinto(view, self._at)
        except ImgstoreError as exc:
            self._error = exc
            raise
        finally:
            self._busy.release()
        self._at += len(view)
        return len(view)


class _Once(io.RawIOBase):
    """Has bytes filled in place, where Python alone would copy them, by `io.BufferedReader`.

    That reads into what it gives all that is a multiple of its buffer's size; with one of 1 that is any read.
    io.BytesIO would do as well, but a view of its buffer in the traceback of an error that is kept crashes
    the collector of CPython 3.12.
    """

    def __init__(self, fill: Callable[[memoryview], int]) -> None:
        self._fill = fill

    def give(self, count: int) -> bytes:
        """Gives `count` bytes, at least one, that `fill` filled at once. Raises: as `fill`."""
        try:
            return io.BufferedReader(self, 1).read(count)
        except BaseException as exc:
            _let_go(exc)
            raise

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return 0

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        return self._fill(memoryview(buffer))


def _let_go(error: BaseException | None) -> None:
    """Clears the frames of a read that failed: they hold views of memory that went with it."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class _Pinned:
    """One version of an image, and a window of it in memory."""

    def __init__(self, store: Store, key: str, version: str | None, call: Call, read_ahead: int) -> None:
        self._store = store
        self._limit = read_ahead
        self._cancel = CancelToken() if call.cancel is None else call.cancel.child()
        self._call = replace(call, cancel=self._cancel)
        self._window = memoryview(b"")
        self._start = 0  # where the window begins
        self._last = 0, 0  # what the last request brought: half-open
        self.info, self.size = self._pin(key, version)

    def readinto(self, view: memoryview, offset: int) -> None:
        """Fills `view` with the bytes from `offset` on; they are in the image."""
        count = self._take(view, offset)
        if count < len(view):
            self._fetch(view[count:], offset + count)

    def close(self) -> None:
        self._cancel.cancel()
        self._window = memoryview(b"")

    def _pin(self, key: str, version: str | None) -> tuple[ObjectInfo, int]:
        length = max(1, self._least)
        with self._store.get(key, 0, length, version=version, call=self._call) as stream:
            info = stream.info
            if info.size is None:
                raise UnsupportedError(
                    "the store tells no length of the image, which a file needs",
                    key=key,
                    store=self._store.store_id,
                )
            if info.version is None and info.size > length:
                raise UnpinnableError(
                    "the store has no version of the image, so that nothing holds later reads to the first",
                    key=key,
                    store=self._store.store_id,
                )
            self._fill(stream, 0, min(length, info.size))
        return info, info.size

    @property
    def _least(self) -> int:
        return min(BLOCK, self._limit)

    def _take(self, view: memoryview, offset: int) -> int:
        """Copies what the window has for the front of `view`; gives the number of bytes."""
        window, begin = self._window, offset - self._start
        if begin < 0:
            return 0
        found = window[begin : begin + len(view)]
        view[: len(found)] = found
        return len(found)

    def _fetch(self, view: memoryview, offset: int) -> None:
        start, stop = self._choose(offset, len(view))
        with self._open(start, stop) as stream:
            if stop - start == len(view):
                _receive(stream, view)
                self._last = start, stop
                return
            self._fill(stream, start, stop)
        if self._take(view, offset) < len(view):
            raise OperationCancelledError("the file was closed while it was read", key=self.info.key)

    def _choose(self, offset: int, count: int) -> tuple[int, int]:
        """Gives where to begin and to end a request for `count` bytes from `offset` on, of [0, size)."""
        begin, end = self._last
        goes_on = end <= offset <= end + NEAR
        length = max(self._least, min(2 * (end - begin), self._limit) if goes_on else 0)
        if count >= length:
            return offset, offset + count
        # Formats that end in a directory are read from the end, backwards: the last window lies before it.
        start = offset if goes_on else max(0, min(offset, self.size - length))
        return start, min(start + length, self.size)

    def _open(self, start: int, stop: int) -> ByteStream:
        stream = self._store.get(
            self.info.key, start, stop - start, version=self.info.version, call=self._call
        )
        if stream.info.size != self.size or not _agree(stream.info.digests, self.info.digests):
            stream.close()
            raise VersionChangedError(
                f"the image is another by its size or digest, under one version: {self.info.version}",
                key=self.info.key,
                store=self._store.store_id,
            )
        return stream

    def _fill(self, stream: ByteStream, start: int, stop: int) -> None:
        """Makes the window what `stream` brings."""
        self._window = memoryview(b"")  # before its successor is there: never two
        window = memoryview(bytearray(stop - start))
        _receive(stream, window)
        self._last = start, stop
        self._start, self._window = start, window


def _agree(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    return all(one[name] == other[name] for name in one.keys() & other.keys())


def _receive(stream: ByteStream, view: memoryview) -> None:
    """Fills `view`, which is as long as the stream's range."""
    filled = 0
    while filled < len(view):
        filled += stream.readinto(view[filled:])
