"""20,000 seeded schedules of faults: each ends as the oracle says, to the byte, the request and the second.

`IMGSTORE_SEED=841 pytest tests/faults/test_schedules.py` replays one.
"""

from __future__ import annotations

import logging

import pytest

from imgstore.testing.faults import Kind, Schedule, play, predict, schedule
from imgstore.testing.faults.script import FINAL, WEATHER
from tests.faults import schedules
from tests.faults.plain import PLANTS, Plain
from tests.thinning import thinned

TOTAL = 20_000
SEED = schedules.replayed()
ALL = range(TOTAL) if SEED is None else range(SEED, SEED + 1)
BLOCKS = [ALL[at : at + schedules.ROUND] for at in range(0, len(ALL), schedules.ROUND)]
ENDS = {
    "identical", "DeadlineExceededError", "DigestMismatchError", "NotFoundError", "PermanentError",
    "PermissionDeniedError", "ProtocolViolationError", "RangeNotSatisfiableError", "RetriesExhaustedError",
    "TruncatedError", "UnavailableError", "UnpinnableError", "VersionChangedError",
}  # fmt: skip
COUNTED = ("delivered", "refetched")


@pytest.fixture(autouse=True)
def quiet():
    # a warning for each of 100,000 resumes is not what is looked at here, and would take a third of the time
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "block", thinned(BLOCKS, 20), ids=[f"{block.start}-{block.stop - 1}" for block in BLOCKS]
)
def test_every_schedule_ends_as_predicted(block, promise):
    wrong = [verdict for seed in block if (verdict := schedules.judge(schedule(seed))) is not None]
    promise("P1", "schedules of faults played", len(block))
    promise("P1", "schedules of faults that did not end exactly or as predicted", len(wrong), 0)
    assert not wrong, f"{len(wrong)} went wrong, the first of them:\n" + "\n\n".join(wrong[:3])


@pytest.mark.wide
@pytest.mark.timeout(600)
def test_the_schedules_are_what_they_are_said_to_be(histogram):
    tally = schedules.Tally()
    for seed in range(TOTAL):
        drawn = schedule(seed)
        tally.add(drawn, predict(drawn))
    histogram(tally)
    assert tally.survivable >= 0.7 * TOTAL
    assert tally.rarest()[1] >= 200
    assert min(tally.neighbours[a, b] for a in WEATHER for b in WEATHER) >= 200
    assert set(tally.lengths) == set(range(1, 13))
    assert set(tally.ends) | set(tally.later) == ENDS
    assert set(tally.kinds) == {*WEATHER, *FINAL} == set(Kind)


def test_the_events_add_up_to_what_the_store_sent():
    for seed in range(300):
        drawn, events, drivers = schedule(seed), [], []

        def build(driver, *given, drivers=drivers, events=events):
            drivers.append(driver)
            return schedules.build(driver, *given, observe=events.append)

        play(drawn, build)
        log = [each for each in drivers[0].log if each.served is not None and each.served.start <= each.start]
        told = {kind: sum(each.count for each in events if each.kind == kind) for kind in COUNTED}
        assert told["delivered"] == sum(each.sent for each in log), drawn
        if drawn.versioned or drawn.pin == "any":
            # nothing is received twice but what the store sends unasked, before the range
            skipped = sum(min(each.sent, each.start - each.served.start) for each in log)
            assert told["refetched"] == skipped, drawn


def test_a_seed_gives_the_same_schedule_for_ever():
    assert str(schedule(4)) == str(schedule(4))
    assert schedule(4) == schedule(4) != schedule(5)


def test_the_circumstances_vary():
    drawn = [schedule(seed) for seed in range(1000)]
    for name in Schedule.__slots__:
        assert len({str(getattr(each, name)) for each in drawn}) > 1, name
    sizes = {each.sizes[0] for each in drawn}
    assert {0, 1, 65535, 65536, 65537, 131071, 131072, 131073} <= sizes


class TestTheChecksCanFail:
    """What never turns red proves nothing: each planted fault is found, and without one all is green."""

    def plain(self, plant):
        return lambda driver, settings, clock, jitter: Plain(driver, settings, clock, jitter, plant)

    def test_the_plain_resume_is_green(self):
        for seed in range(400):
            verdict = schedules.judge(schedule(seed), self.plain(""))
            assert verdict is None, verdict

    @pytest.mark.parametrize("plant", PLANTS)
    def test_a_planted_fault_is_red(self, plant):
        found = (seed for seed in range(TOTAL) if play(schedule(seed), self.plain(plant)).wrong)
        assert next(found, None) is not None, f"no schedule sees this: {PLANTS[plant]}"
