"""What a pending file refuses, and what the published one is like."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import socket
import stat
from pathlib import Path

import pytest

from imgstore.errors import (
    AlreadyExistsError,
    ConfigError,
    DigestMismatchError,
    ImgstoreError,
    InUseError,
    NoSpaceError,
    NotFoundError,
    OperationCancelledError,
    PermissionDeniedError,
    StorageIOError,
    TimedOutError,
    UnsafeLocationError,
    UnsupportedError,
)
from imgstore.publish import PendingFile, file_error, pending_name
from imgstore.publish import pending as pending_module
from tests.faults.disk import Disk, install

DATA = b"the bytes of an image" * 1000
PENDING = re.compile(r"\.new\.[0-9a-f]{16}\.part")


def no_tmpfile(name: str, number: int) -> OSError | None:
    """The second open is that of the pending file; the first opens the folder."""
    return OSError(errno.EOPNOTSUPP, "no O_TMPFILE") if (name, number) == ("open", 2) else None


@pytest.fixture(params=["unnamed", "named", "overwrite"])
def way(request, monkeypatch):
    """Each way to publish: gives the value of `overwrite`."""
    if request.param == "named":
        install(monkeypatch, Disk(no_tmpfile))
    return request.param


def put(path, *, way="unnamed", data=DATA, **options):
    with PendingFile(path, overwrite=way == "overwrite", **options) as pending:
        pending.write(data)
        pending.publish(len(data))
    return pending


def test_it_appears_whole_or_not_at_all(tmp_path, way):
    target = tmp_path / "new"
    with PendingFile(target, overwrite=way == "overwrite") as pending:
        pending.write(DATA[:5000])
        pending.write(bytearray(DATA[5000:6000]))
        pending.write(b"")
        pending.write(memoryview(DATA)[6000:])
        assert not target.exists()
        assert [PENDING.fullmatch(name) is not None for name in os.listdir(tmp_path)] == [True] * (
            way != "unnamed"
        )
        assert pending.written == len(DATA)
        assert not pending.published
        pending.publish()
        assert pending.published
    assert target.read_bytes() == DATA
    assert os.listdir(tmp_path) == ["new"]
    assert target.stat().st_nlink == 1


@pytest.mark.parametrize("size", [0, 1, 4096])
def test_any_size(tmp_path, way, size):
    put(tmp_path / "new", way=way, data=DATA[:size])
    assert (tmp_path / "new").read_bytes() == DATA[:size]


def test_an_image_of_numbers_counts_bytes(tmp_path):
    put(tmp_path / "new", data=DATA[:8])
    with PendingFile(tmp_path / "new", overwrite=True) as pending:
        pending.write(memoryview(DATA[:8]).cast("Q"))
        pending.publish(8)
    assert (tmp_path / "new").read_bytes() == DATA[:8]


def test_what_is_not_published_is_gone(tmp_path, way):
    with PendingFile(tmp_path / "new", overwrite=way == "overwrite") as pending:
        pending.write(DATA)
    assert os.listdir(tmp_path) == []
    for late in (lambda: pending.write(b"x"), pending.publish):
        with pytest.raises(OperationCancelledError, match="given up"):
            late()
    pending.discard()


def test_an_error_of_the_caller_passes_and_publishes_nothing(tmp_path, way):
    with pytest.raises(KeyError), PendingFile(tmp_path / "new", overwrite=way == "overwrite") as pending:
        pending.write(DATA)
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_an_existing_file_is_refused_at_once(tmp_path, way):
    if way == "overwrite":
        return
    (tmp_path / "new").write_bytes(b"old")
    with pytest.raises(AlreadyExistsError, match="exists already"):
        put(tmp_path / "new", way=way)
    assert (tmp_path / "new").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.parametrize("kind", ["file", "folder", "link", "fifo"])
def test_a_name_taken_meanwhile_is_refused_at_the_end(tmp_path, way, kind):
    if way == "overwrite":
        return
    target = tmp_path / "new"
    make = {
        "file": lambda: target.write_bytes(b"theirs"),
        "folder": target.mkdir,
        "link": lambda: target.symlink_to("elsewhere"),
        "fifo": lambda: os.mkfifo(target),
    }
    with pytest.raises(AlreadyExistsError), PendingFile(target) as pending:
        pending.write(DATA)
        make[kind]()
        pending.publish()
    assert os.listdir(tmp_path) == ["new"]
    assert kind != "file" or target.read_bytes() == b"theirs"
    assert not pending.published


def test_overwriting_replaces_in_one_step_and_keeps_the_mode(tmp_path):
    target = tmp_path / "new"
    target.write_bytes(b"old")
    target.chmod(0o640)
    with open(target, "rb") as reader:
        put(target, way="overwrite")
        assert reader.read() == b"old"
    assert target.read_bytes() == DATA
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    put(target, way="overwrite", mode=0o604)
    assert stat.S_IMODE(target.stat().st_mode) == 0o604


def test_special_bits_are_not_kept(tmp_path):
    target = tmp_path / "new"
    target.write_bytes(b"old")
    target.chmod(0o4755)
    put(target, way="overwrite")
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


def test_a_folder_that_came_meanwhile_is_not_replaced(tmp_path):
    target = tmp_path / "new"
    with pytest.raises(UnsafeLocationError), PendingFile(target, overwrite=True) as pending:
        pending.write(DATA)
        target.mkdir()
        pending.publish()
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o027])
def test_the_mode_is_what_the_umask_leaves(tmp_path, way, umask):
    before = os.umask(umask)
    try:
        put(tmp_path / "new", way=way)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~umask
    put(tmp_path / "given", way=way, mode=0o611)
    assert stat.S_IMODE((tmp_path / "given").stat().st_mode) == 0o611


@pytest.mark.parametrize("content", [None, "Name:\tpython\n"])
def test_the_mode_without_proc_is_strict(tmp_path, monkeypatch, content):
    status = tmp_path / "status"
    if content is not None:
        status.write_text(content)
    monkeypatch.setattr(pending_module, "open", lambda path, mode: Path.open(status, mode), raising=False)
    put(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_while_pending_it_is_ours_alone(tmp_path, way):
    if way == "unnamed":
        return
    before = os.umask(0)
    try:
        with PendingFile(tmp_path / "new", overwrite=way == "overwrite"):
            (name,) = os.listdir(tmp_path)
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "make, kind, said",
    [
        (lambda path: path.mkdir(), ConfigError, "is a folder; name the file in it"),
        (os.mkfifo, UnsafeLocationError, "FIFO, socket or device"),
        (lambda path: path.symlink_to("elsewhere"), UnsafeLocationError, "symbolic link"),
        (lambda path: path.symlink_to("other"), UnsafeLocationError, "symbolic link"),
    ],
    ids=["folder", "fifo", "dangling link", "link"],
)
def test_what_is_no_file_is_left_alone(tmp_path, overwrite, make, kind, said):
    target = tmp_path / "new"
    (tmp_path / "other").write_bytes(b"other")
    make(target)
    before = target.lstat()
    with pytest.raises(kind, match=said) as failure:
        put(target, way="overwrite" if overwrite else "unnamed")
    assert str(target) in str(failure.value)
    assert target.lstat() == before
    assert sorted(os.listdir(tmp_path)) == ["new", "other"]
    assert (tmp_path / "other").read_bytes() == b"other"


@pytest.mark.parametrize("overwrite", [False, True])
def test_sockets_and_devices_are_left_alone(tmp_path, overwrite, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("new")
        for path in ("new", "/dev/null", "/dev/zero"):
            with (
                pytest.raises(UnsafeLocationError, match="FIFO, socket or device"),
                PendingFile(path, overwrite=overwrite),
            ):
                pass


def test_a_block_device_is_for_later(tmp_path, monkeypatch):
    found = list((tmp_path).stat())
    found[0] = stat.S_IFBLK | 0o600
    monkeypatch.setattr(os, "stat", lambda *args, **options: os.stat_result(found))
    with pytest.raises(UnsupportedError, match="block device"), PendingFile(tmp_path / "sda"):
        pass


@pytest.mark.parametrize(
    "path, said",
    [
        ("", "names no file"),
        ("folder/", "names no file"),
        (".", "names no file"),
        ("..", "names no file"),
        ("folder/..", "names no file"),
        ("a\0b", "names no file"),
        ("missing/new", "there is no folder missing to put new in; create it first"),
        ("file/new", "file is not a folder"),
    ],
)
def test_what_names_no_file_is_refused(tmp_path, monkeypatch, path, said):
    monkeypatch.chdir(tmp_path)
    os.mkdir("folder")
    Path("file").write_bytes(b"old")
    with pytest.raises(ConfigError, match=said) as failure:
        put(path)
    assert failure.value.__context__ is None or failure.value.__suppress_context__
    assert sorted(os.listdir()) == ["file", "folder"]
    assert os.listdir("folder") == []


def test_a_path_may_start_at_a_folder(tmp_path):
    (tmp_path / "below").mkdir()
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        put("new", dir_fd=folder)
        put("below/new", way="overwrite", dir_fd=folder)
    finally:
        os.close(folder)
    assert (tmp_path / "new").read_bytes() == (tmp_path / "below" / "new").read_bytes() == DATA


def test_a_folder_that_moves_takes_the_file_along(tmp_path, way):
    (tmp_path / "here").mkdir()
    with PendingFile(tmp_path / "here" / "new", overwrite=way == "overwrite") as pending:
        pending.write(DATA)
        (tmp_path / "here").rename(tmp_path / "there")
        pending.publish()
    assert (tmp_path / "there" / "new").read_bytes() == DATA


def test_a_folder_may_be_a_link(tmp_path, way):
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("here")
    put(tmp_path / "link" / "new", way=way)
    assert (tmp_path / "here" / "new").read_bytes() == DATA


def test_the_size_must_be_what_was_written(tmp_path, way):
    for size in (len(DATA) - 1, len(DATA) + 1, 0):
        with (
            pytest.raises(
                StorageIOError, match=f"of {size} bytes {len(DATA)} were written, it holds {len(DATA)}"
            ),
            PendingFile(tmp_path / "new", overwrite=way == "overwrite") as pending,
        ):
            pending.write(DATA)
            pending.publish(size)
        assert os.listdir(tmp_path) == []


def test_a_file_that_somebody_cut_is_not_published(tmp_path):
    with PendingFile(tmp_path / "new", overwrite=True) as pending:
        pending.write(DATA)
        (name,) = os.listdir(tmp_path)
        os.truncate(tmp_path / name, 5)
        with pytest.raises(StorageIOError, match=f"of 5 bytes {len(DATA)} were written, it holds 5"):
            pending.publish(5)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "a.img", "caf\udce9" * 40])
def test_a_pending_name_is_recognised_and_fits(name):
    made = pending_name(name)
    assert re.fullmatch(r"\.(.+)\.[0-9a-f]{16}\.part", made)[1] == name[: len(made) - 23]
    assert len(os.fsencode(made)) <= 143
    assert len(os.fsencode(made)) - 23 in {96, len(os.fsencode(name))}
    assert len(os.fsencode(name)) > 96 or made.startswith(f".{name}.")
    assert pending_name(name) != made


def test_the_longest_name_can_be_published(tmp_path, way):
    put(tmp_path / ("x" * 255), way=way)
    assert os.listdir(tmp_path) == ["x" * 255]
    assert len(pending_name("y" * 96)) == 96 + 23
    with pytest.raises(UnsafeLocationError, match="File name too long"):
        put(tmp_path / ("x" * 256), way=way)


@pytest.mark.parametrize("trap", ["file", "link"])
def test_a_pending_name_that_is_taken_is_neither_used_nor_removed(tmp_path, monkeypatch, trap):
    random = iter([bytes(8), bytes([255] * 8)])
    monkeypatch.setattr(os, "urandom", lambda size: next(random))
    theirs = tmp_path / f".new.{'0' * 16}.part"
    victim = tmp_path / "victim"
    victim.write_bytes(b"victim")
    theirs.symlink_to("victim") if trap == "link" else theirs.write_bytes(b"theirs")
    with open(victim if trap == "link" else theirs, "rb") as alive:
        fcntl.flock(alive, fcntl.LOCK_SH)
        put(tmp_path / "new", way="overwrite")
    assert theirs.read_bytes() == (b"victim" if trap == "link" else b"theirs")
    assert (tmp_path / "new").read_bytes() == DATA
    assert len(os.listdir(tmp_path)) == 3


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, OSError])
def test_it_is_not_removed_on_the_way_out_either(tmp_path, monkeypatch, interrupt):
    random = iter([bytes(8)])
    monkeypatch.setattr(os, "urandom", lambda size: next(random, None) or raises(interrupt))
    theirs = tmp_path / f".new.{'0' * 16}.part"
    theirs.write_bytes(b"theirs")
    with open(theirs, "rb") as alive, pytest.raises((KeyboardInterrupt, StorageIOError)):
        fcntl.flock(alive, fcntl.LOCK_SH)
        put(tmp_path / "new", way="overwrite")
    assert os.listdir(tmp_path) == [theirs.name]


def raises(kind):
    raise kind


def test_what_a_pending_name_became_is_not_followed(tmp_path, monkeypatch):
    """Where others may rename our files: their link is not taken for the image."""
    (tmp_path / "victim").write_bytes(b"victim")
    install(monkeypatch, Disk(no_tmpfile))
    with PendingFile(tmp_path / "new") as pending:
        pending.write(DATA)
        (name,) = [each for each in os.listdir(tmp_path) if each != "victim"]
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to("victim")
        pending.publish()
    assert (tmp_path / "victim").stat().st_nlink == 1


def test_discarding_again_closes_nothing(tmp_path, way, monkeypatch):
    pending = put(tmp_path / "new", way=way)
    with PendingFile(tmp_path / "other", overwrite=way == "overwrite") as other:
        pass
    disk = Disk()
    install(monkeypatch, disk)
    pending.discard()
    other.discard()
    assert disk.calls == []


def test_a_missing_proc_means_a_named_file(tmp_path, monkeypatch):
    def no_proc(name, number):
        return OSError(errno.ENOENT, "no /proc") if (name, number) == ("open", 3) else None

    install(monkeypatch, Disk(no_proc))
    with PendingFile(tmp_path / "new") as pending:
        assert PENDING.fullmatch(os.listdir(tmp_path)[0])
        pending.write(DATA)
        pending.publish()
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("taken", [False, True])
def test_without_hard_links_an_exclusive_rename_does(tmp_path, monkeypatch, code, taken):
    """As on FAT."""

    def plan(name, number):
        return no_tmpfile(name, number) or (OSError(code, "no links") if name == "link" else None)

    install(monkeypatch, Disk(plan))
    with PendingFile(tmp_path / "new") as pending:
        pending.write(DATA)
        if taken:
            (tmp_path / "new").write_bytes(b"theirs")
            with pytest.raises(AlreadyExistsError):
                pending.publish()
        else:
            pending.publish()
    assert os.listdir(tmp_path) == ["new"]
    assert (tmp_path / "new").read_bytes() == (b"theirs" if taken else DATA)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, None])
def test_with_neither_it_is_refused(tmp_path, monkeypatch, code):
    def plan(name, number):
        return no_tmpfile(name, number) or (OSError(errno.EPERM, "no links") if name == "link" else None)

    class Library:
        if code is not None:

            @staticmethod
            def renameat2(*args):
                ctypes.set_errno(code)
                return -1

    install(monkeypatch, Disk(plan))
    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: Library())
    with pytest.raises(UnsupportedError, match="cannot give a name without replacing"):
        put(tmp_path / "new")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("code, said", [(errno.EIO, StorageIOError), (errno.ENOSPC, NoSpaceError)])
def test_an_exclusive_rename_that_fails_is_typed(tmp_path, monkeypatch, code, said):
    def plan(name, number):
        return no_tmpfile(name, number) or (OSError(errno.EPERM, "no links") if name == "link" else None)

    class Library:
        @staticmethod
        def renameat2(*args):
            ctypes.set_errno(code)
            return -1

    install(monkeypatch, Disk(plan))
    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: Library())
    with pytest.raises(said, match=os.strerror(code)):
        put(tmp_path / "new")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "code, kind",
    [
        (errno.ENOSPC, NoSpaceError),
        (errno.EDQUOT, NoSpaceError),
        (errno.EFBIG, NoSpaceError),
        (errno.EIO, StorageIOError),
        (errno.EMFILE, StorageIOError),
        (errno.EROFS, PermissionDeniedError),
        (errno.EACCES, PermissionDeniedError),
        (errno.EPERM, PermissionDeniedError),
        (errno.ENOENT, NotFoundError),
        (errno.ENOTDIR, NotFoundError),
        (errno.EEXIST, AlreadyExistsError),
        (errno.ELOOP, UnsafeLocationError),
        (errno.ENXIO, UnsafeLocationError),
        (errno.ENODEV, UnsafeLocationError),
        (errno.EISDIR, UnsafeLocationError),
        (errno.ENAMETOOLONG, UnsafeLocationError),
        (errno.EBUSY, InUseError),
        (errno.ETXTBSY, InUseError),
        (errno.ETIMEDOUT, TimedOutError),
    ],
)
def test_each_errno_has_its_type(code, kind):
    error = file_error(OSError(code, "ignored"), "cannot do it")
    assert type(error) is kind
    assert str(error) == f"cannot do it: {os.strerror(code)}"
    assert kind is UnsafeLocationError or error.errno == code


def test_an_error_without_errno_is_typed():
    error = file_error(BlockingIOError(), "cannot do it")
    assert isinstance(error, StorageIOError)
    assert isinstance(error, ImgstoreError)
    assert str(error) == "cannot do it: BlockingIOError"
    assert error.errno == errno.EIO


def test_what_is_read_back_is_held_against_all_that_was_written(tmp_path, way):
    hole = (3 << 20) + 7
    with PendingFile(tmp_path / "new", overwrite=way == "overwrite", read_back=True) as pending:
        pending.write(DATA)
        pending.skip(hole)
        pending.write(DATA)
        pending.skip(5)
        pending.publish()
    assert (tmp_path / "new").read_bytes() == DATA + bytes(hole) + DATA + bytes(5)


def test_what_the_kernel_copies_unseen_cannot_be_read_back(tmp_path, way):
    with (
        PendingFile(tmp_path / "new", overwrite=way == "overwrite", read_back=True) as pending,
        pytest.raises(UnsupportedError, match="cannot be compared"),
    ):
        pending.extend(lambda file: os.write(file, DATA))
    assert os.listdir(tmp_path) == []


def test_a_disk_that_gives_back_less_is_no_success(tmp_path, way, monkeypatch):
    given = iter([len(DATA) - 1, 0])
    monkeypatch.setattr(os, "preadv", lambda *_: next(given))
    with pytest.raises(StorageIOError, match=f"of {len(DATA)} bytes the disk gives back {len(DATA) - 1}"):
        put(tmp_path / "new", way=way, read_back=True)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_gives_other_bytes_is_no_success(tmp_path, way, monkeypatch):
    read = os.preadv

    def flipped(file, buffers, at):
        count = read(file, buffers, at)
        if at <= 5000 < at + count:
            buffers[0][5000 - at] ^= 1
        return count

    monkeypatch.setattr(os, "preadv", flipped)
    with pytest.raises(DigestMismatchError, match="new: the disk gives back other bytes"):
        put(tmp_path / "new", way=way, read_back=True)
    assert os.listdir(tmp_path) == []


def test_a_disk_that_cannot_be_read_is_no_success(tmp_path, way, monkeypatch):
    def failed(*_):
        raise OSError(errno.EIO, "a bad sector")

    monkeypatch.setattr(os, "preadv", failed)
    with pytest.raises(StorageIOError, match="cannot publish"):
        put(tmp_path / "new", way=way, read_back=True)
    assert os.listdir(tmp_path) == []


def test_the_kernels_own_copy_is_dropped_before_the_disk_is_asked(tmp_path, way, monkeypatch):
    done, advised, advise = [], [], os.posix_fadvise
    monkeypatch.setattr(os, "posix_fadvise", lambda *given: (advised.append(given[1:]), advise(*given)))

    def noted(name):
        call = getattr(os, name)
        return lambda *given, **options: (done.append(name), call(*given, **options))[1]

    for name in ("fsync", "posix_fadvise", "preadv", "link", "rename"):
        monkeypatch.setattr(os, name, noted(name))
    put(tmp_path / "new", way=way, read_back=True)
    order = [each for at, each in enumerate(done) if each not in done[:at]]
    assert order[:3] == ["fsync", "posix_fadvise", "preadv"]
    assert order[3] in {"link", "rename"}
    assert advised == [(0, 0, os.POSIX_FADV_DONTNEED)]
