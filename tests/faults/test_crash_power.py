"""E6, E7: power loss at every point of every change of a store, and of `cp`.

The operations of the real code are written down, and the model of the disk gives every state that is legal
after a power loss at each of them. In each the name has the old image or the new one, whole and with its
permissions; once the change has returned, the new one. The driver goes on from there, and holds what it said
of uploads.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from imgstore.backends.filesystem import upload_log
from imgstore.backends.filesystem.names import OWN
from imgstore.backends.filesystem.uploads import FilesystemUploader
from imgstore.errors import ImgstoreError, UploadLostError
from tests.faults.conftest import SHOWN
from tests.faults.oplog import Recorder, held, lay
from tests.faults.simdisk import Enter, Move, Sync
from tests.faults.ways import NEW, OTHER, WAYS, tree
from tests.thinning import thinned

# A rename that does not replace is asked for by ctypes, which the recorder does not see. Downloads keep more
# promises: test_download_power.py.
RECORDED = [name for name, way in WAYS.items() if not way.unlinked and not name.startswith("download")]

# Syncs that nothing would be lost without, by their number in the change, and why they are made.
EARLY = "so that little is left to sync when all writers wait for the lock"
LOCK = "the folder of the lock, made like any other; it holds nothing that has to last"
THERE = "a folder that was there already: the put that made it may not have come to that (see below)"
ANSWER = "what `complete` answered, which the image itself tells again for as long as it is there"
SPARE = {
    "put, two directories": {1: EARLY, 2: LOCK},
    "put, overwriting in two directories": {1: EARLY, 2: LOCK},
    "upload": {13: ANSWER},
    "upload, overwriting, nested": {12: THERE, 13: THERE, 15: ANSWER},
    "upload, two directories": {12: LOCK, 14: ANSWER},
}


@pytest.fixture
def root():
    """Below a folder in memory where there is one: no sync waits for a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield Path(folder, "root")


@pytest.fixture(autouse=True)
def same_mark(monkeypatch):
    """What an upload knows its file by, inode and time, is another when the state of a disk is laid anew."""
    monkeypatch.setattr(upload_log, "mark", lambda found: [0, found.st_size, 0])


@pytest.fixture(scope="module")
def tried(request):
    counts = {"operations": 0, "states": 0}
    yield counts
    told = f"{counts['states']} states of the disk after power loss at {counts['operations']} operations"
    request.config.stash.setdefault(SHOWN, []).append(told)


class Change:
    """A change that was made and written down, and what of uploads was said on the way."""

    def __init__(self, name, root, *, without=None, before=None):
        self.way, self.root = WAYS[name].hasty, root
        shutil.rmtree(root, ignore_errors=True)
        self.way.lay(root)
        self.parts = []  # that were put, each with the length of the log when that was said
        with pytest.MonkeyPatch.context() as patch, Recorder(root, without=without) as self.recorder:
            patch.setattr(FilesystemUploader, "put_part", self._noting(FilesystemUploader.put_part))
            if before is not None:
                before(root)
            self.way.run(root)
        self.log = self.recorder.log
        self.synced = self.recorder.synced
        self.token = (root / "token").read_text() if (root / "token").exists() else None
        self.final = held(root)
        self.way.sweep(self.way, root)
        self.clean = {*tree(root), "source.img"}
        if len(self.way.folders) > 1:  # a lock is to be made in the folder of one of them
            self.clean |= {f"{each}/{OWN}" for each in self.way.folders}

    def _noting(self, put_part):
        def noting(*args, **options):
            part = put_part(*args, **options)
            self.parts.append((len(self.recorder.log), part))
            return part

        return noting

    def states(self, *, since=0, seed=0):
        """Gives each state that a power loss may leave, and after how many operations, at least `since`.

        One that was left before is left out, unless more was promised since.
        """
        disk, rng, seen = self.recorder.disk(), random.Random(seed), set()
        for made in range(len(self.log) + 1):
            if made:
                disk.do(self.log[made - 1])
            for state in disk.states(rng) if made >= since else ():
                one = (frozenset(state.items()), self._promised(made))
                if one not in seen:
                    seen.add(one)
                    yield made, state

    def _promised(self, made):
        noted = self.token is not None and made >= self.recorder.noted
        return noted, sum(when <= made for when, _ in self.parts), made == len(self.log)

    def wrong(self, state, made, *, recover):
        """Gives what a power loss broke that left `state` after `made` operations, None if nothing."""
        if why := self._judged(state, returned=made == len(self.log)):
            return why
        try:
            if recover or self.token:
                self._recover(state, made)
        except (AssertionError, ImgstoreError) as exc:
            return str(exc)
        return None

    def _judged(self, state, *, returned):
        way = self.way
        paths = [f"{each}/{way.key}" for each in way.folders if f"{each}/{way.key}" in state]
        if len(paths) > 1:
            return "two images have the name"
        found = state[paths[0]] if paths else None
        data = None if found is None else found.data
        if data != way.new and (returned or data != way.old):
            return "the image is lost" if data is None else "another image"
        if found is not None and data == way.new and found.mode != self.final[paths[0]].mode:
            return "the permissions are lost"
        if not way.absent and any(state[f"{each}/other.img"].data != OTHER for each in way.folders):
            return "an image that nobody touched has changed"
        return None

    def _recover(self, state, made):
        """Goes on from `state` as the next process does."""
        way, root = self.way, self.root
        shutil.rmtree(root)
        root.mkdir()
        lay(state, root)
        (root / "source.img").write_bytes(NEW)
        if self.token and made >= self.recorder.noted:
            (root / "token").write_text(self.token)
            self._check_parts([part for when, part in self.parts if when <= made])
        way.rerun(root)
        way.sweep(way, root)
        # Less may be there: nobody misses the file of a lock.
        assert set(tree(root)) <= self.clean, "something is left behind"

    def _check_parts(self, said):
        """Every part that was said to be put is held, and what is held is on the disk."""
        with self.way.store(self.root) as store:
            try:
                parts = store.uploader.parts(self.token)
            except UploadLostError:
                return  # it was completed, or the rerun will tell
        assert {each.number for each in said} <= {each.number for each in parts}, "a part is lost"
        try:
            (data,) = self.root.glob(f"*/.imgstore/uploads/{self.token}/data")
        except ValueError:
            return  # it has the name of the image already
        for each in parts:
            stop = each.offset + each.size
            assert data.read_bytes()[each.offset : stop] == NEW[each.offset : stop], "a part is damaged"


def first_loss(change, *, since=0):
    """Gives what goes wrong first when the power goes, None if nothing does."""
    found = (change.wrong(state, made, recover=False) for made, state in change.states(since=since))
    return next((why for why in found if why), None)


@pytest.mark.parametrize("name", RECORDED)
def test_power_loss_leaves_the_old_image_or_the_new(root, name, tried, promise):
    change = Change(name, root)
    tried["operations"] += len(change.log)
    before = tried["states"]
    for made, state in change.states():
        tried["states"] += 1
        why = change.wrong(state, made, recover=True)
        assert why is None, f"{why}, after {[str(op)[:80] for op in change.log[:made]]}"
    promise("P13", "states that a power loss may leave, each judged", tried["states"] - before)


@pytest.mark.parametrize("name", thinned(RECORDED, 2))
def test_without_any_one_sync_something_is_lost(root, name):
    whole = Change(name, root)
    spare = SPARE.get(name, {})
    for number, what in enumerate(whole.synced, 1):
        change = Change(name, root, without=number)
        assert len(change.synced) == len(whole.synced)
        why = first_loss(change, since=change.recorder.dropped)
        assert (why is None) == (number in spare), f"{what}, number {number}: {why}"


@pytest.mark.parametrize("name", [name for name in RECORDED if WAYS[name].new is not None])
def test_a_name_given_before_the_data_is_synced_is_seen(root, name):
    """E7. The sync of the new file, put off until it has its name."""
    change = Change(name, root)
    (at,) = [at for at, op in enumerate(change.log) if gives_name(op, os.path.basename(change.way.key))]
    early = next(each for each in reversed(range(at)) if change.log[each] == Sync(change.log[at].node))
    change.log.insert(at, change.log.pop(early))
    assert first_loss(change, since=at) in {"another image", "the permissions are lost"}


def gives_name(op, name):
    return (isinstance(op, Enter) and op.name == name) or (isinstance(op, Move) and op.to_name == name)


def test_a_folder_that_another_put_has_just_made_is_synced_too(root):
    """Whoever made it may not have come to that yet."""

    def begun(root):
        os.mkdir(root / "a/deep")
        os.mkdir(root / "a/deep/er")

    change = Change("put, nested", root, before=begun)
    assert first_loss(change) is None
    for number, what in enumerate(change.synced, 1):
        without = Change("put, nested", root, before=begun, without=number)
        assert first_loss(without) is not None, f"{what}, number {number}"
