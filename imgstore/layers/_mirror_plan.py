"""What a mirror decides, without I/O or a clock: which leg is next, how long one rests, which are equal.

`Standings` outlive the calls and belong to all threads; a `Route` is of one call and belongs to one.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imgstore.errors import (
    DigestMismatchError,
    ImgstoreError,
    ManifestError,
    NotFoundError,
    RangeNotSatisfiableError,
    RetriesExhaustedError,
    VersionChangedError,
)
from imgstore.manifest import Manifest
from imgstore.model import ObjectInfo
from imgstore.retry import REFUND

FIRST_REST: Final = 30.0  # seconds; a daemon is restarted in less
LONGEST_REST: Final = 600.0  # a leg that is back is found within ten minutes, however long it was away
TRIES: Final = 2  # of one leg in one call: FAULTS.md, row C4
# What the streams before weigh beside the next one: after ten, nine tenths of the mean are theirs.
_KEEP: Final = 0.8
_FORGET: Final = 600.0  # seconds after which what was measured says nothing of a network any more

# The digests that prove two images equal, the most common first, so that two stores are likely to share one.
STRONG: Final = ("sha256", "sha512", "sha384")

# What says something of one image, and nothing of the leg: these make none rest.
_OF_THE_IMAGE: Final = (NotFoundError, VersionChangedError, RangeNotSatisfiableError, ManifestError)


@dataclass(slots=True)
class _Standing:
    """What is known of one leg."""

    priority: int
    falls: int = 0  # failures since the last success
    rests_until: float = float("-inf")
    count: float = 0.0  # a decayed sum of bytes, and the seconds that they took
    seconds: float = 0.0
    faults: float = 0.0  # a decayed mean: the share of streams that failed
    measured: float = float("-inf")

    def worth(self, now: float) -> float:
        """Bytes a second, less the share that failed; without a limit for who was not measured lately."""
        if self.is_forgotten(now) or not self.seconds:
            return float("inf")
        return self.count / self.seconds * (1 - self.faults)

    def is_forgotten(self, now: float) -> bool:
        return now - self.measured > _FORGET

    def heal(self) -> None:
        self.falls, self.rests_until = 0, float("-inf")

    def rest(self, now: float) -> None:
        self.rests_until = now + min(FIRST_REST * 2.0 ** (self.falls - 1), LONGEST_REST)


class Standings:
    """How the legs have served so far, by their numbers. Callable from many threads; never waits."""

    def __init__(self, priorities: Sequence[int]) -> None:
        self._legs = [_Standing(priority) for priority in priorities]
        self._lock = threading.RLock()  # a signal handler may interrupt its holder

    def ranked(self, now: float) -> list[int]:
        """Gives all legs, the best first: who does not rest, by priority, by what they are worth, as listed.

        One that was not measured lately is measured next, or nobody would know that it has become the
        fastest.
        """
        with self._lock:
            return sorted(
                range(len(self._legs)),
                key=lambda number: (
                    now < self._legs[number].rests_until,
                    self._legs[number].priority,
                    -self._legs[number].worth(now),
                ),
            )

    def begun(self, number: int, now: float) -> None:
        """Notes that a leg is being tried; if it had failed, it rests for all others until that went well."""
        with self._lock:
            leg = self._legs[number]
            if leg.falls:
                leg.rest(now)

    def measured(self, number: int, now: float, count: int, seconds: float) -> None:
        """Notes that a leg gave `count` bytes in `seconds` of waiting for it, whatever then ended that."""
        if not count:
            return
        with self._lock:
            leg = self._legs[number]
            keep = 0.0 if leg.is_forgotten(now) else _KEEP
            leg.count = leg.count * keep + count
            leg.seconds = leg.seconds * keep + seconds
            leg.measured = now
            if count >= REFUND:
                leg.heal()

    def served(self, number: int) -> None:
        """Notes that a leg did what it was asked."""
        with self._lock:
            leg = self._legs[number]
            leg.faults *= _KEEP
            leg.heal()

    def failed(self, number: int, now: float, error: ImgstoreError) -> None:
        """Notes that a leg failed: it rests, unless `error` is only about one image."""
        if isinstance(error, _OF_THE_IMAGE):
            return
        with self._lock:
            leg = self._legs[number]
            leg.faults = leg.faults * _KEEP + (1 - _KEEP)
            leg.falls += 1
            leg.rest(now)


class Route:
    """The legs that one call tries, one after the other.

    A leg that failed is tried again only where the read has got on since, and `TRIES` times at most: it has
    done its own retrying already.
    """

    def __init__(self, names: Sequence[str], allowed: Collection[int]) -> None:
        """`names` of all legs; those that may be tried are `allowed`, by number."""
        self.attempts = 0
        self._names = names
        self._allowed = set(allowed)
        self._tries = dict.fromkeys(allowed, 0)
        self._failures: dict[int, tuple[int, ImgstoreError]] = {}

    def next(self, at: int, ranked: Sequence[int]) -> int | None:
        """Gives the leg to go on with at offset `at`, None where none is left; notes it as tried."""
        fit = [number for number in ranked if number in self._allowed and self._is_fit(number, at)]
        if not fit:
            return None
        chosen = min(fit, key=lambda number: self._tries[number])  # of equals, the one ranked first
        self._tries[chosen] += 1
        self.attempts += 1
        return chosen

    def failed(self, number: int, at: int, error: ImgstoreError) -> None:
        """Notes that a leg failed at offset `at`."""
        self._failures.pop(number, None)  # the last failure stands last
        self._failures[number] = (at, error)

    def bind(self, number: int) -> None:
        """Allows that one leg alone from now on: what it serves is not proven to be the others' as well."""
        self._allowed = {number}

    def verdict(self, key: str) -> ImgstoreError:
        """Gives the error of a call that all legs have failed; the last failure is its cause.

        Its class is that of the legs' errors where they have one in common, RetriesExhaustedError where
        another call may end better, else that of the first leg whose error is not just that it lacks the
        image.
        """
        errors = {number: error for number, (_, error) in self._failures.items()}
        if not errors:
            return VersionChangedError(f"the version that was asked for of {key!r} is none of this mirror's")
        last = list(errors.values())[-1]
        message = str(last)
        if len(errors) > 1:
            told = [f"{self._names[number]}: {_told(error)}" for number, error in errors.items()]
            message = f"no leg of the mirror could serve {key!r}: {'; '.join(told)}"
        error = _class_of(errors)(message)
        if isinstance(error, DigestMismatchError):
            bad = [set(each.chunks) for each in errors.values() if isinstance(each, DigestMismatchError)]
            error.chunks = tuple(sorted(set().union(*bad)))
        error.key = key
        error.attempts = sum(each.attempts or 1 for each in errors.values())
        error.request_id = last.request_id
        error.__cause__ = last
        return error

    def _is_fit(self, number: int, at: int) -> bool:
        failed_at, _ = self._failures.get(number, (-1, None))
        return self._tries[number] < TRIES and at > failed_at


def _told(error: ImgstoreError) -> str:
    return f"{type(error).__name__}: {error}"


def _class_of(errors: Mapping[int, ImgstoreError]) -> type[ImgstoreError]:
    kinds = {type(error) for error in errors.values()}
    if len(kinds) == 1:
        return kinds.pop()
    if any(error.retryable for error in errors.values()):
        return RetriesExhaustedError
    return next(type(error) for error in errors.values() if not isinstance(error, NotFoundError))


def pinned(info: ObjectInfo, manifest: Manifest) -> str:
    """Gives the token of an image that a leg describes by `info` and proves by `manifest`.

    Raises: ManifestError where that is of another image.
    """
    if info.size is not None and info.size != manifest.size:
        raise ManifestError(
            f"the manifest of {info.key!r} is of another image: that has {manifest.size} bytes, the leg's "
            f"{info.size}"
        )
    if None not in {manifest.version, info.version} and manifest.version != info.version:
        raise ManifestError(f"the manifest of {info.key!r} is of another image: it names another version")
    for name, value in manifest.digests.items():
        if info.digests.get(name, value) != value:
            raise ManifestError(f"the manifest of {info.key!r} is of another image: its {name} is another")
    return manifest.pin


def by_digest(info: ObjectInfo) -> str | None:
    """Gives the token of an image whose strong digest a leg tells in `info`, None where it tells none."""
    return next((f"{name}:{info.digests[name]}" for name in STRONG if name in info.digests), None)


def is_content(version: str) -> bool:
    """Whether `version` is a token of content, by a manifest or a digest, and not one leg's."""
    return version.partition(":")[0] in STRONG


def difference(one: ObjectInfo, other: ObjectInfo) -> str | None:
    """Says what tells that two legs hold different images; None where nothing does."""
    if one.size != other.size:
        return f"it has {other.size} bytes, not {one.size}"
    if any(one.digests.get(name, value) != value for name, value in other.digests.items()):
        return "it has another digest"
    return None
