"""What a listing shows of a folder, and what it does not."""

from __future__ import annotations

import io
import logging
import os
import resource
import subprocess
import tempfile
import threading
import time

import pytest

from imgstore.backends.filesystem import FilesystemStore
from imgstore.errors import DeadlineExceededError, OperationCancelledError, PermissionDeniedError
from imgstore.model import Call, CancelToken
from tests.faults.nesting import nest


@pytest.fixture
def store(tmp_path):
    return FilesystemStore(data_dir=tmp_path)


def make(folder, *keys):
    for key in keys:
        path = os.path.join(os.fsencode(folder), key if isinstance(key, bytes) else key.encode())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"x")


def keys(store, prefix="", **options):
    return [each.key for each in store.lister.list(prefix, **options)]


def test_only_images_are_shown(store, tmp_path):
    make(tmp_path, "a", "b/c", ".imgstore/uploads/x/data", ".imgstore/lock", ".a.0123456789abcdef.part")
    make(tmp_path, "b/.c.0123456789abcdef.part", "b/.imgstore/d", ".hidden")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "up").symlink_to("..")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty" / "er").mkdir(parents=True)
    assert keys(store) == [".hidden", "a", "b/.imgstore/d", "b/c"]


NAMES = [
    "a",
    "a b",
    "a-b/c",
    "a.b",
    "a0",
    "b/c/d/e",
    "b/c.d",
    "b/c0",
    "b.c",
    "\u00e4",
    "\uffee/x",
    "\U0001f600",
]


def test_the_order_is_that_of_whole_keys(store, tmp_path):
    make(tmp_path, *NAMES)
    assert keys(store) == sorted(NAMES, key=str.encode)


@pytest.mark.parametrize(
    "prefix", ["a", "a/", "a-", "a-b", "a-b/", "b/c", "b/c/", "b/c/d/e", "b/c/d/e/", "z", "\u00e4", "b/c."]
)
def test_a_prefix_is_the_beginning_of_a_key(store, tmp_path, prefix):
    make(tmp_path, *NAMES)
    assert keys(store, prefix) == sorted((key for key in NAMES if key.startswith(prefix)), key=str.encode)


@pytest.mark.parametrize(
    "prefix",
    ["/", "/etc/", "../", "..", "a/../", "./", "b//", "\0", "b/\0", "\udc80", ".imgstore", ".imgstore/",
     ".imgstore/uploads/", "link/", "a/x/", ".a.0123456789abcdef.part", "x" * 300 + "/"],
)  # fmt: skip
def test_a_prefix_of_no_key_finds_nothing(store, tmp_path, prefix):
    inside = tmp_path / "images"
    make(inside, "a", "b/c", ".imgstore/uploads/x", ".a.0123456789abcdef.part")
    make(tmp_path, "outside")
    (inside / "link").symlink_to("..")
    assert keys(FilesystemStore(data_dir=inside), prefix) == []


def test_only_the_folders_of_the_prefix_are_read(store, tmp_path, monkeypatch):
    make(tmp_path, "a/b/c", "a/d/e", "f/g")
    real, read = os.scandir, []

    def scandir(descriptor):
        read.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path))
        return real(descriptor)

    monkeypatch.setattr(os, "scandir", scandir)
    assert keys(store, "a/b/") == ["a/b/c"]
    assert read == ["a/b"]
    read.clear()
    assert keys(store, "a/d") == ["a/d/e"]
    assert read == ["a", "a/d"]


def test_names_that_are_no_utf_8_are_passed_over_with_one_warning(store, tmp_path, caplog):
    make(tmp_path, b"caf\xe9", b"x\xff/in", b"x\xff/side", "good")
    assert keys(store) == ["good"]
    warned = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warned) == 1
    assert "no UTF-8" in warned[0].getMessage()


def test_keys_that_are_too_long_are_passed_over(store, tmp_path):
    deep = "/".join(["d" * 200] * 5)
    make(tmp_path, f"{deep}/{'k' * 19}", f"{deep}/{'k' * 20}")
    assert [len(key) for key in keys(store)] == [1024]


def test_a_folder_that_may_not_be_read_is_an_error_but_the_rescued(store, tmp_path, monkeypatch):
    make(tmp_path, "a", "lost+found/x", "secret/b")
    real = os.open

    def refuse(path, flags, *rest, **options):
        if path in refused:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    refused = {"lost+found"}
    assert keys(store) == ["a", "secret/b"]
    refused = {"secret"}
    with pytest.raises(PermissionDeniedError, match="secret"):
        keys(store)


def test_what_vanishes_or_changes_during_a_listing_is_passed_over(store, tmp_path):
    make(tmp_path, "a", "b", "c/d", "e/f", "g", "h")
    listing = store.lister.list()
    assert next(listing).key == "a"
    os.unlink(tmp_path / "b")
    os.rename(tmp_path / "c", tmp_path / "moved")
    os.rename(tmp_path / "e", tmp_path / "away")
    (tmp_path / "e").symlink_to("away")
    os.unlink(tmp_path / "g")
    os.mkfifo(tmp_path / "g")
    assert [each.key for each in listing] == ["h"]


def test_a_listing_ends_when_it_is_called_off(store, tmp_path, monkeypatch):
    make(tmp_path, *(f"{number:04}" for number in range(600)))
    token = CancelToken()
    listing = store.lister.list(call=Call(cancel=token))
    next(listing)
    token.cancel()
    with pytest.raises(OperationCancelledError):
        list(listing)
    listing = store.lister.list(call=Call(deadline=time.time() + 1))
    next(listing)
    monkeypatch.setattr(store.clock, "time", lambda: time.time() + 1)
    with pytest.raises(DeadlineExceededError):
        list(listing)


def test_a_deep_tree_is_listed(store, tmp_path):
    key = "/".join(["d"] * 500) + "/k"
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(500):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("k", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    assert keys(store) == [key]
    store.writer.delete(key)
    assert os.listdir(tmp_path) == []


@pytest.mark.wide
def test_a_hundred_thousand_images_are_listed_in_seconds():
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # a disk takes long to make so many
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        store = FilesystemStore(data_dir=folder)
        at = os.open(folder, os.O_RDONLY)
        for number in range(100_000):
            os.close(os.open(f"{number:06}", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.close(at)
        began = time.monotonic()
        assert sum(1 for _ in store.lister.list()) == 100_000
        assert time.monotonic() - began < 9  # 1 s alone on a core
        assert len(keys(store, "09999")) == 10


def test_a_listing_among_writers_shows_what_stays(store, tmp_path):
    """FAULTS.md I1, I2: those that come and go may be shown, those that stay are."""
    steady = [f"s/{number:03}" for number in range(50)]
    for key in steady:
        store.writer.put(key, io.BytesIO(b"steady"))
    over = threading.Event()

    def churn():
        while not over.is_set():
            store.writer.put("s/025x", io.BytesIO(b"passing"))
            store.writer.put("s/010", io.BytesIO(b"steady"), overwrite=True)
            store.writer.delete("s/025x")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(50):
            found = keys(store, "s/")
            assert [key for key in found if key != "s/025x"] == steady
    finally:
        over.set()
        thread.join()


def test_folders_below_what_a_key_can_name_are_not_entered(tmp_path):
    """A file system takes more of them than a process has descriptors."""
    store = FilesystemStore(data_dir=tmp_path)
    (tmp_path / "image").write_bytes(b"x")
    nest(tmp_path, 1100)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (800, limits[1]))
    try:
        assert [each.key for each in store.lister.list()] == ["image"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        subprocess.run(["rm", "-rf", tmp_path / "z"], check=True)


@pytest.mark.wide
def test_the_longest_key_is_listed(tmp_path):
    store = FilesystemStore(data_dir=tmp_path)
    for last in ("z/yy", "zz/y"):  # 1024 bytes
        key = "z/" * 510 + last
        store.writer.put(key, io.BytesIO(b"x"))
        assert [each.key for each in store.lister.list()] == [key]
        store.writer.delete(key)
