"""The extents of a range, from the stretches of data that librbd tells."""

from imgstore.backends.rbd.extents import _told
from imgstore.model import ByteRange


def kinds(stretches, start, stop):
    return [
        (each.range.start, each.range.stop, each.kind)
        for each in _told(iter(stretches), ByteRange(start, stop))
    ]


def test_stretches_and_what_is_between():
    assert kinds([(2, 4), (6, 8)], 0, 10) == [
        (0, 2, "hole"), (2, 4, "data"), (4, 6, "hole"), (6, 8, "data"), (8, 10, "hole"),
    ]  # fmt: skip


def test_stretches_that_adjoin_are_one():
    assert kinds([(0, 4), (4, 8), (8, 9)], 0, 9) == [(0, 9, "data")]


def test_no_data_is_one_hole():
    assert kinds([], 5, 9) == [(5, 9, "hole")]


def test_an_empty_range_has_none():
    assert kinds([], 5, 5) == []
