"""What a prediction starts from: the image as it changes, the faults to come, and what is not determined."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from imgstore.testing.faults.script import SWAPS, Fault, Kind, Schedule


class Ambiguous(Exception):  # noqa: N818 -- a judgement on a schedule, not a failure
    """The specification does not determine how the schedule ends."""


class Extreme(NamedTuple):
    """What the specification leaves open.

    `trickled`: the bytes, one a second, that a trickle brings before it is dropped (the stream is waited upon
    for at least half the window of 15 s, and dropped within a second of the whole). `jitter` of a pause.
    `lead`: whether bytes before the range, served all the same, count as read again.
    """

    trickled: int
    jitter: float
    lead: bool


class World:
    """The image as it changes, the time, and the faults that are left."""

    def __init__(self, schedule: Schedule, extreme: Extreme) -> None:
        self.schedule = schedule
        self.open = extreme
        self.time = 0.0
        self.image = 0
        self.tag = 0
        self.faults: Iterator[Fault] = iter(schedule.faults)
        self.taken = 0
        self.counts: list[int] = []  # failures without progress, at each failure
        self.missed: list[int] = []  # the numbers of the faults that had nothing to break

    @property
    def size(self) -> int:
        return self.schedule.sizes[min(self.image, len(self.schedule.sizes) - 1)]

    def next(self) -> Fault | None:
        fault = next(self.faults, None)
        self.taken += 1
        if fault is not None and fault.kind in SWAPS:
            self.image += 1
        if fault is not None and (fault.kind in SWAPS or fault.kind is Kind.RETAGGED):
            self.tag += 1
        return fault
