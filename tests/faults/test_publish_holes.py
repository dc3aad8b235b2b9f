"""Holes of a pending file: zeros that take no room."""

from __future__ import annotations

import os

import pytest

from imgstore.publish import PendingFile

MIB = 1 << 20


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("plan", ["d", "h", "dh", "hd", "dhd", "hdh", "hh", "dhhd", ""])
def test_holes_are_zeros_and_take_no_room(tmp_path, plan, overwrite):
    expected = b"".join(b"data" * (MIB // 4) if each == "d" else bytes(MIB) for each in plan)
    with PendingFile(tmp_path / "new", overwrite=overwrite) as pending:
        for each in plan:
            pending.skip(MIB) if each == "h" else pending.write(b"data" * (MIB // 4))
        assert pending.written == len(expected)
        found = pending.publish(len(expected))
    assert found == os.stat(tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == expected
    assert found.st_size == len(expected)
    assert found.st_blocks * 512 <= plan.count("d") * MIB + 64 * 1024


def test_a_hole_too_far_is_an_error_and_leaves_nothing(tmp_path):
    from imgstore.errors import ImgstoreError

    with pytest.raises(ImgstoreError), PendingFile(tmp_path / "new") as pending:
        for _ in range(4):
            pending.skip((1 << 63) - 1)
        pending.publish()
    assert os.listdir(tmp_path) == []
