"""The plainest resume that keeps every rule, and on demand breaks one: what the schedules must tell apart.

It is not the library's and shares nothing with it: a second opinion, and a set of planted faults.
"""

from __future__ import annotations

import hashlib

from imgstore.errors import (
    BadReplyError,
    DeadlineExceededError,
    DigestMismatchError,
    NotFoundError,
    ProtocolViolationError,
    RangeNotSatisfiableError,
    RetriesExhaustedError,
    StalledError,
    TransientError,
    TruncatedError,
    UnpinnableError,
    VersionChangedError,
)
from imgstore.model import ANY, ByteRange
from imgstore.store import Store
from imgstore.stream import ByteStream, Opened

PLANTS = {
    "sends no version": "a swap between two attempts goes unnoticed",
    "believes the reply": "a store that ignores the precondition is believed",
    "loses a byte": "goes on one byte too far",
    "repeats a byte": "goes on one byte too early",
    "passes the early end": "a clean end counts as the end",
    "splices blindly": "no proof where nothing pins the image",
    "proves nothing": "reads the prefix again and does not compare it",
    "ignores the size": "another size is no other version",
    "appends the whole": "a 200 is not skipped forward",
    "keeps the old body": "opens with another body open",
    "never gives up": "no budget",
    "refunds nothing": "counts failures from the start of the call",
    "refunds every byte": "one byte is progress enough",
    "ignores Retry-After": "comes back early",
    "pauses too long": "backs off four times as long",
    "takes the final for weather": "asks again for what is gone",
    "asks once more": "a request for an empty range at the end",
    "checks no digest": "damage is delivered as success",
    "skips without limit": "skip_limit does not hold",
    "proves without limit": "proof_limit does not hold",
    "knows no stall": "a trickle goes on for ever",
    "drops a byte at a stall": "what came with the stall is lost",
    "ignores the deadline": "goes on after it",
    "pins under ANY": "the caller said that any version will do",
    "names the weather": "at the end of its tries it raises the last failure",
}
STALL = 10.0  # seconds a stream is waited upon before it is judged
FLOOR = 16384


class Plain(Store):
    """Resumes reads of the store inside. `plant` names the rule that is broken, if any."""

    def __init__(self, inner, settings, clock, jitter, plant=""):
        assert plant in {"", *PLANTS}
        self.store_id, self.clock = inner.store_id, clock
        self.inner, self.settings, self.jitter, self.plant = inner, settings, jitter, plant

    def _open(self, key, start, stop, version, call):
        splice = _Splice(self, key, start, stop, version, call)
        splice.step(splice.ready)
        info = splice.info
        end = stop if info.size is None else min(info.size, stop or info.size)
        return Opened(splice, info, ByteRange(start, end))

    def translate(self, exc):
        return self.inner.translate(exc)


class _Splice:
    def __init__(self, store, key, start, stop, version, call):
        self.store, self.key, self.start, self.stop, self.call = store, key, start, stop, call
        self.plant, self.settings, self.clock = store.plant, store.settings, store.clock
        self.version = version
        self.stream = self.info = None
        self.at, self.mark, self.failures, self.again = start, start, 0, 0
        self.digest, self.covered = hashlib.sha256(), False

    def step(self, act):
        """Does `act` until the weather lets it."""
        while True:
            try:
                return act()
            except TransientError as exc:
                if not exc.retryable:
                    exc.offset = self.at
                    raise
                self.fail(exc)
            except NotFoundError as exc:
                if self.plant != "takes the final for weather":
                    raise
                self.fail(exc)

    def readinto(self, buffer):
        count = self.step(lambda: self.receive(buffer))
        whole = self.covered and self.at == self.start + self.total and self.plant != "checks no digest"
        if whole and self.digest.hexdigest() != self.info.digests["sha256"]:
            raise DigestMismatchError("the bytes are others", offset=self.start)
        if self.plant == "asks once more" and self.total is not None and self.at == self.start + self.total:
            self.close()
            self.open(self.at)
        return count

    def abort(self):
        if self.stream is not None:
            self.stream.cancel()

    def close(self):
        if self.stream is not None:
            self.stream.close()

    def ready(self):
        if self.stream is not None:
            return
        proof = self.needs_proof()
        shift = {"loses a byte": 1, "repeats a byte": -1}.get(self.plant, 0) if self.at > self.start else 0
        self.stream = self.open(self.start if proof else self.at + shift)
        self.waited, self.recent = 0.0, []
        if proof:
            self.prove()

    @property
    def unpinned(self):
        return self.info.version is None and self.version is not ANY and not self.covered

    def open(self, at):
        version = self.version
        if self.info is not None and (version is not ANY or self.plant == "pins under ANY"):
            version = self.info.version
        if self.info is not None and self.plant == "sends no version":
            version = None
        inner, lenient = self.store.inner, self.plant in {"believes the reply", "ignores the size"}
        opened = None
        try:
            opened = inner._open(self.key, at, self.stop, version, self.call)
            judged = None if lenient and self.info is not None else version
            return self.judge(opened, at, judged)
        except Exception as exc:
            if opened is not None:
                opened.raw.close()
            error = inner.translate(exc)
            if self.info is not None and isinstance(error, RangeNotSatisfiableError):
                error = VersionChangedError("the end has moved")
            if not isinstance(error, TransientError):
                error.offset = self.at
            raise error from exc

    def judge(self, opened, at, version):
        info = opened.info
        if self.info is None and at - opened.range.start <= self.settings.skip_limit:
            first = ByteStream(opened, at, self.stop, version=version, translate=self.store.translate,
                               call=self.call, clock=self.clock)  # fmt: skip
            self.info, self.total = info, first.range.size
            self.covered = "sha256" in info.digests and self.total == info.size
            return first
        if at - opened.range.start > self.settings.skip_limit and self.plant != "skips without limit":
            raise BadReplyError("too far back")
        known = None if self.info is None else (self.info.size, self.info.digests.get("sha256"))
        if known not in {None, (info.size, info.digests.get("sha256"))} and self.plant != "ignores the size":
            raise VersionChangedError("another size or digest")
        served = opened.range
        if self.plant == "appends the whole" and served.start < at:
            opened = Opened(opened.raw, info, ByteRange(at, None if served.stop is None else info.size))
        stop = self.stop if self.total is None else self.start + self.total
        return ByteStream(opened, at, stop, version=version, translate=self.store.translate, call=self.call,
                          clock=self.clock)  # fmt: skip

    def prove(self):
        left, digest, buffer = self.at - self.start, hashlib.sha256(), memoryview(bytearray(65536))
        while left:
            count = self.timed(buffer[:left])
            self.again += count
            left -= count
            digest.update(buffer[:count])
        if digest.digest() != self.digest.digest() and self.plant != "proves nothing":
            raise VersionChangedError("the prefix is another", offset=self.at)

    def receive(self, buffer):
        self.ready()
        try:
            count = self.timed(buffer)
        except TruncatedError:
            if self.plant == "passes the early end":
                return 0
            raise
        self.digest.update(buffer[:count])
        self.at += count
        return count

    def timed(self, buffer):
        if self.waited >= STALL and sum(n for when, n in self.recent if when > self.waited - STALL) < FLOOR:
            raise StalledError("too slow")
        begun = self.clock.now()
        count = self.stream.readinto(buffer)
        self.waited += self.clock.now() - begun
        self.recent.append((self.waited, count))
        if self.plant == "knows no stall":
            self.waited = 0.0
        if self.plant == "drops a byte at a stall" and self.waited >= STALL:
            raise StalledError("too slow")
        return count

    def fail(self, exc):
        plant, stream, self.stream = self.plant, self.stream, None
        if stream is not None and plant != "keeps the old body":
            stream.close()
        self.kept = stream  # lest the collector close it
        self.count()
        if self.failures >= self.settings.resume_attempts and plant != "never gives up":
            raise self.exhausted(exc) from exc
        if self.needs_proof() and self.too_dear() and plant != "proves without limit":
            raise UnpinnableError("too much to prove", offset=self.at) from exc
        self.pause(exc)

    def needs_proof(self):
        begun = self.info is not None and self.at > self.start and self.unpinned
        return begun and self.plant != "splices blindly"

    def too_dear(self):
        limit = self.settings.proof_limit * (self.at - self.start if self.total is None else self.total)
        return self.again + self.at - self.start > limit

    def count(self):
        least = 1 if self.plant == "refunds every byte" else 65536
        if self.at - self.mark >= least and self.plant != "refunds nothing":
            self.mark, self.failures = self.at, 0
        else:
            self.failures += 1

    def exhausted(self, exc):
        if isinstance(exc, BadReplyError):
            return ProtocolViolationError("breaks its protocol", offset=self.at)
        unsized = self.info is not None and self.info.size is None
        if (isinstance(exc, TruncatedError) and unsized) or self.plant == "names the weather":
            return type(exc)("ended early", offset=self.at)
        return RetriesExhaustedError("no progress", offset=self.at)

    def pause(self, exc):
        left = None if self.plant == "ignores the deadline" else self.call.remaining(self.clock)
        after = min(getattr(exc, "retry_after", None) or 0.0, 20.0)
        if self.plant == "ignores Retry-After":
            after = 0.0
        if left is not None and (left <= 0 or (after and after >= left)):
            raise DeadlineExceededError("too late", offset=self.at) from exc
        pause = after + self.store.jitter() * min(20.0, 0.2 * 2 ** max(0, self.failures - 1))
        if self.plant == "pauses too long":
            pause = after + 4 * (pause - after)
        self.clock.sleep(pause if left is None else min(pause, left))
        if left is not None and left <= pause:
            raise DeadlineExceededError("too late", offset=self.at) from exc
