"""D10, D11, D19: disks that are full or read-only, as the kernel has them; and its calls failed by strace."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import random
import re
import shutil
import subprocess

import pytest

from imgstore.backends.filesystem import FilesystemStore
from imgstore.errors import NoSpaceError, PermissionDeniedError
from tests.faults.halves import PART, Source, fetch, small_parts
from tests.faults.killing import Killer
from tests.faults.strace import CHANGES, Strace, counted, fail_at
from tests.faults.ways import NEW, WAYS, tree
from tests.real.conftest import need


@pytest.fixture
def mounted(tmp_path):
    """Mounts a file system on a folder that is made for it: `mounted(name, *arguments of mount)`."""
    with contextlib.ExitStack() as stack:

        def mount(name, *arguments):
            folder = tmp_path / name
            folder.mkdir()
            made = subprocess.run(["mount", *arguments, folder], check=False, capture_output=True, text=True)
            if made.returncode:
                refused(f"mount {' '.join(map(str, arguments))}: {made.stderr.strip()}")
            stack.callback(subprocess.run, ["umount", "-l", folder], check=True)
            return folder

        yield mount


def refused(reason):
    """What only root may do is not shown elsewhere; where nothing may be skipped, that is a failure."""
    if os.environ.get("CI") == "true" or os.environ.get("IMGSTORE_REAL") == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def killer():
    need("strace", package="strace")
    with Killer() as killer:
        yield killer


def put(store, key, data, **options):
    return store.writer.put(key, io.BytesIO(data), **options)


@pytest.mark.parametrize("size", [None, 1 << 20], ids=["not said", "said"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk(mounted, overwrite, size):
    folder = mounted("small", "-t", "tmpfs", "-o", "size=256k", "tmpfs")
    with FilesystemStore(data_dir=folder) as store:
        put(store, "old.img", NEW)
        with pytest.raises(NoSpaceError) as failure:
            put(store, "old.img" if overwrite else "new.img", bytes(1 << 20), size=size, overwrite=overwrite)
        assert failure.value.errno == errno.ENOSPC
        assert (folder / "old.img").read_bytes() == NEW
        assert os.listdir(folder) == ["old.img"]
        put(store, "new.img", NEW)
    assert (folder / "new.img").read_bytes() == NEW


def test_f7_a_download_that_fills_the_disk_goes_on_when_there_is_room(mounted):
    folder = mounted("small", "-t", "tmpfs", "-o", "size=256k", "tmpfs")
    image = random.Random(7).randbytes(20 * PART + 17)
    (folder / "other.img").write_bytes(bytes(120_000))
    first, second = Source(image), Source(image)
    with small_parts():
        with pytest.raises(NoSpaceError) as failure:
            fetch(first, folder / "new.img")
        assert failure.value.resumable
        assert sorted(os.listdir(folder)) == ["new.img.part", "new.img.part.journal", "other.img"]
        (folder / "other.img").unlink()
        report = fetch(second, folder / "new.img")
    assert (folder / "new.img").read_bytes() == image
    assert os.listdir(folder) == ["new.img"]
    assert report.held > 10 * PART
    assert first.served + second.served < len(image) + PART + 5000  # the part that was under way


def test_no_inode_is_left(mounted):
    folder = mounted("crowded", "-t", "tmpfs", "-o", "nr_inodes=4", "tmpfs")
    with FilesystemStore(data_dir=folder) as store:
        with pytest.raises(NoSpaceError):
            for number in range(4):
                put(store, f"{number}.img", NEW)
        before = tree(folder)
        with pytest.raises(NoSpaceError):
            put(store, "deep/er/new.img", NEW)
        assert tree(folder) == before
        store.writer.delete(before[0])
        put(store, before[0], NEW)
    assert tree(folder) == before


def test_a_disk_that_is_read_only(mounted, tmp_path):
    source = tmp_path / "images"
    source.mkdir()
    (source / "old.img").write_bytes(NEW)
    folder = mounted("fixed", "--bind", source)
    subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    with FilesystemStore(data_dir=folder) as store:
        for act in (
            lambda: put(store, "new.img", NEW),
            lambda: put(store, "deep/new.img", NEW),
            lambda: put(store, "old.img", b"x", overwrite=True),
            lambda: store.writer.delete("old.img"),
            lambda: store.copier.copy("old.img", "new.img"),
        ):
            with pytest.raises(PermissionDeniedError) as failure:
                act()
            assert failure.value.errno == errno.EROFS
        with store.get("old.img") as stream:
            assert stream.read() == NEW
    assert os.listdir(source) == ["old.img"]


def test_d19_directories_on_two_file_systems(mounted):
    """Nothing is ever renamed or linked from one to the other; a copy goes where there is room."""
    small = mounted("small", "-t", "tmpfs", "-o", "size=128k", "tmpfs")
    large = mounted("large", "-t", "tmpfs", "-o", "size=64m", "tmpfs")
    with FilesystemStore(data_dirs=[f"{small}:2", f"{large}:1"]) as store:
        put(store, "a.img", NEW * 3, size=len(NEW) * 3)
        assert (small / "a.img").is_file()
        store.copier.copy("a.img", "b.img")
        assert (large / "b.img").read_bytes() == NEW * 3
        token = store.uploader.begin("c.img", len(NEW) * 9)
        part = store.uploader.put_part(token, 0, 0, memoryview(NEW * 9))
        store.uploader.complete(token, [part])
        assert (large / "c.img").read_bytes() == NEW * 9


@pytest.mark.parametrize("code", ["EIO", "ENOSPC", "EDQUOT", "EROFS"])
@pytest.mark.parametrize("name", ["put", "put, overwriting", "put, two directories", "delete", "copy"])
def test_a_system_call_that_fails(killer, tmp_path, name, code):
    """Each that changes something, once, by the kernel's own answer and not a stand-in's for `os`."""
    way, root = WAYS[name], tmp_path / "root"

    def follow(*options):
        shutil.rmtree(root, ignore_errors=True)
        way.lay(root)
        strace = Strace(tmp_path / "log", *options)
        try:
            end = killer.under(name, root, strace.attach)
        finally:
            log = strace.wait()
        return end, log

    calls = counted(follow("-c")[1])
    calls["write"] -= 1  # with which the child tells that it has come to its end
    for call in set(CHANGES) & set(calls):
        for number in range(1, calls[call] + 1):
            end, log = follow(fail_at(call, number, code))
            assert "(INJECTED)" in log, f"{call} number {number}"
            assert end.returned or end.refused, f"{call} number {number}"
            way.judge(root, returned=end.returned)
            assert not [each for each in tree(root) if re.search(r"\.part$", each)] or call == "unlinkat"
            way.rerun(root)


@pytest.mark.parametrize("call", ["write", "fsync", "openat"])
def test_d11_an_interrupted_call_is_made_again(killer, tmp_path, call):
    """By Python (PEP 475)."""
    way, root = WAYS["put"], tmp_path / "root"
    way.lay(root)
    strace = Strace(tmp_path / "log", fail_at(call, 1, "EINTR"))
    try:
        end = killer.under("put", root, strace.attach)
    finally:
        log = strace.wait()
    assert "(INJECTED)" in log
    assert end.returned
    way.judge(root, returned=True)
