"""E1: SIGKILL at every call of the kernel by which a store or a path changes.

Here a child counts its own calls of `os` and `fcntl`, and kills itself before the n-th, n = 1, 2, 3..., until
it comes to its end. `tests/real/test_kills.py` does the same from outside with strace, at every system call
that there is; it needs to trace processes, which this does not.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.faults.killing import Killer
from tests.faults.ways import WAYS, tree
from tests.thinning import thinned


@pytest.fixture(scope="module")
def killer():
    with Killer() as killer:
        yield killer


@pytest.fixture
def folder(tmp_path):
    """A folder in memory where there is one: what a kill leaves does not depend on the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else tmp_path) as folder:
        yield Path(folder)


# `upload` in other places does what it does in these; strace follows them all.
FOLLOWED = [name for name in WAYS if name not in {"upload", "upload, two directories"}]


@pytest.mark.parametrize("name", thinned(FOLLOWED, 4))
def test_killed_at_the_nth_call(killer, folder, name, promise):
    way, root = WAYS[name].hasty, folder / "root"
    way.lay(root)
    way.run(root)
    way.sweep(way, root)
    clean = tree(root)
    for number in itertools.count(1):
        shutil.rmtree(root)
        way.lay(root)
        end = killer.at(name, root, number)
        assert not end.refused
        way.judge(root, returned=end.returned)
        way.rerun(root)
        way.sweep(way, root)
        assert tree(root) == clean, f"killed before call {number}"
        if not end.killed:
            break
    assert number > 10
    promise("P13", "calls before which the process was killed, each judged", number - 1)


def test_what_a_killed_overwrite_left_goes_with_the_image(killer, folder):
    """Its room may be all that there is, and nobody may ever put that name again."""
    way, root = WAYS["put, overwriting"].hasty, folder / "root"
    way.lay(root)
    for number in itertools.count(1):
        end = killer.at("put, overwriting", root, number)
        if [each for each in os.listdir(root / "a") if each.endswith(".part")]:
            break
        assert end.killed
    with way.store(root) as store:
        store.writer.delete(way.key)
    assert os.listdir(root / "a") == ["other.img"]
