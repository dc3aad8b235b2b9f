"""Puts, uploads and deletes of RBD images while something happens to the cluster, the client or the image."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib

import pytest

from imgstore.backends.rbd import draft, names
from imgstore.errors import (
    AlreadyExistsError,
    ConflictError,
    InUseError,
    LockedError,
    NotFoundError,
    StorageIOError,
    TimedOutError,
    UnsafeLocationError,
    UploadLostError,
)
from imgstore.model import Part
from tests.real.conftest import Ceph
from tests.real.rbd import driver, fence_off, layered, left, reap, session_of, unwatched

SIZE = 32 << 20
DATA = random.Random(2).randbytes(SIZE)
PART = 4 << 20


@pytest.fixture
def key(rbd_ceph: Ceph, request: pytest.FixtureRequest):
    """Gives a key; before and after there is neither an image of it nor anything that an upload left."""
    key = f"put-{request.node.name}"
    with driver(rbd_ceph) as store:
        reap(store)
    yield key
    rbd_ceph.come_back()
    with driver(rbd_ceph, trash_in_use=True) as store:
        with contextlib.suppress(NotFoundError):
            unwatched(lambda: store.writer.delete(key))
        reap(store)


def whole(store, key) -> bytes:
    with store.get(key) as stream:
        return stream.read()


class Interrupted(io.BytesIO):
    """DATA; in the middle of it `act` happens once."""

    def __init__(self, act, at=SIZE // 2):
        super().__init__(DATA)
        self._act, self._at = act, at

    def read(self, size=-1):
        if self._act is not None and self.tell() >= self._at:
            act, self._act = self._act, None
            act()
        return super().read(size)


def test_osd_killed_and_restarted_in_mid_put(rbd_ceph, key):
    def restart():
        rbd_ceph.kill9("osd")
        rbd_ceph.up("osd")

    with layered(rbd_ceph) as store:
        store.writer.put(key, Interrupted(restart), SIZE)
        assert whole(store, key) == DATA
        reap(store)  # where the OSD was away for longer than an operation may take, what the first try left
        assert not left(store)


def test_osd_stopped_beyond_the_timeouts_in_mid_put(rbd_ceph, key):
    """The first try times out, and the source is rewound for another."""

    def stop():
        rbd_ceph.pause("osd")
        threading.Timer(8.0, rbd_ceph.cont, ["osd"]).start()

    with layered(rbd_ceph) as store:
        store.writer.put(key, Interrupted(stop), SIZE)
        assert whole(store, key) == DATA
        reap(store)  # what the first try could not remove
        assert not left(store)


def test_d18_a_write_that_times_out_leaves_no_image(rbd_ceph, key):
    with driver(rbd_ceph, op_timeout=2.0) as store:
        begun = time.monotonic()
        with pytest.raises(TimedOutError):
            store.writer.put(key, Interrupted(lambda: rbd_ceph.pause("osd")), SIZE)
        assert time.monotonic() - begun < 6
        rbd_ceph.cont("osd")
        with pytest.raises(NotFoundError):
            store.stat(key)


def test_d18_a_writer_that_was_fenced_off_leaves_no_image(rbd_ceph, key):
    with driver(rbd_ceph) as store:
        with pytest.raises(StorageIOError, match="fenced"):
            store.writer.put(key, Interrupted(lambda: fence_off(rbd_ceph, store)), SIZE)
        with pytest.raises(NotFoundError):
            store.stat(key)
        assert left(store) == [key]  # what it had no right to remove any more
        store.writer.put(key, io.BytesIO(DATA), SIZE)
        assert whole(store, key) == DATA


def upload(store, key, data=DATA, numbers=range(SIZE // PART)) -> tuple[str, list[Part]]:
    token = store.uploader.begin(key, len(data))
    return token, [put(store, token, number, data) for number in numbers]


def put(store, token, number, data=DATA) -> Part:
    piece = memoryview(data)[number * PART : (number + 1) * PART]
    return store.uploader.put_part(token, number, number * PART, piece)


def test_osd_killed_and_restarted_in_mid_upload(rbd_ceph, key):
    with layered(rbd_ceph) as store:
        token, parts = upload(store, key, numbers=range(3))
        rbd_ceph.kill9("osd")
        threading.Timer(1.0, rbd_ceph.up, ["osd"]).start()
        parts += [put(store, token, number) for number in range(3, 8)]
        store.uploader.complete(token, parts)
        assert whole(store, key) == DATA


UPLOADER = """
import json, sys
from imgstore.backends.rbd import RbdStore
user, conf, key, part, token = sys.argv[1:]
part, data = int(part), sys.stdin.buffer.read()
store = RbdStore(user=user, ceph_conf=conf)
token = token or store.uploader.begin(key, len(data))
print(json.dumps(["token", token]), flush=True)
held = {each.number for each in store.uploader.parts(token)}
for number in range(len(data) // part):
    if number not in held:
        print(json.dumps(["put", number]), flush=True)
        store.uploader.put_part(token, number, number * part, memoryview(data)[number * part:][:part])
info = store.uploader.complete(token, store.uploader.parts(token))
print(json.dumps(["done", info.version]), flush=True)
store.close()
"""


def run_uploader(ceph: Ceph, key: str, token: str = "", kill_at: float | None = None) -> list[list]:
    """Runs an uploader in a process of its own, killed so long after its first part; gives what it said."""
    argv = [sys.executable, "-c", UPLOADER, ceph.user, str(ceph.conf), key, str(PART), token]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(DATA)
        process.stdin.close()
        said = []
        for line in process.stdout:
            said.append(json.loads(line))
            if kill_at is not None and said[-1][0] == "put":
                threading.Timer(kill_at, process.send_signal, [signal.SIGKILL]).start()
                kill_at = None
    return said


@pytest.mark.parametrize("kill_at", [0.02, 0.1])
def test_client_killed_in_mid_upload_and_run_again(rbd_ceph, key, kill_at):
    first = run_uploader(rbd_ceph, key, kill_at=kill_at)
    assert first[-1][0] == "put"
    token = first[0][1]
    with driver(rbd_ceph) as store:
        with pytest.raises(NotFoundError):
            store.stat(key)
        assert left(store) == [key]
        second = run_uploader(rbd_ceph, key, token)
        assert second[-1][0] == "done"
        sent = [each[1] for each in first + second if each[0] == "put"]
        assert len(sent) - len(set(sent)) <= 1
        assert whole(store, key) == DATA
        assert not left(store)
        assert store.uploader.complete(token, []).version == second[-1][1] == store.stat(key).version


def test_what_a_killed_client_left_is_reaped(rbd_ceph, key):
    run_uploader(rbd_ceph, key, kill_at=0.05)
    with driver(rbd_ceph) as store:
        assert left(store) == [key]
        reap(store)
        assert not left(store)
    assert not [name for name in rbd_ceph.tool("rbd", "ls", "images").split() if name.startswith(names.OWN)]


def test_d15_the_older_of_two_resumers_writes_nothing_more(rbd_ceph, key):
    other = bytes(len(DATA))
    with driver(rbd_ceph) as older, driver(rbd_ceph) as newer:
        token, parts = upload(older, key, other, numbers=range(4))
        taken = [put(newer, token, number) for number in range(8)]
        for act in (lambda: put(older, token, 2, other), lambda: older.uploader.complete(token, parts)):
            with pytest.raises(ConflictError, match="taken this upload over"):
                act()
        newer.uploader.complete(token, taken)
        assert whole(newer, key) == DATA


def test_d15_two_resumers_at_once(rbd_ceph, key):
    """Both put the same parts, of other bytes; the image is the newer one's, to the last byte."""
    with driver(rbd_ceph) as older, driver(rbd_ceph) as newer:
        token, _ = upload(older, key, bytes(SIZE), numbers=range(1))
        ended = []

        def go_on():
            try:
                while True:
                    for number in range(8):
                        put(older, token, number, bytes(SIZE))
            except Exception as exc:
                ended.append(exc)

        thread = threading.Thread(target=go_on)
        thread.start()
        time.sleep(0.2)
        parts = [put(newer, token, number) for number in range(8)]
        thread.join(20)
        assert [type(each) for each in ended] == [ConflictError]
        newer.uploader.complete(token, parts)
        assert whole(newer, key) == DATA


def test_a_live_writer_is_not_reaped(rbd_ceph, key):
    def reap():
        with driver(rbd_ceph) as other:
            (found,) = other.uploader.uploads()
            with pytest.raises(InUseError):
                other.uploader.abort(found.token)

    with driver(rbd_ceph) as store:
        store.writer.put(key, Interrupted(reap), SIZE)
        assert whole(store, key) == DATA


@pytest.mark.parametrize("plan", ["[]", '{"key": "k", "newer": 1}', '{"key": 5, "started": "x"}'])
def test_a_draft_that_cannot_be_read_hides_no_other(rbd_ceph, key, plan):
    with driver(rbd_ceph) as store, session_of(store) as session:
        session.rbd.create(session.pool, theirs := names.draft(), 1 << 20)
        image = session.open(theirs, writable=True)
        image.metadata_set("imgstore.upload", plan)
        store.uploader.begin(key, None)
        try:
            assert left(store) == [key]
            reap(store)
            assert theirs in session.rbd.list(session.pool)
        finally:
            session.close(image)
            session.rbd.remove(session.pool, theirs)


def test_an_upload_that_is_locked_is_told_so(rbd_ceph, key):
    with driver(rbd_ceph, op_timeout=1.0) as store, driver(rbd_ceph) as other:
        token, _ = upload(store, key, numbers=())
        with session_of(other) as session:
            image = session.open(image_id=token, writable=True)
            image.lock_acquire(0)
            with pytest.raises(LockedError, match="another process"):
                put(store, token, 0)
            session.close(image)
        put(store, token, 0)


@contextlib.contextmanager
def cloned(store, key):
    """Makes a clone of the image for the block; gives what reads its bytes."""
    with session_of(store) as session:
        rbd, pool, clone = session.rbd, session.pool, f"clone-{os.getpid()}"
        rbd.clone(pool, names.name_of(key), "snap", pool, clone, session.bindings.rbd.RBD_FEATURE_LAYERING)

        def read() -> bytes:
            image = session.open(clone)
            try:
                return image.read(0, SIZE)
            finally:
                session.close(image)

        yield read
        rbd.remove(pool, clone)
        for each in list(rbd.trash_list(pool)):
            image = session.open(image_id=each["id"], writable=True)
            for snap in list(image.list_snaps()):
                if image.is_protected_snap(snap["name"]):
                    image.unprotect_snap(snap["name"])
                image.remove_snap(snap["name"])
            session.close(image)
            rbd.trash_remove(pool, each["id"])


def test_an_image_with_clones_is_in_use(rbd_ceph, key):
    with driver(rbd_ceph) as store:
        version = store.writer.put(key, io.BytesIO(DATA), SIZE).version
        with cloned(store, key) as read:
            with pytest.raises(InUseError, match="clones"):
                store.writer.delete(key)
            with pytest.raises(InUseError, match="clones"):
                store.writer.put(key, io.BytesIO(b"other"), overwrite=True)
            assert store.stat(key).version == version
            assert whole(store, key) == read() == DATA
            assert not left(store)


def test_it_goes_to_the_trash_where_that_is_asked_for(rbd_ceph, key):
    with driver(rbd_ceph, trash_in_use=True) as store:
        store.writer.put(key, io.BytesIO(DATA), SIZE)
        with cloned(store, key) as read:
            store.writer.put(key, io.BytesIO(b"other"), overwrite=True)
            assert whole(store, key) == b"other"
            assert read() == DATA
        store.writer.put(key, io.BytesIO(DATA), SIZE, overwrite=True)
        with cloned(store, key) as read:
            store.writer.delete(key)
            with pytest.raises(NotFoundError):
                store.stat(key)
            assert read() == DATA
        assert not left(store)


def test_other_snapshots_and_open_disks_are_in_use(rbd_ceph, key):
    with driver(rbd_ceph) as store:
        store.writer.put(key, io.BytesIO(b"x"))
        spec = f"images/{names.name_of(key)}"
        rbd_ceph.tool("rbd", "snap", "create", f"{spec}@daily")
        with pytest.raises(InUseError, match="daily"):
            store.writer.delete(key)
        rbd_ceph.tool("rbd", "snap", "rm", f"{spec}@daily")
        with session_of(store) as session:
            disk = session.open(names.name_of(key), writable=True)
            with pytest.raises(InUseError, match="open"):
                store.writer.delete(key)
            session.close(disk)


def test_a_replacement_that_was_cut_short_loses_nothing(rbd_ceph, key):
    """Killed between its two renames: readers find the old image, and the next writer sets things right."""
    with driver(rbd_ceph) as store:
        old = store.writer.put(key, io.BytesIO(DATA), SIZE)
        with session_of(store) as session:
            image = session.open(names.name_of(key), writable=True)
            image.metadata_set("imgstore.key", key)
            session.close(image)
            session.rbd.rename(session.pool, names.name_of(key), names.replaced(key))
        assert store.stat(key) == old
        assert whole(store, key) == DATA
        assert [info.key for info in store.lister.list(key)] == [key]
        assert not left(store)
        with pytest.raises(AlreadyExistsError):
            store.writer.put(key, io.BytesIO(b"new"))
        store.writer.put(key, io.BytesIO(b"new"), overwrite=True)
        assert whole(store, key) == b"new"
        with session_of(store) as session:
            session.rbd.rename(session.pool, names.name_of(key), names.replaced(key))
        store.writer.delete(key)
        with pytest.raises(NotFoundError):
            store.stat(key)
        assert not left(store)


def test_what_a_replacement_left_does_not_come_back(rbd_ceph, key):
    """Killed when the new image had its name, and the old one not yet lost its own: a delete removes both."""
    with driver(rbd_ceph) as store:
        store.writer.put(key, io.BytesIO(b"old"))
        with session_of(store) as session:
            image = session.open(names.name_of(key), writable=True)
            image.metadata_set("imgstore.key", key)
            session.close(image)
            session.rbd.rename(session.pool, names.name_of(key), names.replaced(key))
            store.writer.put(f"{key}-new", io.BytesIO(b"new"))
            session.rbd.rename(session.pool, names.name_of(f"{key}-new"), names.name_of(key))
        assert whole(store, key) == b"new"
        store.writer.delete(key)
        with pytest.raises(NotFoundError):
            store.stat(key)
        assert not left(store)


def test_readers_find_the_old_or_the_new_at_every_moment(rbd_ceph, key):
    with driver(rbd_ceph) as store, driver(rbd_ceph) as reader:
        store.writer.put(key, io.BytesIO(bytes([0]) * 1000))
        done, failures = threading.Event(), []

        def look():
            while not done.is_set():
                try:
                    got = whole(reader, key)
                    assert len(set(got)) == 1
                    assert len(got) == 1000
                except Exception as exc:
                    # a read that had begun ends when its image has gone, and may be made again
                    if getattr(exc, "offset", None) is None:
                        failures.append(exc)

        thread = threading.Thread(target=look)
        thread.start()
        for number in range(1, 8):
            store.writer.put(key, io.BytesIO(bytes([number]) * 1000), overwrite=True)
        done.set()
        thread.join()
    assert not failures


@pytest.mark.parametrize("step", ["new object", "directory"])
def test_a_rename_that_was_cut_short_is_completed(rbd_ceph, key, step):
    """`rbd_rename` makes the new name's object, changes the directory, and removes the old name's object."""
    with driver(rbd_ceph) as store:
        token, parts = upload(store, key)
        with session_of(store) as session:
            (draft,) = [name for name in session.rbd.list(session.pool) if names.is_draft(name)]
            content = struct.pack("<I", len(token)) + token.encode()
            if step == "new object":
                session.pool.write_full(f"rbd_id.{key}", content)
            else:
                store.uploader.complete(token, parts)
                session.pool.write_full(f"rbd_id.{draft}", content)
        first = store.uploader.complete(token, parts)
        assert first == store.uploader.complete(token, parts)
        assert whole(store, key) == DATA
        assert not left(store)
        with session_of(store) as session:
            assert draft not in session.rbd.list(session.pool)


@pytest.mark.parametrize("name", [names.gone, names.draft], ids=["delete", "put"])
def test_a_second_name_that_a_rename_left_takes_no_key(rbd_ceph, key, name):
    """Cut short by a kill, it leaves an object `rbd_id.KEY` that outlives its image."""
    with driver(rbd_ceph) as store:
        store.writer.put(key, io.BytesIO(b"old"))
        with session_of(store) as session:
            content = session.pool.read(f"rbd_id.{key}")
            session.rbd.rename(session.pool, key, name())
            session.pool.write_full(f"rbd_id.{key}", content)
        reap(store)
        with pytest.raises(NotFoundError):
            store.writer.delete(key)
        with session_of(store) as session:
            session.pool.write_full(f"rbd_id.{key}", content)
        store.writer.put(key, io.BytesIO(b"new"))
        assert whole(store, key) == b"new"


def test_what_is_aborted_as_it_gets_its_name_is_no_success(rbd_ceph, key, monkeypatch):
    """A writer that waits for its key's name has closed its image, and looks like one that was killed."""
    named = threading.Event()

    def drop(image):
        named.set()  # all that stands between the image and its removal; the writer may have its turn
        writing.join(20)
        dropped(image)

    with driver(rbd_ceph) as store, driver(rbd_ceph) as other, session_of(other) as session:
        store.writer.put(key, io.BytesIO(b"old"))
        lock = f"imgstore.naming.{zlib.crc32(key.encode()) % 64}"
        session.pool.lock_exclusive("rbd_directory", lock, "test", "", 20)
        ended = []

        def put():
            try:
                ended.append(store.writer.put(key, io.BytesIO(DATA), SIZE, overwrite=True))
            except Exception as exc:
                ended.append(exc)

        writing = threading.Thread(target=put)
        writing.start()
        token = _closed_draft(other, session)
        dropped = draft.drop_snapshots
        monkeypatch.setattr(draft, "drop_snapshots", drop)
        aborting = threading.Thread(target=lambda: other.uploader.abort(token))
        aborting.start()
        named.wait(1)
        session.pool.unlock("rbd_directory", lock, "test")
        aborting.join(30)
        writing.join(30)
        (result,) = ended
        if isinstance(result, Exception):
            assert isinstance(result, UploadLostError)
            assert whole(store, key) == b"old"
        else:
            assert whole(store, key) == DATA
        assert not left(store)


def _closed_draft(store, session) -> str:
    """Waits until a writer has a complete image and closes it; gives the upload's token."""
    limit = time.monotonic() + 20
    while time.monotonic() < limit:
        for each in store.uploader.uploads():
            image = session.open(image_id=each.token)
            closed = list(image.list_snaps()) and not list(image.watchers_list())
            session.close(image)
            if closed:
                return each.token
        time.sleep(0.05)
    raise AssertionError("no writer got so far")


def test_keys_that_ceph_has_no_room_for(rbd_ceph):
    with driver(rbd_ceph) as store:
        with pytest.raises(UnsafeLocationError, match="the driver's own"):
            store.stat(".imgstore-new-x")
        with pytest.raises(UnsafeLocationError, match="Ceph takes 2040"):
            store.writer.put("@" * 1000, io.BytesIO(b"x"))


def test_names_are_those_that_other_tools_know(rbd_ceph, key):
    with driver(rbd_ceph) as store:
        for name in ("6f2c8f0e-3f6e-4d1b-9c3e-0123456789ab", "debian 12/a@b%"):
            store.writer.put(name, io.BytesIO(b"x"))
            listed = rbd_ceph.tool("rbd", "ls", "images").splitlines()
            assert name.replace("%", "%25").replace("/", "%2F").replace("@", "%40") in listed
            assert name in {info.key for info in store.lister.list()}
            store.writer.delete(name)


def test_layout_and_features_are_what_the_options_say(rbd_ceph, key):
    options = {
        "object_size": 1 << 20,
        "stripe_unit": 1 << 16,
        "stripe_count": 4,
        "features": ["layering", "exclusive-lock"],
    }
    with driver(rbd_ceph, **options) as store:
        store.writer.put(key, io.BytesIO(DATA), SIZE)
        assert whole(store, key) == DATA
    with driver(rbd_ceph) as store:
        assert whole(store, key) == DATA
    told = json.loads(rbd_ceph.tool("rbd", "info", "--format", "json", f"images/{names.name_of(key)}"))
    assert told["order"] == 20
    assert (told["stripe_unit"], told["stripe_count"]) == (1 << 16, 4)
    # Striping is a feature of its own, by which Ceph marks such a layout.
    assert set(told["features"]) == {"layering", "exclusive-lock", "striping"}
    assert told["protected"] if "protected" in told else told["snapshot_count"] == 1


def test_zeros_take_no_room(rbd_ceph, key):
    data = DATA[: 1 << 20] + bytes(6 << 20) + DATA[: 1 << 19] + bytes(1 << 19) + DATA[: 1 << 20]
    kinds = [(1 << 20, "data"), (6 << 20, "hole"), (1 << 19, "data"), (1 << 19, "hole"), (1 << 20, "data")]

    def held():
        return [(each.range.size, each.kind) for each in store.extents.extents(key)]

    with driver(rbd_ceph, object_size=1 << 20) as store:
        store.writer.put(key, io.BytesIO(data))
        assert held() == kinds
        assert whole(store, key) == data
        store.writer.delete(key)
        token = store.uploader.begin(key, len(data))
        ones = b"\xff" * len(data)
        for content in (ones, data):  # a part that is put again: its zeros must replace what was there
            part = store.uploader.put_part(token, 0, 0, memoryview(content))
        store.uploader.complete(token, [part])
        assert whole(store, key) == data
        assert held()[:2] == kinds[:2]


def test_an_image_in_a_namespace(rbd_ceph):
    rbd_ceph.tool("rbd", "namespace", "create", "images/tenant")
    with driver(rbd_ceph, user=rbd_ceph.admin, namespace="tenant") as store, driver(rbd_ceph) as other:
        store.writer.put("disk", io.BytesIO(DATA), SIZE)
        assert whole(store, "disk") == DATA
        assert [info.key for info in store.lister.list()] == ["disk"]
        with pytest.raises(NotFoundError):
            other.stat("disk")
        store.writer.delete("disk")
    rbd_ceph.tool("rbd", "namespace", "remove", "images/tenant")


def test_the_room_is_not_known_without_a_manager(rbd_ceph):
    with driver(rbd_ceph) as store:
        assert store.space.free() is None


def operations(store, key):
    """Gives every operation of every facet, and what it is tried on; those that make things undo nothing."""
    uploader = store.uploader
    token, _ = upload(store, f"{key}-upload", DATA[: 2 * PART], numbers=range(2))
    other, _ = upload(store, f"{key}-other", DATA[:PART], numbers=())
    return {
        "stat": lambda: store.stat(key).size,
        "get": lambda: whole(store, key),
        "list": lambda: [info.key for info in store.lister.list(key)],
        "extents": lambda: list(store.extents.extents(key)),
        "put": lambda: store.writer.put(f"{key}-new", io.BytesIO(b"new")).size,
        "begin": lambda: bool(uploader.begin(f"{key}-begun", 5)),
        "put_part": lambda: put(store, token, 1, DATA[: 2 * PART]).size,
        "parts": lambda: len(uploader.parts(token)),
        "uploads": lambda: bool(list(uploader.uploads())),
        "complete": lambda: uploader.complete(token, uploader.parts(token)).size,
        "abort": lambda: uploader.abort(other),
        "delete": lambda: store.writer.delete(key),
    }


def test_every_operation_outlives_a_stall(rbd_ceph, key):
    """Each begins while the OSD stands still, and for longer than an operation may take."""
    with layered(rbd_ceph, op_timeout=1.0) as store:
        store.writer.put(key, io.BytesIO(b"image"))
        given, seconds = {}, {}
        for name, act in operations(store, key).items():
            rbd_ceph.pause("osd")
            threading.Timer(1.3, rbd_ceph.cont, ["osd"]).start()
            begun = time.monotonic()
            given[name] = act()
            seconds[name] = time.monotonic() - begun
        assert min(seconds.values()) > 1.2
        assert given["get"] == b"image"
        assert given["list"][0] == key
        assert (given["stat"], given["put"], given["put_part"], given["parts"]) == (5, 3, PART, 2)
        assert given["complete"] == 2 * PART
        assert whole(store, f"{key}-upload") == DATA[: 2 * PART]
        for name in ("new", "upload"):
            store.writer.delete(f"{key}-{name}")
