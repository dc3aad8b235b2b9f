"""E6, E7: power loss at every point of a download that is broken off once, and gone on with.

The operations of the real code are written down, and the model of the disk gives every state that is legal
after a power loss at each of them. In each the name has the old image or the new one, whole; the same
download then ends well, fetches nothing again that was settled, and leaves nothing behind.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from imgstore import journal
from imgstore.errors import AlreadyExistsError, ImgstoreError
from imgstore.journal import Journal
from imgstore.publish import partial
from tests.faults.halves import PART, Source, broken_off_once, fetch, small_parts
from tests.faults.oplog import Recorder, lay
from tests.faults.ways import NEW, OLD, tree
from tests.thinning import thinned

WAYS = {"fresh": None, "overwriting": OLD, "over another half": None}
OTHER = bytes(each ^ 0xFF for each in NEW)  # another version of the same size: no byte of it may be seen
PARTS = -(-len(NEW) // PART)

# Syncs that nothing would be lost without, by their number in the way, and why they are made.
EMPTY = "a journal that is new has nothing to let go of; that of another half has (its second sync)"
HEADER = "the first claim that is settled makes the header durable as well; claims before that are proven"
NAMES = "who goes on after a kill cannot know whether the names were durable before"
SPARE = {
    "fresh": {1: EMPTY, 2: HEADER, 6: NAMES},
    "overwriting": {1: EMPTY, 2: HEADER, 6: NAMES},
    "over another half": {1: NAMES, 3: HEADER, 4: NAMES, 7: NAMES},
}


@pytest.fixture
def root():
    """Below a folder in memory where there is one: no sync waits for a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder, "root")


@pytest.fixture(autouse=True)
def same_file(monkeypatch):
    """What a journal knows its half image by, the inode, is another when a state of the disk is laid anew."""
    real = journal.opened

    def opened(file, identity, *, data, **options):
        return real(file, identity, data=SimpleNamespace(st_ino=1, st_size=data.st_size), **options)

    monkeypatch.setattr(journal, "opened", opened)


class Change:
    """A download that was made and written down, and what it said was settled on the way."""

    def __init__(self, way, root, *, without=None):
        self.root, self.old = root, WAYS[way]
        self.target = root / "a/disk.img"
        shutil.rmtree(root, ignore_errors=True)
        (root / "a").mkdir(parents=True)
        if self.old is not None:
            self.target.write_bytes(self.old)
        if way == "over another half":
            with small_parts(), pytest.raises(ImgstoreError):
                fetch(Source(OTHER, len(OTHER) - 1, '"v0"'), self.target)
        self.settled = []  # numbers of parts, each with the length of the log when that was said
        with pytest.MonkeyPatch.context() as patch, Recorder(root, without=without) as self.recorder:
            patch.setattr(Journal, "settle", self._noting(Journal.settle))
            broken_off_once(NEW, self.target, overwrite=self.old is not None)
        self.log = self.recorder.log

    def _noting(self, settle):
        def noting(found, numbers):
            settle(found, numbers)
            self.settled.append((len(self.recorder.log), set(numbers)))

        return noting

    def promised(self, made):
        """Gives the parts that were said to be on the disk after so many operations."""
        return set().union(*(numbers for when, numbers in self.settled if when <= made))

    def states(self, *, since=0):
        disk, rng, seen = self.recorder.disk(), random.Random(0), set()
        for made in range(len(self.log) + 1):
            if made:
                disk.do(self.log[made - 1])
            for state in disk.states(rng) if made >= since else ():
                one = (frozenset(state.items()), frozenset(self.promised(made)), made == len(self.log))
                if one not in seen:
                    seen.add(one)
                    yield made, state

    def wrong(self, state, made, monkeypatch):
        """Gives what a power loss broke that left `state` after `made` operations, None if nothing."""
        found = state.get("a/disk.img")
        data = None if found is None else found.data
        returned = made == len(self.log)
        if data != NEW and (returned or data != self.old):
            return "the image is lost" if data is None else "another image"
        if data == NEW and found.mode != 0o644:
            return "the permissions are lost"
        shutil.rmtree(self.root)
        self.root.mkdir()
        lay(state, self.root)
        if found is not None and found == state.get("a/disk.img.part"):  # one file of two names
            os.unlink(self.root / "a/disk.img.part")
            os.link(self.target, self.root / "a/disk.img.part")
        return self._recovered(data, made, monkeypatch)

    def _recovered(self, data, made, monkeypatch):
        source = Source(NEW)
        with monkeypatch.context() as patch, small_parts():
            patch.setattr(partial, "_boot", lambda: "the next one")
            try:
                fetch(source, self.target, overwrite=self.old is not None)
            except AlreadyExistsError:
                if data != NEW or self.old is not None:
                    return "refused although it was not done"
        if self.target.read_bytes() != NEW:
            return "another image in the end"
        if tree(self.root) != ["a", "a/disk.img"]:
            return f"left behind: {tree(self.root)}"
        held = sum(min(PART, len(NEW) - number * PART) for number in self.promised(made))
        if data != NEW and source.served > len(NEW) - held + 1:
            return "what was settled is fetched again"
        return None

    def first_loss(self, monkeypatch, *, since=0):
        found = (self.wrong(state, made, monkeypatch) for made, state in self.states(since=since))
        return next((why for why in found if why), None)


@pytest.mark.parametrize("way", WAYS)
def test_e6_power_loss_leaves_what_can_be_gone_on_with(root, way, monkeypatch, histogram):
    change = Change(way, root)
    assert change.promised(len(change.log)), "nothing was settled, and so nothing is tested"
    tried = 0
    for made, state in change.states():
        tried += 1
        why = change.wrong(state, made, monkeypatch)
        assert why is None, f"{why}, after {[str(op)[:80] for op in change.log[:made]]}"
    histogram(f"download, {way}: {tried} states of the disk at {len(change.log)} operations")


@pytest.mark.parametrize("way", thinned(WAYS, 3))
def test_e7_without_any_one_sync_something_is_lost(root, way, monkeypatch):
    whole = Change(way, root)
    for number, what in enumerate(whole.recorder.synced, 1):
        change = Change(way, root, without=number)
        why = change.first_loss(monkeypatch, since=change.recorder.dropped)
        assert (why is None) == (number in SPARE[way]), f"{what}, number {number}: {why}"
