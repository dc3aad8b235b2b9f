"""The resume layer: a read that breaks goes on from the byte where it stood, and nothing is ever mixed.

What to do is decided by `ResumePlan`; here it is done: streams are opened and closed, bytes hashed, pauses
slept.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from imgstore.errors import (
    DeadlineExceededError,
    ImgstoreError,
    StalledError,
    TimedOutError,
    TransientError,
    TruncatedError,
)
from imgstore.layers import _resume_facets as facets
from imgstore.layers._resume_plan import (
    PROOF_ALGORITHM,
    Action,
    Finish,
    Open,
    Prove,
    Raise,
    Read,
    ResumePlan,
    Skip,
    exhausted,
)
from imgstore.layers._stall import StallMeter
from imgstore.layers.base import Layer, T
from imgstore.model import ByteRange, Call, CancelToken, Event, ObjectInfo, Version
from imgstore.retry import Budget, Pause, TokenBucket
from imgstore.store import Store
from imgstore.stream import ByteStream, Opened

LOG = logging.getLogger(__name__)

_SCRATCH = 64 << 10  # what is skipped or compared passes through this much memory
_QUIET = 1.0  # one warning a second tells all there is to know of a flapping connection


class ResumeLayer(Layer):
    """Tries again what failed for a passing reason; reads go on at the byte where they broke.

    Memory: 64 KiB a stream while it skips or compares, else a few numbers. All calls share `bucket`, which
    belongs to the endpoint. `jitter` gives a float in [0, 1) and is called from any thread.
    """

    def __init__(
        self,
        inner: Store,
        *,
        resume_attempts: int = 8,
        stall_timeout: float = 15.0,
        stall_floor: float = 16 << 10,
        deadline: float | None = None,
        skip_limit: int = 1 << 30,
        proof_limit: float = 2.0,
        bucket: TokenBucket | None = None,
        jitter: Callable[[], float] = random.random,
        observe: Callable[[Event], None] | None = None,
    ) -> None:
        """Wraps `inner`.

        `resume_attempts` tries in a row without progress end a call. A stream that brings less than
        `stall_floor` bytes a second over `stall_timeout` seconds is replaced. `deadline` bounds each call, in
        seconds. `skip_limit` bytes are skipped at most where a store serves from before the offset;
        `proof_limit` times the length of a read may be read again to prove an image without version
        unchanged. `observe` is the store's own, as that of the metrics layer.
        """
        super().__init__(inner)
        self._attempts = resume_attempts
        self._window = stall_timeout
        self._floor = stall_floor
        self._deadline = deadline
        self._skip_limit = skip_limit
        self._proof_limit = proof_limit
        self._bucket = bucket or TokenBucket()
        self._jitter = jitter
        self._observe = observe
        self._quiet_until = float("-inf")
        self.writer = inner.writer and facets.ResumingWriter(inner.writer, self.retry)
        self.uploader = inner.uploader and facets.ResumingUploader(inner.uploader, self.retry)
        self.lister = inner.lister and facets.ResumingLister(inner.lister, self.retry)
        self.extents = inner.extents and facets.ResumingExtents(inner, inner.extents, self.retry)

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        plan = ResumePlan(
            start,
            stop,
            version,
            budget=Budget(self._attempts, self._bucket),
            meter=StallMeter(self._window, self._floor),
            skip_limit=self._skip_limit,
            proof_limit=self._proof_limit,
        )
        spliced = _Spliced(self, key, stop, plan, self.narrowed(call))
        try:
            info = spliced.begin()
        except BaseException:
            spliced.close()
            raise
        return Opened(spliced, info, ByteRange(start, plan.end))

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        return self.retry("stat", key, call, lambda narrowed: self.inner.stat(key, call=narrowed))

    def narrowed(self, call: Call) -> Call:
        """Gives `call` with the layer's own deadline."""
        return call if self._deadline is None else call.within(self._deadline, clock=self.clock)

    def retry(self, operation: str, key: str, call: Call, attempt: Callable[[Call], T]) -> T:
        """Gives what `attempt` gives, trying again after a TransientError while the budget lasts.

        Raises: RetriesExhaustedError or ProtocolViolationError when it does not, DeadlineExceededError,
        OperationCancelledError; any other error of `attempt` unchanged.
        """
        call = self.narrowed(call)
        budget = Budget(self._attempts, self._bucket)
        tries = 0
        while True:
            tries += 1
            try:
                result = attempt(call)
            except TransientError as exc:
                if not exc.retryable:
                    raise
                pause = budget.spend(exc)
                if isinstance(pause, str):
                    error = exhausted(exc, pause)
                    error.attempts, error.request_id = tries, exc.request_id
                    raise _placed(error, key, exc) from exc
                self.warn(operation, key, 0, tries, exc)
                try:
                    self.pause(pause, call)
                except ImgstoreError as error:
                    raise _placed(error, key, exc) from exc
            else:
                budget.succeed()
                return result

    def pause(self, pause: Pause, call: Call) -> None:
        """Sleeps out `pause`, to the call's deadline at most.

        Raises: DeadlineExceededError, at once where the pause would outlast it; OperationCancelledError.
        """
        seconds = pause.at_least + pause.spread * self._jitter()
        remaining = call.remaining(self.clock)
        if remaining is not None and pause.at_least >= remaining:
            raise DeadlineExceededError("the deadline leaves no time for another try")
        self.clock.sleep(seconds if remaining is None else min(seconds, remaining), call.cancel)
        call.check(self.clock)

    def emit(self, call: Call, event: Event) -> None:
        """Tells the observers, if there are any."""
        for observe in (call.observe, self._observe):
            if observe is not None:
                observe(event)

    def warn(self, operation: str, key: str, offset: int, tries: int, cause: ImgstoreError) -> None:
        """Logs one line for a try that follows `cause`; at most one a second, the rest at DEBUG."""
        now = self.clock.now()
        level = logging.WARNING if now >= self._quiet_until else logging.DEBUG
        if level == logging.WARNING:
            self._quiet_until = now + _QUIET
        LOG.log(
            level,
            "store %s: %s of %r goes on at offset %d, try %d, after %s: %s (request id %s)",
            self.store_id,
            operation,
            key,
            offset,
            tries + 1,
            type(cause).__name__,
            cause,
            cause.request_id,
        )


def _placed(error: ImgstoreError, key: str, cause: TransientError) -> ImgstoreError:
    """Gives `error`, which ends the tries, with the place of its `cause`: who has a token knows no key."""
    error.key, error.store = key or cause.key or "", cause.store
    return error


class _Spliced:
    """The raw reader that carries out a `ResumePlan`: streams of the inner store, one after the other."""

    def __init__(self, layer: ResumeLayer, key: str, stop: int | None, plan: ResumePlan, call: Call) -> None:
        self._layer = layer
        self._clock = layer.clock
        self._now = layer.clock.now  # asked twice a receive
        self._key = key
        self._stop = stop
        self._plan = plan
        self._cancel = call.cancel.child() if call.cancel is not None else CancelToken()
        self._call = replace(call, cancel=self._cancel)
        remaining = call.remaining(self._clock)
        # The deadline is kept on the clock that never steps, and told anew to each stream.
        self._limit = None if remaining is None else self._clock.now() + remaining
        self._stream: ByteStream | None = None
        self._hash: Any = None
        self._proof: Any = None
        self._scratch: memoryview | None = None
        self._last: ImgstoreError | None = None  # the latest failure
        self._broken: ImgstoreError | None = None  # what broke the read that is to be resumed

    def begin(self) -> ObjectInfo:
        """Opens the first stream that can be had."""
        while self._plan.info is None:
            self._carry_out(self._plan.action)
        if self._plan.digest is not None:
            self._hash = hashlib.new(self._plan.digest[0], usedforsecurity=False)
        elif self._plan.needs_proof:
            self._hash = hashlib.new(PROOF_ALGORITHM, usedforsecurity=False)
        self._check_digest()
        return self._plan.info

    @property
    def lead(self) -> int:
        """Bytes before the range that the open stream still brings, and that are skipped."""
        return 0 if self._stream is None else self._stream.lead

    def readinto(self, buffer: memoryview, /) -> int:
        while True:
            action = self._plan.action
            if isinstance(action, Read):
                count = self._read(buffer if action.limit is None else buffer[: action.limit])
            else:
                count = self._carry_out(action)
            if count is not None:
                return count

    def abort(self) -> None:
        self._cancel.cancel()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _carry_out(self, action: Action) -> int | None:
        """Carries out what is no `Read`; gives 0 at the end of the range."""
        if isinstance(action, Finish):
            return 0
        if isinstance(action, Raise):
            raise action.error
        if isinstance(action, Open):
            self._open(action)
        elif isinstance(action, Pause):
            self._pause(action)
        elif isinstance(action, Skip):
            stream = self._opened
            self._receive_again(stream, stream.discard, _SCRATCH)
        elif isinstance(action, Prove):
            self._prove(action.limit)
        else:
            self._report(self._plan.proved(equal=self._proof.digest() == self._hash.digest()))
        return None

    def _open(self, action: Open) -> None:
        began = self._clock.now()
        try:
            stream = self._layer.inner._stream(
                self._key, action.start, self._stop, action.version, self._timed()
            )
        except ImgstoreError as exc:
            self._failed(exc, self._clock.now() - began - exc.held)
            return
        self._stream = stream
        if self._plan.needs_proof:
            self._proof = hashlib.new(PROOF_ALGORITHM, usedforsecurity=False)
        waited = self._clock.now() - began - stream.held
        self._report(self._plan.opened(stream.info, stream.lead, waited))

    def _pause(self, pause: Pause) -> None:
        began = self._clock.now()
        try:
            self._layer.pause(pause, self._timed())
        except ImgstoreError as exc:
            exc.__cause__ = self._last
            self._plan.failed(exc, 0.0)
        else:
            self._plan.paused(self._clock.now() - began)

    def _read(self, buffer: memoryview) -> int | None:
        if self._broken is not None:
            self._emit("resumed", attempt=self._plan.attempts, error=self._broken)
            self._broken = None
        stream = self._opened
        count = self._receive(stream, stream._fill, buffer)
        if self._hash is not None:
            if count:
                self._hash.update(buffer[:count])
            self._check_digest()
        return count

    def _check_digest(self) -> None:
        digest = self._plan.digest
        if digest is None or not isinstance(self._plan.action, Finish):
            return
        if self._hash.hexdigest() != digest[1]:
            raise self._plan.mismatch()

    def _prove(self, limit: int) -> None:
        stream = self._opened
        received = self._receive_again(stream, stream._fill, min(limit, _SCRATCH))
        self._proof.update(received)

    def _receive_again(
        self, stream: ByteStream, receive: Callable[[memoryview], int], limit: int
    ) -> memoryview:
        """Receives what the caller does not get; gives it, in memory that the next receive overwrites."""
        if self._scratch is None:
            self._scratch = memoryview(bytearray(_SCRATCH))
        count = self._receive(stream, receive, self._scratch[:limit]) or 0
        if count:
            self._emit("refetched", count=count)
        return self._scratch[:count]

    def _receive(
        self, stream: ByteStream, receive: Callable[[memoryview], int], buffer: memoryview
    ) -> int | None:
        """Makes one receive from `stream`, the open one, and tells the plan; None when it failed."""
        began = self._now() - stream.held
        try:
            count = receive(buffer)
        except ImgstoreError as exc:
            self._failed(exc, self._now() - stream.held - began)
            return None
        error = self._plan.received(count, self._now() - stream.held - began)
        if error is not None:
            self._report(error)
        return count

    def _report(self, error: ImgstoreError | None) -> None:
        if error is None:
            return
        if not isinstance(error, StalledError):
            # An attempt that served what this layer refuses: nobody below saw it fail.
            self._emit("failed", error=error)
        self._failed(error, 0.0)

    def _failed(self, error: ImgstoreError, waited: float) -> None:
        was_reading = self._stream is not None
        self.close()
        self._stream = None
        if isinstance(error, TruncatedError) and self._is_whole():
            self._plan.completed()
            return
        self._plan.failed(error, waited)
        if isinstance(self._plan.action, Raise):
            return
        self._last = error
        if self._plan.info is not None:
            self._broken = error
        if isinstance(error, StalledError) or (was_reading and isinstance(error, TimedOutError)):
            self._emit("stalled", error=error)
        self._layer.warn("get", self._key, self._plan.at, self._plan.attempts, error)

    def _is_whole(self) -> bool:
        """Whether the digest proves an end that the protocol did not."""
        if self._plan.end is not None or self._plan.digest is None or self._hash is None:
            return False
        return bool(self._hash.hexdigest() == self._plan.digest[1])

    def _emit(self, kind: Any, **fields: Any) -> None:
        fields.setdefault("offset", self._plan.at)
        self._layer.emit(self._call, Event(kind, self._layer.store_id, self._key, **fields))

    def _timed(self) -> Call:
        if self._limit is None:
            return self._call
        return replace(self._call, deadline=self._clock.time() + self._limit - self._clock.now())

    @property
    def _opened(self) -> ByteStream:
        if self._stream is None:
            raise ImgstoreError("a plan receives only from an open stream")
        return self._stream
