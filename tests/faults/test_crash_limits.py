"""F3, F4 and D10 where the kernel itself refuses: no descriptors, no memory, no room in a file.

Each in a process of its own, that begins a change anew with a little more each time until it has enough.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.faults.ways import WAYS
from tests.thinning import thinned

ROOT = Path(__file__).resolve().parents[2]
STORED = [name for name in WAYS if not name.startswith("cp")]


def starved(want, name, *steps):
    """Gives how each step ended; all ended with the store as it must be, or this fails."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        command = [sys.executable, "-m", "tests.faults.starving", want, folder, name, *map(str, steps)]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stdout[-200:] + ran.stderr[-2000:]
    return [line.split()[1] for line in ran.stdout.splitlines()]


@pytest.mark.parametrize("name", thinned(["put, read", *STORED], 5))
def test_f3_any_number_of_descriptors(name):
    """Too few are a typed error and leave nothing open; from some number on there are enough."""
    ends = starved("descriptors", name, 0, 16)
    enough = ends.index("done")
    assert set(ends[:enough]) == {"StorageIOError"}
    assert set(ends[enough:]) == {"done"}


@pytest.mark.parametrize("name", thinned([name for name in STORED if WAYS[name].new is not None], 5))
def test_a_limit_on_the_size_of_files(name):
    ends = starved("room", name, 0, 40000, 2500)
    assert ends[0] == "NoSpaceError"
    assert ends[-1] == "done"
    assert set(ends) == {"NoSpaceError", "done"}


@pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None,
    reason="this Python was built without _testcapi, which fails allocations",
)
@pytest.mark.parametrize(
    "name, step",
    thinned(
        [
            ("put", 29),
            ("put", 7),
            ("put, overwriting", 7),
            ("put, two directories", 7),
            ("copy", 7),
            ("put, read", 7),
        ],
        6,
    ),
)
def test_f4_no_memory_at_any_allocation(name, step):
    """Of some thousand allocations each one at such a step fails, one at a time."""
    ends = starved("memory", name, 1, 3000, step)
    assert ends.count("MemoryError") > 10
    assert ends[-1] == "done"
