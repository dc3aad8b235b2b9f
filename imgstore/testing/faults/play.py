"""Plays a schedule against a stack and holds what happens, step by step, against what must."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from imgstore.clock import Clock
from imgstore.errors import DigestMismatchError, ImgstoreError, RetriesExhaustedError, TransientError
from imgstore.model import ANY, Call, Version
from imgstore.store import Store
from imgstore.stream import ByteStream
from imgstore.testing.faults._body import Asked
from imgstore.testing.faults._reading import IDENTICAL
from imgstore.testing.faults._world import Ambiguous
from imgstore.testing.faults.clock import SimClock
from imgstore.testing.faults.oracle import Prediction, predict
from imgstore.testing.faults.script import Kind, Schedule, Settings
from imgstore.testing.faults.store import KEY, SimStore

Build = Callable[[Store, Settings, Clock, Callable[[], float]], Store]
"""Makes the stack under test: of a driver, settings, a clock, and a source of jitter in [0, 1)."""

TIME_SLACK = 1e-6  # sums of floats


@dataclass(slots=True)
class Verdict:
    """How a schedule ended: what was predicted, what came, and everything that was wrong on the way."""

    schedule: Schedule
    prediction: Prediction
    ends: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    met: list[Kind] = field(default_factory=list)

    def __str__(self) -> str:
        said = [f"predicted {self.prediction.ends}", f"ended {tuple(self.ends)}", *self.wrong]
        return "\n".join([str(self.schedule), *said])


def play(schedule: Schedule, build: Build) -> Verdict:
    """Plays `schedule` and gives the verdict, whose `wrong` is empty where all was as it must be.

    Raises: Ambiguous.
    """
    return _Play(schedule, build).verdict()


def shrink(schedule: Schedule, build: Build) -> Schedule:
    """Gives a schedule that still goes wrong, and would not with one fault fewer."""
    for number in range(len(schedule.faults)):
        fewer = schedule.without(number)
        try:
            wrong = play(fewer, build).wrong
        except Ambiguous:
            continue
        if wrong:
            return shrink(fewer, build)
    return schedule


class _Play:
    """One schedule, its store, and the caller."""

    def __init__(self, schedule: Schedule, build: Build) -> None:
        self.script = schedule
        self.prediction = predict(schedule)
        self.clock = SimClock()
        self.store = SimStore.of(schedule, self.clock)
        self.store.watch = self._asked
        self.stack = build(self.store, schedule.settings, self.clock, random.Random(schedule.seed).random)
        self.found = Verdict(schedule, self.prediction)
        self.call: _Call | None = None

    def verdict(self) -> Verdict:
        found, script = self.found, self.script
        offset, length = script.offset, script.length
        while True:
            self.call = call = _Call(self, offset, length, first=not found.ends)
            before = len(self.store.log)
            found.ends.append(call.end())
            call.finish(len(self.store.log) - before, number=len(found.ends) - 1)
            if found.ends[-1] == IDENTICAL or not self.store.left or len(found.ends) > len(script.faults):
                break
            if not script.anew:
                offset += call.delivered
                length = None if length is None else length - call.delivered
                if length is not None and length < 1:
                    break
        self.call = None
        self._finish()
        return found

    def blame(self, what: str) -> None:
        ended = self.call is not None and self.call.ended
        self.found.wrong.append(f"call {len(self.found.ends) + (not ended)}: {what}")

    def _asked(self, asked: Asked) -> None:
        if self.call is None:
            self.found.wrong.append(f"asked from {asked.start} when all had ended")
        else:
            self.call.asked(asked)

    def _finish(self) -> None:
        if tuple(self.found.ends) != self.prediction.ends:
            self.found.wrong.append("another end than predicted")
        least, most = self.prediction.seconds
        if not least - TIME_SLACK <= self.clock.now() <= most + TIME_SLACK:
            self.found.wrong.append(f"took {self.clock.now():.3f} s, not {least:.3f} to {most:.3f}")
        self.found.met = [self.script.faults[number].kind for number in self.prediction.met]


class _Call:
    """One call of the caller, watched from both ends."""

    def __init__(self, play: _Play, offset: int, length: int | None, *, first: bool) -> None:
        script = play.script
        self.play = play
        self.store = play.store
        self.offset = offset
        self.length = length
        self.stop: int | None = None if length is None else offset + length
        self.version: Version = None
        if script.pin == "any":
            self.version = ANY
        elif script.pin == "token" and first:
            self.version = play.store.tag
        deadline = script.deadline if first else None
        self.limits = Call() if deadline is None else Call(deadline=play.clock.time() + deadline)
        self.data = bytearray()
        self.pinned: int | None = None  # the content of the first byte
        self.pin: Version = self.version
        self.covered = False
        self.requests: list[Asked] = []
        self.ended = False
        self.error: ImgstoreError | None = None

    @property
    def delivered(self) -> int:
        return len(self.data)

    def end(self) -> str:
        """Reads as a caller does; gives `identical` or the name of the error's class."""
        stream: ByteStream | None = None
        try:
            with self.play.stack.get(
                KEY, self.offset, self.length, version=self.version, call=self.limits
            ) as stream:
                self._opened(stream)
                self._read(stream)
            return IDENTICAL
        except ImgstoreError as exc:
            self.error = exc
            # after a mismatch nobody knows which of the bytes were good
            where = self.offset + (0 if isinstance(exc, DigestMismatchError) else self.delivered)
            if exc.offset != where and not (stream is None and exc.offset is None):
                self.play.blame(f"the error says offset {exc.offset}, the caller stands at {where}")
            return type(exc).__name__
        except Exception as exc:  # noqa: BLE001 -- an end like any other, and never the predicted one
            return f"{type(exc).__name__}: {exc}"
        finally:
            self.ended = True

    def asked(self, asked: Asked) -> None:
        """Holds a request against what this call may ask at this moment."""
        play, script = self.play, self.play.script
        if self.ended:
            play.blame(f"asked from {asked.start} after the end")
        if self.store.opened:
            play.blame(f"asked from {asked.start} with another body open")
        at = self.offset + self.delivered
        proof = not script.versioned and script.pin != "any" and not self.covered
        if asked.start != (self.offset if proof else at):
            play.blame(f"asked from {asked.start} while standing at {at}")
        if asked.version != self.pin:
            play.blame(f"asked with version {asked.version!r}, not {self.pin!r}")
        if asked.stop is not None and asked.stop <= asked.start:
            play.blame(f"asked for the empty range [{asked.start}, {asked.stop})")
        if asked.stop != self.stop and (asked.stop is None or asked.stop != self._clipped()):
            play.blame(f"asked up to {asked.stop}, not {self.stop}")
        if self.requests and self.requests[-1].reached > at:
            play.blame(f"bytes up to {self.requests[-1].reached} came, the caller has them up to {at}")
        self.requests.append(asked)

    def finish(self, opens: int, number: int) -> None:
        """Holds the end of the call against the prediction."""
        play, ends = self.play, self.play.found.ends
        if self.store.opened:
            play.blame(f"{self.store.opened} bodies left open")
        predicted = play.prediction.opens
        if number < len(predicted) and opens != predicted[number]:
            play.blame(f"{opens} opens, not {predicted[number]}")
        if isinstance(self.error, RetriesExhaustedError) and not isinstance(
            self.error.__cause__, TransientError
        ):
            play.blame(f"the cause is {self.error.__cause__!r}")
        if ends[-1] == IDENTICAL:
            self._compare()

    def _opened(self, stream: ByteStream) -> None:
        script, info = self.play.script, stream.info
        if script.versioned and self.pin is None:
            self.pin = info.version
        size = info.size
        if size is not None:
            self.covered = script.digests == "known" and self.offset == 0 and self._clipped(size) == size
        if stream.range.start != self.offset:
            self.play.blame(f"the stream starts at {stream.range.start}, not {self.offset}")

    def _clipped(self, size: int | None = None) -> int | None:
        if size is None:
            served = [each for each in self.requests if each.image is not None]
            if not served or not self.play.script.sized:
                return self.stop
            over = served[0].fault.amount if _overstated(served[0]) and served[0].fault else 0
            size = len(self.store.images[served[0].image or 0]) + over
        return size if self.stop is None else min(self.stop, size)

    def _read(self, stream: ByteStream) -> None:
        with memoryview(bytearray(self.play.script.buffer)) as buffer:
            while count := stream.readinto(buffer):
                at = self.offset + self.delivered
                self.data += buffer[:count]
                self._check(at, count)

    def _check(self, at: int, count: int) -> None:
        """Holds a piece that was delivered against the content that the read began with, or what was sent."""
        last = self.requests[-1]
        if self.pinned is None:
            self.pinned = last.image or 0
        piece = self.data[at - self.offset :]
        if self.covered or self.play.script.pin == "any":
            truth = self.store.truth(last, at, at + count)
        else:
            truth = self.store.images[self.pinned][at : at + count]
        if piece != truth:
            self.play.blame(f"the {count} bytes delivered at {at} are not the image's")

    def _compare(self) -> None:
        """Holds all that a successful call delivered against the image."""
        if self.pinned is None:
            self.pinned = self.requests[-1].image or 0
        size = len(self.store.images[self.pinned])
        stop = size if self.stop is None else min(self.stop, size)
        if len(self.data) != stop - self.offset:
            self.play.blame(f"{len(self.data)} bytes, not {stop - self.offset}")
        elif (
            self.play.script.pin != "any" and self.data != self.store.images[self.pinned][self.offset : stop]
        ):
            self.play.blame("the bytes are not the image's")
        if self.requests[-1].reached > stop:
            self.play.blame(f"took bytes up to {self.requests[-1].reached}, behind the end")


def _overstated(asked: Asked) -> bool:
    return asked.fault is not None and asked.fault.kind is Kind.OVERSTATED
