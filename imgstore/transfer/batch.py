"""Many copies, told of as one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from imgstore.transfer.progress import Failure, Report

# What the report of a batch has as the sum of those of its copies.
_SUMS: Final = (
    "held",
    "received",
    "refetched",
    "attempts",
    "resumes",
    "stalls",
    "repaired_chunks",
    "repaired",
)


class Batch:
    """The sum of the reports of copies that are made one after the other, to be shown as a `Report` is.

    `total` is what they are expected to move, None where that is not known. A copy that failed counts with
    what it cost, and with no byte in the target. Belongs to the thread that copies; any other may read.
    Memory: that of the failures.
    """

    def __init__(self, total: int | None, *, now: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self._now = now
        self._began = now()
        self._ended: float | None = None
        self._sums: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._failures: list[Failure] = []
        self._done = 0
        self._current = Report(now=now)

    def begin(self) -> Report:
        """Gives the report of the next copy; the one before has ended."""
        self._current = Report(now=self._now)
        return self._current

    def end(self, *, copied: bool) -> None:
        """Adds the copy that was begun."""
        report, self._current = self._current, Report(now=self._now)
        self._sums.update({name: getattr(report, name) for name in _SUMS})
        self._sources.update(report.sources)
        self._failures += report.failures
        self._done += report.bytes if copied else 0

    def finish(self) -> None:
        """Stops the clock. Idempotent."""
        if self._ended is None:
            self._ended = self._now()

    @property
    def bytes(self) -> int:
        """What is in the targets, that of the copy under way with it."""
        return self._done + self._current.bytes

    @property
    def held(self) -> int:
        return self._sums["held"] + self._current.held

    @property
    def resumes(self) -> int:
        return self._sums["resumes"] + self._current.resumes

    @property
    def repaired(self) -> int:
        return self._sums["repaired"] + self._current.repaired

    @property
    def sources(self) -> dict[str, int]:
        return dict(self._sources + Counter(self._current.sources))

    @property
    def failures(self) -> list[Failure]:
        return self._failures + self._current.failures

    @property
    def seconds(self) -> float:
        return (self._now() if self._ended is None else self._ended) - self._began

    def as_dict(self) -> dict[str, Any]:
        """Gives the numbers by the names of `Report.as_dict`; a sum has no digests."""
        told = self._current.as_dict()
        told |= {name: told[name] + self._sums[name] for name in _SUMS}
        told |= {"bytes": self.bytes, "sources": self.sources, "digests": {}}
        failures = [asdict(failure) for failure in self.failures]
        return {**told, "failures": failures, "seconds": round(self.seconds, 3)}
