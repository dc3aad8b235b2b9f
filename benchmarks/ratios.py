"""What rounds prove: the median of the paired ratios, and how sure of it one can be."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 10_000  # the bounds then move by less than a hundredth from one seed to the next


@dataclass(frozen=True)
class Ratio:
    """Ours over theirs: the median over the rounds, between the bounds of its 95 % bootstrap interval."""

    median: float
    low: float
    high: float

    def verdict(self, limit: float = 1.0) -> str:
        """Says where we stand against `limit`: ahead of it, level with it, or behind."""
        if self.high < limit:
            return "ahead"
        return "behind" if self.low > limit else "level"


def paired(ours: Sequence[float], theirs: Sequence[float], *, seed: int = 0) -> Ratio:
    """Compares two contenders that ran in the same rounds: each ratio is of one round.

    What slows the whole machine for a round slows both, and their ratio hardly moves.
    """
    return interval([a / b for a, b in zip(ours, theirs, strict=True)], seed=seed)


def interval(ratios: Sequence[float], *, seed: int = 0) -> Ratio:
    """Gives the median of `ratios` between the 2.5th and the 97.5th percentile of those of resamples."""
    if not ratios:
        raise ValueError("no round, no ratio")
    drawn = random.Random(seed)
    medians = sorted(statistics.median(drawn.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    cut = round(RESAMPLES * 0.025)
    return Ratio(statistics.median(ratios), medians[cut], medians[-1 - cut])
