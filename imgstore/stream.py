"""The stream that callers read, and what a driver supplies for it.

The count of bytes is kept in one place that nobody can override: a `ByteStream` either delivers its whole
range or raises. A short, long or wrong body never passes as success.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, final

from imgstore.buffer import paged
from imgstore.clock import SYSTEM, Clock
from imgstore.errors import (
    BadReplyError,
    DeadlineExceededError,
    ImgstoreError,
    OperationCancelledError,
    PermanentError,
    RangeNotSatisfiableError,
    TruncatedError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.model import NO_CALL, ByteRange, Call, ObjectInfo, Version

# An aborted read ends within a second; a thread interrupted as it took the stream never gives it back.
_LET_GO = 3.0
READ_ALL_LIMIT = 64 << 20  # read() without a size: enough for any descriptor, far below an image


class RawReader(Protocol):
    """What a driver supplies: an HTTP body, an open file, a position in an RBD image.

    A raw reader that waits on this side of the wire (for a permit, for bandwidth) may have an attribute
    `held`: the seconds it has so waited, which then do not count as the store's.
    """

    def readinto(self, buffer: memoryview, /) -> int:
        """Fills the front of `buffer` with at most one receive from the store and gives the number of bytes.

        0 only at the end; where the size is not known, only at an end that the protocol proved. Never None.
        It never writes to `buffer` after it returned or raised. What it raises goes through the store's
        `translate`.
        """

    def abort(self) -> None:
        """Makes a pending and every later `readinto` raise within a second. From any thread; idempotent."""

    def close(self) -> None:
        """Gives everything back; in mid-body the connection is dropped, never reused. Idempotent."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open body, and what the store really serves with it.

    `range` may begin before what was asked (the stream throws the rest away) and may end early (the resume
    layer goes on from there); it never begins later.
    """

    raw: RawReader
    info: ObjectInfo
    range: ByteRange


@final
class ByteStream:
    """Exactly the bytes of one range of one version of an image, in order, or a typed error.

    `info` describes the image whose bytes are served, `range` what this stream delivers (`stop` None while
    the size is not known), `delivered` how many bytes the caller has been given. Belongs to one thread at a
    time; only `cancel` and `close` may come from another. A second reader gets UnsupportedError and disturbs
    nothing.

    The first error is final: every later read raises it again. After it `range.start + delivered` is the
    offset up to which every byte was exact. A stream that is dropped closes its connection by itself.
    """

    __slots__ = (
        "__weakref__", "_busy", "_cancelled", "_clock", "_closed", "_error", "_lead", "_limit",
        "_raw", "_store", "_total", "_translate", "delivered", "info", "range",
    )  # fmt: skip

    def __init__(
        self,
        opened: Opened,
        start: int,
        stop: int | None,
        *,
        version: Version = None,
        translate: Callable[[Exception], ImgstoreError],
        store: str = "",
        call: Call = NO_CALL,
        clock: Clock = SYSTEM,
    ) -> None:
        """Judges `opened` against what was asked and takes it over.

        Raises: BadReplyError, RangeNotSatisfiableError, VersionChangedError; then `opened` is still the
        caller's.
        """
        _judge(opened, start, version, store)
        size = opened.info.size
        if size is not None:
            stop = size if stop is None else min(stop, size)
        self.info = opened.info
        self.range = ByteRange(start, stop)
        self.delivered = 0
        self._raw = opened.raw
        self._total = self.range.size
        self._lead = 0 if self._total == 0 else start - opened.range.start
        self._translate = translate
        self._store = store
        self._clock = clock
        remaining = call.remaining(clock)
        self._limit = None if remaining is None else clock.now() + remaining
        # Reentrant: an interrupt may come just after it was taken, and its thread must still close.
        self._busy = threading.RLock()
        self._error: ImgstoreError | None = None
        self._closed = False
        self._cancelled = False
        if call.cancel is not None:
            call.cancel.subscribe(self.cancel)
        if self._total == 0:
            self._release()

    @property
    def lead(self) -> int:
        """Bytes before the range that the store sends all the same and that have not been thrown away yet."""
        return self._lead

    @property
    def held(self) -> float:
        """Seconds in which this stream was held back on our own side, not by the store."""
        return float(getattr(self._raw, "held", 0.0))

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fills the front of `buffer` with what one receive brings and gives the number of bytes.

        0 only when the whole range is delivered. Bytes before the range are thrown away first; `buffer`
        serves as the scratch space for that.

        Raises: ValueError for an empty or read-only buffer or a closed stream; TruncatedError where the store
        ends early; OperationCancelledError, DeadlineExceededError, and whatever the store's `translate`
        gives.
        """
        return self._fill(_writable(buffer))

    def discard(self, buffer: bytearray | memoryview) -> int:
        """Takes one receive of the bytes before the range into `buffer`; 0 when none are left.

        `readinto` does this by itself; a layer calls it to see each step. Raises: as `readinto`.
        """
        view = _writable(buffer)
        self._enter()
        try:
            return self._receive_lead(view) if self._lead else 0
        finally:
            self._busy.release()

    def read(self, size: int = -1) -> bytes:
        """Gives `size` bytes, fewer only where the range ends; all that is left for a negative size.

        Raises: ValueError when all that is left is above 64 MiB; otherwise as `readinto`. What was received
        in this call before an error is lost to the caller; `readinto` loses nothing.
        """
        if size == 0:
            return b""
        left = None if self._total is None else self._total - self.delivered
        everything = size < 0
        if everything:
            size = READ_ALL_LIMIT + 1
            if left is not None and left > READ_ALL_LIMIT:
                raise ValueError(f"read() would hold {left} bytes in memory; give a size, or use chunks()")
        wanted = size if left is None else min(size, left)
        # where the size is not known, what was asked for may be far above what comes: it grows with that
        data = bytearray(min(wanted, READ_ALL_LIMIT) if left is None else wanted)
        filled = 0
        while filled < wanted:
            if filled == len(data):
                data += bytes(min(filled, wanted - filled))
            with memoryview(data)[filled:] as view:
                count = self.readinto(view)
            if not count:
                break
            filled += count
        if everything and filled > READ_ALL_LIMIT:
            raise ValueError("read() would hold more than 64 MiB in memory; give a size, or use chunks()")
        del data[filled:]
        return bytes(data)

    def chunks(self, size: int = 1 << 20) -> Iterator[memoryview]:
        """Gives what is left in pieces of at most `size` bytes, as they arrive, from one reused buffer.

        Each view is released when the next piece is asked for. Memory: `size` bytes. Raises: as `readinto`.
        """
        if size < 1:
            raise ValueError(f"a piece has at least one byte, not {size}")
        with paged(size) as buffer:
            while count := self.readinto(buffer):
                with buffer[:count] as piece:
                    yield piece

    def cancel(self) -> None:
        """Makes the pending and every later read raise OperationCancelledError. Any thread; idempotent."""
        if not self._closed:
            self._cancelled = True
            self._raw.abort()

    def close(self) -> None:
        """Gives the connection back; in mid-body it is dropped. Idempotent, from any thread.

        A read pending in another thread ends with OperationCancelledError first.
        """
        if self._closed:
            return
        held = self._busy.acquire(blocking=False)
        if not held:
            self.cancel()
            held = self._busy.acquire(timeout=_LET_GO)
        self._closed = True
        try:
            self._raw.close()
        finally:
            if held:
                self._busy.release()

    def __enter__(self) -> ByteStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # __init__ may have raised before there was anything to close.
        with contextlib.suppress(AttributeError):
            self.close()

    @property
    def _at(self) -> int:
        return self.range.start + self.delivered

    def _fill(self, view: memoryview) -> int:
        """Does what `readinto` does. A layer hands on the view that the stream outside has checked."""
        self._enter()
        try:
            while self._lead:
                self._receive_lead(view)
            return self._deliver(view)
        finally:
            self._busy.release()

    def _enter(self) -> None:
        """Takes the stream for this thread; whoever entered releases `_busy`."""
        if not self._busy.acquire(False):  # noqa: FBT003  # by keyword it takes twice as long
            raise UnsupportedError(
                "two threads read one stream; each needs its own", key=self.info.key, store=self._store
            )
        try:
            if self._closed:
                raise ValueError("the stream is closed")
            if self._error is not None:
                raise self._error
            if (self._cancelled or self._limit is not None) and self.delivered != self._total:
                self._check_call()
        except BaseException:
            self._busy.release()
            raise

    def _check_call(self) -> None:
        if self._cancelled:
            raise self._fail(OperationCancelledError("the operation was cancelled"))
        if self._limit is not None and self._clock.now() >= self._limit:
            raise self._fail(DeadlineExceededError("the deadline passed while the image was being read"))

    def _deliver(self, view: memoryview) -> int:
        if self._total is not None:
            left = self._total - self.delivered
            if not left:
                return 0
            if left < len(view):
                view = view[:left]
        count = self._receive(view)
        if count:
            self.delivered += count
            if self.delivered == self._total:
                self._release()
        elif self.info.size is not None:
            raise self._fail(
                TruncatedError(f"the store ended the body after {self._at} of {self.range.stop}")
            )
        else:
            self._total = self.delivered
            self.range = ByteRange(self.range.start, self._at)
            self._release()
        return count

    def _receive_lead(self, view: memoryview) -> int:
        count = self._receive(view[: self._lead])
        if not count:
            raise self._fail(TruncatedError(f"the store ended the body before offset {self.range.start}"))
        self._lead -= count
        return count

    def _receive(self, view: memoryview) -> int:
        count: Any  # a driver of somebody else's may give anything
        try:
            count = self._raw.readinto(view)
        except Exception as exc:
            if self._cancelled:
                raise self._fail(OperationCancelledError("the operation was cancelled")) from exc
            error = self._fail(exc if isinstance(exc, ImgstoreError) else self._translate(exc))
            raise error from (exc.__cause__ if error is exc else exc)
        except BaseException:
            self._fail(OperationCancelledError("the read was interrupted"))
            raise
        if not isinstance(count, int) or not 0 <= count <= len(view):
            raise self._fail(PermanentError(f"the driver gave {count!r} for a buffer of {len(view)} bytes"))
        return int(count)

    def _release(self) -> None:
        # The bytes are delivered or an error is told: a body that cannot even be closed changes neither.
        with contextlib.suppress(Exception):
            self._raw.close()

    def _fail(self, error: ImgstoreError) -> ImgstoreError:
        error.key = error.key or self.info.key
        error.store = error.store or self._store
        if error.offset is None:
            error.offset = self._at
        self._error = error
        self._release()
        return error


def _writable(buffer: bytearray | memoryview) -> memoryview:
    view = memoryview(buffer).cast("B")
    if view.readonly or not view:
        raise ValueError("readinto needs a writable buffer of at least one byte")
    return view


def _judge(opened: Opened, start: int, version: Version, store: str) -> None:
    info, served = opened.info, opened.range
    if isinstance(version, str) and info.version != version:
        raise VersionChangedError("the store holds another version of the image", key=info.key, store=store)
    if info.size is not None and (start > info.size or start == info.size > 0):
        raise RangeNotSatisfiableError(
            f"offset {start} lies behind the end of the image ({info.size} bytes)", key=info.key, store=store
        )
    if served.start > start or (info.size is not None and (served.stop is None or served.stop > info.size)):
        raise BadReplyError(
            f"asked from {start} on, the store serves {served} of {info.size}", key=info.key, store=store
        )
