"""A range of an image, received over several connections at once and delivered in order."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import Final

from imgstore.clock import SYSTEM
from imgstore.errors import (
    ImgstoreError,
    OperationCancelledError,
    PermanentError,
    RetriesExhaustedError,
    TruncatedError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.layers._parallel_plan import PartPlan, Piece
from imgstore.layers._whole_digest import whole_digest
from imgstore.layers.base import difference, lead_of, proof_of
from imgstore.model import ByteRange, Call, CancelToken, Version
from imgstore.ramp import Ramp
from imgstore.store import Store
from imgstore.stream import ByteStream

# Seconds from one look of who waits to the next, at what nobody tells: a deadline, a connection grown slow.
LOOK: Final = 0.2
# Seconds to wait for a thread whose stream was aborted, which takes one. A driver that keeps it longer keeps
# it from nothing: it writes to no memory but the reader's own.
_LEAVE: Final = 3.0


class ParallelReader:
    """The raw reader of the parallel layer: threads that each receive a part of the range into a ring.

    The threads are the reader's own. They begin with the first read, are as many as the ramp wants, and are
    joined by `close` and before an error is raised. The first error wins and has those of the other threads
    as notes; what was received before it in one stretch is delivered first.

    Where a store turns out to ignore ranges, the rest is read over one connection, in the caller's thread. So
    it is where the system gives no thread. Where it serves no more connections at a time, those that it
    serves go on, unless there are none.
    """

    def __init__(
        self,
        inner: Store,
        first: ByteStream,
        stop: int,
        *,
        plan: PartPlan,
        ramp: Ramp,
        version: Version,
        call: Call,
    ) -> None:
        """Takes over `first`, the stream of the first part of `plan`; both were opened for `call`.

        The range ends at `stop`. The other parts are asked for with `version`.
        """
        self._inner = inner
        self._clock = inner.clock
        self._info = first.info
        self.proof = proof_of(first)
        self._begun = {first.range.start: first}
        self._stop = stop
        self._plan = plan
        self._ramp = ramp
        self._version = version
        self._cancel = call.cancel.child() if call.cancel is not None else CancelToken()
        self._leave = self._cancel.child()  # ends the threads alone
        self._call = replace(call, cancel=self._cancel)
        remaining = call.remaining(self._clock)
        # The deadline is kept on the clock that never steps, and told anew to each stream.
        self._limit = None if remaining is None else self._clock.now() + remaining
        self._digest = None if self.proof else whole_digest(self._info, ByteRange(plan.at, stop))
        self._process = os.getpid()
        lock = threading.RLock()  # a signal handler may abort while this thread holds it
        self._news = threading.Condition(lock)  # for the caller: bytes, an end, an error
        self._room = threading.Condition(lock)  # for the threads: room, a connection more, an end
        self._threads: list[threading.Thread] = []
        self._most = ramp.most
        self._streams: set[ByteStream] = set()  # those of the threads
        self._alone: ByteStream | None = None
        self._over = False
        self._failure: Exception | None = None
        self._others: list[Exception] = []
        self._received = 0
        self._idle = 0.0  # seconds in which nobody received, since there was no room
        self._idle_since: float | None = None

    def readinto(self, buffer: memoryview, /) -> int:
        if self._process != os.getpid():  # asked without the lock, which a thread may have had at the fork
            raise UnsupportedError("the stream was begun in another process; open one in this")
        if not self._threads and not self._over:
            self._begin()
        ready = self._wait()
        if ready:
            count = min(len(buffer), len(ready))
            buffer[:count] = ready[:count]
            self._delivered(count)
        elif self._plan.at < self._stop:
            count = self._read_alone(buffer)
        else:
            return 0
        if self._digest is not None:
            self._digest.update(buffer[:count])
            if self._plan.at == self._stop:
                self._digest.check()
        return count

    def abort(self) -> None:
        self._cancel.cancel()
        if self._process == os.getpid():
            self._stop_threads()

    def close(self) -> None:
        if self._process != os.getpid():
            return  # in a fork there are no threads, and one of them may have held the lock
        self._end()
        for stream in (*self._begun.values(), self._alone):
            if stream is not None:
                stream.close()

    def _begin(self) -> None:
        with self._room:
            self._hire()
            if not self._threads:
                self._over = True
                self._plan.cut(self._plan.at)
                self._alone = self._begun.pop(self._plan.at)

    def _hire(self) -> None:
        """Starts the threads that the ramp wants and the system gives. With the lock."""
        while len(self._threads) < min(self._ramp.wanted, self._most) and not self._over:
            name = f"imgstore-parallel-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # a limit on threads, or no memory for a stack
                self._most = len(self._threads)
            else:
                self._threads.append(thread)

    def _wait(self) -> memoryview:
        """Gives what can be delivered, nothing at the end of the plan. Raises: what ended the read."""
        with self._news:
            while not ((ready := self._plan.ready()) or self._plan.finished or self._failure):
                self._timed(self._cancel).check(self._clock)
                self._news.wait(LOOK)
        if not ready and not self._plan.finished and self._failure is not None:
            self._end()
            _note(self._failure, self._others)
            if isinstance(self._failure, ImgstoreError):
                self._failure.offset = self._plan.at  # and not how far its own part came
            raise self._failure
        return ready

    def _delivered(self, count: int) -> None:
        with self._room:
            if self._plan.delivered(count):
                self._room.notify()

    def _read_alone(self, buffer: memoryview) -> int:
        """Reads what lies behind the plan's end."""
        if self._threads:
            self._end()
        if self._alone is None or self._alone.range.size == self._alone.delivered:
            self._alone = self._open(self._plan.at, self._stop, self._cancel)
        count = self._alone._fill(buffer)
        self._plan.at += count
        return count

    def _work(self) -> None:
        """What a thread does: one piece after the other, until there are no more."""
        try:
            while (piece := self._next_piece()) is not None:
                try:
                    self._receive(piece)
                except RetriesExhaustedError:
                    if not self._leave_it_to_others(piece):
                        raise
        except Exception as exc:  # noqa: BLE001  # whatever it is, the caller has to hear of it
            self._fail(exc)
        except BaseException as exc:  # noqa: BLE001  # it would end this thread, and the caller wait for ever
            self._fail(PermanentError(f"unexpected {type(exc).__name__} in a thread that reads"))

    def _next_piece(self) -> Piece | None:
        """Waits for something to receive; None when there is nothing more, or the read is over."""
        plan = self._plan
        with self._room:
            while not (self._over or plan.given_out):
                now = self._clock.now()
                most = min(self._ramp.wanted, self._most)
                if len(plan.active) < most and (piece := plan.take() or plan.split(now)):
                    self._busy(now)
                    return piece
                self._room.wait(LOOK if plan.active else None)
            self._room.notify()  # the next one ends, too
        return None

    def _receive(self, piece: Piece) -> None:
        stream: ByteStream | None = None
        try:
            stream = self._opened(piece)
            while stream is not None and (target := self._target(piece)):
                count = stream._fill(target)
                if not count:
                    raise TruncatedError(f"the store ended the image at offset {piece.at} of {self._stop}")
                self._progress(piece, count)
        finally:
            if stream is not None:
                stream.close()
            with self._room:
                self._ended(piece, stream)

    def _leave_it_to_others(self, piece: Piece) -> bool:
        """Has one connection less, since there may be no more at a time; tells whether there are others."""
        with self._room:
            others = len(self._plan.active)
            if not others or self._over:
                return False
            self._most = min(self._most, others)
            self._plan.give_back(piece)
            return True

    def _opened(self, piece: Piece) -> ByteStream | None:
        """Gives the stream of a piece; None where the store begins before it: it ignores ranges."""
        stream = self._begun.pop(piece.start, None)
        if stream is None:
            stream = self._open(piece.start, piece.stop, self._leave)
            if lead_of(stream):
                stream.close()
                with self._room:
                    self._plan.cut(piece.part.start)
                return None
        with self._room:
            piece.began = self._clock.now()
            self._streams.add(stream)
            if self._over:
                stream.cancel()
        return stream

    def _open(self, start: int, stop: int, cancel: CancelToken) -> ByteStream:
        """Opens bytes of the image that the first part is of. Raises: VersionChangedError; as `Store.get`."""
        stream = self._inner._stream(self._info.key, start, stop, self._version, self._timed(cancel))
        if (told := self._difference(stream)) is not None:
            stream.close()
            raise VersionChangedError(f"the image was replaced while it was read: {told}", key=self._info.key)
        return stream

    def _difference(self, stream: ByteStream) -> str | None:
        """Says what tells that a stream is of another image than the first one, None where nothing does."""
        if (told := difference(self._info, stream.info)) is not None:
            return told
        proof = proof_of(stream)
        return None if proof is self.proof or proof == self.proof else "it has another manifest"

    def _target(self, piece: Piece) -> memoryview:
        with self._room:
            return self._plan.target(piece)

    def _progress(self, piece: Piece, count: int) -> None:
        with self._news:
            if self._plan.received(piece, count):
                self._news.notify()
            self._received += count
            before, now = self._ramp.wanted, self._clock.now() - self._idle
            if self._ramp.observe(now, self._received, receiving=self._plan.receiving) > before:
                self._room.notify_all()
                self._hire()

    def _ended(self, piece: Piece, stream: ByteStream | None) -> None:
        if stream is not None:
            self._streams.discard(stream)
        self._plan.ended(piece)
        if not self._plan.active:
            self._idle_since = self._clock.now()
        self._news.notify()
        self._room.notify()

    def _busy(self, now: float) -> None:
        if self._idle_since is not None:
            self._idle += now - self._idle_since
            self._idle_since = None

    def _fail(self, error: Exception) -> None:
        with self._news:
            if self._failure is None and not self._over:
                self._failure = error
            elif not isinstance(error, OperationCancelledError):  # which is how the others are ended
                self._others.append(error)
        self._stop_threads()

    def _stop_threads(self) -> None:
        """Has every thread end within a second, whatever it waits for."""
        with self._room:
            self._over = True
            streams = list(self._streams)
            self._news.notify_all()
            self._room.notify_all()
        self._leave.cancel()
        for stream in streams:
            stream.cancel()

    def _end(self) -> None:
        """Has the threads end, and waits for them."""
        self._stop_threads()
        limit = SYSTEM.now() + _LEAVE
        while self._threads:
            self._threads.pop().join(max(0.0, limit - SYSTEM.now()))

    def _timed(self, cancel: CancelToken) -> Call:
        call = replace(self._call, cancel=cancel)
        if self._limit is not None:
            call = replace(call, deadline=self._clock.time() + self._limit - self._clock.now())
        return call


def _note(error: Exception, others: list[Exception]) -> None:
    """Adds to `error` what else went wrong, as its notes (PEP 678; Python 3.10 does not show them)."""
    told = [f"another connection: {type(each).__name__}: {each}" for each in others]
    if told:
        error.__dict__.setdefault("__notes__", []).extend(told)
