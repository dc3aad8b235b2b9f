"""A store whose every attempt is scripted, and a clock that moves only when it is told to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from imgstore.errors import ImgstoreError, VersionChangedError
from imgstore.model import ByteRange, ObjectInfo
from imgstore.store import Store, unknown
from imgstore.stream import Opened

DATA = bytes(range(256)) * 1024  # 256 KiB


class Clock:
    def __init__(self) -> None:
        self.elapsed = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return 1000.0 + self.elapsed

    def time(self) -> float:
        return 1_700_000_000.0 + self.elapsed

    def sleep(self, seconds, wake=None):
        self.slept.append(seconds)
        if wake is None or not wake.wait(0):
            self.elapsed += max(0.0, seconds)


class Facet:
    """Any facet: notes each call in `calls`; `outcomes` are given or raised in turn, the last for ever."""

    limits = object()

    def __init__(self, *outcomes) -> None:
        self.outcomes = list(outcomes) or [object()]
        self.calls: list[tuple] = []

    def __getattr__(self, name):
        def called(*args, **options):
            self.calls.append((name, args, options))
            outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        if name.startswith("_"):
            raise AttributeError(name)
        return called


@dataclass
class Attempt:
    """One open: `refuse` it, or serve from `serve_from` (else as asked) and break with `error` at `at`."""

    refuse: Exception | None = None
    at: int | None = None
    error: Exception | None = None  # None with `at`: a clean early end
    serve_from: int | None = None
    data: bytes = DATA
    version: str | None = "v1"
    size: int | None = -1
    digests: dict = field(default_factory=dict)
    each: int = 1 << 30  # most bytes of one receive
    seconds: float = 0.0  # what one receive takes
    opening: float = 0.0
    before: Callable[[], None] = lambda: None  # called before each receive
    judge_version: bool = True


class Raw:
    def __init__(self, store, attempt, start, stop):
        self.store, self.attempt, self.at, self.stop = store, attempt, start, stop
        self.closed = 0
        self.aborted = False

    def readinto(self, buffer):
        assert not self.closed, "read after close"
        attempt = self.attempt
        attempt.before()
        self.store.clock.elapsed += attempt.seconds
        limit = self.stop if attempt.at is None else min(self.stop, max(attempt.at, self.at))
        if self.at >= limit and attempt.at is not None and attempt.error is not None and limit < self.stop:
            raise attempt.error
        piece = attempt.data[self.at : min(limit, self.at + min(len(buffer), attempt.each))]
        buffer[: len(piece)] = piece
        self.at += len(piece)
        return len(piece)

    def abort(self):
        self.aborted = True

    def close(self):
        self.closed += 1


class ScriptedStore(Store):
    """Serves `attempts` one after the other, then the last one for ever; notes what was asked in `asked`."""

    def __init__(self, *attempts: Attempt) -> None:
        self.store_id = "scripted"
        self.attempts = list(attempts) or [Attempt()]
        self.asked: list[tuple] = []
        self.raws: list[Raw] = []
        self.calls: list = []
        self.clock = Clock()

    def _open(self, key, start, stop, version, call):
        assert all(raw.closed for raw in self.raws), "a stream is still open"
        self.asked.append((start, stop, version))
        self.calls.append(call)
        attempt = self.attempts.pop(0) if len(self.attempts) > 1 else self.attempts[0]
        self.clock.elapsed += attempt.opening
        if attempt.refuse is not None:
            raise attempt.refuse
        if attempt.judge_version and isinstance(version, str) and version != attempt.version:
            raise VersionChangedError("the precondition failed")
        size = len(attempt.data) if attempt.size == -1 else attempt.size
        served = start if attempt.serve_from is None else attempt.serve_from
        end = len(attempt.data) if stop is None else min(stop, len(attempt.data))
        raw = Raw(self, attempt, served, end)
        self.raws.append(raw)
        info = ObjectInfo(key, size, attempt.version, digests=attempt.digests)
        return Opened(raw, info, ByteRange(served, None if size is None else end))

    def translate(self, exc):
        return exc if isinstance(exc, ImgstoreError) else unknown(exc)
