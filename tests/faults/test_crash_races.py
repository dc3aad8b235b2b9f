"""I3: two processes at one name. Whoever wins, the image is one of the two, whole."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.racing import Racer, image
from tests.thinning import thinned

ROUNDS = 500
# What happens to one name, by the number of directories that may have it.
PLACES = {"one directory": 1, "two directories": 2}


@pytest.fixture(scope="module", params=thinned(PLACES.values(), 2), ids=PLACES)
def places(request):
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        found = [Path(folder, str(number)) for number in range(request.param)]
        for each in found:
            each.mkdir()
        yield found


@pytest.fixture(scope="module")
def racers(places):
    """Two processes whose stores have the same directories, in another order: each prefers another."""
    with Racer("anna", places) as anna, Racer("bert", places[::-1]) as bert:
        yield anna, bert


def race(racers, acts, key):
    """Has both begin at once and gives how each ended."""
    for racer, act in zip(racers, acts, strict=True):
        racer.order(act, key)
    return [racer.end() for racer in racers]


def held(places, key):
    """Gives what stands under the name, in the one directory that has it; nothing else is there."""
    found = [(each / key).read_bytes() for each in places if (each / key).exists()]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.fixture(autouse=True)
def nothing_else(places):
    """Only images are left, the lock, and folders that a put held when the delete might have removed them."""
    yield
    files = {each for place in places for each in place.rglob("*") if each.is_file()}
    assert {each.suffix or each.name for each in files} <= {".img", "lock"}
    assert not [each for each in files if each.name.startswith(".")]
    for each in files:
        each.unlink()


def test_i3_one_of_two_writers_wins(racers, places):
    winners = Counter()
    for number in range(ROUNDS):
        key = f"{number}.img"
        ends = race(racers, ("put", "put"), key)
        assert sorted(ends) == ["", "AlreadyExistsError"], ends
        winner = racers[ends.index("")].name
        winners[winner] += 1
        assert held(places, key) == image(winner, key)
    assert len(winners) == 2, "they never raced"


def test_i3_of_two_that_overwrite_one_is_last(racers, places):
    last = Counter()
    for number in range(ROUNDS // 5):
        key = f"{number % 5}.img"
        ends = race(racers, ("overwrite", "overwrite"), key)
        # In two directories, the one that came later to a name that was free learns that it is not.
        assert ends.count("") >= 1
        assert set(ends) <= {"", "ConflictError"}, ends
        data = held(places, key)
        last[next(each.name for each in racers if data == image(each.name, key))] += 1
    assert sum(last.values()) == ROUNDS // 5


def test_i3_put_and_delete(racers, places):
    """The folders of the name come and go under both."""
    ended, there = Counter(), False
    for _ in range(ROUNDS // 2):
        key = "deep/er/disk.img"
        ends = race(racers, ("put", "delete"), key)
        ended[tuple(ends)] += 1
        data = held(places, key)
        assert data in {None, image("anna", key)}
        # Each end belongs to an order in which they came one after the other.
        put_first = (["AlreadyExistsError", ""] if there else ["", ""], None)
        delete_first = (["", "" if there else "NotFoundError"], image("anna", key))
        assert (ends, data) in (put_first, delete_first)
        there = data is not None
    assert len(ended) > 1, "they never raced"
