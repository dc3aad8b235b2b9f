"""Three lengths agree before a file gets its name: promised, written, and held by the disk."""

from __future__ import annotations

import os

import pytest

from imgstore.errors import StorageIOError
from imgstore.publish import PendingFile

DATA = b"0123456789"


def publish(folder, *, held, promised):
    with PendingFile(folder / "image", overwrite=True) as pending:
        pending.write(DATA)
        (name,) = os.listdir(folder)
        os.truncate(folder / name, held)
        pending.publish(promised)


@pytest.mark.parametrize("promised", [None, len(DATA)])
def test_all_agree(tmp_path, promised):
    publish(tmp_path, held=len(DATA), promised=promised)
    assert (tmp_path / "image").read_bytes() == DATA


@pytest.mark.parametrize(
    "held, promised",
    [
        (9, None),
        (11, None),
        (9, 10),
        (11, 10),
        (10, 9),
        (10, 11),
        (10, 0),
        (9, 9),
        (11, 11),
        (0, None),
        (0, 0),
    ],
)
def test_one_differs(tmp_path, held, promised):
    wanted = len(DATA) if promised is None else promised
    with pytest.raises(StorageIOError, match=f"of {wanted} bytes 10 were written, it holds {held}"):
        publish(tmp_path, held=held, promised=promised)
    assert os.listdir(tmp_path) == []
