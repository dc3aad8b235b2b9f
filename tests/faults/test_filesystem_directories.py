"""Several data directories: one image in one of them, whatever races, fills up or is missing."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import threading
from types import SimpleNamespace

import pytest

from imgstore.backends.filesystem import FilesystemStore, directories
from imgstore.errors import (
    AlreadyExistsError,
    ConfigError,
    ConflictError,
    DeadlineExceededError,
    NoSpaceError,
    NotFoundError,
    OperationCancelledError,
    PermissionDeniedError,
    StorageIOError,
    VersionChangedError,
)
from imgstore.model import Call, CancelToken

DATA = bytes(range(251)) * 200


@pytest.fixture
def place(tmp_path):
    for name in ("low", "high", "other"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def store(place):
    return FilesystemStore(data_dirs=[f"{place}/low", f"{place}/high:10", f"{place}/other:10"])


@pytest.fixture
def rooms(store, monkeypatch):
    """The bytes free in each directory, as the test says; the one above all others at first."""
    rooms = {"low": 10**6, "high": 10**6, "other": 10**6 - 1}

    def free(self):
        name = os.path.basename(self.path)
        if not os.path.isdir(self.path):
            raise StorageIOError(f"{name} is not there")
        return hash(name), rooms[name]

    monkeypatch.setattr(directories.DataDirectory, "free", free)
    return rooms


def put(store, key, data=DATA, **options):
    return store.writer.put(key, io.BytesIO(data), **options)


def read(store, key):
    with store.get(key) as stream:
        return stream.read()


def home(place, key):
    return [name for name in ("low", "high", "other") if (place / name / key).exists()]


def keys(store, prefix=""):
    return [each.key for each in store.lister.list(prefix)]


@pytest.mark.parametrize(
    "free, size, chosen",
    [
        ((10**6, 10**6, 10**6 - 1), len(DATA), "high"),
        ((10**6, 10**6 - 1, 10**6), len(DATA), "other"),
        ((10**6, 10**6, 10**6), len(DATA), "high"),
        ((10**6, 10, 10), len(DATA), "low"),
        ((10**6, 10, len(DATA)), len(DATA), "other"),
        ((10**9, 10, len(DATA) - 1), len(DATA), "low"),
        ((10**9, 10, 11), None, "other"),
        ((10**9, 0, 0), None, "low"),
        ((5, 0, 0), 0, "high"),
    ],
)
def test_the_directory_of_a_new_image(store, place, rooms, free, size, chosen):
    rooms.update(zip(("low", "high", "other"), free, strict=True))
    put(store, "a/b", DATA if size != 0 else b"", size=size)
    assert home(place, "a/b") == [chosen]
    assert read(store, "a/b") == (DATA if size != 0 else b"")


def test_no_room_anywhere_is_known_before_the_source_is_read(store, place, rooms):
    rooms.update(low=7, high=6, other=5)
    source = io.BytesIO(DATA)
    with pytest.raises(NoSpaceError, match=f"{len(DATA)} bytes have no room; 7 are free in .*low"):
        store.writer.put("a", source, len(DATA))
    assert source.tell() == 0
    with pytest.raises(NoSpaceError):
        store.uploader.begin("a", len(DATA))
    rooms.update(low=0, high=0, other=0)
    with pytest.raises(NoSpaceError):
        put(store, "a")


def test_what_is_sparse_may_need_less_than_its_size(place, rooms):
    thin = FilesystemStore(data_dirs=[f"{place}/low", f"{place}/high:1"], thin=True)
    rooms.update(low=7, high=6)
    thin.writer.put("a", io.BytesIO(bytes(100_000)), 100_000)
    assert home(place, "a") == ["low"]
    rooms.update(low=0, high=0)
    with pytest.raises(NoSpaceError):
        thin.writer.put("b", io.BytesIO(bytes(100_000)), 100_000)


def test_an_image_that_is_replaced_stays_where_it_is(store, place, rooms):
    rooms.update(low=10**9, high=0, other=0)
    put(store, "a")
    rooms.update(high=10**9)
    put(store, "a", b"new", overwrite=True)
    assert home(place, "a") == ["low"]
    assert read(store, "a") == b"new"
    with pytest.raises(AlreadyExistsError):
        put(store, "a")


def test_a_copy_stays_beside_its_source_where_there_is_room(store, place, rooms):
    (place / "low" / "a").write_bytes(DATA)
    store.copier.copy("a", "b")
    assert home(place, "b") == ["low"]
    rooms.update(low=5)
    store.copier.copy("a", "c")
    assert home(place, "c") == ["high"]
    assert read(store, "c") == DATA


def test_the_first_of_two_is_read_listed_and_both_are_deleted(store, place):
    for name in ("low", "high"):
        (place / name / "a").write_bytes(name.encode())
    (place / "other" / "b").write_bytes(b"b")
    assert read(store, "a") == b"high"
    assert [(each.key, each.size) for each in store.lister.list()] == [("a", 4), ("b", 1)]
    with pytest.raises(VersionChangedError):
        store.writer.delete("a", version="another")
    assert home(place, "a") == ["low", "high"]
    store.writer.delete("a", version=store.stat("a").version)
    assert home(place, "a") == []


def test_listings_are_merged_in_order(store, place):
    for number, key in enumerate(("a", "a.b", "a/b".replace("/", "-"), "b/c", "b/d", "b0", "c")):
        path = place / ("low", "high", "other")[number % 3] / key
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    found = keys(store)
    assert found == sorted(found, key=str.encode)
    assert len(found) == 7
    assert keys(store, "b") == ["b/c", "b/d", "b0"]
    assert keys(store, "b/") == ["b/c", "b/d"]


def test_room_is_summed_over_file_systems(place):
    if not os.path.isdir("/dev/shm"):
        pytest.skip("the machine has no second file system in /dev/shm")
    one = FilesystemStore(data_dir=place / "low").space.free()
    both = FilesystemStore(data_dirs=[place / "low", place / "high"]).space.free()
    assert both == pytest.approx(one, abs=64 << 20)  # others write to the same disk
    shared = FilesystemStore(data_dir="/dev/shm").space.free()
    total = FilesystemStore(data_dirs=[place / "low", "/dev/shm"]).space.free()
    assert total == pytest.approx(one + shared, abs=64 << 20)


def test_one_directory_missing_hides_nothing_and_takes_nothing(store, place):
    put(store, "kept")
    at = home(place, "kept")[0]
    missing = next(name for name in ("low", "high", "other") if name != at)
    os.rename(place / missing, place / "away")
    assert read(store, "kept") == DATA
    with pytest.raises(AlreadyExistsError):
        put(store, "kept")
    named = f"data directory .*{missing} is not there; mount or create it"
    for call in (
        lambda: store.stat("gone"),
        lambda: store.get("gone"),
        lambda: put(store, "new"),
        lambda: put(store, "kept", overwrite=True),
        lambda: store.copier.copy("kept", "new"),
        lambda: store.uploader.begin("new", 5),
        lambda: keys(store),
        lambda: store.writer.delete("gone"),
        store.space.free,
    ):
        with pytest.raises(StorageIOError, match=named) as failure:
            call()
        assert not isinstance(failure.value, NotFoundError)
    assert not (place / missing).exists()
    store.writer.delete("kept")
    os.rename(place / "away", place / missing)
    with pytest.raises(NotFoundError):
        store.stat("gone")
    put(store, "new")


def test_one_directory_that_fails_hides_nothing(store, place, monkeypatch):
    (place / "low" / "a").write_bytes(DATA)
    real = os.open

    def broken(path, *rest, **options):
        if str(path).endswith("high"):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest, **options)

    monkeypatch.setattr(os, "open", broken)
    assert read(store, "a") == DATA
    with pytest.raises(PermissionDeniedError, match=r"cannot open the data directory .*high"):
        store.stat("b")


def test_two_writers_of_one_key_in_two_directories_make_one_image(store, place, rooms, monkeypatch):
    """FAULTS.md I3: each finds the key free and chooses another directory."""
    for turn in range(40):
        key, barrier = f"k/{turn}", threading.Barrier(2, timeout=10)
        chosen = iter(("low", "high"))

        class Meeting(io.BytesIO):
            def read(self, size=-1, barrier=barrier):
                if not self.tell():
                    barrier.wait()
                return super().read(size)

        def choose(self, size, chosen=chosen, **options):
            name = next(chosen)
            return next(each for each in self.ordered if each.path.endswith(name))

        monkeypatch.setattr(directories.Directories, "choose", choose)
        outcomes = []

        def write(number, key=key, source=Meeting, outcomes=outcomes):
            try:
                store.writer.put(key, source(DATA + bytes([number])))
                outcomes.append(number)
            except AlreadyExistsError:
                outcomes.append(None)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winner = [each for each in outcomes if each is not None]
        assert len(winner) == 1
        assert len(home(place, key)) == 1
        assert read(store, key) == DATA + bytes(winner)


def test_an_image_that_came_elsewhere_meanwhile_is_not_doubled(store, place, rooms):
    class Meanwhile(io.BytesIO):
        def read(self, size=-1):
            (place / "low" / "a").write_bytes(b"theirs")
            return super().read(size)

    with pytest.raises(ConflictError, match=r"another writer put 'a' into .*low meanwhile"):
        store.writer.put("a", Meanwhile(DATA), overwrite=True)
    assert home(place, "a") == ["low"]
    assert read(store, "a") == b"theirs"


@pytest.fixture
def locked(store, place):
    """Another process that holds the lock of the directories: a descriptor of its own."""
    put(store, "first")
    (lock,) = place.glob("*/.imgstore/lock")
    descriptor = os.open(lock, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield descriptor
    os.close(descriptor)


def test_a_lock_is_waited_for_no_longer_than_the_call_may_take(store, place, locked):
    token = CancelToken()
    timer = threading.Timer(0.05, token.cancel)
    timer.start()
    with pytest.raises(OperationCancelledError):
        put(store, "a", call=Call(cancel=token))
    timer.join()
    with pytest.raises(DeadlineExceededError):
        put(store, "a", call=Call().within(0.05))
    assert home(place, "a") == []


def test_a_lock_that_is_never_let_go_is_told_and_waited_for(store, place, locked, monkeypatch, caplog):
    now = [0.0]
    clock = SimpleNamespace(
        now=lambda: now[0], time=lambda: now[0], sleep=lambda s, wake=None: now.__setitem__(0, now[0] + s)
    )
    monkeypatch.setattr(store, "clock", clock)
    with pytest.raises(DeadlineExceededError):
        put(store, "a", call=Call().within(90, clock=clock))
    assert 90 <= now[0] < 91
    assert [each.getMessage() for each in caplog.records if each.levelname == "WARNING"] == [
        "the lock of the data directories has been held by another for 30 seconds; still waiting"
    ]
    assert home(place, "a") == []


def test_a_fork_keeps_no_directory_locked(store, place, monkeypatch):
    """Neither their common lock nor the folder that a put keeps."""
    real, children = os.link, []

    def forking(*arguments, **options):
        real(*arguments, **options)
        if not children:
            children.append(os.fork())
            if not children[0]:
                signal.pause()

    monkeypatch.setattr(os, "link", forking)
    try:
        put(store, "a/b")
        put(store, "c", call=Call().within(5))
        store.writer.delete("a/b")
        assert list(place.glob("*/a")) == []
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def test_a_lock_is_waited_for(store, locked):
    timer = threading.Timer(0.05, fcntl.flock, (locked, fcntl.LOCK_UN))
    timer.start()
    put(store, "a")
    timer.join()
    assert read(store, "a") == DATA


def test_the_lock_is_not_held_while_data_is_written(store, place):
    class Checking(io.BytesIO):
        def read(self, size=-1):
            put(store, f"b{self.tell()}")
            return super().read(100_000)

    store.writer.put("a", Checking(DATA))
    assert read(store, "a") == DATA


def test_the_lock_is_found_however_the_directories_are_spelled(place, monkeypatch):
    os.symlink("low", place / "link")
    monkeypatch.chdir(place)
    spelled = [
        [f"{place}/low", f"{place}/high"],
        [f"{place}/high/", f"{place}/low/"],
        ["low", "other/../high"],
        [f"{place}/high", f"{place}/link"],
    ]
    for number, paths in enumerate(spelled):
        put(FilesystemStore(data_dirs=paths), f"image-{number}")
    (lock,) = (path for name in ("low", "high") for path in (place / name).glob(".imgstore/lock"))
    with open(lock) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for paths in spelled:
            with pytest.raises(DeadlineExceededError):
                put(FilesystemStore(data_dirs=paths), "late", call=Call().within(0.05))


def test_one_folder_by_two_paths_is_refused_at_first_use(place):
    os.symlink("low", place / "link")
    (place / "low" / "a").write_bytes(DATA)
    store = FilesystemStore(data_dirs=[f"{place}/low", f"{place}/high", f"{place}/link"])
    source = io.BytesIO(DATA)
    for change in (
        lambda: store.writer.put("b", source),
        lambda: store.writer.put("a", source, overwrite=True),
        lambda: store.writer.delete("a"),
        lambda: store.copier.copy("a", "b"),
        lambda: store.uploader.begin("b", 5),
    ):
        with pytest.raises(ConfigError, match=r"directories .*/low and .*/link are one folder; name it once"):
            change()
    assert source.tell() == 0
    assert read(store, "a") == DATA


def test_a_directory_that_is_missing_is_known_before_the_source_is_read(store, place):
    put(store, "a")
    os.rename(next(place / name for name in ("other", "low") if home(place, "a") != [name]), place / "away")
    source = io.BytesIO(DATA)
    with pytest.raises(StorageIOError, match="is not there; mount or create it"):
        store.writer.put("a", source, overwrite=True)
    assert source.tell() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_lock_that_root_made_can_be_held_by_others(store, place):
    put(store, "a")
    for folder in (place, *place.iterdir()):
        folder.chmod(0o777)
    for folder in place.parents:
        if "pytest-" in str(folder):
            folder.chmod(0o755)
    child = os.fork()
    if not child:
        try:
            os.setgid(65534)
            os.setuid(65534)
            put(store, "b")
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert read(store, "b") == DATA


def test_one_directory_needs_no_lock(place):
    put(FilesystemStore(data_dirs=[place / "low"]), "a")
    assert os.listdir(place / "low") == ["a"]
