"""What a kill leaves beside a target is removed by the next who writes it; what is alive never."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from imgstore.publish import PendingFile, names, pending_name, reap

CHILD = """
import os, sys
from imgstore.publish import PendingFile
with PendingFile(sys.argv[1], overwrite=True) as pending:
    pending.write(b"half")
    print("written", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def pending_of(folder):
    return [name for name in os.listdir(folder) if names.is_pending(name)]


def put(path):
    with PendingFile(path, overwrite=True) as pending:
        pending.write(b"whole")
        pending.publish()


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    target = tmp_path / "new"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"written\n"
        (left,) = pending_of(tmp_path)
        put(target)
        assert pending_of(tmp_path) == [left], "its writer lives"
        child.send_signal(signal.SIGKILL)
    assert pending_of(tmp_path) == [left]
    put(target)
    assert os.listdir(tmp_path) == ["new"]
    assert target.read_bytes() == b"whole"


def test_only_the_pending_files_of_the_name_go(tmp_path, folder):
    dead, other = pending_name("new"), pending_name("newer")
    kept = {
        other,
        "new",
        ".new.part",
        f".new.{'g' * 16}.part",
        f".new.{'0' * 15}.part",
        f"new.{'0' * 16}.part",
    }
    for name in (dead, *kept):
        (tmp_path / name).write_bytes(b"x")
    assert reap(folder, "new") == 1
    assert set(os.listdir(tmp_path)) == kept


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_what_is_no_file_is_left_alone(tmp_path, folder, kind):
    trap = tmp_path / pending_name("new")
    victim = tmp_path / "victim"
    victim.write_bytes(b"victim")
    {"link": lambda: trap.symlink_to("victim"), "fifo": lambda: os.mkfifo(trap), "folder": trap.mkdir}[kind]()
    assert reap(folder, "new") == 0
    assert sorted(os.listdir(tmp_path)) == sorted([trap.name, "victim"])
    assert victim.read_bytes() == b"victim"


def test_a_file_of_another_user_is_left_alone(tmp_path, folder, monkeypatch):
    (tmp_path / pending_name("new")).write_bytes(b"theirs")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert reap(folder, "new") == 0
    assert len(os.listdir(tmp_path)) == 1


def test_without_locks_nothing_is_removed_and_all_else_works(tmp_path, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    left = tmp_path / pending_name("new")
    left.write_bytes(b"perhaps alive")
    put(tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == sorted([left.name, "new"])


def test_a_name_that_is_reaped_before_it_is_held_is_made_anew(tmp_path, monkeypatch):
    real, reaped = fcntl.flock, []

    def late(descriptor, operation):
        if not reaped:
            (name,) = pending_of(tmp_path)
            reaped.append(name)
            (tmp_path / name).unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    put(tmp_path / "new")
    assert len(reaped) == 1
    assert os.listdir(tmp_path) == ["new"]
    assert (tmp_path / "new").read_bytes() == b"whole"


def test_long_names_are_reaped_too(tmp_path, folder):
    name = "x" * 255
    (tmp_path / pending_name(name)).write_bytes(b"x")
    assert reap(folder, name) == 1


def test_thousands_of_leftovers_go_at_once(tmp_path, folder):
    for number in range(3_000):
        (tmp_path / f".new.{number:016x}.part").touch()
    (tmp_path / "image").touch()
    assert reap(folder, "new") == 3_000
    assert os.listdir(tmp_path) == ["image"]


def test_a_large_folder_is_seldom_listed_and_then_for_every_name(tmp_path, folder, monkeypatch):
    for name in (pending_name("new"), pending_name("other")):
        (tmp_path / name).touch()
    turns = iter([3, 1, 0])
    monkeypatch.setattr(names, "_LARGE", 1)
    monkeypatch.setattr(names.random, "randrange", lambda below: next(turns))
    assert [reap(folder, "third") for _ in range(3)] == [0, 0, 2]
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_listed_hinders_nothing(tmp_path, monkeypatch):
    def fails(folder):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "listdir", fails)
    put(tmp_path / "new")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["new"]
