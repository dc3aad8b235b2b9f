"""A simulated store and clock with seeded fault schedules, and the oracle that says how each must end."""

from imgstore.testing.faults._body import Asked
from imgstore.testing.faults._world import Ambiguous
from imgstore.testing.faults.clock import SimClock
from imgstore.testing.faults.oracle import Prediction, predict
from imgstore.testing.faults.play import Verdict, play, shrink
from imgstore.testing.faults.schedule import schedule
from imgstore.testing.faults.script import Fault, Kind, Schedule, Settings
from imgstore.testing.faults.store import SimStore

__all__ = [
    "Ambiguous",
    "Asked",
    "Fault",
    "Kind",
    "Prediction",
    "Schedule",
    "Settings",
    "SimClock",
    "SimStore",
    "Verdict",
    "play",
    "predict",
    "schedule",
    "shrink",
]
