"""Reads over several connections: no mixture, no byte twice, an end in time, and bounded memory."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import threading
import time

import pytest

from imgstore import stack
from imgstore.errors import ImgstoreError, RetriesExhaustedError, VersionChangedError
from imgstore.layers import _parallel_plan
from imgstore.layers.parallel import PART_SIZE, SPARE, ParallelLayer
from imgstore.model import ByteRange, ObjectInfo
from imgstore.store import Store, unknown
from imgstore.stream import Opened
from imgstore.testing import server as wire
from imgstore.testing.faults import SimClock, SimStore, schedule
from imgstore.testing.faults.store import KEY
from tests.faults import rows
from tests.faults.rows import IMAGE, OTHER, N
from tests.ramps import AtOnce

rig = rows.rig

MIB = 1 << 20
PART = MIB // 2
STREAMS = 4
PROMPT = 3.0  # seconds: what ends within one, with slack
LARGE = IMAGE * 4


def parallel(rig, *, part_size=PART, **options):
    """Gives a store that reads over all its connections from the first byte on, and the key."""
    store, key = rig.store(**options)
    return ParallelLayer(store, streams=STREAMS, part_size=part_size, ramp=AtOnce), key


def threads():
    return [each.name for each in threading.enumerate() if each.name.startswith("imgstore-parallel")]


def broken(stream):
    """Reads to the error; gives it, what came before, and the seconds from the last byte to it."""
    got = bytearray()
    last = time.monotonic()
    try:
        for piece in stream.chunks(rows.BUFFER):
            got += piece
            last = time.monotonic()
    except ImgstoreError as exc:
        return exc, bytes(got), time.monotonic() - last
    pytest.fail("the read came to its end")


@pytest.fixture
def patient(monkeypatch):
    """Nobody is called slow: a machine that pauses for half a second has no part asked for twice."""
    monkeypatch.setattr(_parallel_plan, "SLOW", math.inf)


def test_each_byte_is_sent_once(rig, patient):
    store, key = parallel(rig)
    assert rows.read(store, key) == IMAGE
    assert sorted(rig.spans) == [(at, min(at + PART, N)) for at in range(0, N, PART)]
    assert {each.header("If-Match") for each in rig.exchanges[1:]} == {'"v1"'}


@pytest.mark.parametrize("size", [1, PART])
def test_small_images_are_one_request_and_no_thread(rig, size):
    rig.put(IMAGE[:size])
    store, key = parallel(rig)
    with store.get(key) as stream:
        assert (stream.read(), threads()) == (IMAGE[:size], [])
    assert rig.asked == [f"bytes=0-{PART - 1}"]


def test_a32_a_part_much_slower_than_the_others_is_shared(rig):
    rate = 100 << 10  # five seconds for a part
    rig.script(None, None, wire.Throttle(rate))
    store, key = parallel(rig)
    assert rows.read(store, key) == IMAGE
    slow = rig.exchanges[2]
    assert slow.ended == "peer-left"
    assert slow.body_sent < PART
    assert rig.sent <= 1.05 * N


@pytest.mark.parametrize("kind", [wire.NoRanges, wire.WholeInstead])
def test_a_server_without_ranges_is_read_over_one_connection(rig, kind):
    rig.script(then=kind())
    store, key = parallel(rig)
    assert rows.read(store, key) == IMAGE
    assert rig.requests <= 2 + STREAMS
    assert rig.exchanges[-1].range_served == (0, N)
    assert rig.exchanges[-1].ended == "complete"


def test_a_server_without_versions_is_read_over_one_connection(rig):
    rig.put(etag=None)
    store, key = parallel(rig)
    assert rows.read(store, key) == IMAGE
    assert rig.asked == [f"bytes=0-{PART - 1}", "bytes=0-"]


@pytest.mark.parametrize("careless", [(), (wire.IgnoreIfMatch(),)], ids=["refused", "served"])
@pytest.mark.parametrize("at", [1, 3, 5])
def test_b4_an_image_replaced_under_several_readers_is_not_mixed(rig, at, careless):
    rig.script(*[None] * at, then=(wire.Swap(OTHER), *careless))
    store, key = parallel(rig)
    with store.get(key) as stream:
        error, got, seconds = broken(stream)
        assert threads() == []
    assert (type(error), error.offset) == (VersionChangedError, len(got))
    assert got == IMAGE[: len(got)]
    assert seconds < PROMPT


def test_p3_ten_drops_at_nine_tenths_of_a_part_cost_no_more_than_the_size(rig, patient, promise):
    rig.put(LARGE)
    for part in range(10):
        rig.server.trap(rows.PATH, wire.Cut(at=part * MIB + MIB * 9 // 10))
    store, key = parallel(rig, part_size=MIB)
    assert rows.read(store, key) == LARGE
    assert rig.counted("delivered") == rig.sent
    assert sum(event.kind == "resumed" for event in rig.events) == 10
    promise("P3", "bytes sent, of the size: ten drops over four connections", rig.sent / len(LARGE), 1.02)


class Crowded(Store):
    """Serves `places` connections at a time, and the first one always: a limit for each client, say."""

    def __init__(self, places, *, gives=N):
        self.places, self.gives = places, gives
        self.taken, self.served = 0, 0
        self.lock = threading.Lock()

    def _open(self, key, start, stop, version, call):
        with self.lock:
            if self.served >= self.gives or (start and self.taken >= self.places):
                raise RetriesExhaustedError("8 tries in a row: the server cannot serve now (status 503)")
            self.taken += 1
        stop = N if stop is None else min(stop, N)
        return Opened(Seat(self, start, stop), ObjectInfo(key, N, "v1"), ByteRange(start, stop))

    def translate(self, exc):
        return unknown(exc)


class Seat:
    """One connection of a crowded store."""

    def __init__(self, store, start, stop):
        self.store, self.at, self.stop, self.open = store, start, stop, True

    def readinto(self, buffer):
        time.sleep(0.001)  # so that they meet
        count = min(len(buffer), self.stop - self.at)
        buffer[:count] = IMAGE[self.at : self.at + count]
        self.at += count
        with self.store.lock:
            self.store.served += count
        return count

    def abort(self):
        pass

    def close(self):
        with self.store.lock:
            self.store.taken -= self.open
            self.open = False


@pytest.mark.parametrize("places", [1, 2])
def test_a_store_that_serves_only_so_many_at_a_time_has_no_more(places):
    store = Crowded(places)
    layer = ParallelLayer(store, streams=STREAMS, part_size=PART, ramp=AtOnce)
    assert rows.read(layer, "image") == IMAGE
    assert (store.served, store.taken, threads()) == (N, 0, [])


def test_where_no_connection_goes_on_that_is_the_error():
    store = Crowded(STREAMS, gives=N // 2)
    layer = ParallelLayer(store, streams=STREAMS, part_size=PART, ramp=AtOnce)
    with layer.get("image") as stream:
        error, got, _ = broken(stream)
    assert type(error) is RetriesExhaustedError
    assert got == IMAGE[: len(got)]
    assert (store.taken, threads()) == (0, [])


# Reads an image that is all data over four connections, as far as `length`; tells how the peak grew, in KiB.
CHILD = """
import json, re, sys
from imgstore.layers.parallel import ParallelLayer
from imgstore.model import ByteRange, ObjectInfo
from imgstore.store import Store
from imgstore.stream import Opened
from tests.ramps import AtOnce

size, length = int(sys.argv[1]), int(sys.argv[2])
DATA = bytes(range(256)) * 4096

class Endless(Store):
    def _open(self, key, start, stop, version, call):
        return Opened(Raw(), ObjectInfo(key, size, "v1"), ByteRange(start, min(stop, size)))
    def translate(self, exc):
        raise exc

class Raw:
    def readinto(self, buffer):
        buffer[:] = DATA[:len(buffer)]
        return len(buffer)
    def abort(self): pass
    def close(self): pass

def kib(name):
    return int(re.search(name + ":[^0-9]*([0-9]+) kB", open("/proc/self/status").read())[1])

before = kib("VmRSS")
with ParallelLayer(Endless(), streams=4, ramp=AtOnce).get("image", size - length) as stream:
    read = sum(len(piece) for piece in stream.chunks())
print(json.dumps([read, kib("VmHWM") - before]))
"""


@pytest.mark.parametrize("size", [64 << 20, 1 << 40], ids=["64 MiB", "1 TiB"])
def test_p11_memory_is_that_of_the_parts_in_flight(size, promise):
    """The parts in flight, the reader's own buffer of 1 MiB, and what threads take: not that of the image."""
    length = min(size, 512 << 20)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(size), str(length)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert not done.stderr, done.stderr
    read, peak = json.loads(done.stdout)
    assert read == length
    bound = (STREAMS + SPARE) * (PART_SIZE >> 20) + 1 + 8
    promise("P11", f"MiB over four connections, of an image of {size >> 20} MiB", peak / 1024, bound)


@pytest.fixture
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def played(seed):
    """Plays a schedule of faults over three connections; gives its end, or says what was wrong with it.

    Which connection meets which fault is up to the threads: what is held is that every byte is of the image
    that the read began with, and that nothing is left open.
    """
    drawn = schedule(seed)
    clock = SimClock()
    store = SimStore.of(drawn, clock)
    settings = drawn.settings
    layer = ParallelLayer(
        stack.build(
            store,
            stack.LayerSettings(
                resume_attempts=settings.resume_attempts,
                skip_limit=settings.skip_limit,
                proof_limit=settings.proof_limit,
            ),
            clock=clock,
            jitter=lambda: 0.5,
        ),
        streams=3,
        part_size=max(1, drawn.sizes[0] // 7),
        ramp=AtOnce,
    )
    got, stream = bytearray(), None
    try:
        with layer.get(KEY, drawn.offset, drawn.length) as stream:
            for piece in stream.chunks(drawn.buffer):
                got += piece
        end = "identical"
    except ImgstoreError as exc:
        end = type(exc).__name__
    if store.opened or threads():
        return f"{drawn}\n{end}: {store.opened} bodies and {threads()} are left"
    if end != "identical" and drawn.digests == "known":
        return end  # a digest of the whole tells at its end which bytes were good
    if bytes(got) not in [image[drawn.offset : drawn.offset + len(got)] for image in store.images]:
        return f"{drawn}\n{end}: the {len(got)} bytes delivered are those of no image"
    if end == "identical" and len(got) != stream.range.size:
        return f"{drawn}\n{len(got)} bytes of {stream.range}"
    return end


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "seeds", [range(150), pytest.param(range(150, 3000), marks=pytest.mark.wide)], ids=str
)
@pytest.mark.usefixtures("quiet")
def test_schedules_of_faults_over_several_connections_give_no_wrong_byte(seeds, promise):
    ends = [played(seed) for seed in seeds if schedule(seed).pin != "any"]
    wrong = [end for end in ends if "\n" in end]
    promise("P1", "schedules of faults over several connections with a wrong byte", len(wrong), 0)
    assert not wrong, "\n\n".join(wrong[:3])
    assert ends.count("identical") > len(ends) / 2
    assert len(set(ends)) > 5
