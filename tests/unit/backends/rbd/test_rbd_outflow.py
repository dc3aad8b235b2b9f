"""Zeros on their way into an image, and the record of its parts."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgstore.backends.rbd.draft import Plan
from imgstore.backends.rbd.outflow import LEAST_HOLE, stretches
from imgstore.backends.rbd.parts import LIMITS, Parts, check_part, told
from imgstore.errors import SourceChangedError, UploadLostError
from imgstore.model import Part

KIB = 1 << 10
PIECES = st.lists(
    st.tuples(st.booleans(), st.sampled_from([1, 4095, 4096, 40 * KIB, 64 * KIB, 130 * KIB])), max_size=8
)


@given(PIECES, st.sampled_from([0, 1, 4096, 1 << 20]))
def test_stretches_cover_a_piece_and_lose_no_data(pieces, offset):
    piece = b"".join(bytes(size) if zeros else b"\x01" * size for zeros, size in pieces)
    at = 0
    for zeros, start, stop in stretches(piece, offset):
        assert start == at < stop
        at = stop
        if zeros:
            assert stop - start >= LEAST_HOLE
            assert not piece[start:stop].strip(b"\0")
    assert at == len(piece)


def test_a_large_stretch_of_zeros_is_found():
    piece = b"\x01" * 4096 + bytes(128 * KIB) + b"\x01" * 100
    found = [(zeros, stop - start) for zeros, start, stop in stretches(piece, 0)]
    assert found == [(False, 4096), (True, 128 * KIB), (False, 100)]


class Notes:
    """A draft as far as its metadata goes."""

    def __init__(self):
        self.meta = {}
        self.noted = []

    def note(self, name, value):
        self.noted.append(name)
        if value is None:
            del self.meta[name]
        else:
            self.meta[name] = value


def part(number, offset=None, size=10, tag="t"):
    return Part(number, number * 10 if offset is None else offset, size, tag)


PLAN = Plan("key", 30, {}, False, 0.0)


def test_parts_outlive_their_writer():
    draft = Notes()
    parts = Parts(draft)
    for number in (2, 70, 0):
        parts.add(part(number))
    assert sorted(told(draft.meta), key=lambda each: each.number) == [part(0), part(2), part(70)]
    assert len(draft.meta) == 2  # 64 together
    parts = Parts(draft)
    parts.forget(lambda each: each.number == 2)
    assert {each.number for each in told(draft.meta)} == {0, 70}
    parts.forget(lambda _: True)
    assert draft.meta == {}


def test_what_is_not_lost_is_not_written_again():
    draft = Notes()
    parts = Parts(draft)
    parts.add(part(0))
    draft.noted.clear()
    parts.forget(lambda each: each.number == 5)
    assert draft.noted == []


def test_parts_must_cover_the_image_as_they_are_held():
    draft = Notes()
    parts = Parts(draft)
    for number in range(3):
        parts.add(part(number))
    given_parts = [part(number) for number in range(3)]
    assert parts.covered(PLAN, given_parts[::-1]) == 30
    with pytest.raises(UploadLostError, match="part 1"):
        parts.covered(PLAN, [given_parts[0], dataclasses.replace(given_parts[1], tag="other")])
    with pytest.raises(ValueError, match="part 2 begins at 20, not at 10"):
        parts.covered(PLAN, [given_parts[0], given_parts[2]])
    with pytest.raises(SourceChangedError, match="hold 20 bytes where 30"):
        parts.covered(PLAN, given_parts[:2])
    assert parts.covered(dataclasses.replace(PLAN, size=None), given_parts[:2]) == 20


@pytest.mark.parametrize("bad", [part(-1), part(LIMITS.max_parts), part(0, -1), part(0, 25), part(0, 0, 0)])
def test_parts_that_the_limits_forbid(bad):
    with pytest.raises(ValueError, match=f"part {bad.number}"):
        check_part(PLAN, bad)
