"""Says how a schedule must end, from the specification alone (DESIGN.md, "Resume, exactly").

It knows neither streams nor layers nor the simulated store: it counts bytes. Where the specification leaves
a figure open (how many bytes a trickle brings before it is called a stall, how long a jittered pause is) it
counts with both extremes; where these lead to different ends, the schedule proves nothing and is `Ambiguous`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from imgstore.testing.faults._reading import IDENTICAL, Reading
from imgstore.testing.faults._world import Ambiguous, Extreme, World
from imgstore.testing.faults.script import Schedule

_EXTREMES = (Extreme(7, 0.0, lead=False), Extreme(17, 1.0, lead=True))


@dataclass(frozen=True, slots=True)
class Prediction:
    """How each call of a schedule ends (`identical` or the name of an error's class), after how many opens.

    `seconds`: the least and the most time it may take. `met`: the numbers of the faults that are met.
    """

    ends: tuple[str, ...]
    opens: tuple[int, ...]
    seconds: tuple[float, float]
    met: tuple[int, ...]

    @property
    def survivable(self) -> bool:
        return self.ends[0] == IDENTICAL


def predict(schedule: Schedule) -> Prediction:
    """Gives the only end that the specification allows. Raises: Ambiguous."""
    worlds = [World(schedule, extreme) for extreme in _EXTREMES]
    ends, opens = zip(*(_play(world) for world in worlds), strict=True)
    if ends[0] != ends[1] or opens[0] != opens[1]:
        raise Ambiguous(f"{ends[0]} with {opens[0]} opens, or {ends[1]} with {opens[1]}")
    if worlds[0].missed != worlds[1].missed or worlds[0].counts != worlds[1].counts:
        raise Ambiguous("a fault is met or not, the budget refunded or not")
    met = tuple(n for n in range(min(sum(opens[0]), len(schedule.faults))) if n not in worlds[0].missed)
    return Prediction(ends[0], opens[0], (worlds[0].time, worlds[1].time), met)


def _play(world: World) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Makes the caller's calls; gives their ends and numbers of opens."""
    ends, opens = [], []
    offset, length = world.schedule.offset, world.schedule.length
    for number in itertools.count():
        before = world.taken
        call = Reading(world, offset, length, first=number == 0)
        ends.append(call.end())
        opens.append(world.taken - before)
        if ends[-1] == IDENTICAL or world.taken >= len(world.schedule.faults):
            return tuple(ends), tuple(opens)
        if not world.schedule.anew:
            offset += call.delivered
            length = None if length is None else length - call.delivered
    raise AssertionError
