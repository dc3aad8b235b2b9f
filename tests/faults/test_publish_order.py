"""The order that makes publishing survive a crash: write, fsync, close, name, fsync of the folder."""

from __future__ import annotations

import errno
import logging
import os

import pytest

from imgstore.errors import StorageIOError, StoreError
from imgstore.publish import PendingFile
from imgstore.publish import pending as pending_module
from tests.faults.disk import Disk, install

DATA = b"image" * 100


def run(disk, monkeypatch, path, *, overwrite=False):
    install(monkeypatch, disk)
    with PendingFile(path, overwrite=overwrite) as pending:
        pending.write(DATA)
        pending.write(DATA)
        pending.publish()
    return pending


def no_tmpfile(name, number):
    return OSError(errno.EOPNOTSUPP, "no O_TMPFILE") if (name, number) == ("open", 2) else None


BEGIN = ["open", "stat", "open", "open"]
HELD = ["dup", "stat", "fstat"]
DURABLE = ["write", "write", "fchmod", "fsync", "fstat", "close"]


@pytest.mark.parametrize(
    "overwrite, plan, expected",
    [
        # the fourth open is that of the handle that keeps the file alive; the last closes are of handle and
        # folder
        (False, None, [*BEGIN, *DURABLE, "link", "fstat", "fsync", "close", "close"]),
        (
            False,
            no_tmpfile,
            [
                *BEGIN[:3],
                "fstat",
                "open",
                *HELD,
                *DURABLE,
                "link",
                "unlink",
                "fstat",
                "fsync",
                "close",
                "close",
            ],
        ),
        (
            True,
            None,
            [*BEGIN[:2], "fstat", "open", *HELD, *DURABLE, "rename", "fstat", "fsync", "close", "close"],
        ),
    ],
    ids=["unnamed", "named", "overwrite"],
)
def test_the_order_of_the_steps(tmp_path, monkeypatch, overwrite, plan, expected):
    disk = Disk(plan)
    run(disk, monkeypatch, tmp_path / "new", overwrite=overwrite)
    assert disk.names == expected
    synced = [about for name, about in disk.calls if name == "fsync"]
    written = next(about for name, about in disk.calls if name == "fchmod")
    folder = disk.calls[-1][1]
    assert synced == [written, folder]
    assert written != folder
    assert [about for name, about in disk.calls if name == "write"] == [len(DATA), len(DATA)]


def test_the_steps_act_on_the_open_folder_not_on_its_path(tmp_path, monkeypatch):
    disk = Disk()
    run(disk, monkeypatch, tmp_path / "new", overwrite=True)
    paths = [about for name, about in disk.calls if name in {"open", "stat", "rename"}]
    assert paths[0] == str(tmp_path)
    assert not [path for path in paths[1:] if "/" in path]


def test_the_flags_of_each_open(tmp_path, monkeypatch):
    opened = []
    real = os.open

    def spy(path, flags, mode=0o777, **options):
        opened.append((flags, mode, sorted(options)))
        return real(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", spy)
    with PendingFile(tmp_path / "new"):
        pass
    with PendingFile(tmp_path / "new", overwrite=True):
        pass
    folder = (os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, 0o777, ["dir_fd"])
    unnamed = (os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, ["dir_fd"])
    handle = (os.O_PATH | os.O_CLOEXEC, 0o777, [])
    named = (os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC, 0o600, ["dir_fd"])
    assert opened == [folder, unnamed, handle, folder, named]


def test_a_folder_that_cannot_be_synced_is_told_once(tmp_path, monkeypatch, caplog):
    def plan(name, number):
        return OSError(errno.EINVAL, "no fsync for folders") if name == "fsync" and number % 2 == 0 else None

    pending_module._warn_once.cache_clear()
    install(monkeypatch, Disk(plan))
    for each in ("one", "two"):
        with PendingFile(tmp_path / each) as pending:
            pending.write(DATA)
            pending.publish()
    pending_module._warn_once.cache_clear()
    warnings = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert [each.name for each in warnings] == ["imgstore.publish.pending"]
    assert "cannot sync folders" in warnings[0].getMessage()
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ETIMEDOUT])
def test_a_folder_whose_sync_fails_is_an_error_that_says_the_file_is_complete(tmp_path, monkeypatch, code):
    def plan(name, number):
        return OSError(code, "broken") if (name, number) == ("fsync", 2) else None

    install(monkeypatch, Disk(plan))
    with PendingFile(tmp_path / "new") as pending:
        pending.write(DATA)
        with pytest.raises(StoreError, match="is complete, but may be lost") as failure:
            pending.publish()
        assert failure.value.__cause__.args == (code, "broken")
        assert not failure.value.retryable
        assert pending.published
    assert (tmp_path / "new").read_bytes() == DATA


def test_a_file_whose_sync_says_einval_is_not_published(tmp_path, monkeypatch):
    """What is tolerated for folders is a failure for the file."""

    def plan(name, number):
        return OSError(errno.EINVAL, "no fsync") if (name, number) == ("fsync", 1) else None

    with pytest.raises(StorageIOError, match="cannot publish"):
        run(Disk(plan), monkeypatch, tmp_path / "new")
    assert os.listdir(tmp_path) == []
