"""Which connection fetches what: every byte once, nobody idle while there is something to do."""

from __future__ import annotations

import random

import pytest

from imgstore.model import ByteRange
from imgstore.transfer import plan as module
from imgstore.transfer.plan import Stretches

GRAIN = 10


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(module, "REQUEST", 100)


def come(plan, stretch, count):
    """Has `count` bytes arrive, as far as they were asked for; gives how many."""
    got = plan.receive(stretch, count)
    plan.received(stretch, got)
    return got


def test_the_first_takes_all_and_the_next_half_of_what_is_not_asked_for():
    plan = Stretches([ByteRange(0, 1000)], GRAIN)
    first = plan.take(0)
    assert (first.at, first.stop) == (0, 1000)
    assert plan.ask(first, 0) == ByteRange(0, 100)
    second = plan.take(0)
    assert (first.stop, second.at, second.stop) == (550, 550, 1000)
    third = plan.take(0)
    assert (first.stop, third.at, third.stop) == (330, 330, 550), "half of the one with most left"


def test_what_nobody_has_comes_first():
    plan = Stretches([ByteRange(0, 500), ByteRange(800, 900)], GRAIN)
    plan.take(0)
    assert plan.take(0).at == 800


def test_what_is_asked_for_is_split_only_where_it_takes_long():
    plan = Stretches([ByteRange(0, 100)], GRAIN)
    slow = plan.take(0.0)
    plan.ask(slow, 0.0)
    come(plan, slow, 20)
    assert plan.take(0.01) is None, "the rest is there in a moment"
    half = plan.take(1.0)
    assert (slow.stop, half.at, half.stop) == (60, 60, 100)
    assert slow.asked == 60


def test_how_long_that_is_can_be_told():
    plan = Stretches([ByteRange(0, 100)], GRAIN, slow=10.0)
    slow = plan.take(0.0)
    plan.ask(slow, 0.0)
    come(plan, slow, 20)
    assert plan.take(2.0) is None
    assert plan.take(3.0).at == 60


def test_a_receive_under_way_is_nobody_elses():
    plan = Stretches([ByteRange(0, 100)], GRAIN)
    slow = plan.take(0.0)
    plan.ask(slow, 0.0)
    assert plan.receive(slow, 75) == 75
    half = plan.take(9.0)
    assert half.at == 90
    plan.received(slow, 75)
    assert plan.receive(slow, 75) == 15
    assert plan.take(9.0) is None, "too little for two"


def test_a_request_ends_where_a_chunk_does():
    """Behind a manifest the rest of one would come as well, and again with the next request."""
    plan = Stretches([ByteRange(0, 100_000)], 64)
    stretch = plan.take(0.0)
    asked = 0
    for now in (0.0, 0.3, 1.1):
        assert plan.ask(stretch, now).start == asked
        assert stretch.asked % 64 == 0
        asked = stretch.asked
        come(plan, stretch, 100_000)
    assert asked > 3 * 128


def test_requests_grow_with_the_speed():
    plan = Stretches([ByteRange(0, 100_000)], GRAIN)
    stretch = plan.take(0.0)
    assert plan.ask(stretch, 0.0) == ByteRange(0, 100)
    come(plan, stretch, 100)
    assert plan.ask(stretch, 0.1) == ByteRange(100, 600), "half a second at 1,000 a second"


@pytest.mark.parametrize("opening, seconds", [(0.0, 0.5), (0.1, 2), (0.4, 8), (3, 10)])
def test_requests_grow_with_what_it_takes_to_open_one(opening, seconds):
    """A twentieth is lost; but who has to try for long before one opens is not so far away."""
    plan = Stretches([ByteRange(0, 100_000)], GRAIN)
    stretch = plan.take(0.0)
    plan.ask(stretch, 0.0)
    stretch.opening = opening
    come(plan, stretch, 100)
    assert plan.ask(stretch, 0.1) == ByteRange(100, 100 + int(1000 * seconds))


def test_a_stream_that_is_open_is_read_on():
    plan = Stretches([ByteRange(0, 1000)], GRAIN)
    first = plan.take(0.0)
    plan.ask(first, 0.0, 1000)
    second = plan.take(0.0)
    assert come(plan, first, 500) == 100
    assert plan.receive(first, 500) == 0
    assert plan.ask(first, 0.05, 1000) == ByteRange(100, second.start)


def test_what_is_given_back_goes_on_with_what_is_before_it():
    plan = Stretches([ByteRange(0, 1000)], GRAIN)
    first = plan.take(0.0)
    second = plan.take(0.0)
    plan.ended(second)
    assert (first.stop, plan.active) == (1000, [first])
    plan.ended(first)
    assert not plan.finished
    assert plan.take(0.0).stop == 1000


@pytest.mark.parametrize("seed", range(200))
def test_every_byte_is_received_once(seed):
    rng = random.Random(seed)
    grain = rng.choice([1, 7, 64])
    edges = sorted(rng.sample(range(5000), 6))
    missing = [ByteRange(*edges[at : at + 2]) for at in (0, 2, 4)]
    plan, mine, got, now = Stretches(missing, grain), [], [], 0.0
    while not plan.finished:
        now += rng.random()
        act = rng.randrange(6)
        if act == 0 and len(mine) < 8 and (stretch := plan.take(now)):
            mine.append(stretch)
        elif mine:
            stretch = rng.choice(mine)
            count = plan.receive(stretch, rng.randrange(1, 300))
            if not count and (plan.ask(stretch, now) is None or rng.random() < 0.05):
                plan.ended(stretch)
                mine.remove(stretch)
            elif count:
                if rng.random() < 0.5 and len(mine) < 8 and (other := plan.take(now)):
                    mine.append(other)
                count = rng.randrange(1, count + 1)
                got += range(stretch.at, stretch.at + count)
                plan.received(stretch, count)
    assert sorted(got) == [at for each in missing for at in range(each.start, each.stop)]


@pytest.mark.parametrize("speeds", [[100], [100] * 8, [100] * 7 + [2]], ids=["one", "eight", "one slow"])
def test_a32_nobody_waits_long_for_the_slowest(speeds):
    """Connections of so many bytes a second, in steps of a tenth: together they take what their sum takes."""
    size, now = 100_000, 0.0
    plan = Stretches([ByteRange(0, size)], GRAIN)
    mine = dict.fromkeys(range(len(speeds)))
    requests = 0
    while not plan.finished:
        now += 0.1
        for number, speed in enumerate(speeds):
            stretch = mine[number] = mine[number] or plan.take(now)
            if stretch is None:
                continue
            if not come(plan, stretch, speed // 10 or 1):
                if plan.ask(stretch, now) is None:
                    plan.ended(stretch)
                    mine[number] = None
                else:
                    stretch.opening = 0.1  # nothing comes in this step
                    requests += 1
    assert now <= 1.05 * size / sum(speeds) + 10
    assert requests < 30 * len(speeds) + size / sum(speeds) / (0.1 / module.OPENING) * len(speeds)
