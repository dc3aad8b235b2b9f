"""D10, D12, D13: every call by which a store changes fails: the n-th, n = 1, 2, 3..., until none does.

Once, or from then on for good, as SQLite is tested. `test_publish_errors.py` does the same for the publishing
of one file alone, and `tests/real/test_disks.py` has the real kernel fail.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import posix
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from imgstore.errors import ImgstoreError
from tests.faults.system_calls import Calls
from tests.faults.ways import WAYS, is_note, tree
from tests.thinning import thinned

# `cp` publishes as `put` does, what is left out does nothing that the others do not.
STORED = [name for name in WAYS if not name.startswith("cp") and name not in {"upload", "put, thin"}]

# Of many calls EIO alone: what a code means is the same for all.
CODES = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ESTALE]
# The calls that a full or failing disk refuses with these; EIO may be the answer to any call.
CHANGING = {
    "write", "pwrite", "copy_file_range", "lseek", "ftruncate", "fchmod", "fsync", "fdatasync", "mkdir",
    "link", "rename", "unlink", "rmdir", "close", "open",
}  # fmt: skip
# What removes leftovers: where that fails as well, they stay until the next run.
REMOVING = {"unlink", "rmdir", "listdir", "open", "flock", "fstat"}


@pytest.fixture
def folder(tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else tmp_path) as folder:
        yield Path(folder)


def can_fail(name, args):
    """A folder, and what was opened with O_PATH, has nothing that closing it could write. (os is watched.)"""
    if name == "close":
        path = fcntl.fcntl(args[0], fcntl.F_GETFL) & os.O_PATH
        return not path and not stat.S_ISDIR(posix.fstat(args[0]).st_mode)
    return not is_note(args)


class Failing:
    """Fails the n-th call, from 1; with `good`, every later one of its name too. `hit` is its name."""

    def __init__(self, number, code, *, good):
        self.left, self.code, self.good = number, code, good
        self.hit = None

    def __call__(self, name, call, args, options):
        if not can_fail(name, args):
            return call()
        self.left -= 1
        if self.left == 0:
            self.hit = name
        elif not (self.good and name == self.hit):
            return call()
        if name == "close":
            call()  # a failed close has closed all the same
        raise OSError(self.code, os.strerror(self.code))


def run(way, root, failing):
    shutil.rmtree(root, ignore_errors=True)
    way.lay(root)
    try:
        with Calls(failing):
            way.run(root)
    except ImgstoreError as exc:
        return exc
    return None


def names_of_calls(way, root):
    """Gives the calls of a run that meets no fault, and what it leaves."""
    names = []

    def note(name, call, args, options):
        if can_fail(name, args):
            names.append(name)
        return call()

    shutil.rmtree(root, ignore_errors=True)
    way.lay(root)
    before = tree(root)
    with Calls(note):
        way.run(root)
    way.sweep(way, root)
    return names, before, tree(root)


@pytest.mark.parametrize("good", thinned([False, True], 2), ids=["once", "for good"])
@pytest.mark.parametrize("name", thinned(STORED, 3))
def test_the_nth_call_fails(folder, name, good):
    way, root = WAYS[name].hasty, folder / "root"
    names, before, clean = names_of_calls(way, root)
    # The driver's own folder with its lock, and data directories that were to be made, are there to stay.
    kept = {each for each in clean if "/.imgstore" in each} | {"new", *way.folders}
    for number in itertools.count(1):
        known = names[number - 1] if number <= len(names) else ""
        for code in (errno.EIO, *(CODES if known in CHANGING and len(names) < 100 else ())):
            failing = Failing(number, code, good=good)
            error = run(way, root, failing)
            what = f"{os.strerror(code)} at call {number}, {failing.hit}: {error}"
            held = way.judge(root, returned=error is None)
            way.sweep(way, root)
            left = set(tree(root)) - {*before, *kept, *(clean if held == way.new else ())}
            half = {f"a/{way.key}.part", f"a/{way.key}.part.journal"}
            if name.startswith("download") and half <= left:
                left -= half  # for the next run to go on with: of one alone it could make nothing
            assert not left or failing.hit in REMOVING, f"{what}; left: {left}"
            way.rerun(root)
            way.sweep(way, root)
            assert set(tree(root)) | kept == set(clean) | kept, what
        if failing.hit is None:
            assert error is None
            assert number > 10
            return
