"""RangeSet against a model: a set of single offsets."""

from __future__ import annotations

import itertools
import random

import pytest

from imgstore.model import ByteRange
from imgstore.ranges import RangeSet

SPACE = 6


def all_ranges():
    return [ByteRange(a, b) for a in range(SPACE + 1) for b in range(a, SPACE + 1)]


def offsets(ranges):
    return {at for each in ranges for at in range(each.start, each.stop)}


def all_sets():
    """Every set over a small space, as the ranges it consists of."""
    for bits in itertools.product((False, True), repeat=SPACE):
        yield {at for at, is_in in enumerate(bits) if is_in}


def set_of(members):
    return RangeSet(ByteRange(at, at + 1) for at in members)


def check(found, members):
    ranges = list(found)
    assert offsets(ranges) == members
    assert sum(each.size for each in ranges) == len(members) == found.size
    for one, two in itertools.pairwise(ranges):
        assert one.stop < two.start, "sorted, disjoint and not touching"
    assert all(each.size for each in ranges)
    assert {at for at in range(-1, SPACE + 1) if at in found} == members


def test_add_subtract_and_missing_everywhere():
    for members in all_sets():
        for other in all_ranges():
            inside = offsets([other])
            added, subtracted = set_of(members), set_of(members)
            assert added.add(other) == len(inside - members)
            check(added, members | inside)
            subtracted.subtract(other)
            check(subtracted, members - inside)
            gaps = list(set_of(members).missing(other))
            assert offsets(gaps) == inside - members
            assert all(each.size for each in gaps)
            assert all(one.stop < two.start for one, two in itertools.pairwise(gaps))


def test_random_operations():
    rng = random.Random(3)
    found, members = RangeSet(), set()
    for _ in range(3000):
        start = rng.randrange(400)
        each = ByteRange(start, start + rng.randrange(12))
        if rng.random() < 0.6:
            assert found.add(each) == len(offsets([each]) - members)
            members |= offsets([each])
        else:
            found.subtract(each)
            members -= offsets([each])
        assert offsets(found) == members
        assert found.size == len(members)


def test_from_ranges():
    assert list(RangeSet([ByteRange(5, 9), ByteRange(0, 2), ByteRange(8, 12), ByteRange(2, 3)])) == [
        ByteRange(0, 3),
        ByteRange(5, 12),
    ]
    assert list(RangeSet()) == []


def test_touching_ranges_become_one():
    found = RangeSet([ByteRange(0, 5), ByteRange(10, 15)])
    assert found.add(ByteRange(5, 10)) == 5
    assert list(found) == [ByteRange(0, 15)]


def test_equality():
    assert RangeSet([ByteRange(0, 2), ByteRange(2, 4)]) == RangeSet([ByteRange(0, 4)])
    assert RangeSet([ByteRange(0, 4)]) != RangeSet([ByteRange(0, 5)])
    assert RangeSet([ByteRange(1, 4)]) != RangeSet([ByteRange(0, 4)])
    assert RangeSet() == RangeSet()
    assert RangeSet() != [ByteRange(0, 4)]
    assert RangeSet().__eq__([]) is NotImplemented


def test_it_is_mutable_and_so_has_no_hash():
    with pytest.raises(TypeError):
        hash(RangeSet())


def test_repr():
    assert repr(RangeSet([ByteRange(0, 2), ByteRange(5, 7)])) == "RangeSet([[0, 2), [5, 7)])"


def test_a_range_without_an_end_is_refused():
    found = RangeSet([ByteRange(0, 5)])
    for act in (found.add, found.subtract, lambda each: list(found.missing(each))):
        with pytest.raises(ValueError, match="known end"):
            act(ByteRange(2, None))
    assert list(found) == [ByteRange(0, 5)]


def test_large_offsets():
    found = RangeSet()
    assert found.add(ByteRange(1 << 60, (1 << 60) + (1 << 50))) == 1 << 50
    assert (1 << 60) in found
    assert list(found.missing(ByteRange(0, 1 << 61))) == [
        ByteRange(0, 1 << 60),
        ByteRange((1 << 60) + (1 << 50), 1 << 61),
    ]
