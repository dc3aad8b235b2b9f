"""What the filesystem driver writes: whole, durable, confined, sparse where it may (FAULTS.md D, G, I)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import io
import os
import stat
import subprocess
import threading
import time

import pytest

from imgstore.backends import _intake
from imgstore.backends.filesystem import FilesystemStore, copier, reader, stamp, walk
from imgstore.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    ImgstoreError,
    LockedError,
    NoSpaceError,
    NotFoundError,
    OperationCancelledError,
    PermissionDeniedError,
    SourceChangedError,
    StorageIOError,
    UnsafeLocationError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.model import Call, CancelToken
from tests.faults.mounts import small_disk
from tests.faults.nesting import nest

DATA = bytes(range(251)) * 2000
BLOCK = 4096


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


@pytest.fixture
def store(folder):
    return FilesystemStore(data_dir=folder)


def put(store, key, data=DATA, **options):
    return store.writer.put(key, io.BytesIO(data), **options)


def read(store, key):
    with store.get(key) as stream:
        return stream.read()


def tree(folder):
    return sorted(os.path.relpath(os.path.join(at, each), folder)
                  for at, below, files in os.walk(folder) for each in below + files)  # fmt: skip


class Sparse:
    """A source that knows its holes: pieces of data, and lengths of zeros."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)
        self.asked = 0

    def hole(self):
        self.asked += 1
        return self.pieces.pop(0) if self.pieces and isinstance(self.pieces[0], int) else 0

    def read(self, size):
        return self.pieces.pop(0) if self.pieces else b""


class Failing(io.BytesIO):
    def read(self, size=-1):
        if self.tell():
            raise OSError(errno.EIO, "the source's own disk")
        return super().read(1000)


def test_folders_are_made_for_an_image_and_go_with_it(store, folder):
    put(store, "a/b/c.img")
    put(store, "a/d.img")
    store.writer.delete("a/b/c.img")
    assert tree(folder) == ["a", "a/d.img"]
    store.writer.delete("a/d.img")
    assert tree(folder) == []
    assert folder.is_dir()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failed_put_leaves_no_folder_that_it_made(store, folder, overwrite):
    (folder / "mine").mkdir()
    for key in ("new/er/a.img", "mine/new/a.img", "mine/a.img"):
        with pytest.raises(OSError, match="the source's own disk") as failure:
            store.writer.put(key, Failing(DATA), overwrite=overwrite)
        assert type(failure.value) is OSError
        assert tree(folder) == ["mine"]


def test_what_the_source_raises_is_not_dressed_up(store):
    class Other(io.BytesIO):
        def read(self, size=-1):
            raise failure

    failure = NotFoundError("gone", key="theirs", store="other")
    with pytest.raises(NotFoundError) as caught:
        store.writer.put("a", Other())
    assert caught.value is failure
    assert (failure.key, failure.store) == ("theirs", "other")
    source = Sparse(b"x")
    source.hole = lambda: {}["hole"]
    with pytest.raises(KeyError, match="hole"):
        store.writer.put("a", source)


def test_a_taken_key_is_known_before_the_source_is_read(store):
    put(store, "a")
    source = Sparse(b"x")
    with pytest.raises(AlreadyExistsError):
        store.writer.put("a", source)
    assert source.pieces == [b"x"]
    with pytest.raises(AlreadyExistsError):
        store.uploader.begin("a", 5)


def test_errors_name_key_and_store(store, folder):
    store.store_id = "disk"
    put(store, "a")
    calls = [
        lambda: put(store, "a"),
        lambda: put(store, "a/b"),
        lambda: store.writer.delete("a", version="x"),
        lambda: store.copier.copy("a", "a"),
        lambda: list(store.extents.extents("a", version="x")),
        lambda: list(store.extents.extents("a", start=len(DATA) + 1)),
    ]
    for call in calls:
        with pytest.raises(ImgstoreError) as failure:
            call()
        assert failure.value.key in {"a", "a/b"}
        assert failure.value.store == "disk"


@pytest.mark.parametrize(
    "key",
    [".imgstore", ".imgstore/x", "a/.b.0123456789abcdef.part", "y" * 256, "../up", "/abs"],
)
def test_reserved_names_are_refused_everywhere(store, folder, key):
    put(store, "a")
    calls = [
        lambda: put(store, key),
        lambda: store.stat(key),
        lambda: store.get(key),
        lambda: store.writer.delete(key),
        lambda: store.copier.copy("a", key),
        lambda: store.copier.copy(key, "b"),
        lambda: store.uploader.begin(key, 5),
        lambda: list(store.extents.extents(key)),
    ]
    for call in calls:
        with pytest.raises(UnsafeLocationError):
            call()
    assert tree(folder) == ["a"]


def test_an_image_and_a_folder_cannot_have_one_name(store, folder):
    put(store, "a")
    with pytest.raises(UnsupportedError, match="'a' is an image, and a file system keeps no 'a/b' below"):
        put(store, "a/b")
    put(store, "c/d")
    for overwrite in (False, True):
        with pytest.raises(UnsupportedError, match="'c' is a folder that holds images"):
            put(store, "c", overwrite=overwrite)
    assert tree(folder) == ["a", "c", "c/d"]


def test_an_empty_folder_is_not_in_the_way(store, folder):
    (folder / "a" / "b").mkdir(parents=True)
    put(store, "a/b")
    assert read(store, "a/b") == DATA


def links(folder, tmp_path):
    (tmp_path / "outside").mkdir()
    (folder / "out").symlink_to("../outside")
    (folder / "link").symlink_to("../outside/new")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "fifo")
    os.mkfifo(tmp_path / "outside" / "fifo")


@pytest.mark.parametrize("key", ["out/a.img", "out/b/a.img", "link", "loop", "loop/a", "fifo", "fifo/a"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_is_written_through_a_link_or_over_what_is_no_file(store, folder, tmp_path, key, overwrite):
    links(folder, tmp_path)
    before = tree(tmp_path)
    put(store, "a")
    with pytest.raises(UnsafeLocationError):
        put(store, key, overwrite=overwrite)
    with pytest.raises(UnsafeLocationError):
        store.copier.copy("a", key, overwrite=overwrite)
    with pytest.raises(UnsafeLocationError):
        store.uploader.complete(store.uploader.begin(key, 0, overwrite=overwrite), [])
    store.writer.delete("a")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("key", ["out/fifo", "link", "fifo", "sub"])
def test_nothing_is_deleted_but_images(store, folder, tmp_path, key):
    links(folder, tmp_path)
    (folder / "sub").mkdir()
    before = tree(tmp_path)
    with pytest.raises((UnsafeLocationError, NotFoundError)):
        store.writer.delete(key)
    assert tree(tmp_path) == before


def test_a_link_that_comes_in_place_of_a_new_folder_is_not_followed(store, folder, tmp_path, monkeypatch):
    (tmp_path / "outside").mkdir()
    real = os.mkdir

    def mkdir(name, **options):
        real(name, **options)
        os.rmdir(folder / name)
        os.symlink("../outside", folder / name)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(UnsafeLocationError, match="'sub/a' leads through 'sub', which is a symbolic link"):
        put(store, "sub/a")
    assert os.listdir(tmp_path / "outside") == []


def swap(folder, over, swaps):
    """Exchanges the folder `sub` and the link `other`, each time in one step, until `over`."""
    rename = ctypes.CDLL(None, use_errno=True).renameat2
    sub, other = os.fsencode(folder / "sub"), os.fsencode(folder / "other")
    while not over.is_set():
        assert rename(-100, sub, -100, other, 2) == 0  # AT_FDCWD, RENAME_EXCHANGE
        swaps.append(1)


def test_folders_and_links_that_swap_all_the_time_never_lead_a_write_out(store, folder, tmp_path):
    """FAULTS.md G2, with a real race, for puts, copies, deletes and listings."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_bytes(b"outside")
    (folder / "sub").mkdir()
    (folder / "sub" / "kept").write_bytes(DATA)
    (folder / "other").symlink_to("../outside")
    over, swaps = threading.Event(), []
    thread = threading.Thread(target=swap, args=(folder, over, swaps))
    thread.start()
    outcomes = set()
    acts = {
        "put": lambda: put(store, "sub/new", b"x", overwrite=True),
        "delete": lambda: store.writer.delete("sub/new"),
        "copy": lambda: store.copier.copy("sub/kept", "sub/new", overwrite=True),
        "kept": lambda: store.writer.delete("sub/kept", version="never"),
        "list": lambda: [each.size for each in store.lister.list("sub/")],
    }
    try:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            for name, act in acts.items():
                try:
                    told = act()
                    assert name != "list" or len(b"outside") not in told
                    outcomes.add(name)
                except (UnsafeLocationError, NotFoundError, VersionChangedError, LockedError) as exc:
                    outcomes.add(f"{name} {type(exc).__name__}")
    finally:
        over.set()
        thread.join()
    assert os.listdir(tmp_path / "outside") == ["kept"]
    assert (tmp_path / "outside" / "kept").read_bytes() == b"outside"
    assert outcomes >= {"put", "put UnsafeLocationError", "kept UnsafeLocationError", "list"}
    assert len(swaps) > 1000


def test_a_put_that_loses_its_folder_to_a_delete_finds_it_again(store, folder):
    """A delete removes the folder that it emptied; a put into it at that time is not lost."""
    over = threading.Event()
    failures = []

    def churn(number):
        while not over.is_set():
            try:
                put(store, f"deep/er/{number}", b"x")
                store.writer.delete(f"deep/er/{number}")
            except ImgstoreError as exc:
                failures.append(exc)

    threads = [threading.Thread(target=churn, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(60):
            put(store, f"deep/er/kept{number}")
            assert read(store, f"deep/er/kept{number}") == DATA
            store.writer.delete(f"deep/er/kept{number}")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert tree(folder) == []


def test_a_folder_that_a_put_holds_is_not_removed(store, folder):
    class Deleting(io.BytesIO):
        def read(self, size=-1):
            if not self.tell():
                store.writer.delete("a/b/old")
                assert tree(folder) == ["a", "a/b"]
            return super().read(size)

    put(store, "a/b/old")
    store.writer.put("a/b/new", Deleting(DATA))
    assert read(store, "a/b/new") == DATA


def test_a_folder_that_vanishes_each_time_is_given_up(store, folder, monkeypatch):
    monkeypatch.setattr(walk, "_TRIES", 3)
    monkeypatch.setattr(walk, "_PAUSE", 0.0)
    tries = []

    def vanish(descriptor):
        tries.append(descriptor)
        return False

    monkeypatch.setattr(walk, "_keep", vanish)
    with pytest.raises(LockedError, match="removed as often as it is made"):
        put(store, "a/b")
    assert len(tries) == 3


def test_a_folder_removed_between_two_steps_is_made_again(store, folder, monkeypatch):
    real, removed = os.open, []

    def between(path, flags, mode=0o777, **options):
        if path == "b" and len(removed) < 3 and (folder / "a" / "b").exists():
            os.rmdir(folder / "a" / "b")
            os.rmdir(folder / "a")
            removed.append(path)
        return real(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", between)
    put(store, "a/b/c")
    assert removed == ["b"] * 3
    assert read(store, "a/b/c") == DATA


def test_new_folders_are_durable_before_the_image_is(store, folder, monkeypatch):
    """Each folder on the way is synced, also one that was there: its maker may not have come to that yet."""
    real, synced = os.fsync, []

    def fsync(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    root = str(folder)
    for _ in range(2):
        synced.clear()
        put(store, "a/b/c", overwrite=True)
        named = [each for each in synced if "c" not in os.path.basename(each) and "#" not in each]
        assert named == [root, f"{root}/a", f"{root}/a/b"]


def test_a_delete_is_durable_before_it_returns(store, folder, monkeypatch):
    real, order = {"unlink": os.unlink, "fsync": os.fsync, "rmdir": os.rmdir}, []

    def note(name):
        def call(what, **options):
            order.append((name, what if isinstance(what, str) else os.readlink(f"/proc/self/fd/{what}")))
            return real[name](what, **options)

        return call

    put(store, "a/b")
    for name in real:
        monkeypatch.setattr(os, name, note(name))
    store.writer.delete("a/b")
    assert order == [("unlink", "b"), ("fsync", str(folder / "a")), ("rmdir", "a")]


@pytest.mark.parametrize("given", [None, "0600", "0640", "0444"])
def test_the_mode_of_files(folder, given):
    store = FilesystemStore(data_dir=folder, file_mode=given)
    umask = os.umask(0o027)
    try:
        put(store, "sub/put")
        store.copier.copy("sub/put", "copied")
        store.uploader.complete(store.uploader.begin("uploaded", 0), [])
    finally:
        os.umask(umask)
    wanted = int(given, 8) if given else 0o640
    for name in ("sub/put", "copied", "uploaded"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == wanted
    assert stat.S_IMODE((folder / "sub").stat().st_mode) == 0o750


def test_a_file_that_is_replaced_hands_on_its_mode(store, folder):
    put(store, "a")
    os.chmod(folder / "a", 0o604)
    put(store, "a", overwrite=True)
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o604
    store.uploader.complete(store.uploader.begin("a", 0, overwrite=True), [])
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o604


def allocated(path):
    return os.stat(path).st_blocks * 512


@pytest.mark.parametrize("thin", [False, True])
def test_zeros_become_holes_where_that_is_wanted(folder, thin):
    store = FilesystemStore(data_dir=folder, thin=thin)
    data = b"x" + bytes(1 << 20) + b"y" + bytes(3 << 20) + b"z" * 5000 + bytes(100_000)
    put(store, "a", data)
    assert read(store, "a") == data
    kinds = [each.kind for each in store.extents.extents("a")]
    assert kinds == (["data", "hole"] * 3 if thin else ["data"])
    assert (allocated(folder / "a") < 100_000) is thin


def test_a_sparse_image_costs_what_its_data_costs(folder):
    """Two TiB that hold two blocks: neither read, nor hashed without digests, nor stored."""
    store = FilesystemStore(data_dir=folder)
    size = (2 << 40) + 2 * BLOCK
    source = Sparse(1 << 40, b"a" * BLOCK, 1 << 40, b"b" * BLOCK)
    began = time.monotonic()
    info = store.writer.put("a", source, size)
    assert info.size == size
    extents = [(each.kind, each.range.start, each.range.stop) for each in store.extents.extents("a")]
    assert extents == [
        ("hole", 0, 1 << 40),
        ("data", 1 << 40, (1 << 40) + BLOCK),
        ("hole", (1 << 40) + BLOCK, size - BLOCK),
        ("data", size - BLOCK, size),
    ]
    store.copier.copy("a", "b")
    assert [each.kind for each in store.extents.extents("b")] == ["hole", "data", "hole", "data"]
    assert store.get("b", 1 << 40, 5).read() == b"aaaaa"
    assert store.get("b", size - 1).read() == b"b"
    assert time.monotonic() - began < 3


def test_holes_count_and_are_hashed(store):
    pieces = (5000, b"data", 70_000, 3 << 20, b"end", 9)
    image = b"".join(bytes(each) if isinstance(each, int) else each for each in pieces)
    digests = {name: hashlib.new(name, image).hexdigest() for name in ("sha256", "md5")}
    info = store.writer.put("a", Sparse(*pieces), len(image), digests=digests)
    assert (info.size, info.digests) == (len(image), digests)
    assert read(store, "a") == image


def test_a_hole_is_hashed_no_longer_than_the_call_may_take(store, folder):
    source = Sparse(1 << 50)
    with pytest.raises(DeadlineExceededError):
        store.writer.put("a", source, digests={"md5": "00"}, call=Call().within(0.05))
    with pytest.raises(UnsupportedError, match="a hole of -5 bytes"):
        store.writer.put("a", Sparse(-5))
    assert tree(folder) == []


def test_a_hole_beyond_the_size_is_another_size(store, folder):
    for pieces in ((b"abc", 1000), (1003,)):
        with pytest.raises(SourceChangedError):
            store.writer.put("a", Sparse(*pieces), 1002)
    assert tree(folder) == []


@pytest.mark.parametrize(
    "how, error",
    [("replaced", VersionChangedError), ("deleted", NotFoundError), ("a link now", UnsafeLocationError)],
)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_delete_sees_what_became_of_the_file(store, folder, monkeypatch, how, error, moment):
    """Just before it is opened to be looked at, and just after."""
    put(store, "a")
    version, real = store.stat("a").version, os.open

    def change():
        monkeypatch.setattr(os, "open", real)
        if how == "replaced":
            put(store, "a", b"new", overwrite=True)
        else:
            os.unlink(folder / "a")
        if how == "a link now":
            os.symlink("/etc/hostname", folder / "a")

    def meanwhile(path, flags, *rest, **options):
        mine = flags & os.O_PATH and path == "a"
        if mine and moment == "before":
            change()
        opened = real(path, flags, *rest, **options)
        if mine and moment == "after":
            change()
        return opened

    monkeypatch.setattr(os, "open", meanwhile)
    if moment == "after":
        error = NotFoundError  # what was opened has no name any more
    with pytest.raises(error):
        store.writer.delete("a", version=version)
    assert os.path.lexists(folder / "a") is (how != "deleted")


def test_a_full_disk_leaves_nothing(tmp_path):
    with small_disk(tmp_path / "small", "size=256k") as place:
        store = FilesystemStore(data_dir=place)
        put(store, "kept", bytes(100_000))
        token = store.uploader.begin("up", None)
        before = tree(place), store.space.free()
        calls = [
            lambda: put(store, "a/b", os.urandom(300_000)),
            lambda: put(store, "a/b", os.urandom(300_000), size=300_000),
            lambda: store.writer.put("a/b", Sparse(1 << 20, os.urandom(300_000))),
            lambda: put(store, "kept", os.urandom(300_000), overwrite=True),
        ]
        for call in calls:
            with pytest.raises(NoSpaceError):
                call()
            assert (tree(place), store.space.free()) == before
        with pytest.raises(NoSpaceError):
            store.uploader.put_part(token, 0, 0, memoryview(os.urandom(300_000)))
        assert store.uploader.parts(token) == []
        store.uploader.abort(token)
        store.writer.delete("kept")
        put(store, "room/again", bytes(150_000))
        store.writer.delete("room/again")


def test_a_disk_without_inodes_is_full(tmp_path):
    with small_disk(tmp_path / "small", "size=1m,nr_inodes=6") as place:
        store = FilesystemStore(data_dir=place)
        done = 0
        with pytest.raises(NoSpaceError):
            for done in range(9):
                put(store, f"f/{done}", b"x")
        assert done
        assert len(list(store.lister.list())) == done


def test_a_read_only_disk_says_so(tmp_path):
    import subprocess

    with small_disk(tmp_path / "small") as place:
        store = FilesystemStore(data_dir=place)
        put(store, "a/b", b"x")
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        for call in (
            lambda: put(store, "a/c", b"x"),
            lambda: put(store, "new/c", b"x"),
            lambda: store.writer.delete("a/b"),
            lambda: store.uploader.begin("x", 5),
            lambda: store.copier.copy("a/b", "c"),
        ):
            with pytest.raises(PermissionDeniedError):
                call()
        assert read(store, "a/b") == b"x"


def test_a_data_directory_that_was_made_is_durable(tmp_path, monkeypatch):
    real, synced = os.fsync, []

    def fsync(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    put(FilesystemStore(data_dir=tmp_path / "x" / "y", create_data_dir=True), "a")
    assert synced[:2] == [str(tmp_path), str(tmp_path / "x")]


def test_a_data_directory_that_another_has_just_made_is_durable_too(tmp_path, monkeypatch):
    (tmp_path / "x").mkdir()
    real, synced = os.fsync, []

    def fsync(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    put(FilesystemStore(data_dir=tmp_path / "x", create_data_dir=True), "a")
    assert synced[0] == str(tmp_path)


def test_a_data_directory_is_made_where_that_is_asked_for(tmp_path):
    store = FilesystemStore(data_dir=tmp_path / "x" / "y", create_data_dir=True)
    assert list(store.lister.list()) == list(store.uploader.uploads()) == []
    assert store.space.free() == FilesystemStore(data_dir=tmp_path).space.free()
    for look in (lambda: read(store, "a"), lambda: store.stat("a"), lambda: store.writer.delete("a")):
        with pytest.raises(NotFoundError):
            look()
    assert not (tmp_path / "x").exists(), "to look makes nothing"
    put(store, "a")
    assert read(store, "a") == DATA
    plain = FilesystemStore(data_dir=tmp_path / "nowhere")
    for call in (
        lambda: put(plain, "a"),
        lambda: list(plain.lister.list()),
        plain.space.free,
        lambda: plain.uploader.begin("a", 1),
        lambda: list(plain.uploader.uploads()),
        lambda: plain.writer.delete("a"),
    ):
        with pytest.raises(StorageIOError, match="nowhere is not there"):
            call()
    assert not (tmp_path / "nowhere").exists()


def test_a_put_that_may_not_wait_any_more_is_done_and_has_no_version(store, monkeypatch):
    token, real = CancelToken(), os.link

    def link(*arguments, **options):
        real(*arguments, **options)
        token.cancel()

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(stamp, "unsettled", lambda found: 0.5)
    info = put(store, "a", call=Call(cancel=token))
    assert (info.size, info.version) == (len(DATA), None)
    monkeypatch.undo()
    assert read(store, "a") == DATA


COPIES = {
    "cloned": (True, None),
    "in the kernel": (False, None),
    "by hand": (False, errno.EXDEV),
    "by hand, old kernel": (False, errno.ENOSYS),
}


@pytest.mark.parametrize("clones, refusal", COPIES.values(), ids=COPIES)
def test_each_way_of_copying_gives_the_same(store, folder, monkeypatch, clones, refusal):
    data = b"x" * 5000 + bytes(3 << 20) + b"y" * (3 << 20)
    FilesystemStore(data_dir=folder, thin=True).writer.put("a", io.BytesIO(data))
    used = []

    def ioctl(target, request, source):
        assert request == 0x40049409
        used.append("clone")
        if not clones:
            raise OSError(errno.EOPNOTSUPP, "no reflink")
        os.write(target, os.pread(source, len(data), 0))  # what stands in for a file system that can

    real = os.copy_file_range

    def copy_file_range(*arguments, **options):
        used.append("kernel")
        if refusal:
            raise OSError(refusal, "cannot")
        return real(*arguments, **options)

    monkeypatch.setattr(copier.fcntl, "ioctl", ioctl)
    monkeypatch.setattr(os, "copy_file_range", copy_file_range)
    info = store.copier.copy("a", "b")
    assert info.version == store.stat("b").version
    assert read(store, "b") == data
    assert used[0] == "clone"
    assert ("kernel" in used) is not clones
    if not clones:
        assert [each.kind for each in store.extents.extents("b")] == ["data", "hole", "data"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_tell_holes_has_data_only(store, monkeypatch, code):
    def lseek(descriptor, at, whence):
        assert whence in {os.SEEK_DATA, os.SEEK_HOLE}
        raise OSError(code, os.strerror(code))

    store.writer.put("a", Sparse(1 << 20, b"x", 1 << 20))
    monkeypatch.setattr(os, "lseek", lseek)
    (extent,) = store.extents.extents("a", start=5, stop=1 << 20)
    assert (extent.kind, extent.range.start, extent.range.stop) == ("data", 5, 1 << 20)


def test_a_map_of_extents_is_of_one_version(store, folder):
    store.writer.put("a", Sparse(1 << 20, b"x" * 5000, 1 << 20, b"y"))
    extents = store.extents.extents("a")
    assert next(extents).kind == "hole"
    with open(folder / "a", "r+b") as file:
        file.write(b"z")
    with pytest.raises(VersionChangedError):
        next(extents)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_copy_that_fails_leaves_nothing(store, folder, monkeypatch, code):
    put(store, "a")

    def fail(*arguments, **options):
        raise OSError(code, os.strerror(code))

    for module, name in ((copier.fcntl, "ioctl"), (os, "copy_file_range")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fail)
            with pytest.raises(NoSpaceError if code == errno.ENOSPC else StorageIOError):
                store.copier.copy("a", "new/b")
        assert tree(folder) == ["a"]


@pytest.mark.parametrize("in_kernel", [True, False])
def test_a_copy_that_is_called_off_ends_between_two_steps(store, folder, monkeypatch, in_kernel):
    put(store, "a")
    token, real, steps = CancelToken(), os.copy_file_range, []

    def once(source, target, count, **options):
        steps.append(count)
        token.cancel()
        return real(source, target, count, **options) if in_kernel else 0

    monkeypatch.setattr(copier, "_STEP", 1000)
    monkeypatch.setattr(os, "copy_file_range", once)
    with pytest.raises(OperationCancelledError):
        store.copier.copy("a", "new/b", call=Call(cancel=token))
    assert steps == [1000]
    assert tree(folder) == ["a"]


def test_a_source_written_to_during_its_copy_is_not_published(store, folder, monkeypatch):
    put(store, "a")
    real = os.copy_file_range

    def meanwhile(*arguments, **options):
        with open(folder / "a", "r+b") as file:
            file.write(b"other")
        return real(*arguments, **options)

    monkeypatch.setattr(os, "copy_file_range", meanwhile)
    with pytest.raises(VersionChangedError):
        store.copier.copy("a", "b")
    assert tree(folder) == ["a"]


def test_a_source_cut_off_during_its_copy_is_not_published(store, folder, monkeypatch):
    put(store, "a")

    def cut(source, target, count, offset_src):
        os.truncate(folder / "a", 1000)
        return 0

    monkeypatch.setattr(os, "copy_file_range", cut)
    with pytest.raises((VersionChangedError, StorageIOError)):
        store.copier.copy("a", "b")
    assert tree(folder) == ["a"]


def test_a_rewrite_within_one_tick_is_seen(store, folder):
    """FAULTS.md B10: the same size, and as fast as can be."""
    path = folder / "a"
    for turn in range(30):
        path.write_bytes(b"a" * 5000)
        stream = store.get("a")
        with stream:
            stream.read(1000)
            with open(path, "r+b") as file:
                file.write(b"b" * 5000)
            with pytest.raises(VersionChangedError):
                stream.read()
        path.write_bytes(b"%d" % turn * 2500)
        version = store.stat("a").version
        path.write_bytes(b"%d" % (turn + 1) * 2500)
        with pytest.raises(VersionChangedError):
            store.get("a", version=version)


def test_a_file_that_changes_during_the_wait_has_no_version_and_is_not_read(store, folder, monkeypatch):
    path = folder / "a"

    class Meanwhile:
        """A clock in whose sleep the file changes again."""

        def now(self):
            return time.monotonic()

        def time(self):
            return time.time()

        def sleep(self, seconds, wake=None):
            path.write_bytes(b"b" * 5000)

    path.write_bytes(b"a" * 5000)
    monkeypatch.setattr(stamp, "_ROUNDS", 1)
    for module in (stamp, reader):
        monkeypatch.setattr(module, "unsettled", lambda found: 0.001)
    store.clock = Meanwhile()
    assert store.stat("a").version is None
    path.write_bytes(b"a" * 5000)
    with store.get("a") as stream, pytest.raises(VersionChangedError):
        stream.read()


def test_a_listing_tells_no_version_of_what_was_just_written(store, folder, monkeypatch):
    put(store, "a")
    monkeypatch.setattr("imgstore.backends.filesystem.lister.unsettled", lambda found: 0.001)
    assert [each.version for each in store.lister.list()] == [None]
    monkeypatch.undo()
    time.sleep(0.02)
    assert [each.version for each in store.lister.list()] == [store.stat("a").version]


def test_without_locks_folders_stay(store, folder, monkeypatch):
    """Some network file systems lock no folders: then none is removed, and none is lost."""

    def flock(descriptor, operation):
        raise OSError(errno.EBADF, "no locks on folders")

    monkeypatch.setattr(walk.fcntl, "flock", flock)
    put(store, "a/b")
    store.writer.delete("a/b")
    assert tree(folder) == ["a"]


def test_empty_folders_that_killed_puts_left_hinder_no_image(tmp_path):
    store = FilesystemStore(data_dir=tmp_path)
    for path in ("a/b/c/d", "a/b/e", "a/f"):
        (tmp_path / path).mkdir(parents=True)
    put(store, "a")
    assert os.listdir(tmp_path) == ["a"]
    assert read(store, "a") == DATA


@pytest.mark.parametrize("kept", ["file", "link", "deep", "held"])
def test_what_is_not_empty_below_a_folder_stays(tmp_path, kept):
    store = FilesystemStore(data_dir=tmp_path)
    (tmp_path / "a/b/c").mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        if kept == "file":
            (tmp_path / "a/b/c/image").write_bytes(b"x")
        elif kept == "link":
            (tmp_path / "elsewhere").mkdir()
            os.symlink(tmp_path / "elsewhere", tmp_path / "a/b/c/link")
        elif kept == "deep":
            nest(tmp_path / "a/b/c", 1100)
            stack.callback(subprocess.run, ["rm", "-rf", tmp_path / "a"], check=True)
        else:
            folder = os.open(tmp_path / "a/b/c", os.O_RDONLY)
            stack.callback(os.close, folder)
            fcntl.flock(folder, fcntl.LOCK_SH)
        with pytest.raises(UnsupportedError, match="'a' is a folder that holds images or other files, or is"):
            put(store, "a")
        assert (tmp_path / "a/b/c").is_dir()
    assert kept != "link" or (tmp_path / "elsewhere").is_dir()


@pytest.mark.parametrize("name", ["shake_128", "shake_256"])
def test_a_digest_without_a_length_is_refused_before_the_source_is_read(tmp_path, name):
    store, source = FilesystemStore(data_dir=tmp_path), io.BytesIO(DATA)
    with pytest.raises(ValueError, match=f"a {name} digest has no length of its own"):
        store.writer.put("a", source, digests={name: "00"})
    with pytest.raises(ValueError, match="no length of its own"):
        store.uploader.begin("a", 5, digests={name: "00"})
    assert source.tell() == 0


def test_a_hole_that_is_too_long_is_refused_before_it_is_hashed(tmp_path, monkeypatch):
    class Endless(io.BytesIO):
        def hole(self):
            return 1 << 62

    hashed = []
    monkeypatch.setattr(_intake.Digests, "update_zeros", lambda *arguments: hashed.append(arguments))
    store = FilesystemStore(data_dir=tmp_path)
    with pytest.raises(SourceChangedError, match="more bytes than the 5 promised"):
        store.writer.put("a", Endless(), 5, digests={"sha256": "00"})
    assert hashed == []
    assert os.listdir(tmp_path) == []
