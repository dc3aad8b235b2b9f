"""Makes a schedule of a seed: the same one for ever, whatever was made before.

Three in four schedules hold weather alone, and their kinds walk through every ordered pair of neighbours in
turn: that each pair comes up equally often is built in, not hoped for. The fourth mixes in what ends a call.
Sizes and positions lie around the read buffer, and so that the read lasts until every fault was met.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from typing import Literal

from imgstore.testing.faults._world import Ambiguous
from imgstore.testing.faults.oracle import Prediction, predict
from imgstore.testing.faults.script import AT_OPEN, FINAL, SWAPS, WEATHER, Fault, Kind, Schedule, Settings

BUFFER = 65536
LONGEST = 12
_ROUND, _GRIM = 25, 6  # of 25 seeds in a row, 6 make schedules with faults that end a call
_LENGTHS = (3, 8, 10, 11, 12, 12, 12, 12)  # long ones, that the pairs come up often enough
_REFUND = 7  # failures in a row that the default budget of 8 survives
_UNSIZED = frozenset(WEATHER) - {Kind.SUBSET, Kind.SUPERSET, Kind.LATER, Kind.OVERSOLD}
_TRIES = 40  # redraws until a schedule is unambiguous and meets all its faults; 3 do on average
_TRIES_OF_KINDS = 10
_STALL_ROOM = 40  # bytes that a trickle may bring, with room to spare

Mode = Literal["strong", "token", "none", "unknown", "digest", "both", "any"]
_MODES: tuple[tuple[Mode, int], ...] = (
    ("strong", 38), ("token", 13), ("none", 20), ("unknown", 4), ("digest", 9), ("both", 7), ("any", 9)
)  # fmt: skip


def schedule(seed: int) -> Schedule:
    """Gives the schedule number `seed`."""
    rng = random.Random(seed)
    kinds = _kinds(seed, rng)
    grim = not set(kinds).isdisjoint(FINAL)
    hopeful = not grim and rng.random() < 0.94
    best: tuple[int, Schedule] | None = None
    for number in range(1, _TRIES + 1):
        if grim and number % _TRIES_OF_KINDS == 0:
            kinds = _kinds(seed, rng)  # these may be ambiguous in any circumstances
        drawn = _Draw(rng, kinds, harsh=not grim and not hopeful).schedule(seed)
        try:
            worth = _worth(predict(drawn), hopeful=hopeful)
        except Ambiguous:
            continue
        if best is None or worth > best[0]:
            best = worth, drawn
        if worth >= len(kinds):
            break
    return best[1] if best is not None else Schedule(seed, (), (1,))


def _worth(prediction: Prediction, *, hopeful: bool) -> int:
    return len(prediction.met) - (LONGEST if hopeful and not prediction.survivable else 0)


def _kinds(seed: int, rng: random.Random) -> list[Kind]:
    number, place = divmod(seed, _ROUND)
    if place < _GRIM:
        kinds = [rng.choice(FINAL if rng.random() < 0.42 else WEATHER) for _ in range(rng.choice(_LENGTHS))]
        kinds[rng.randrange(len(kinds))] = rng.choice(FINAL)
        return kinds
    # lengths 1 to 12 take 0 to 11 steps of the walk each: 66 in a dozen
    dozen, within = divmod(number * (_ROUND - _GRIM) + place - _GRIM, LONGEST)
    step = dozen * (LONGEST * (LONGEST - 1) // 2) + within * (within + 1) // 2 - within
    return [_walk(at // _LAP)[at % _LAP] for at in range(step, step + within + 1)]


_LAP = len(WEATHER) ** 2


@functools.lru_cache(maxsize=64)
def _walk(lap: int) -> tuple[Kind, ...]:
    """Gives a closed walk that takes each ordered pair of kinds of weather once (Hierholzer's algorithm)."""
    rng = random.Random(f"lap {lap}")
    nexts = {kind: rng.sample(WEATHER, len(WEATHER)) for kind in WEATHER}
    trail, walk = [WEATHER[lap % len(WEATHER)]], []
    while trail:
        if nexts[trail[-1]]:
            trail.append(nexts[trail[-1]].pop())
        else:
            walk.append(trail.pop())
    return tuple(walk[:0:-1])


@dataclass(slots=True)
class _Draw:
    """One draw of everything that the kinds leave open."""

    rng: random.Random
    kinds: list[Kind]
    harsh: bool  # little patience: few tries, a near deadline

    def schedule(self, seed: int) -> Schedule:
        rng, kinds = self.rng, self.kinds
        mode = self._mode()
        sized = not (mode in {"strong", "none"} and _UNSIZED.issuperset(kinds) and rng.random() < 0.15)
        whole = not sized or (mode in {"digest", "both"} and (Kind.DAMAGED in kinds or rng.random() < 0.7))
        sizes = self._sizes()
        offset, length = (0, None) if whole or rng.random() < 0.5 else self._range(sizes[0])
        stop = sizes[0] if length is None else min(sizes[0], offset + length)
        anew = whole or rng.random() < 0.3
        proof = mode in {"none", "unknown"} or (mode == "digest" and not whole)
        return Schedule(
            seed=seed,
            faults=self._faults(offset, stop, sized=sized, proof=proof, anew=anew),
            sizes=sizes,
            offset=offset,
            length=length,
            versioned=mode in {"strong", "token", "both"} or (mode == "any" and rng.random() < 0.7),
            digests="known" if mode in {"digest", "both"} else "unknown" if mode == "unknown" else "none",
            sized=sized,
            pin="token" if mode == "token" else "any" if mode == "any" else "none",
            anew=anew,
            deadline=rng.choice((7.3, 23.7, 61.9)) if rng.random() < (0.4 if self.harsh else 0.02) else None,
            receive=self._piece(stop, (1448, 4096, 16384, BUFFER, BUFFER, BUFFER + 1, 1 << 20)),
            buffer=self._piece(stop, (1, 7, 4096, BUFFER - 1, BUFFER, BUFFER, BUFFER + 1, 1 << 20)),
            settings=self._settings(),
        )

    def _mode(self) -> Mode:
        if Kind.DAMAGED in self.kinds:
            return self.rng.choice(("digest", "both"))
        return self.rng.choices([mode for mode, _ in _MODES], [weight for _, weight in _MODES])[0]

    def _sizes(self) -> tuple[int, ...]:
        """Gives the size of the image, and of what is swapped in."""
        sizes = [self._size()]
        for kind in self.kinds:
            if kind in SWAPS:
                change = 0
                if kind is Kind.SWAPPED_SIZE or (kind is Kind.IGNORED and self.rng.random() < 0.3):
                    change = self.rng.choice((1, 2, 500, BUFFER))
                sizes.append(sizes[-1] + change)
        return tuple(sizes)

    def _size(self) -> int:
        rng = self.rng
        if AT_OPEN.issuperset(self.kinds) and rng.random() < 0.3:
            return 0
        near = rng.choice((-1, 0, 1))
        if len(self.kinds) > _REFUND:
            return rng.choice(
                (2 * BUFFER + near, 3 * BUFFER + near, 4 * BUFFER + near, rng.randint(80_000, 262_144))
            )
        sizes = [4096 + near, rng.randint(100, 20_000), BUFFER + near, 2 * BUFFER + near]
        if not {Kind.TRICKLE, Kind.OVERSTATED}.intersection(self.kinds):
            sizes += [1, 2, 3, 17]
        if rng.random() < 0.1:
            sizes = [3 * BUFFER + near, 4 * BUFFER + near, rng.randint(200_000, 400_000)]
        return rng.choice(sizes)

    def _range(self, size: int) -> tuple[int, int | None]:
        rng = self.rng
        offset = rng.choice((0, 1, min(size, 511), rng.randint(0, size)))
        if len(self.kinds) > _REFUND:
            offset = min(offset, 600)
        if rng.random() < 0.02:
            offset = size + rng.choice((0, 1, 1000))
        left = size - offset
        if left < 1 or rng.random() < 0.4:
            return offset, None
        return offset, rng.choice((left, max(1, left - 1), left + 1, rng.randint(max(1, left // 2), left)))

    def _piece(self, size: int, choices: tuple[int, ...]) -> int:
        # at most 64 pieces: ones of a byte are only for the smallest images
        return self.rng.choice([choice for choice in choices if choice * 64 >= size])

    def _settings(self) -> Settings:
        rng = self.rng
        odds = 0.4 if self.harsh else 0.02
        return Settings(
            resume_attempts=rng.choice((1, 2, 3, 4, 12)) if rng.random() < odds else 8,
            skip_limit=rng.choice((0, 1000)) if rng.random() < odds else 1 << 30,
            proof_limit=rng.choice((0.0, 0.5, 1.0, 5.0)) if rng.random() < odds else 2.0,
        )

    def _faults(self, offset: int, stop: int, *, sized: bool, proof: bool, anew: bool) -> tuple[Fault, ...]:
        """Draws the faults in order, following roughly where the read will stand at each."""
        kinds, faults, at = self.kinds, [], offset
        serving = [n for n, kind in enumerate(kinds) if kind not in AT_OPEN]
        strides = {n for n in serving if n % 6 == self.rng.randrange(6)} if len(kinds) > _REFUND else set()
        strides |= set(self.rng.sample(serving, 1)) if strides == set() and serving else set()
        for number, kind in enumerate(kinds):
            if kind in AT_OPEN:
                faults.append(self._refusal(kind))
            else:
                amount = self.rng.choice((1, 2, 7, 511, BUFFER))
                base = at if sized and not (proof and at > offset) else offset
                if not sized or kind is Kind.WHOLE:
                    base = 0
                elif kind is Kind.SUPERSET:
                    base = max(0, base - amount)
                target = self._target(at, stop, len(kinds) - number, stride=number in strides)
                last = number == len(kinds) - 1 and self.rng.random() < 0.5
                faults.append(self._serving(kind, target - base, amount, last=last))
                at = max(at, target) + (_STALL_ROOM // 3 if kind is Kind.TRICKLE else 0)
            if kind in FINAL and anew:
                at = offset
        return tuple(faults)

    def _target(self, at: int, stop: int, left: int, *, stride: bool) -> int:
        """Gives where the body breaks: from `at` on, before `stop`, with room for the faults that follow."""
        rng = self.rng
        room = max(0, stop - 1 - at - left * _STALL_ROOM)
        if stride and len(self.kinds) > _REFUND:
            return at + min(room, BUFFER + rng.choice((0, 1, 1, 500)))
        edge = (at // BUFFER + 1) * BUFFER + rng.choice((-1, 0, 1))
        steps = [0, 1, rng.randint(0, 16), rng.randint(0, room // left), rng.randint(0, room // left)]
        if 0 <= edge - at <= room // min(left, 3):
            steps.append(edge - at)
        if rng.random() < 0.1:
            return rng.randint(0, at)  # in what is skipped or compared
        return min(at + rng.choice(steps), max(at, stop - 1))

    def _refusal(self, kind: Kind) -> Fault:
        rng = self.rng
        if kind in {Kind.LATER, Kind.OVERSOLD}:
            return Fault(kind, amount=rng.choice((1, 2, 4096, BUFFER)))
        after = None
        if kind in {Kind.THROTTLED, Kind.UNAVAILABLE}:
            after = rng.choice((None, 0.0, 1.5, 19.0, 20.5, 1e9))
        return Fault(kind, retry_after=after)

    def _serving(self, kind: Kind, at: int, amount: int, *, last: bool) -> Fault:
        rng = self.rng
        breaks: int | None = max(0, at)
        if last and kind in {Kind.WHOLE, Kind.SUPERSET, Kind.SINGLE, Kind.SLOW}:
            breaks = None
        if kind in {Kind.UNKNOWN, Kind.HOPELESS} and rng.random() < 0.3:
            breaks = None
        if kind is Kind.SINGLE:
            amount = rng.randint(1, 40)
        elif kind not in {Kind.SUPERSET, Kind.OVERSTATED}:
            amount = 0
        return Fault(kind, breaks, amount, flavour=rng.randrange(4))
