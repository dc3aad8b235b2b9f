"""Rows I1, I2 and I11: readers that are not alone, and readers that are left."""

from __future__ import annotations

import gc
import io
import random
import threading
import time
from contextlib import closing, suppress

import pytest

from imgstore import stack
from imgstore.backends.memory import MemoryStore
from imgstore.errors import NotFoundError, OperationCancelledError, UnsupportedError, VersionChangedError
from imgstore.model import Call, CancelToken
from imgstore.testing import server as wire
from tests.faults import rows
from tests.faults.rows import BUFFER, IMAGE, OTHER, PATH, K, N

rig = rows.rig


@pytest.mark.parametrize("change", ["delete", "overwrite"])
@pytest.mark.parametrize("at", [1, K, N - 1])
def test_i1_i2_a_memory_reader_keeps_its_version(change, at):
    driver = MemoryStore()
    driver.writer.put("disk", io.BytesIO(IMAGE))
    with stack.build(driver) as store, store.get("disk") as stream:
        data = stream.read(at)
        if change == "delete":
            store.writer.delete("disk")
        else:
            store.writer.put("disk", io.BytesIO(OTHER), overwrite=True)
        assert data + b"".join(map(bytes, stream.chunks(BUFFER))) == IMAGE
        with pytest.raises(NotFoundError if change == "delete" else VersionChangedError):
            store.get("disk", at, version=stream.info.version)


def test_i1_i2_readers_among_writers_see_one_version_or_none():
    versions = [random.Random(seed).randbytes(5 * BUFFER + seed) for seed in range(4)]
    store = stack.build(MemoryStore())
    start, stop = threading.Barrier(5), threading.Event()
    wrong, seen = [], set()

    def write(number):
        start.wait()
        while not stop.is_set():
            store.writer.put("disk", io.BytesIO(versions[number]), overwrite=True)
            with suppress(NotFoundError):
                store.writer.delete("disk")

    def look():
        start.wait()
        for _ in range(300):
            try:
                info = store.stat("disk")
                data = rows.read(store, "disk", 7, version=info.version)
            except (NotFoundError, VersionChangedError) as exc:
                seen.add(type(exc))
                continue
            if data not in [each[7:] for each in versions]:
                wrong.append(data[:20])

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    readers = [threading.Thread(target=look) for _ in range(3)]
    for thread in writers + readers:
        thread.start()
    for thread in readers:
        thread.join()
    stop.set()
    for thread in writers:
        thread.join()
    store.close()
    assert wrong == []
    assert seen


@pytest.mark.parametrize("new", [None, OTHER], ids=["deleted", "overwritten"])
@pytest.mark.parametrize("at", [1, K, N - 1])
def test_i1_i2_a_web_reader_goes_on_or_tells(rig, new, at):
    store, key = rig.store()
    rig.server.trap(PATH, wire.Cut(at=at))
    with store.get(key) as stream:
        assert stream.read(at) == IMAGE[:at]
        rig.server.put(PATH, new, etag='"v2"') if new else rig.server.remove(PATH)
        with pytest.raises(VersionChangedError if new else NotFoundError) as raised:
            stream.read(1)
        assert raised.value.offset == stream.delivered == at
    assert rig.spans == [(0, at)]


def test_i1_i2_a_body_under_way_is_read_to_its_end(rig):
    store, key = rig.store()
    with store.get(key) as stream:
        data = stream.read(K)
        rig.server.remove(PATH)
        assert data + b"".join(map(bytes, stream.chunks(BUFFER))) == IMAGE
    assert rig.requests == 1


def test_i11_a_stream_that_is_dropped_closes_its_connection(rig):
    store, key = rig.store()
    stream = store.get(key)
    pieces = stream.chunks(BUFFER)
    next(pieces)
    del stream, pieces
    gc.collect()
    rig.log.wait_closed()


def test_i11_one_that_failed_has_let_go_before_it_is_closed(rig):
    rig.script(wire.Cut(at=K), then=wire.Status(404))
    store, key = rig.store()
    stream = store.get(key)
    with pytest.raises(NotFoundError):
        stream.read()
    rig.log.wait_closed()
    stream.close()


@pytest.mark.parametrize("taken", [0, K, N])
def test_i11_closing_twice_is_closing(rig, taken):
    store, key = rig.store()
    stream = store.get(key)
    stream.read(taken)
    stream.close()
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.readinto(bytearray(1))
    assert rows.read(store, key) == IMAGE


def test_i11_a_stream_outlives_its_store(rig):
    store, key = rig.store()
    with store.get(key) as stream:
        store.close()
        assert stream.read(K) == IMAGE[:K]
        with pytest.raises(ValueError, match="closed"):
            store.get(key)


def test_i11_a_second_thread_is_told_and_disturbs_nothing(rig):
    rig.script(wire.Stall(1, at=K))
    store, key = rig.store()
    with store.get(key) as stream:
        data = bytearray(stream.read(K))
        reader = threading.Thread(target=lambda: data.extend(stream.read(1000)))
        reader.start()
        time.sleep(0.1)  # by then the reader waits for what the server holds back
        with pytest.raises(UnsupportedError):
            stream.readinto(bytearray(1))
        reader.join()
        data += stream.read(N)
    assert data == IMAGE
    assert rig.requests == 1


def test_i11_closing_from_another_thread_ends_a_pending_read(rig):
    rig.script(wire.Stall(at=K))
    store, key = rig.store()
    stream = store.get(key)
    assert stream.read(K) == IMAGE[:K]
    with closing(stream):
        timer = rows.later(0.1, stream.close)
        with pytest.raises(OperationCancelledError):
            stream.read(1)
        timer.join()
    rig.log.wait_closed()


def test_i11_a_call_that_is_over_holds_nothing(rig):
    token = CancelToken()
    store, key = rig.store()
    for _ in range(20):
        rows.read(store, key, 0, 10, call=Call(cancel=token))
    gc.collect()
    rows.read(store, key, 0, 10, call=Call(cancel=token))
    assert len(token._listeners) < 10
    token.cancel()
    with pytest.raises(OperationCancelledError):
        store.get(key, call=Call(cancel=token))
