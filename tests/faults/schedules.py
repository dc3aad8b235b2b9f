"""The library's stack for a schedule, and what a run of many schedules amounts to."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os

from imgstore import stack
from imgstore.testing.faults import Kind, play, shrink

ROUND = 1000  # schedules a block: seconds of work


def build(driver, settings, clock, jitter, **more):
    chosen = stack.LayerSettings(**dataclasses.asdict(settings))
    return stack.build(driver, chosen, clock=clock, jitter=jitter, **more)


def judge(schedule, make=build):
    """Gives the verdict as text where the schedule went wrong, None where all was well."""
    verdict = play(schedule, make)
    if not verdict.wrong:
        return None
    least = shrink(schedule, make)
    return f"{verdict}\n\nthe least that goes wrong (IMGSTORE_SEED={schedule.seed}):\n{play(least, make)}"


class Tally:
    """Counts kinds, pairs of kinds and ends over many schedules."""

    def __init__(self):
        self.schedules = self.survivable = self.opens = 0
        self.kinds, self.lengths = collections.Counter(), collections.Counter()
        self.ends, self.later = collections.Counter(), collections.Counter()
        self.pairs, self.neighbours = collections.Counter(), collections.Counter()

    def add(self, schedule, prediction):
        met = [schedule.faults[number].kind for number in prediction.met]
        self.schedules += 1
        self.survivable += prediction.survivable
        self.opens += sum(prediction.opens)
        self.lengths[len(schedule.faults)] += 1
        self.kinds.update(met)
        self.ends[prediction.ends[0]] += 1
        self.later.update(prediction.ends[1:])
        self.pairs.update({(a, b) for n, a in enumerate(met) for b in met[n + 1 :]})
        self.neighbours.update(set(itertools.pairwise(met)))

    def merge(self, other):
        for name, value in vars(other).items():
            if isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)
            else:
                getattr(self, name).update(value)

    def rarest(self):
        """Gives the pair of kinds that was met least often in one schedule, in this order, and how often."""
        count, first, second = min((self.pairs[a, b], a.value, b.value) for a in Kind for b in Kind)
        return f"{first} .. {second}", count

    def __str__(self):
        pair, count = self.rarest()
        lines = [
            f"{self.schedules} schedules, {self.opens} requests, {self.survivable} survivable",
            f"rarest of {len(Kind) ** 2} ordered pairs of kinds: {pair}, in {count} schedules",
            f"faults in a schedule: {_listed(sorted(self.lengths.items()))}",
            f"faults met: {_listed((kind.value, n) for kind, n in self.kinds.most_common())}",
            f"ends of a first call: {_listed(self.ends.most_common())}",
            f"ends of a later call: {_listed(self.later.most_common())}",
        ]
        return "\n".join(lines)


def _listed(items):
    return ", ".join(f"{name} {count}" for name, count in items)


def replayed():
    """Gives the seed that IMGSTORE_SEED asks for, None where it asks for none."""
    text = os.environ.get("IMGSTORE_SEED")
    return None if text is None else int(text)
