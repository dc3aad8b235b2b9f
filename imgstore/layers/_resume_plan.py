"""The decisions of a resumed read, as a pure state machine.

It is told what happened and says what to do next: no socket, no clock and no randomness inside. `action` is
the next step; the layer carries it out and reports back by one of the events: `opened`, `received`, `proved`,
`failed`, `paused`. An event may give an error that the layer then reports as `failed`.

Three independent guards keep versions from mixing. The precondition is sent (`Open.version`), the reply is
judged (`opened`), and the bytes are compared: with a digest known before the first byte, or, where there is
neither version nor digest, by reading what was delivered once more (`Prove`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from imgstore.errors import (
    BadReplyError,
    DigestMismatchError,
    ImgstoreError,
    ProtocolViolationError,
    RangeNotSatisfiableError,
    RetriesExhaustedError,
    StalledError,
    TransientError,
    TruncatedError,
    UnpinnableError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.layers._stall import StallMeter
from imgstore.layers._whole_digest import usable_digest
from imgstore.model import ObjectInfo, Version
from imgstore.retry import Budget, Pause

PROOF_ALGORITHM: Final = "sha256"


@dataclass(frozen=True, slots=True)
class Open:
    """Open the image from `start` on, at `version`."""

    start: int
    version: Version


@dataclass(frozen=True, slots=True)
class Skip:
    """Throw away one receive of what the store sends before `Open.start`."""


@dataclass(frozen=True, slots=True)
class Prove:
    """Receive at most `limit` bytes that the caller already has, and hash them."""

    limit: int


@dataclass(frozen=True, slots=True)
class Compare:
    """Tell by `proved` whether the bytes read again are those that were delivered."""


@dataclass(slots=True)
class Read:
    """Receive at most `limit` bytes for the caller; None: as many as the caller takes.

    One is made for each receive; to make it frozen would cost as much as all else that the plan does then.
    """

    limit: int | None


@dataclass(frozen=True, slots=True)
class Finish:
    """The range is delivered; nothing is asked of the store any more."""


@dataclass(frozen=True, slots=True)
class Raise:
    """The read is over, with this error."""

    error: ImgstoreError


Action: TypeAlias = Open | Pause | Skip | Prove | Compare | Read | Finish | Raise


class ResumePlan:
    """One read of [start, stop) of one image, through any number of breaks. Belongs to one thread.

    `at` is the next offset that the caller is owed, `end` where the range ends (None while unknown), `info`
    what the first reply said, `attempts` the number of opens, `refetched` the bytes received again or in
    vain.
    """

    def __init__(
        self,
        start: int,
        stop: int | None,
        version: Version,
        *,
        budget: Budget,
        meter: StallMeter,
        skip_limit: int,
        proof_limit: float,
    ) -> None:
        self.start = start
        self.at = start
        self.end: int | None = None
        self.info: ObjectInfo | None = None
        self.digest: tuple[str, str] | None = None
        self.attempts = 1
        self.refetched = 0
        self._stop = stop
        self._version = version
        self._budget = budget
        self._meter = meter
        self._skip_limit = skip_limit
        self._proof_limit = proof_limit
        self._lead = 0
        self._unproven = 0
        self._reread = 0
        self._stalled = False
        self.action: Action = Open(start, version)

    @property
    def needs_proof(self) -> bool:
        """Whether nothing but the bytes themselves can tell one version from another."""
        return self._version is None and self.digest is None

    def opened(self, info: ObjectInfo, lead: int, waited: float) -> ImgstoreError | None:
        """A reply that describes `info` is there; its body begins `lead` bytes before `Open.start`."""
        self._meter.waited(waited)
        self._meter.opened()
        if lead > self._skip_limit:
            return BadReplyError(
                f"the store serves {lead} bytes before offset {self.at}, more than may be skipped"
            )
        problem = self._changed(info)
        if problem is not None:
            return VersionChangedError(f"{problem} in mid-read")
        if self.info is None and info.size is None and (self.start or self._stop is not None):
            return UnsupportedError(
                "the store tells no length of the image: it can only be read from its start"
            )
        self._learn(info)
        self._lead = lead
        self._unproven = self.at - self.start if self.needs_proof else 0
        self._proceed()
        return None

    def received(self, count: int, waited: float) -> ImgstoreError | None:
        """The action Skip, Prove or Read brought `count` bytes; 0 is an end that the store proved."""
        stalled = self._meter.received(waited, count)
        if self._lead:
            self._lead -= count
            self.refetched += count
        elif self._unproven:
            self._unproven -= count
            self.refetched += count
            self._reread += count
            if not self._unproven:
                self._stalled = stalled
                self.action = Compare()
                return None
            if not count:
                return VersionChangedError("the image ends before what was read of it")
        else:
            self._deliver(count)
        self._proceed()
        return self._stall(stalled)

    def proved(self, *, equal: bool) -> ImgstoreError | None:
        """The action Compare found the bytes read again `equal` to those delivered, or not."""
        if not equal:
            return VersionChangedError(
                "the image changed in mid-read: what was delivered reads differently now"
            )
        self._proceed()
        return self._stall(self._stalled)

    def paused(self, waited: float) -> None:
        """The action Pause is over."""
        self._meter.waited(waited)
        self.attempts += 1
        self.action = Open(self.start if self.needs_proof else self.at, self._version)

    def failed(self, error: ImgstoreError, waited: float) -> None:
        """The stream is closed for `error`."""
        self._meter.waited(waited)
        self.action = self._verdict(error)
        if isinstance(self.action, Raise):
            final = self.action.error
            final.offset = self.at
            final.attempts = self.attempts
            final.request_id = error.request_id
            if final is not error:
                final.__cause__ = error

    def completed(self) -> None:
        """The body broke off with its size unknown, but what was delivered has the whole image's digest."""
        self.end = self.at
        self._budget.succeed()
        self.action = Finish()

    def mismatch(self) -> DigestMismatchError:
        """What to raise when the bytes of the whole image do not have the digest that was promised."""
        name = self.digest[0] if self.digest else PROOF_ALGORITHM
        return DigestMismatchError(
            f"the image's bytes do not have the {name} that the store gave before the first of them",
            offset=self.start,
            attempts=self.attempts,
        )

    def _stall(self, stalled: bool) -> StalledError | None:  # noqa: FBT001  # a verdict, passed on
        if stalled and not isinstance(self.action, Finish):
            return StalledError("fewer bytes came than the stall floor asks for")
        return None

    def _changed(self, info: ObjectInfo) -> str | None:
        if self.info is None:
            return None
        if isinstance(self._version, str) and info.version != self._version:
            return "the store changed the image's version"
        if None not in (self.info.size, info.size) and self.info.size != info.size:
            return f"the image's size changed from {self.info.size} to {info.size}"
        if any(self.info.digests.get(name, value) != value for name, value in info.digests.items()):
            return "the image's digest changed"
        return None

    def _learn(self, info: ObjectInfo) -> None:
        if self.info is None:
            self.info = info
            self._version = self._version or info.version
            whole = self.start == 0 and (
                self._stop is None or (info.size is not None and self._stop >= info.size)
            )
            self.digest = usable_digest(info) if whole else None
        if info.size is not None:
            self.end = info.size if self._stop is None else min(self._stop, info.size)

    def _deliver(self, count: int) -> None:
        self.at += count
        self._budget.progress(count)
        if not count:
            self.end = self.at
        if self.at == self.end:
            self._budget.succeed()

    def _proceed(self) -> None:
        if self._lead:
            self.action = Skip()
        elif self._unproven:
            self.action = Prove(self._unproven)
        elif self.at == self.end:
            self.action = Finish()
        else:
            self.action = Read(None if self.end is None else self.end - self.at)

    def _verdict(self, error: ImgstoreError) -> Pause | Raise:
        if isinstance(error, RangeNotSatisfiableError) and self.info is not None:
            return Raise(VersionChangedError(f"the image now ends before offset {self.at}"))
        if not isinstance(error, TransientError) or not error.retryable or self._is_unprovable(error):
            return Raise(error)
        pause = self._budget.spend(error)
        if isinstance(pause, str):
            return Raise(self._exhausted(error, pause))
        if self.needs_proof and self._proof_too_dear():
            return Raise(
                UnpinnableError(
                    "the store offers neither version nor digest, and to prove what was delivered unchanged "
                    "by reading it again would cost more than the proof limit allows"
                )
            )
        return pause

    def _is_unprovable(self, error: TransientError) -> bool:
        return isinstance(error, TruncatedError) and error.unprovable and self.end is None

    def _exhausted(self, error: TransientError, why: str) -> ImgstoreError:
        if isinstance(error, TruncatedError) and self.info is not None and self.info.size is None:
            return error
        return exhausted(error, why)

    def _proof_too_dear(self) -> bool:
        delivered = self.at - self.start
        whole = delivered if self.end is None else self.end - self.start
        return self._reread + delivered > self._proof_limit * whole


def exhausted(error: TransientError, why: str) -> ImgstoreError:
    """What a call raises when `error` was its last try; `why` says what ended the tries."""
    if isinstance(error, BadReplyError):
        return ProtocolViolationError(f"{error}; {why}")
    return RetriesExhaustedError(f"{why}; the last failure: {error}")
