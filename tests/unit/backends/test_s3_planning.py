"""Parts of images within the limits of S3, and where parts that a service holds belong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgstore.backends.s3.planning import (
    IMAGE_LIMIT,
    LIMITS,
    check_part,
    check_row,
    next_part_size,
    part_size,
    placed,
    planned,
)
from imgstore.model import Part

MIB = 1 << 20
LEAST = st.integers(LIMITS.min_part, LIMITS.max_part)


@given(size=st.integers(0, IMAGE_LIMIT), least=LEAST)
def test_d17_every_known_size_fits(size, least):
    each = part_size(size, least)
    assert LIMITS.min_part <= each <= LIMITS.max_part
    assert each >= least
    assert -(-size // each) <= LIMITS.max_parts


@pytest.mark.parametrize("size", [IMAGE_LIMIT, IMAGE_LIMIT - 1, 50_000 * MIB, 50_000 * MIB + 1])
def test_d17_the_edges(size):
    each = part_size(size, LIMITS.min_part)
    assert (each - MIB) * LIMITS.max_parts < size or each == LIMITS.min_part
    assert each * LIMITS.max_parts >= size


@pytest.mark.parametrize("least", [LIMITS.min_part, 16 * MIB, 100 * MIB, LIMITS.max_part])
def test_d17_an_unknown_size_fits_up_to_the_limit(least):
    at = parts = 0
    while at < IMAGE_LIMIT:
        each = next_part_size(at, least)
        assert LIMITS.min_part <= each <= LIMITS.max_part
        at, parts = at + each, parts + 1
    assert parts <= LIMITS.max_parts


def test_small_images_of_unknown_size_have_the_configured_parts():
    assert {planned(at * 16 * MIB, None, 16 * MIB) for at in range(1250)} == {16 * MIB}
    assert planned(0, 1 << 40, 16 * MIB) == planned(1 << 39, 1 << 40, 16 * MIB) == 105 * MIB


@pytest.mark.parametrize(
    "number, offset, count, size, said",
    [
        (-1, 0, LIMITS.min_part, None, "numbered from 0 to 9999"),
        (10_000, 0, LIMITS.min_part, None, "numbered from 0 to 9999"),
        (0, -1, LIMITS.min_part, None, "lies outside"),
        (1, MIB, 10 * MIB, 10 * MIB, "lies outside"),
        (0, 0, 0, None, "0 bytes"),
        (0, 0, LIMITS.max_part + 1, None, "a part has"),
        (0, 0, LIMITS.min_part - 1, 100 * MIB, "the last one may have fewer"),
    ],
)
def test_d17_what_no_service_takes_is_refused(number, offset, count, size, said):
    with pytest.raises(ValueError, match=said):
        check_part(Part(number, offset, count, ""), size)


def test_d17_the_last_part_may_be_small():
    check_part(Part(1, 10 * MIB, 1, ""), 10 * MIB + 1)
    check_part(Part(1, 10 * MIB, 1, ""), None)
    check_part(Part(0, 0, LIMITS.max_part, ""), None)


def row(*sizes):
    return [Part(n, sum(sizes[:n]), size, "t") for n, size in enumerate(sizes)]


def test_a_row_without_a_gap():
    check_row([])
    check_row(row(5 * MIB, 7 * MIB, 1))


@pytest.mark.parametrize(
    "parts",
    [row(5 * MIB, 1)[1:], row(5 * MIB, 5 * MIB, 1)[::2], row(5 * MIB, 1, 5 * MIB), [Part(0, 1, 9, "t")]],
)
def test_a_row_with_a_gap_or_a_small_part_inside(parts):
    with pytest.raises(ValueError, match="part"):
        check_row(parts)


S = 8 * MIB


@pytest.mark.parametrize(
    "held, size, offsets",
    [
        ({}, None, {}),
        ({0: S, 1: S, 2: 5}, None, {0: 0, 1: S, 2: 2 * S}),
        ({0: S, 1: 2 * S, 2: 5}, None, {0: 0, 1: S, 2: 3 * S}),
        ({0: S, 2: S}, None, {0: 0, 2: 2 * S}),
        ({1: S, 3: S}, None, {1: S, 3: 3 * S}),
        ({0: S, 3: 5}, 3 * S + 5, {0: 0, 3: 3 * S}),
        ({0: S, 3: 5}, 9 * S, {0: 0}),  # a small one that is not the last
        ({2: S}, None, {}),  # alone: it may be of that size, or the rest
        ({0: S, 2: 2 * S}, None, {0: 0}),  # larger than those before it
        ({0: S, 1: 2 * S, 4: S}, None, {0: 0, 1: S}),  # of several sizes
        ({0: S, 5: S}, 4 * S, {0: 0}),  # behind the end
    ],
)
def test_parts_get_their_places_or_none(held, size, offsets):
    found = placed({number: (count, "t") for number, count in held.items()}, size)
    assert {part.number: part.offset for part in found} == offsets
    assert all(part.size == held[part.number] for part in found)


@given(
    count=st.integers(1, 40), last=st.integers(1, S), missing=st.sets(st.integers(0, 39)), known=st.booleans()
)
def test_parts_of_one_size_are_never_misplaced(count, last, missing, known):
    size = (count - 1) * S + last
    held = {n: (S if n < count - 1 else last, "t") for n in range(count) if n not in missing}
    for part in placed(held, size if known else None):
        assert part.offset == part.number * S
