"""A store of one image in which everything goes wrong on cue, and whose log is the truth about it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, Literal

from imgstore.errors import (
    ConnectionLostError,
    ImgstoreError,
    NotFoundError,
    OperationCancelledError,
    RangeNotSatisfiableError,
    StorageIOError,
    TimedOutError,
    VersionChangedError,
)
from imgstore.model import ByteRange, Call, ObjectInfo, Version
from imgstore.store import Store, unknown
from imgstore.stream import Opened
from imgstore.testing.faults._body import Asked, Body, breakage, refusal
from imgstore.testing.faults.clock import SimClock
from imgstore.testing.faults.script import (
    AT_OPEN,
    OPEN_TIMEOUT,
    SWAPS,
    Fault,
    Kind,
    Schedule,
)

KEY: Final = "image"
_NONE: Final = Fault(Kind.SINGLE)  # with no receive of one byte and no break: an attempt that goes well


class SimStore(Store):
    """A read-only store of one image under the key `image`, with a script of faults: one an open, in order.

    `images` are its contents in the order in which swaps bring them in. Without `versioned` it has no version
    tokens, without `sized` it does not know the size and serves every request whole. `digests` announces the
    SHA-256 of the content ("known") or something under a name that nobody knows ("unknown").

    `log` lists every request, `opened` is the number of bodies open now, `watch` is told each request before
    anything else happens. Waits pass on the simulated clock, and end early when the call is cancelled. For
    one thread.
    """

    def __init__(
        self,
        images: Sequence[bytes],
        faults: Sequence[Fault] = (),
        *,
        clock: SimClock | None = None,
        versioned: bool = True,
        digests: Literal["none", "known", "unknown"] = "none",
        sized: bool = True,
        receive: int = 65536,
    ) -> None:
        self.store_id = "sim"
        self.clock = self._clock = SimClock() if clock is None else clock
        self.images = list(images)
        self.log: list[Asked] = []
        self.opened = 0
        self.watch: Callable[[Asked], None] | None = None
        self._script = list(faults)
        self._versioned = versioned
        self._digests = digests
        self._sized = sized
        self._receive = receive
        self._image = 0
        self._tag = 1

    @classmethod
    def of(cls, schedule: Schedule, clock: SimClock) -> SimStore:
        """Gives the store in which `schedule` happens."""
        return cls(
            schedule.images(),
            schedule.faults,
            clock=clock,
            versioned=schedule.versioned,
            digests=schedule.digests,
            sized=schedule.sized,
            receive=schedule.receive,
        )

    @property
    def tag(self) -> str | None:
        """The version token that the store gives now."""
        return f"v{self._tag}" if self._versioned else None

    @property
    def left(self) -> int:
        """The number of faults that no request has met yet."""
        return max(0, len(self._script) - len(self.log))

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        number = len(self.log)
        fault = self._script[number] if number < len(self._script) else None
        asked = Asked(start, stop, version, fault)
        self.log.append(asked)
        if self.watch is not None:
            self.watch(asked)
        if key != KEY:
            raise NotFoundError(f"no image {key!r}")
        if fault is not None:
            self._change(fault)
            self._refuse(fault, call)
        fault = fault or _NONE
        if isinstance(version, str) and version != self.tag and fault.kind is not Kind.IGNORED:
            raise VersionChangedError("the precondition failed")
        size = len(self.images[self._image])
        if self._sized and (start > size or start == size > 0):
            raise RangeNotSatisfiableError(f"offset {start} of {size}")
        return self._serve(asked, fault, call)

    def translate(self, exc: Exception) -> ImgstoreError:
        if isinstance(exc, ImgstoreError):
            return exc
        if isinstance(exc, TimeoutError):
            return TimedOutError(type(exc).__name__)
        if isinstance(exc, ConnectionError):
            return ConnectionLostError(type(exc).__name__)
        return StorageIOError(type(exc).__name__) if isinstance(exc, OSError) else unknown(exc)

    def truth(self, asked: Asked, start: int, stop: int) -> bytes:
        """Gives the bytes [start, stop) as `asked` was served them, damage included."""
        return asked.truth(self.images[asked.image or 0], start, stop)

    def _change(self, fault: Fault) -> None:
        if fault.kind in SWAPS:
            self._image = min(self._image + 1, len(self.images) - 1)
        if fault.kind in SWAPS or fault.kind is Kind.RETAGGED:
            self._tag += 1

    def _refuse(self, fault: Fault, call: Call) -> None:
        if fault.kind in AT_OPEN and fault.kind not in {Kind.LATER, Kind.OVERSOLD}:
            if fault.kind is Kind.OPEN_TIMEOUT:
                left = call.remaining(self._clock)
                self._clock.advance(OPEN_TIMEOUT if left is None else min(OPEN_TIMEOUT, left), call.cancel)
                if call.cancel is not None and call.cancel.cancelled:
                    raise OperationCancelledError("cancelled while waiting for a reply")
            raise refusal(fault)
        if fault.kind in {Kind.UNKNOWN, Kind.HOPELESS} and fault.at is None:
            error = breakage(fault)
            if error is not None:
                raise error

    def _serve(self, asked: Asked, fault: Fault, call: Call) -> Opened:
        size = len(self.images[self._image])
        served = self._range(asked, fault, size)
        told = size + (fault.amount if fault.kind is Kind.OVERSTATED else 0)
        asked.image, asked.tag, asked.served = self._image, self.tag, served
        if fault.kind is Kind.DAMAGED:
            asked.damaged = asked.start
        info = ObjectInfo(KEY, told if self._sized else None, self.tag, digests=self._digest())
        self.opened += 1
        body = Body(
            asked,
            fault,
            self.images[self._image],
            self._clock,
            receive=self._receive,
            sized=self._sized,
            left=lambda: call.remaining(self._clock),
            on_close=self._closed_one,
        )
        return Opened(body, info, served)

    def _closed_one(self) -> None:
        self.opened -= 1

    def _range(self, asked: Asked, fault: Fault, size: int) -> ByteRange:
        start, stop = asked.start, size if asked.stop is None else min(asked.stop, size)
        if not self._sized:
            return ByteRange(0, None)
        if fault.kind is Kind.WHOLE:
            return ByteRange(0, size)
        if fault.kind is Kind.SUPERSET:
            return ByteRange(max(0, start - fault.amount), min(size, stop + fault.amount))
        if fault.kind is Kind.SUBSET and fault.at is not None:
            return ByteRange(start, min(stop, start + fault.at))
        if fault.kind is Kind.LATER:
            return ByteRange(start + fault.amount, max(stop, start + fault.amount))
        if fault.kind is Kind.OVERSOLD:
            return ByteRange(start, size + fault.amount)
        if fault.kind is Kind.OVERSTATED and (asked.stop is None or asked.stop > size):
            told = size + fault.amount
            return ByteRange(start, told if asked.stop is None else min(asked.stop, told))
        return ByteRange(start, stop)

    def _digest(self) -> dict[str, str]:
        if self._digests == "none":
            return {}
        if self._digests == "unknown":
            return {"no-such-algorithm": "0" * 8}
        return {"sha256": hashlib.sha256(self.images[self._image]).hexdigest()}
