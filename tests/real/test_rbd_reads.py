"""Reads of RBD images while something happens to them or to the cluster."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from imgstore.errors import (
    AuthenticationError,
    NotFoundError,
    OperationCancelledError,
    PermissionDeniedError,
    StorageIOError,
    TimedOutError,
    UnpinnableError,
    VersionChangedError,
)
from imgstore.model import ANY, Call, CancelToken
from imgstore.transfer.sparse import open_source
from tests.real.conftest import Ceph
from tests.real.rbd import TIMES, driver, fence_off, layered

SIZE = 48 << 20  # three times what a reader has asked for ahead, so that it can be caught in mid-read
DATA = random.Random(1).randbytes(SIZE)
WHOLE = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def image(rbd_ceph: Ceph, request: pytest.FixtureRequest):
    """Gives the key of an image of DATA, which a test may do anything to."""
    key = f"disk-{request.node.name}"
    with driver(rbd_ceph, trash_in_use=True) as store:
        store.writer.put(key, io.BytesIO(DATA), SIZE)
        yield key
        with contextlib.suppress(NotFoundError, UnpinnableError):
            store.writer.delete(key)


def rest(stream, head: bytes) -> str:
    digest = hashlib.sha256(head)
    for piece in stream.chunks():
        digest.update(piece)
    return digest.hexdigest()


def watched():
    events = []
    return events, Call(observe=events.append)


def received(events) -> int:
    return sum(event.count for event in events if event.kind == "delivered")


def test_osd_killed_and_restarted_in_mid_read(rbd_ceph, image):
    events, call = watched()
    with layered(rbd_ceph) as store, store.get(image, call=call) as stream:
        head = stream.read(1 << 20)
        rbd_ceph.kill9("osd")
        rbd_ceph.up("osd")
        assert rest(stream, head) == WHOLE
    assert received(events) == SIZE


def test_osd_stopped_beyond_the_timeouts(rbd_ceph, image):
    events, call = watched()
    with layered(rbd_ceph) as store, store.get(image, call=call) as stream:
        head = stream.read(1 << 20)
        rbd_ceph.pause("osd")
        wake = threading.Timer(3.5, rbd_ceph.cont, ["osd"])
        wake.start()
        assert rest(stream, head) == WHOLE
        wake.join()
    assert Counter(event.kind for event in events)["resumed"] >= 1
    assert received(events) == SIZE


def test_a_lost_osd_is_told_in_time_and_not_waited_for(rbd_ceph, image):
    with driver(rbd_ceph) as store, store.get(image) as stream:
        stream.read(1 << 20)
        rbd_ceph.pause("osd")
        begun = time.monotonic()
        with pytest.raises(TimedOutError) as raised:
            rest(stream, b"")
        assert time.monotonic() - begun < TIMES["receive_timeout"] + 1
        begun = time.monotonic()
        with pytest.raises(TimedOutError):
            store.stat(image)
        assert time.monotonic() - begun < TIMES["op_timeout"] + 1
        rbd_ceph.cont("osd")
        with store.get(image, raised.value.offset) as again:
            assert again.read(1 << 20) == DATA[raised.value.offset :][: 1 << 20]


def test_a_cancel_ends_what_librbd_waits_for(rbd_ceph, image):
    token = CancelToken()
    with driver(rbd_ceph) as store, store.get(image, call=Call(cancel=token)) as stream:
        stream.read(1 << 20)
        rbd_ceph.pause("osd")
        for act in (lambda: rest(stream, b""), lambda: store.stat("another", call=Call(cancel=token))):
            begun = time.monotonic()
            if not token.cancelled:
                threading.Timer(0.5, token.cancel).start()
            with pytest.raises(OperationCancelledError):
                act()
            assert time.monotonic() - begun < 1.5
        begun = time.monotonic()
        with pytest.raises(Exception, match="deadline"):
            store.stat("another", call=Call().within(0.5))
        assert time.monotonic() - begun < 1.5
        rbd_ceph.cont("osd")
        assert store.stat(image).size == SIZE


def test_no_monitor(rbd_ceph, image):
    with layered(rbd_ceph) as open_before, open_before.get(image) as stream:
        head = stream.read(1 << 20)
        rbd_ceph.kill9("mon")
        assert rest(stream, head) == WHOLE  # the OSDs are there
        with driver(rbd_ceph) as store:
            begun = time.monotonic()
            with pytest.raises(TimedOutError, match="no monitor"):
                store.stat(image)
            assert time.monotonic() - begun < TIMES["connect_timeout"] + 1
            rbd_ceph.up("mon")
            assert store.stat(image).size == SIZE


def test_the_connection_outlives_an_outage_of_everything(rbd_ceph, image):
    with layered(rbd_ceph) as store:
        version = store.stat(image).version
        rbd_ceph.kill9("osd")
        rbd_ceph.kill9("mon")
        rbd_ceph.up("mon")
        rbd_ceph.up("osd")
        with store.get(image, version=version) as stream:
            assert rest(stream, b"") == WHOLE


def read_on(stream, head: bytes) -> tuple[Exception | None, bytes]:
    got = bytearray(head)
    try:
        for piece in stream.chunks(100_000):
            got += piece
    except Exception as exc:
        return exc, bytes(got)
    return None, bytes(got)


@pytest.mark.parametrize("layers", [driver, layered])
def test_removed_in_mid_read(rbd_ceph, image, layers):
    """librbd itself reads zeros then, without an error."""
    with layers(rbd_ceph) as store, store.get(image) as stream:
        head = stream.read(1 << 20)
        with driver(rbd_ceph) as other:
            other.writer.delete(image)
        error, got = read_on(stream, head)
    assert type(error) is NotFoundError
    assert got == DATA[: len(got)]
    assert error.offset == len(got) < SIZE


@pytest.mark.parametrize("layers", [driver, layered])
def test_replaced_in_mid_read(rbd_ceph, image, layers):
    with layers(rbd_ceph) as store, store.get(image) as stream:
        head = stream.read(1 << 20)
        with driver(rbd_ceph) as other:
            other.writer.put(image, io.BytesIO(DATA[::-1]), SIZE, overwrite=True)
        error, got = read_on(stream, head)
    assert type(error) is VersionChangedError
    assert got == DATA[: len(got)]


def test_snapshot_removed_in_mid_read(rbd_ceph, image):
    """Removed, and another made of other bytes: the same id of the image, another of the snapshot."""
    with layered(rbd_ceph) as store, store.get(image) as stream:
        version = stream.info.version
        head = stream.read(1 << 20)
        rbd_ceph.tool("rbd", "snap", "unprotect", f"images/{image}@snap")
        rbd_ceph.tool("rbd", "snap", "rm", f"images/{image}@snap")
        rbd_ceph.tool("rbd", "resize", "--allow-shrink", "--size", "0", f"images/{image}")
        rbd_ceph.tool("rbd", "resize", "--size", "48M", f"images/{image}")
        error, got = read_on(stream, head)
        assert type(error) is VersionChangedError
        assert got == DATA[: len(got)]
        with pytest.raises(VersionChangedError):
            store.get(image, version=version)
        with pytest.raises(UnpinnableError, match="no protected snapshot 'snap'"):
            store.get(image)
        rbd_ceph.tool("rbd", "snap", "create", f"images/{image}@snap")
        rbd_ceph.tool("rbd", "snap", "protect", f"images/{image}@snap")
        with store.get(image, 0, 1000) as again:
            assert again.info.version != version
            assert again.read() == bytes(1000)


def test_b14_what_has_no_protected_snapshot_is_no_image(rbd_ceph):
    tool = rbd_ceph.tool
    tool("rbd", "create", "--size", "1M", "images/volume")
    try:
        with layered(rbd_ceph) as store:
            for state in ("none", "unprotected"):
                for act in (lambda: store.get("volume"), lambda: store.stat("volume")):
                    with pytest.raises(UnpinnableError, match="rbd snap protect"):
                        act()
                assert not list(store.lister.list("volume")), state
                with store.get("volume", version=ANY) as stream:
                    assert stream.info.version is None
                    assert stream.read() == bytes(1 << 20)
                with pytest.raises(UnpinnableError):
                    store.writer.delete("volume")
                if state == "none":
                    tool("rbd", "snap", "create", "images/volume@snap")
        with driver(rbd_ceph, allow_unpinned=True) as store, store.get("volume") as stream:
            assert stream.info.version is None
            assert [info.key for info in store.lister.list("volume")] == ["volume"]
        with driver(rbd_ceph, require_protected=False) as store, store.get("volume") as stream:
            assert stream.info.version is not None
    finally:
        tool("rbd", "snap", "purge", "images/volume")
        tool("rbd", "rm", "images/volume")


def test_a_client_that_was_fenced_off_reads_on_as_another(rbd_ceph, image):
    events, call = watched()
    with layered(rbd_ceph) as store, store.get(image, call=call) as stream:
        head = stream.read(1 << 20)
        fence_off(rbd_ceph, store)
        assert rest(stream, head) == WHOLE
    assert Counter(event.kind for event in events)["resumed"] == 1


def test_who_may_only_read(rbd_ceph, image):
    with driver(rbd_ceph, user=rbd_ceph.reader) as store:
        with store.get(image, 5, 1000) as stream:
            assert stream.read() == DATA[5:1005]
        assert image in {info.key for info in store.lister.list("disk-")}
        with pytest.raises(PermissionDeniedError):
            store.writer.put("refused", io.BytesIO(b"x"))
        with pytest.raises(PermissionDeniedError):
            store.writer.delete(image)
        assert store.stat(image).size == SIZE


def test_what_is_wrong_with_the_way(rbd_ceph, tmp_path):
    with driver(rbd_ceph, pool="nowhere") as store, pytest.raises(StorageIOError, match="pool 'nowhere'"):
        store.stat("x")
    with (
        driver(rbd_ceph, user="nobody") as store,
        pytest.raises(AuthenticationError, match=r"client\.nobody"),
    ):
        store.stat("x")
    with driver(rbd_ceph, ceph_conf=str(tmp_path / "none")) as store, pytest.raises(ValueError, match="none"):
        store.stat("x")
    keyring = tmp_path / "keyring"
    keyring.write_text("[client.images]\n\tkey = AQAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAA==\n")
    with driver(rbd_ceph, keyring=str(keyring)) as store, pytest.raises(AuthenticationError):
        store.stat("x")


def test_a_sparse_image_costs_what_it_holds(rbd_ceph):
    """10 GiB with 8 MiB of data: what has never been written is neither read nor asked for."""
    events, call = watched()
    piece, size = DATA[: 1 << 20], 10 << 30

    class Holed:
        """A source whose data is 1 MiB at the start of each 1.25 GiB."""

        def __init__(self):
            self.at = 0

        def hole(self):
            step = size // 8
            inside = self.at % step
            count = step - inside if inside >= len(piece) else 0
            self.at += count
            return count

        def read(self, n):
            left = min(n, len(piece) - self.at % (size // 8)) if self.at < size else 0
            inside = self.at % (size // 8)
            self.at += left
            return piece[inside : inside + left]

    with layered(rbd_ceph) as store:
        store.writer.put("sparse", Holed(), size, overwrite=True)
        begun, data = time.monotonic(), 0
        with open_source(store, "sparse", call=call) as stream:
            while True:
                if not stream.hole():
                    got = stream.read(1 << 20)
                    if not got:
                        break
                    assert got == piece[: len(got)]
                    data += len(got)
        assert time.monotonic() - begun < 6
        assert data == 8 * len(piece)
        assert received(events) == data
        store.writer.delete("sparse")


MEMORY = """
import sys
from imgstore.backends.rbd import RbdStore

def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10

buffer = memoryview(bytearray(100_000))
with RbdStore(user=sys.argv[1], ceph_conf=sys.argv[2], in_flight=4, io_size=1 << 20) as store:
    with store.get(sys.argv[3], 0, 1000) as stream:
        stream.readinto(buffer)
    before = peak()
    with store.get(sys.argv[3]) as stream:
        while stream.readinto(buffer):
            pass
    print(peak() - before)
"""


def test_a_reader_takes_no_more_memory_than_it_says(rbd_ceph, image):
    argv = [sys.executable, "-c", MEMORY, rbd_ceph.user, str(rbd_ceph.conf), image]
    done = subprocess.run(argv, check=True, timeout=30, capture_output=True, text=True)
    ours = (4 + 1) << 20
    # Beside librbd's own: what its threads' allocators keep of what they freed, which does not grow.
    assert int(done.stdout) < 3 * ours + (20 << 20) < SIZE


def test_a_child_that_ends_is_not_held_up_by_what_it_inherited(rbd_ceph, image):
    """The destructors of librados wait for threads that a fork leaves behind."""
    program = (
        "import gc, os, sys\n"
        "from imgstore.backends.rbd import RbdStore\n"
        "store = RbdStore(user=sys.argv[1], ceph_conf=sys.argv[2])\n"
        "stream = store.get(sys.argv[3], 0, 1000)\n"
        "stream.read(10)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    right = store.stat(sys.argv[3]).size == 48 << 20\n"
        "    store.close()\n"
        "    del store, stream\n"
        "    gc.collect()\n"
        "    sys.exit(not right)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, rbd_ceph.user, str(rbd_ceph.conf), image],
        check=False,
        timeout=20,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert (done.returncode, done.stderr) == (0, "")
