"""The search for zeros: whole blocks, and no data among them."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from imgstore.backends import _zeros

BLOCK = _zeros.BLOCK


@given(
    # around a block's length the edges matter
    stretches=st.lists(
        st.tuples(st.booleans(), st.one_of(st.integers(1, 3 * BLOCK), st.sampled_from([BLOCK, 1 << 16]))),
        min_size=1,
        max_size=8,
    ),
    offset=st.integers(0, 3 * BLOCK),
)
def test_runs_tell_every_block_of_zeros_and_no_data_as_zeros(stretches, offset):
    piece = b"".join((b"\0" if zero else b"x") * count for zero, count in stretches)
    runs = list(_zeros.runs(piece, offset))
    assert [start for _, start, _ in runs] == [0, *(stop for _, _, stop in runs[:-1])]
    assert runs[-1][2] == len(piece)
    assert all(a[0] is not b[0] for a, b in itertools.pairwise(runs))
    left_out = set()
    for zero, start, stop in runs:
        if zero:
            assert not piece[start:stop].strip(b"\0")
            left_out.update(range(start, stop))
    for block in range(-offset % BLOCK, len(piece) - BLOCK + 1, BLOCK):
        if not piece[block : block + BLOCK].strip(b"\0"):
            assert block in left_out
            assert block + BLOCK - 1 in left_out


def test_runs_of_nothing_are_none():
    assert list(_zeros.runs(b"", 5)) == []
