"""The filesystem driver among hostile and broken files (FAULTS.md B10, G1, G2, G3, I1, I2)."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import tempfile
import threading

import pytest

from imgstore import errors
from imgstore.backends.filesystem import FilesystemStore, directories, reader, walk
from imgstore.errors import (
    ImgstoreError,
    NotFoundError,
    OperationCancelledError,
    PermissionDeniedError,
    RangeNotSatisfiableError,
    StorageIOError,
    UnsafeLocationError,
    VersionChangedError,
)
from imgstore.model import Call
from tests.faults.disk import Disk

DATA = bytes(range(251)) * 2000
SECRET = b"the secret outside"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.img").write_bytes(DATA)
    (folder / "sub" / "b.img").write_bytes(DATA)
    return folder


@pytest.fixture
def store(folder):
    return FilesystemStore(data_dir=folder)


def read(store, key, offset=0, length=None, **options):
    with store.get(key, offset, length, **options) as stream:
        return b"".join(bytes(piece) for piece in stream.chunks(10_000))


@pytest.mark.parametrize("offset, length", [(0, None), (0, 1), (1, 9999), (len(DATA) - 1, 5), (7, len(DATA))])
def test_any_range(store, offset, length):
    stop = None if length is None else offset + length
    assert read(store, "a.img", offset, length) == DATA[offset:stop]
    assert read(store, "sub/b.img", offset, length) == DATA[offset:stop]


def test_the_data_directory_may_be_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to("images")
    assert read(FilesystemStore(data_dir=str(tmp_path / "link")), "a.img") == DATA


def test_a_missing_data_directory_is_named(tmp_path):
    with pytest.raises(StorageIOError, match=r"the data directory .*nowhere is not there; mount"):
        FilesystemStore(data_dir=tmp_path / "nowhere").stat("a.img")
    (tmp_path / "file").touch()
    with pytest.raises(StorageIOError, match=r"the data directory .*file is not there"):
        FilesystemStore(data_dir=tmp_path / "file").stat("a.img")


@pytest.mark.parametrize(
    "key",
    [
        "file:///images/../../etc/shadow",
        "/etc/shadow",
        "../secret",
        "sub/../../secret",
        "sub/./b.img",
        "sub//b.img",
        "a.img/",
        "a.img\0",
        "",
        ".",
        "x" * 1025,
        "caf\udce9",
        "x" * 256,
        "sub/" + "x" * 256,
    ],
)
@pytest.mark.parametrize("operation", ["stat", "get"])
def test_what_is_no_key_leads_nowhere(store, key, operation):
    with pytest.raises(UnsafeLocationError):
        getattr(store, operation)(key)


@pytest.mark.parametrize(
    "key", ["%2e%2e/secret", "\uff0e\uff0e/secret", "..\\secret", "nowhere", "a.img/x", "sub", "A.IMG"]
)
def test_what_only_looks_like_it_is_not_found(store, key):
    for operation in (store.stat, store.get):
        with pytest.raises(NotFoundError) as failure:
            operation(key)
        assert failure.value.key == key


def links(folder):
    (folder / "link").symlink_to("../secret")
    (folder / "inside").symlink_to("a.img")
    (folder / "up").symlink_to("..")
    (folder / "here").symlink_to("sub")
    (folder / "sub" / "back").symlink_to("../..")
    (folder / "dangling").symlink_to("nowhere")


@pytest.mark.parametrize(
    "key", ["link", "inside", "up", "up/secret", "here/b.img", "sub/back/secret", "dangling"]
)
def test_no_link_is_followed(store, folder, key):
    links(folder)
    for operation in (store.stat, store.get):
        with pytest.raises(UnsafeLocationError, match="symbolic link"):
            operation(key)


def test_a_link_that_comes_between_the_look_and_the_open_is_not_followed(store, folder, monkeypatch):
    real = os.stat

    def look(path, **options):
        found = real(path, **options)
        if path == "a.img":
            (folder / "a.img").unlink()
            (folder / "a.img").symlink_to("../secret")
        return found

    monkeypatch.setattr(os, "stat", look)
    with pytest.raises(UnsafeLocationError):
        store.get("a.img")


def test_a_fifo_that_comes_between_the_look_and_the_open_does_not_hang(store, folder, monkeypatch):
    real = os.stat

    def look(path, **options):
        found = real(path, **options)
        if path == "a.img":
            (folder / "a.img").unlink()
            os.mkfifo(folder / "a.img")
        return found

    monkeypatch.setattr(os, "stat", look)
    with pytest.raises(UnsafeLocationError, match="a FIFO"):
        store.get("a.img")


def test_folders_and_links_that_swap_all_the_time_never_lead_out(store, folder, tmp_path):
    """FAULTS.md G2, with a real race."""
    (tmp_path / "b.img").write_bytes(SECRET)
    (folder / "other").symlink_to("..")
    over = threading.Event()

    def swap():
        for one, other in itertools.cycle(
            [("sub", "spare"), ("other", "sub"), ("sub", "other"), ("spare", "sub")]
        ):
            os.rename(folder / one, folder / other)
            if over.is_set() and (folder / "sub").is_dir() and not (folder / "sub").is_symlink():
                return

    thread = threading.Thread(target=swap)
    thread.start()
    outcomes = set()
    try:
        for _ in range(3000):
            try:
                assert read(store, "sub/b.img") == DATA
                outcomes.add("data")
            except (UnsafeLocationError, NotFoundError) as exc:
                outcomes.add(type(exc).__name__)
    finally:
        over.set()
        thread.join()
    assert outcomes >= {"data", "UnsafeLocationError"}


def test_folders_that_may_only_be_passed_through_are():
    """A home directory of mode 0711 with a public image in it."""
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/sub")
        for key in ("a.img", "sub/b.img"):
            with open(f"{folder}/{key}", "wb") as file:
                file.write(DATA)
            os.chmod(f"{folder}/{key}", 0o644)
        user = os.geteuid()
        for path in (f"{folder}/sub", folder):
            os.chmod(path, 0o711 if user == 0 else 0o311)
        store = FilesystemStore(data_dir=folder)
        try:
            os.seteuid(user or 65534)
            assert read(store, "a.img") == read(store, "sub/b.img") == DATA
            with pytest.raises(PermissionDeniedError):
                list(store.lister.list())
        finally:
            os.seteuid(user)
            os.chmod(folder, 0o700)
            os.chmod(f"{folder}/sub", 0o700)


def test_only_regular_files_are_images(store, folder, monkeypatch):
    monkeypatch.chdir(folder)
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for key, said in {"fifo": "a FIFO", "socket": "a socket"}.items():
            for operation in (store.stat, store.get):
                with pytest.raises(UnsafeLocationError, match=said):
                    operation(key)
    with pytest.raises(UnsafeLocationError, match="a device"):
        FilesystemStore(data_dir="/dev").get("null")
    with pytest.raises(NotFoundError, match="a folder"):
        store.get("sub")


def test_files_that_hide_their_size_are_no_images():
    """FAULTS.md G3: what /proc calls empty is not copied as empty."""
    for operation in (FilesystemStore(data_dir="/proc").stat, FilesystemStore(data_dir="/proc").get):
        with pytest.raises(UnsafeLocationError, match="holds more than its size"):
            operation("version")


def test_an_empty_file_is_an_empty_image(store, folder):
    (folder / "empty").touch()
    assert store.stat("empty").size == 0
    assert read(store, "empty") == b""
    with pytest.raises(RangeNotSatisfiableError):
        store.get("empty", 1)


@pytest.mark.parametrize("cause", ["append", "truncate", "rewrite", "touch"])
@pytest.mark.parametrize("when", ["before", "during"])
def test_a_file_that_is_written_to_is_another_version(store, folder, cause, when):
    path = folder / "a.img"
    info = store.stat("a.img")
    stream = store.get("a.img", version=info.version)
    if when == "during":
        assert stream.read(1000) == DATA[:1000]
    before = path.stat()
    with open(path, "r+b") as file:
        if cause == "append":
            file.seek(0, os.SEEK_END)
            file.write(b"more")
        elif cause == "truncate":
            file.truncate(len(DATA) - 1000)
        elif cause == "rewrite":
            file.seek(len(DATA) // 2)
            file.write(b"other")
    # As fast as this, the clock of the file system may not have ticked; the size and the times decide.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (1 if cause == "touch" else 10**7)))
    with stream, pytest.raises(VersionChangedError, match="written to while it was being read"):
        stream.read()
    with pytest.raises(VersionChangedError, match="not the version"):
        store.get("a.img", 1000, version=info.version)
    assert store.stat("a.img").version != info.version


def test_the_last_bytes_come_only_after_the_look(store, folder):
    stream = store.get("a.img")
    assert stream.read(len(DATA) - 1) == DATA[:-1]
    os.utime(folder / "a.img", ns=(0, 0))
    with stream, pytest.raises(VersionChangedError):
        stream.read(1)
    assert stream.delivered == len(DATA) - 1


@pytest.mark.parametrize("how", ["rename", "unlink"])
def test_a_replaced_or_removed_file_is_read_to_its_end(store, folder, how):
    info = store.stat("a.img")
    with store.get("a.img") as stream:
        assert stream.read(1000) == DATA[:1000]
        if how == "rename":
            (folder / "new").write_bytes(b"x" * len(DATA))
            os.rename(folder / "new", folder / "a.img")
        else:
            os.unlink(folder / "a.img")
        assert stream.read() == DATA[1000:]
    with pytest.raises(VersionChangedError if how == "rename" else NotFoundError):
        store.get("a.img", version=info.version)


def test_a_file_written_to_and_removed_is_another_version(store, folder):
    with store.get("a.img") as stream:
        stream.read(1000)
        with open(folder / "a.img", "r+b") as file:
            file.write(b"other")
        os.utime(folder / "a.img", ns=(0, 0))
        os.unlink(folder / "a.img")
        with pytest.raises(VersionChangedError):
            stream.read()


def test_a_file_that_ends_early_is_a_fault_of_the_medium(store, monkeypatch):
    real = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda file, buffers, at: 0 if at else real(file, [buffers[0][:100]], at)
    )
    with store.get("a.img") as stream, pytest.raises(StorageIOError, match="ended at 100") as failure:
        stream.read()
    assert failure.value.offset == 100


def test_a_cancelled_read_ends(store):
    stream = store.get("a.img")
    stream.read(10)
    stream.cancel()
    with stream, pytest.raises(OperationCancelledError):
        stream.read()
    opened = store._open("a.img", 0, None, None, Call())
    opened.raw.abort()
    with pytest.raises(OperationCancelledError):
        opened.raw.readinto(memoryview(bytearray(10)))
    opened.raw.close()
    opened.raw.close()


def test_one_receive_is_bounded(store, folder, monkeypatch):
    wanted = []
    real = os.preadv

    def spy(file, buffers, at):
        wanted.append(len(buffers[0]))
        return real(file, buffers, at)

    monkeypatch.setattr(os, "preadv", spy)
    monkeypatch.setattr(reader, "_RECEIVE", 100_000)
    assert read(store, "a.img") == DATA
    with store.get("a.img") as stream:
        buffer = bytearray(len(DATA))
        assert stream.readinto(buffer) == 100_000
    assert max(wanted) == 100_000


@pytest.mark.parametrize("function", ["open", "stat", "fstat", "pread", "preadv"])
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ESTALE])
@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for good"])
def test_the_nth_call_fails(store, folder, monkeypatch, function, code, persistent):
    (folder / "empty").touch()
    monkeypatch.setattr("tests.faults.disk.WATCHED", ("open", "stat", "fstat", "pread", "preadv"))
    for turn in itertools.count(1):
        hits = []

        def plan(name, at, turn=turn, hits=hits):
            if name == function and (at >= turn if persistent else at == turn):
                hits.append(name)
                return OSError(code, os.strerror(code))
            return None

        disk = Disk(plan)
        for module in (directories, walk, reader):
            monkeypatch.setattr(module, "os", disk)
        error = None
        try:
            assert read(store, "sub/b.img") == DATA
            assert read(store, "empty") == b""
        except ImgstoreError as exc:
            error = exc
        if hits:
            assert type(error) is (PermissionDeniedError if code == errno.EACCES else StorageIOError)
            assert error.errno == code
            assert os.strerror(code) in str(error)
        else:
            assert error is None
        if not hits:
            return


def test_translate_is_typed_and_keeps_what_is():
    store = FilesystemStore(data_dir="x")
    error = NotFoundError("gone")
    assert store.translate(error) is error
    assert type(store.translate(OSError(errno.EIO, "x"))) is StorageIOError
    assert type(store.translate(KeyError("x"))) is errors.PermanentError
