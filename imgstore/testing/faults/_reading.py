"""One call of a caller as the specification has it: bytes counted, nothing read."""

from __future__ import annotations

from typing import Final

from imgstore.testing.faults._world import Ambiguous, World
from imgstore.testing.faults.script import (
    BREAKS,
    OPEN_TIMEOUT,
    RECEIVE_TIMEOUT,
    SLOW_RATE,
    SLOW_SPELL,
    Fault,
    Kind,
)

IDENTICAL: Final = "identical"
PROGRESS = 65536  # bytes that refund the budget
RETRY_AFTER_CAP = 20.0
PAUSE_CAP = 20.0
FIRST_PAUSE = 0.2


_REFUSALS = {
    Kind.UNAVAILABLE: "UnavailableError",
    Kind.THROTTLED: "ThrottledError",
    Kind.OPEN_TIMEOUT: "TimedOutError",
    Kind.BAD_REPLY: "BadReplyError",
    Kind.REFUSED: "ConnectionLostError",
    Kind.LATER: "BadReplyError",
    Kind.OVERSOLD: "BadReplyError",
}
_VERDICTS = {
    Kind.DELETED: "NotFoundError",
    Kind.DENIED: "PermissionDeniedError",
}


class EndError(Exception):
    """The call ends with an error of the class that is named."""


class WeatherError(Exception):
    """An attempt fails with an error of the class that is named; another may go better."""

    def __init__(self, name: str, after: float | None = None) -> None:
        super().__init__(name)
        self.name = name
        self.after = after


class Reading:
    """One call: what is pinned, what was delivered, and what the budget has left."""

    def __init__(self, world: World, offset: int, length: int | None, *, first: bool) -> None:
        script = world.schedule
        self.world = world
        self.settings = script.settings
        self.offset = offset
        self.length = length
        self.any = script.pin == "any"
        self.deadline = script.deadline if first else None
        self.precondition = 0 if script.pin == "token" and first else None
        self.pinned = False
        self.size: int | None = None
        self.total: int | None = length  # bytes that this call delivers, once that is known
        self.covered = False  # a digest of the whole read is known
        self.digested = 0  # the content that the digest is of
        self.source: int | None = None  # the content of the bytes that were delivered
        self.damaged = False
        self.delivered = 0
        self.progress = 0
        self.failures = 0
        self.again = 0

    def end(self) -> str:
        """Gives how the call ends."""
        try:
            while True:
                try:
                    if self._attempt():
                        break
                except WeatherError as failure:
                    self._fail(failure)
            if self.damaged:
                return "DigestMismatchError"
            return IDENTICAL
        except EndError as end:
            return str(end)

    def _attempt(self) -> bool:
        """One open and what comes of it; True when all is delivered. Raises: WeatherError, EndError."""
        proof = self._proof()
        asked = self.offset if proof else self.offset + self.delivered
        reopened = self.pinned
        fault = self.world.next()
        if fault is not None:
            self._refuse(fault)
        self._identify(asked, fault, reopened=reopened)
        start = self._served_from(asked, fault)
        self._same(fault)
        if not reopened:
            self._pin(fault)
        if self.total == 0:
            self._missed(fault)
            return True
        changed = proof and self.world.image != self.source
        useful, failure = self._body(asked, start, fault, changed=changed)
        self.again += asked - start if self.world.open.lead else 0
        if changed and useful >= self.delivered:
            if failure is not None:
                raise Ambiguous("the break comes just where the proof fails")
            raise EndError("VersionChangedError")
        self._take(useful, fault, failure, proof=proof)
        if failure is not None:
            raise failure
        if self._late():
            raise Ambiguous("the read and the time end together")
        return True

    def _proof(self) -> bool:
        """Tells whether the prefix must be read again."""
        script = self.world.schedule
        return bool(self.delivered) and not (self.any or script.versioned or self.covered)

    def _too_dear(self) -> bool:
        """Tells whether the prefix must be read again, and that would cost too much."""
        length = self.delivered if self.total is None else self.total
        return self._proof() and self.again + self.delivered > self.settings.proof_limit * length

    def _refuse(self, fault: Fault) -> None:
        if fault.kind is Kind.OPEN_TIMEOUT:
            self._wait(OPEN_TIMEOUT)
        if fault.kind in _REFUSALS and fault.kind not in {Kind.LATER, Kind.OVERSOLD}:
            raise WeatherError(_REFUSALS[fault.kind], fault.retry_after)
        if fault.kind in _VERDICTS:
            raise EndError(_VERDICTS[fault.kind])
        if fault.kind is Kind.UNSATISFIABLE:
            raise EndError("VersionChangedError" if self.pinned else "RangeNotSatisfiableError")
        if fault.kind in {Kind.UNKNOWN, Kind.HOPELESS} and fault.at is None:
            raise EndError("PermanentError" if fault.kind is Kind.UNKNOWN else "UnavailableError")

    def _identify(self, asked: int, fault: Fault | None, *, reopened: bool) -> None:
        """Compares what is served with what is pinned. Raises: WeatherError, EndError."""
        world, script = self.world, self.world.schedule
        behind = script.sized and (asked > world.size or asked == world.size > 0)
        # a server that ignores the precondition answers 416 there, which tells of no version
        ignored = behind and fault is not None and fault.kind is Kind.IGNORED
        other = script.versioned and not self.any and self.precondition not in {None, world.tag}
        if other and not ignored:
            raise EndError("VersionChangedError")
        if not script.sized:
            return
        if behind:
            raise EndError("VersionChangedError" if reopened else "RangeNotSatisfiableError")
        if fault is not None and fault.kind in {Kind.LATER, Kind.OVERSOLD}:
            raise self._bad(fault)

    def _same(self, fault: Fault | None) -> None:
        """Compares size and digest with what is pinned. Raises: EndError."""
        if self._other(fault):
            raise EndError("VersionChangedError")

    def _other(self, fault: Fault | None) -> bool:
        """Tells whether the reply announces another size or digest than the one that is pinned."""
        script = self.world.schedule
        if not self.pinned or not script.sized:
            return False
        digest = script.digests == "known" and self.world.image != self.digested
        return digest or self._told(fault) != self.size

    def _bad(self, fault: Fault | None) -> WeatherError:
        """Gives the failure of a bad reply. Raises: Ambiguous where it also is of another version."""
        if self._other(fault):
            raise Ambiguous("the reply is wrong in two ways")
        return WeatherError("BadReplyError")

    def _missed(self, fault: Fault | None) -> None:
        if fault is not None and fault.kind in BREAKS:
            self.world.missed.append(self.world.taken - 1)

    def _told(self, fault: Fault | None) -> int:
        over = fault.amount if fault is not None and fault.kind is Kind.OVERSTATED else 0
        return self.world.size + over

    def _served_from(self, asked: int, fault: Fault | None) -> int:
        """Gives the offset from which the reply serves. Raises: WeatherError where that is too far back."""
        start = asked
        if not self.world.schedule.sized or (fault is not None and fault.kind is Kind.WHOLE):
            start = 0
        elif fault is not None and fault.kind is Kind.SUPERSET:
            start = max(0, asked - fault.amount)
        if asked - start > self.settings.skip_limit:
            raise self._bad(fault)
        return start

    def _pin(self, fault: Fault | None) -> None:
        script = self.world.schedule
        self.pinned = True
        if script.versioned and not self.any:
            self.precondition = self.world.tag
        if not script.sized:
            return
        self.size = self._told(fault)
        left = self.size - self.offset
        self.total = left if self.length is None else min(self.length, left)
        whole = self.total == self.size
        self.covered = script.digests == "known" and whole
        self.digested = self.world.image

    def _body(
        self, asked: int, start: int, fault: Fault | None, *, changed: bool
    ) -> tuple[int, WeatherError | None]:
        """Gives how many bytes the reply brings from `asked` on, and how it breaks; None: it does not.

        Of a content that `changed` nothing is taken behind the prefix: there the proof fails.
        """
        world = self.world
        stop = world.size if self.total is None else min(self.offset + self.total, world.size)
        short = self.total is not None and stop < self.offset + self.total and not changed
        if changed:
            stop = min(stop, self.offset + self.delivered)
        full = stop - start
        # an end that is not known beforehand takes one more receive, and the break may come there
        last = full if self.total is None else full - 1
        if fault is None or fault.at is None or fault.at > last:
            self._missed(fault)
            if fault is not None and fault.kind is Kind.SLOW:
                self._wait(min(SLOW_SPELL, full / SLOW_RATE))
            return stop - asked, WeatherError("TruncatedError") if short else None
        sent = fault.at
        if fault.kind is Kind.TRICKLE:
            sent = min(full, fault.at + world.open.trickled)
            self._wait(sent - fault.at)
            if sent == full:
                return stop - asked, None
        return max(0, sent - (asked - start)), self._broken(fault)

    def _broken(self, fault: Fault) -> WeatherError:
        if fault.kind is Kind.SLOW:
            self._wait(min(SLOW_SPELL, (fault.at or 0) / SLOW_RATE))
        if fault.kind is Kind.SILENT:
            self._wait(RECEIVE_TIMEOUT)
            return WeatherError("TimedOutError")
        if fault.kind is Kind.TRICKLE:
            return WeatherError("StalledError")
        if fault.kind in {Kind.LOST, Kind.BROKEN}:
            return WeatherError("ConnectionLostError")
        if fault.kind in {Kind.ENDS, Kind.SUBSET} or not fault.flavour % 2:
            return WeatherError("TruncatedError")
        return WeatherError("ConnectionLostError")

    def _take(self, useful: int, fault: Fault | None, failure: WeatherError | None, *, proof: bool) -> None:
        """Delivers what came, behind the proof where one is needed. Raises: EndError."""
        if proof:
            self.again += min(useful, self.delivered)
            useful = max(0, useful - self.delivered)
        elif not self.delivered:
            self.source = self.world.image
        if useful:
            damaged = fault is not None and fault.kind is Kind.DAMAGED
            if damaged and not self.covered:
                raise Ambiguous("nothing shows the damage")
            self.damaged = self.damaged or damaged
        self.delivered += useful
        if failure is not None and fault is not None and fault.kind in {Kind.UNKNOWN, Kind.HOPELESS}:
            raise EndError("PermanentError" if fault.kind is Kind.UNKNOWN else "UnavailableError")

    def _fail(self, failure: WeatherError) -> None:
        """Counts a failure and pauses. Raises: EndError when that was the last try, or time is up."""
        self.progress, progress = self._refunded()
        self.failures = 0 if progress else self.failures + 1
        self.world.counts.append(self.failures)
        if self.failures >= self.settings.resume_attempts:
            if self._late():
                raise Ambiguous("the budget and the time end together")
            raise EndError(self._exhausted(failure.name))
        if self._too_dear():
            if self._late():
                raise Ambiguous("the proof becomes too dear and the time ends together")
            raise EndError("UnpinnableError")
        after = min(failure.after or 0.0, RETRY_AFTER_CAP)
        if self._late() or (after and self.deadline is not None and self.world.time + after >= self.deadline):
            raise EndError("DeadlineExceededError")
        spread = min(PAUSE_CAP, FIRST_PAUSE * 2.0 ** max(0, self.failures - 1))
        self._wait(after + self.world.open.jitter * spread)
        if self._late():
            raise EndError("DeadlineExceededError")

    def _refunded(self) -> tuple[int, bool]:
        if self.delivered - self.progress >= PROGRESS:
            return self.delivered, True
        return self.progress, False

    def _exhausted(self, name: str) -> str:
        if name == "BadReplyError":
            return "ProtocolViolationError"
        if name == "TruncatedError" and self.pinned and self.size is None:
            return "TruncatedError"
        return "RetriesExhaustedError"

    def _wait(self, seconds: float) -> None:
        end = self.world.time + seconds
        self.world.time = end if self.deadline is None else min(end, max(self.world.time, self.deadline))

    def _late(self) -> bool:
        return self.deadline is not None and self.world.time >= self.deadline
