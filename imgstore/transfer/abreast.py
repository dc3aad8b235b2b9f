"""Missing ranges of an image fetched over several connections at once, each into its place."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from errno import EAGAIN
from typing import Final, Protocol

from imgstore.buffer import paged
from imgstore.errors import (
    OperationCancelledError,
    PermanentError,
    RetriesExhaustedError,
    StorageIOError,
    TruncatedError,
)
from imgstore.layers.base import lead_of
from imgstore.layers.limit import is_rate_limited
from imgstore.model import ByteRange, Call, CancelToken, Event
from imgstore.ramp import Ramp
from imgstore.store import Store
from imgstore.stream import ByteStream
from imgstore.transfer.copy import BUFFER
from imgstore.transfer.plan import SLOW, Stretch, Stretches

# Seconds from one look at how it goes to the next: a connection more, a deadline, a connection grown slow.
# A third of what the ramp takes to judge: with 0.1 s, eight connections stood 0.4 s later.
LOOK: Final = 0.03


class Sink(Protocol):
    """What takes bytes in any order, from many threads."""

    def __call__(self, data: memoryview, offset: int, /) -> None: ...


class Abreast:
    """Fetches `missing` over as many connections as help, at most `most`.

    The first error ends all of it within a second; those of the other threads are its notes. Where the store
    turns out to ignore ranges, one connection goes on alone; where it serves no more of them at a time, those
    that it serves go on, unless there are none. Memory: 2 MiB a connection. Threads: one for
    each connection, ended when `run` ends, however that is.
    """

    def __init__(
        self,
        store: Store,
        opened: Callable[[ByteRange, Call], ByteStream],
        write: Sink,
        *,
        most: int,
        grain: int,
        call: Call,
    ) -> None:
        """`opened` gives a stream of the range, of the one version; `write` has written when it returns.

        Whoever is idle is given what begins at a multiple of `grain`.
        """
        self._clock = store.clock
        self._opened = opened
        self._write = write
        self._most = most
        self._grain = grain
        self._cancel = call.cancel.child() if call.cancel is not None else CancelToken()
        self._call = replace(call, cancel=self._cancel, observe=_one_at_a_time(call.observe))
        self._outer = call
        # Under a limit of our own every connection is slow, and another one seldom helps: each that is closed
        # for it loses what the kernel has received, a third of 80 MiB at 8 MiB/s.
        limited = is_rate_limited(store)
        self._ramp = Ramp(most, first=1) if limited else Ramp(most)
        self._slow = math.inf if limited else SLOW
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._plan = Stretches([], grain)
        self._first: ByteStream | None = None
        self._received = 0
        self._receiving = 0  # streams of which something has come
        self._over = False
        self._errors: list[Exception] = []

    def run(self, missing: list[ByteRange], first: ByteStream) -> None:
        """Fetches all of it; `first` is open where the first range begins, and closed at the end.

        Raises: as `ByteStream`, `write`; OperationCancelledError, DeadlineExceededError.
        """
        self._plan, self._first = Stretches(missing, self._grain, slow=self._slow), first
        self._cancel.subscribe(first.cancel)
        try:
            with self._changed:
                while not (self._plan.finished or self._errors):
                    self._outer.check(self._clock)
                    self._hire()
                    self._changed.wait(LOOK)
        except BaseException:
            self._cancel.cancel()
            raise
        finally:
            self._end()
        if self._errors:
            _note(*self._errors)
            raise self._errors[0]

    def _hire(self) -> None:
        """Starts the threads that are wanted and that the system gives. Raises: StorageIOError for none."""
        now, receiving = self._clock.now(), self._receiving
        wanted = min(self._ramp.observe(now, self._received, receiving=receiving), self._most)
        while len(self._threads) < wanted:
            thread = threading.Thread(
                target=self._work, name=f"imgstore-download-{len(self._threads)}", daemon=True
            )
            self._threads.append(thread)  # first: an interrupt may come when it has just begun
            try:
                thread.start()
            except RuntimeError as exc:  # a limit on threads, or no memory for a stack
                self._threads.pop()
                self._most = len(self._threads)
                if not self._most:
                    raise StorageIOError("the system gives no thread", errno=EAGAIN, resumable=True) from exc
                return

    def _end(self) -> None:
        """Ends the threads. None is left behind, not even by an interrupt: they write to an open file."""
        with self._changed:
            self._over = True
            if self._errors:
                self._cancel.cancel()
            self._changed.notify_all()
        interrupt: BaseException | None = None
        for each in self._threads:
            while each.is_alive():
                try:
                    each.join()
                except KeyboardInterrupt as exc:
                    self._cancel.cancel()
                    interrupt = exc
        if interrupt is not None:
            raise interrupt

    def _work(self) -> None:
        """What a thread does: one stretch after the other, until nothing is missing."""
        try:
            with paged(BUFFER) as buffer:
                while (stretch := self._next()) is not None:
                    try:
                        self._fetch(stretch, buffer)
                    except RetriesExhaustedError:
                        if not self._leave_it_to_others():
                            raise
                    finally:
                        with self._changed:
                            self._plan.ended(stretch)
                            self._changed.notify_all()
        except Exception as exc:  # noqa: BLE001 - whatever it is, who waits has to hear of it
            self._fail(exc)
        except BaseException as exc:  # noqa: BLE001 - it would end this thread, and the other wait for ever
            self._fail(PermanentError(f"unexpected {type(exc).__name__} in a thread that fetches"))

    def _next(self) -> Stretch | None:
        with self._changed:
            while not (self._over or self._plan.finished):
                if len(self._plan.active) < min(self._ramp.wanted, self._most):
                    stretch = self._plan.take(self._clock.now())
                    if stretch is not None:
                        return stretch
                self._changed.wait(LOOK)
        return None

    def _fetch(self, stretch: Stretch, buffer: memoryview) -> None:
        while (stream := self._stream(stretch)) is not None:
            with stream:
                if lead_of(stream) and self._leave_it_to_one(stretch):
                    return
                self._read(stretch, stream, buffer)

    def _read(self, stretch: Stretch, stream: ByteStream, buffer: memoryview) -> None:
        receives = 0
        try:
            while count := self._room(stretch, len(buffer), stream.range.stop):
                count = stream.readinto(buffer[:count])
                if not count:
                    raise TruncatedError(f"the store ended the image at byte {stretch.at}")
                self._write(buffer[:count], stretch.at)
                with self._changed:
                    self._plan.received(stretch, count)
                    self._received += count
                    self._receiving += not receives
                receives += 1
        finally:
            with self._changed:
                self._receiving -= receives > 0

    def _stream(self, stretch: Stretch) -> ByteStream | None:
        """Opens what is to be asked for next of the stretch; None when that is over."""
        with self._changed:
            first = self._first
            if first is not None and first.range.start == stretch.at:
                self._first = None
            else:  # it waits for whoever has what is there
                first = None
            wanted = self._wanted(stretch, None if first is None else first.range.stop)
        if first is not None or wanted is None:
            return first
        began = self._clock.now()
        stream = self._opened(wanted, self._call)
        stretch.opening = self._clock.now() - began
        return stream

    def _room(self, stretch: Stretch, most: int, open_to: int | None) -> int:
        """Gives how much the next receive may bring; 0 where the stream is not to be read on."""
        with self._changed:
            if self._over:
                return 0
            if not (count := self._plan.receive(stretch, most)) and self._wanted(stretch, open_to):
                count = self._plan.receive(stretch, most)
            return count

    def _wanted(self, stretch: Stretch, open_to: int | None) -> ByteRange | None:
        # Where there are too many, those that came last go: the first may be the only one that goes on.
        is_spare = self._plan.active.index(stretch) >= min(self._ramp.wanted, self._most)
        return None if self._over or is_spare else self._plan.ask(stretch, self._clock.now(), open_to)

    def _leave_it_to_one(self, stretch: Stretch) -> bool:
        """Has one connection go on alone; tells whether that is another one."""
        with self._changed:
            self._most = 1
            return self._plan.active[0] is not stretch

    def _leave_it_to_others(self) -> bool:
        """Has one connection less, since there may be no more at a time; tells whether there are others."""
        with self._changed:
            others = len(self._plan.active) - 1
            self._most = max(1, min(self._most, others))
            return others > 0 and not self._over

    def _fail(self, exc: Exception) -> None:
        with self._changed:
            if not (self._over and isinstance(exc, OperationCancelledError)):  # we have called that off
                self._errors.append(exc)
            self._over = True
            self._changed.notify_all()


def _one_at_a_time(observe: Callable[[Event], None] | None) -> Callable[[Event], None] | None:
    """Gives an observer that need not be prepared for many threads."""
    if observe is None:
        return None
    lock, told = threading.Lock(), observe

    def locked(event: Event) -> None:
        with lock:
            told(event)

    return locked


def _note(first: Exception, *others: Exception) -> None:
    """Adds what else went wrong as notes (PEP 678; Python 3.10 does not show them)."""
    told = [f"another connection: {type(each).__name__}: {each}" for each in others]
    if told:
        first.__dict__.setdefault("__notes__", []).extend(told)
