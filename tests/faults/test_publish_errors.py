"""Every call of the publishing path fails, as in SQLite: the n-th, n = 1, 2, 3..., until none does."""

from __future__ import annotations

import errno
import itertools
import os

import pytest

from imgstore.errors import ImgstoreError, OperationCancelledError, StorageIOError
from imgstore.publish import PendingFile
from imgstore.publish import target as target_module
from tests.faults.disk import WATCHED, Disk, install

DATA = bytes(range(256)) * 40
PIECES = [DATA[:1000], DATA[1000:6000], DATA[6000:]]
HOLE = 5000
WHOLE = DATA + bytes(HOLE)
OLD = b"what was there before"
CODES = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.ESTALE]
WAYS = ["unnamed", "named", "overwrite"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def run(folder, disk, way, monkeypatch):
    """Publishes over `disk`; gives the pending file and the error."""
    install(monkeypatch, disk)
    pending = PendingFile(folder / "new", overwrite=way == "overwrite")
    try:
        with pending:
            for piece in PIECES:
                pending.write(piece)
            pending.skip(HOLE)
            pending.publish(len(WHOLE))
    except (ImgstoreError, KeyboardInterrupt) as exc:
        return pending, exc
    return pending, None


def prepare(folder, way):
    for name in os.listdir(folder):
        os.unlink(folder / name)
    if way == "overwrite":
        (folder / "new").write_bytes(OLD)


def judge(folder, way, pending, error):
    """The name is what it was before, or complete; and what is reported is what is."""
    left = sorted(os.listdir(folder))
    held = (folder / "new").read_bytes() if "new" in left else None
    if error is None:
        assert pending.published
    assert held == (WHOLE if pending.published else OLD if way == "overwrite" else None), error
    assert left == (["new"] if held is not None else []), error


def also(plan, way):
    """Adds the refusal of O_TMPFILE that makes a pending file named."""

    def both(name, number):
        if way == "named" and (name, number) == ("open", 2):
            return OSError(errno.EOPNOTSUPP, "no O_TMPFILE")
        return plan(name, number)

    return both


def runs(folder, way, monkeypatch, fails, *, after=False):
    """Publishes until `fails(name, at, turn)` fails nothing any more; gives each run before."""
    for turn in itertools.count(1):
        prepare(folder, way)
        hits = []

        def plan(name, at, turn=turn, hits=hits):
            error = fails(name, at, turn)
            if error is not None:
                hits.append(name)
            return error

        pending, error = run(folder, Disk(also(plan, way), after=after), way, monkeypatch)
        if not hits:
            assert error is None
            judge(folder, way, pending, error)
            return
        yield pending, error


@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("function", [name for name in WATCHED if name != "unlink"])
def test_the_nth_call_fails(folder, monkeypatch, function, way, persistent):
    for code in CODES:

        def fails(name, at, turn, code=code):
            hit = name == function and (at >= turn if persistent else at == turn)
            return OSError(code, os.strerror(code)) if hit else None

        for turn, (pending, error) in enumerate(runs(folder, way, monkeypatch, fails), 1):
            judge(folder, way, pending, error)
            # The closes after publishing lose nothing, and without /proc the pending file has a name.
            harmless = pending.published and (function == "close" or (function, way) == ("open", "unnamed"))
            # What others left is not looked for, where how large the folder is cannot be told.
            harmless |= function == "fstat" and way != "unnamed" and turn == 1 and not persistent
            assert harmless or (isinstance(error, ImgstoreError) and os.strerror(code) in str(error))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("function", WATCHED)
def test_an_interrupt_at_the_nth_call(folder, monkeypatch, caplog, function, way, after):
    """Ctrl-C before and after each step: the old file or none, or the new one whole; nothing beside it.

    Between the step that gives the name and the note of it lies no instruction that a test could stop at:
    there, an interrupt leaves the complete file.
    """

    def fails(name, at, turn):
        return KeyboardInterrupt() if (name, at) == (function, turn) else None

    for pending, error in runs(folder, way, monkeypatch, fails, after=after):
        assert isinstance(error, KeyboardInterrupt)
        if function == "unlink" or (after and function in {"link", "rename"}):
            assert os.listdir(folder) == ["new"]
            assert (folder / "new").read_bytes() == WHOLE
        else:
            judge(folder, way, pending, error)
    assert not [each for each in caplog.records if each.levelname == "WARNING"]


@pytest.mark.parametrize("way", ["named", "overwrite"])
def test_a_pending_file_that_cannot_be_removed_is_told(folder, monkeypatch, caplog, way):
    def fails(name, at):
        return OSError(errno.EIO, "broken") if name in {"unlink", "fsync"} else None

    prepare(folder, way)
    _, error = run(folder, Disk(also(fails, way)), way, monkeypatch)
    assert isinstance(error, StorageIOError)
    left = [name for name in os.listdir(folder) if name != "new"]
    assert len(left) == 1
    assert left[0].endswith(".part")
    assert [each.getMessage() for each in caplog.records] == [
        f"{left[0]} stays behind beside {folder}/new: broken"
    ]


@pytest.mark.parametrize("way", ["named", "overwrite"])
def test_nothing_is_told_of_a_pending_file_that_never_was(folder, monkeypatch, caplog, way):
    """On a disk that is read-only the kernel refuses to make a name, and to remove one that is not there."""

    def fails(name, at):
        create = 3 if way == "named" else 2
        refused = name == "unlink" or (name == "open" and at >= create)
        return OSError(errno.EROFS, os.strerror(errno.EROFS)) if refused else None

    prepare(folder, way)
    _, error = run(folder, Disk(also(fails, way)), way, monkeypatch)
    assert isinstance(error, ImgstoreError)
    assert "Read-only" in str(error)
    assert [name for name in os.listdir(folder) if name != "new"] == []
    assert not caplog.records


def test_a_linked_file_whose_pending_name_stays_is_published(folder, monkeypatch, caplog):
    def fails(name, at):
        return OSError(errno.EIO, "broken") if name == "unlink" else None

    pending, error = run(folder, Disk(also(fails, "named")), "named", monkeypatch)
    assert error is None
    assert pending.published
    assert (folder / "new").read_bytes() == WHOLE
    assert "stays behind" in caplog.text


@pytest.mark.parametrize("function", ["write", "fsync"])
def test_a_failed_write_or_sync_is_final_although_the_next_would_succeed(folder, monkeypatch, function):
    """fsyncgate: the kernel may call pages clean that it failed to write."""

    def fails(name, at):
        return OSError(errno.EIO, "broken") if (name, at) == (function, 1) else None

    install(monkeypatch, Disk(fails))
    with PendingFile(folder / "new", overwrite=True) as pending:
        with pytest.raises(StorageIOError) as first:
            pending.write(DATA)
            pending.publish()
        assert os.listdir(folder) == []  # at once, not only on leaving
        for again in (lambda: pending.write(DATA), pending.publish):
            with pytest.raises(StorageIOError) as later:
                again()
            assert later.value is first.value
    assert os.listdir(folder) == []
    assert not pending.published
    with pytest.raises(StorageIOError) as late:
        pending.publish()
    assert late.value is first.value
    assert isinstance(late.value.__cause__, OSError)
    assert late.value.__cause__.args == (errno.EIO, "broken")


def test_an_interrupted_write_is_final(folder, monkeypatch):
    def fails(name, at):
        return KeyboardInterrupt() if (name, at) == ("write", 2) else None

    install(monkeypatch, Disk(fails))
    with PendingFile(folder / "new") as pending:
        pending.write(DATA)
        with pytest.raises(KeyboardInterrupt):
            pending.write(DATA)
        with pytest.raises(OperationCancelledError, match=r"cannot write .*new: interrupted"):
            pending.publish()
    assert os.listdir(folder) == []


@pytest.mark.parametrize("most", [1, 7, 4096])
def test_short_writes_are_completed(folder, monkeypatch, most):
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:most]))
    with PendingFile(folder / "new") as pending:
        pending.write(DATA)
        pending.publish(len(DATA))
    assert (folder / "new").read_bytes() == DATA


@pytest.mark.parametrize("busy", ["again", "nothing"])
def test_a_write_that_takes_nothing_is_tried_again(folder, monkeypatch, busy):
    real, pauses = os.write, []
    turns = itertools.count()

    def write(file, data):
        if next(turns) % 1000 != 999:
            if busy == "nothing":
                return 0
            raise BlockingIOError(errno.EAGAIN, "busy")
        return real(file, data[:5000])

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(target_module.time, "sleep", pauses.append)
    with PendingFile(folder / "new") as pending:
        pending.write(DATA)
        pending.publish()
    assert (folder / "new").read_bytes() == DATA
    assert pauses == [0.01] * 999 * 3


@pytest.mark.parametrize("busy", ["again", "nothing"])
def test_a_write_that_never_takes_anything_ends(folder, monkeypatch, busy):
    tries = []

    def write(file, data):
        tries.append(len(data))
        if busy == "nothing":
            return 0
        raise BlockingIOError(errno.EAGAIN, "busy")

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(target_module.time, "sleep", lambda seconds: None)
    with PendingFile(folder / "new", overwrite=True) as pending:
        with pytest.raises(StorageIOError, match="takes no byte") as failure:
            pending.write(DATA)
        assert os.listdir(folder) == []
        with pytest.raises(StorageIOError) as later:
            pending.publish()
        assert later.value is failure.value
    assert len(tries) == 1000
