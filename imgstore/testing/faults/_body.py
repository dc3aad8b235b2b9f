"""Requests as the store logs them, and the bodies and errors that it answers them with."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from imgstore.errors import (
    BadReplyError,
    ConnectionLostError,
    NotFoundError,
    PermissionDeniedError,
    RangeNotSatisfiableError,
    ThrottledError,
    TimedOutError,
    TruncatedError,
    UnavailableError,
)
from imgstore.model import ByteRange, Version
from imgstore.testing.faults.clock import SimClock
from imgstore.testing.faults.script import RECEIVE_TIMEOUT, SLOW_RATE, SLOW_SPELL, Fault, Kind

_FOREIGN: Final[tuple[Callable[[], OSError], ...]] = (
    lambda: ConnectionResetError(errno.ECONNRESET, "reset by peer"),
    lambda: BrokenPipeError(errno.EPIPE, "broken pipe"),
    lambda: TimeoutError(errno.ETIMEDOUT, "timed out"),
    lambda: ConnectionAbortedError(errno.ECONNABORTED, "aborted"),
)


@dataclass(slots=True)
class Asked:
    """One request as the store saw it: what was asked, what was served, and what became of it.

    `version` is the precondition that was sent. `image` is the number of the content that was served, None
    where the open failed; `damaged` the offset of a byte that was altered on the way. `sent` counts bytes of
    body from `served.start` on.
    """

    start: int
    stop: int | None
    version: Version
    fault: Fault | None
    tag: str | None = None
    image: int | None = None
    served: ByteRange | None = None
    damaged: int | None = None
    sent: int = 0
    closed: bool = False

    @property
    def reached(self) -> int:
        """The offset behind the last byte that was sent, 0 where none was."""
        return 0 if self.served is None or not self.sent else self.served.start + self.sent

    def truth(self, data: bytes, start: int, stop: int) -> bytes:
        """Gives the bytes [start, stop) of the content `data` as this request was served them."""
        piece = data[start:stop]
        if self.damaged is None or not start <= self.damaged < start + len(piece):
            return piece
        at = self.damaged - start
        return piece[:at] + bytes([piece[at] ^ 0x80]) + piece[at + 1 :]


class Body:
    """The body of one reply, with the fault that befell it: a RawReader.

    `data` is the content that is served, `receive` the most that one receive brings, `left` tells the seconds
    that the call has left. Where the image is not `sized`, only an end behind its last byte is a proper one.
    """

    def __init__(
        self,
        asked: Asked,
        fault: Fault,
        data: bytes,
        clock: SimClock,
        *,
        receive: int,
        sized: bool,
        left: Callable[[], float | None],
        on_close: Callable[[], None],
    ) -> None:
        self._asked = asked
        self._fault = fault
        self._data = data
        self._clock = clock
        self._receive = receive
        self._sized = sized
        self._left = left
        self._on_close = on_close
        served = asked.served or ByteRange(0, 0)
        self._start = served.start
        self._stop = len(data) if served.stop is None else min(len(data), served.stop)
        self._singles = fault.amount if fault.kind is Kind.SINGLE else 0
        self._slow = SLOW_SPELL if fault.kind is Kind.SLOW else 0.0
        self._aborted = False

    def readinto(self, buffer: memoryview, /) -> int:
        self._check()
        asked, fault = self._asked, self._fault
        count = min(len(buffer), self._receive)
        if fault.at is not None:
            if asked.sent >= fault.at and fault.kind is not Kind.TRICKLE:
                return self._end()
            if asked.sent >= fault.at:
                self._wait(1.0)
            count = min(count, max(1, fault.at - asked.sent))
        if self._singles > 0:
            self._singles -= 1
            count = 1
        at = self._start + asked.sent
        piece = asked.truth(self._data, at, min(at + count, self._stop))
        if self._slow > 0 and piece:
            pause = min(self._slow, len(piece) / SLOW_RATE)
            self._slow -= pause
            self._wait(pause)
        buffer[: len(piece)] = piece
        asked.sent += len(piece)
        return len(piece)

    def abort(self) -> None:
        self._aborted = True

    def close(self) -> None:
        if not self._asked.closed:
            self._asked.closed = True
            self._on_close()

    def wait(self, timeout: float | None = None, /) -> bool:
        """Tells whether it was aborted: this is what wakes it from a wait on the simulated clock."""
        return self._aborted

    def _check(self) -> None:
        if self._aborted or self._asked.closed:
            raise ConnectionLostError("the connection was dropped on this side")

    def _wait(self, seconds: float) -> None:
        left = self._left()
        short = left is not None and left < seconds
        self._clock.advance(max(0.0, left) if left is not None and short else seconds, self)
        self._check()
        if short:
            raise TimedOutError("nothing more was received before the deadline")

    def _end(self) -> int:
        if self._fault.kind is Kind.SILENT:
            self._wait(RECEIVE_TIMEOUT)
        error = breakage(self._fault)
        if error is None and not self._sized:
            error = TruncatedError("the body ended without the proof that it was complete")
        if error is None:
            return 0
        raise error


def refusal(fault: Fault) -> Exception:
    """Gives what the open raises."""
    after = fault.retry_after
    errors: dict[Kind, Callable[[], Exception]] = {
        Kind.UNAVAILABLE: lambda: UnavailableError("503", retry_after=after),
        Kind.THROTTLED: lambda: ThrottledError("429", retry_after=after),
        Kind.OPEN_TIMEOUT: lambda: TimedOutError("no reply"),
        Kind.BAD_REPLY: lambda: BadReplyError("the reply contradicts itself"),
        Kind.REFUSED: lambda: ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        Kind.DELETED: lambda: NotFoundError("404"),
        Kind.DENIED: lambda: PermissionDeniedError("403"),
        Kind.UNSATISFIABLE: lambda: RangeNotSatisfiableError("416"),
    }
    return errors[fault.kind]()


def breakage(fault: Fault) -> Exception | None:
    """Gives what the body raises where it breaks, None for a clean end."""
    if fault.kind is Kind.UNKNOWN:
        return LookupError("nobody told the driver about this")
    if fault.kind is Kind.HOPELESS:
        return UnavailableError("gone for good", retryable=False)
    if fault.kind is Kind.SILENT:
        return TimedOutError("nothing was received")
    if fault.kind is Kind.BROKEN:
        return _FOREIGN[fault.flavour % len(_FOREIGN)]()
    if fault.kind in {Kind.ENDS, Kind.SUBSET}:
        return None
    lost = fault.kind is Kind.LOST or fault.flavour % 2
    return ConnectionLostError("the connection broke") if lost else None
