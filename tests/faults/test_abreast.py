"""Several connections that write one half image: rows A32, B4, E2, E12, F3, I8, and what a kill costs."""

from __future__ import annotations

import contextlib
import hashlib
import math
import mmap
import os
import random
import signal
import struct
import threading
import time

import pytest

from imgstore.errors import (
    ConnectionLostError,
    PermanentError,
    RetriesExhaustedError,
    StorageIOError,
    VersionChangedError,
)
from imgstore.layers.limit import LimitLayer
from imgstore.testing.server import NoRanges, ScriptedServer, Throttle
from imgstore.transfer import abreast, plan
from tests.faults.cli import PATH, run_here
from tests.faults.halves import PART, Source, fetch, small_parts

IMAGE = random.Random(11).randbytes(64 * PART + 17)
N = len(IMAGE)
SHA256 = hashlib.sha256(IMAGE).hexdigest()
PIECE = 5000
LEFT = ["disk.img.part", "disk.img.part.journal"]
MOST = 4


class Eager:
    """A ramp that wants all connections from the start."""

    def __init__(self, most, *, first=0):
        self.wanted = most

    def observe(self, now, total, *, receiving=0):
        return self.wanted


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(abreast, "Ramp", Eager)
    monkeypatch.setattr(plan, "REQUEST", 4 * PART)
    with small_parts():
        yield


@pytest.fixture
def target(tmp_path):
    return tmp_path / "disk.img"


def names(target):
    return sorted(os.listdir(target.parent))


class Gathering(Source):
    """Serves nothing until as many streams are open as there may be connections."""

    def __init__(self, *args, streams=MOST, **options):
        super().__init__(*args, **options)
        self.barrier = threading.Barrier(streams)
        self.here = threading.local()

    def _open(self, key, start, stop, version, call):
        opened = super()._open(key, start, stop, version, call)
        real = opened.raw.readinto

        def readinto(view):
            if not hasattr(self.here, "met"):
                self.here.met = True
                self.barrier.wait(20)
            self.during(start)
            return real(view)

        opened.raw.readinto = readinto
        return opened

    def during(self, start):
        """Happens before each receive of the stream that was opened at `start`."""


def test_every_byte_comes_once_over_as_many_as_there_may_be(target):
    source = Gathering(IMAGE)
    report = fetch(source, target, connections=MOST, digest=True)
    assert target.read_bytes() == IMAGE
    assert source.served == N
    assert (report.bytes, report.digests) == (N, {"sha256": SHA256})
    assert {version for at, version in source.asked if at} == {'"v1"'}
    assert names(target) == ["disk.img"]


def test_how_long_a_request_took_to_open_counts_for_the_next(target, monkeypatch):
    took, ask = [], plan.Stretches.ask

    def noting(self, stretch, *given):
        took.append(stretch.opening)
        return ask(self, stretch, *given)

    class Far(Gathering):
        def _open(self, *given):
            time.sleep(0.02)
            return super()._open(*given)

    monkeypatch.setattr(plan.Stretches, "ask", noting)
    fetch(Far(IMAGE), target, connections=MOST)
    assert target.read_bytes() == IMAGE
    assert max(took) >= 0.02


def test_what_several_have_left_is_gone_on_with_by_several(target):
    for _ in range(3):
        with pytest.raises(ConnectionLostError):
            # Within the first request of each: one that rests would leave the others time for all the image.
            fetch(Gathering(IMAGE, 4 * PART - 5), target, connections=MOST)
        assert names(target) == LEFT
    source = Gathering(IMAGE, streams=1)
    report = fetch(source, target, connections=MOST)
    assert target.read_bytes() == IMAGE
    assert report.held >= 3 * PART
    assert source.served == N - report.held


@pytest.mark.parametrize("places", [1, 2])
def test_a_store_that_serves_only_so_many_at_a_time_has_no_more(target, places):
    """A web server's limit of connections for each client, say: those that it serves go on."""

    class Crowded(Source):
        taken = 0
        lock = threading.Lock()

        def _open(self, key, start, stop, version, call):
            opened = super()._open(key, start, stop, version, call)
            with self.lock:
                if start and self.taken >= places:
                    raise RetriesExhaustedError("8 tries in a row: the server cannot serve now (status 503)")
                self.taken += 1
            opened.raw.close = self.leave
            return opened

        def leave(self):
            with self.lock:
                self.taken -= 1

    source = Crowded(IMAGE)
    fetch(source, target, connections=MOST)
    assert target.read_bytes() == IMAGE
    assert source.served == N


def test_when_fewer_are_wanted_those_that_came_last_go(target, monkeypatch):
    """All four have their first request; three never ask for more at the same time."""
    fewer = threading.Event()
    waiting = []

    class Falling(Eager):
        def observe(self, now, total, *, receiving=0):
            if len(waiting) == MOST:
                self.wanted = 2
                fewer.set()
            return self.wanted

    class Counting(Gathering):
        crowd = threading.Barrier(3)
        crowded = False

        def _open(self, key, start, stop, version, call):
            if fewer.is_set():
                with contextlib.suppress(threading.BrokenBarrierError):  # and it stays broken
                    self.crowd.wait(0.5)
                    self.crowded = True
            return super()._open(key, start, stop, version, call)

        def during(self, start):
            if not fewer.is_set():
                waiting.append(start)
                assert fewer.wait(20)

    monkeypatch.setattr(abreast, "Ramp", Falling)
    source = Counting(IMAGE)
    fetch(source, target, connections=MOST)
    assert target.read_bytes() == IMAGE
    assert (source.served, source.crowded) == (N, False)


def test_where_no_connection_goes_on_that_is_the_error(target):
    class Gone(Gathering):
        def during(self, start):
            if self.served > N // 2:
                raise RetriesExhaustedError("8 tries in a row")

    source = Gone(IMAGE)
    with pytest.raises(RetriesExhaustedError):
        fetch(source, target, connections=MOST)
    assert len(source.asked) < 4 * MOST


def test_b4_of_another_version_ends_all_and_leaves_nothing(target):
    class Replaced(Gathering):
        def _open(self, key, start, stop, version, call):
            if start:
                self.data, self.version = IMAGE[::-1], '"v2"'
            return super()._open(key, start, stop, version, call)

    began = time.monotonic()
    with pytest.raises(VersionChangedError):
        fetch(Replaced(IMAGE, streams=1), target, connections=MOST)
    assert time.monotonic() - began < 3
    assert names(target) == []


@pytest.mark.parametrize("error", [MemoryError(), ZeroDivisionError(), SystemExit()], ids=repr)
def test_e12_whatever_a_thread_dies_of_ends_all_within_a_second(target, monkeypatch, error):
    real = abreast.Stretches.received

    def received(self, stretch, count):
        real(self, stretch, count)
        if stretch.start and stretch.at > stretch.start + 2 * PART:
            raise error

    source = Gathering(IMAGE)
    with monkeypatch.context() as patch:
        patch.setattr(abreast.Stretches, "received", received)
        began = time.monotonic()
        kind = PermanentError if isinstance(error, SystemExit) else type(error)
        with pytest.raises(kind):
            fetch(source, target, connections=MOST)
        assert time.monotonic() - began < 3
    if kind is not PermanentError:  # a bug: what was claimed is as good as before
        assert names(target) == LEFT
    fetch(Source(IMAGE), target)
    assert target.read_bytes() == IMAGE


def test_i8_the_first_error_is_told_and_the_others_are_its_notes(target):
    class Failing(Gathering):
        def __init__(self, *args):
            super().__init__(*args)
            self.fails = threading.Barrier(2)

        def during(self, start):
            if start and start == sorted(at for at, _ in self.asked)[1]:
                self.fails.wait(20)
                raise ConnectionLostError("the one")
            if start and start == sorted(at for at, _ in self.asked)[2]:
                self.fails.wait(20)
                raise ConnectionLostError("the other")

    with pytest.raises(ConnectionLostError) as failure:
        fetch(Failing(IMAGE), target, connections=MOST)
    told = {"the one", "the other"}
    assert failure.value.message in told
    other = (told - {failure.value.message}).pop()
    # Unless it was called off a moment before it failed.
    notes = getattr(failure.value, "__notes__", [])
    assert notes in ([], [f"another connection: ConnectionLostError: {other}"])
    assert names(target) in ([], LEFT)
    fetch(Source(IMAGE), target)
    assert target.read_bytes() == IMAGE


def test_an_interrupt_ends_the_threads_before_the_file_is_let_go(target, monkeypatch):
    class Interrupted(threading.Condition):
        def wait(self, timeout=None):
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            return super().wait(timeout)

    source = Gathering(IMAGE, streams=1)
    with monkeypatch.context() as patch:
        patch.setattr(abreast.threading, "Condition", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(source, target, connections=MOST)
    end = time.monotonic() + 20
    while [each for each in threading.enumerate() if each.name.startswith("imgstore-download")]:
        assert time.monotonic() < end, "one that has only just begun sees that it is over"
        time.sleep(0.01)
    fetch(Source(IMAGE), target)
    assert target.read_bytes() == IMAGE


@pytest.mark.parametrize("given", [0, 1, 2])
def test_f3_where_there_are_few_threads_those_there_are_do_it(target, monkeypatch, given):
    real, started = threading.Thread.start, []

    def start(self):
        if len(started) == given:
            raise RuntimeError("can't start new thread")
        started.append(self)
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        if given:
            fetch(Source(IMAGE), target, connections=MOST)
        else:
            with pytest.raises(StorageIOError, match="the system gives no thread") as failure:
                fetch(Source(IMAGE), target, connections=MOST)
            assert failure.value.resumable
    assert len(started) == given
    assert target.exists() is bool(given)


def die_after(target, after, received):
    """In a child: downloads over several connections, and is killed in the receive behind `after` bytes."""

    class Deadly(Source):
        def _open(self, key, start, stop, version, call):
            opened = super()._open(key, start, stop, version, call)
            real = opened.raw.readinto

            def readinto(view):
                with lock:
                    if self.served >= after:
                        os.kill(os.getpid(), signal.SIGKILL)
                    count = real(view)
                    received[:8] = struct.pack("q", struct.unpack("q", received[:8])[0] + count)
                    return count

            opened.raw.readinto = readinto
            return opened

    lock = threading.Lock()
    fetch(Deadly(IMAGE), target, connections=MOST)
    os._exit(0)


def test_e2_killed_again_and_again_over_several_connections(target, promise):
    received, kills, rng = mmap.mmap(-1, 8), 0, random.Random(5)
    while not target.exists():
        pid = os.fork()
        if not pid:
            die_after(target, rng.randrange(MOST * (PART + PIECE), 2 * MOST * (PART + PIECE)), received)
        kills += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        assert kills < 60
    assert target.read_bytes() == IMAGE
    assert names(target) == ["disk.img"]
    (total,) = struct.unpack("q", received[:8])
    assert kills > 3
    what = "bytes received beyond the image for each kill of 4 connections, of those in flight"
    promise("P6", what, (total - N) / kills / (MOST * (PART + PIECE)), 1)


@pytest.mark.parametrize("limit, slow", [(10 * N, math.inf), (None, plan.SLOW)])
def test_under_a_limit_of_our_own_no_connection_is_called_slow(target, monkeypatch, limit, slow):
    """All of them are; the server would send what the kernel takes, and to another one once more."""
    told = []

    class Noting(plan.Stretches):
        def __init__(self, *args, **options):
            told.append(options.get("slow"))
            super().__init__(*args, **options)

    monkeypatch.setattr(abreast, "Stretches", Noting)
    source = LimitLayer(Source(IMAGE), rate_limit=limit, max_streams=MOST)
    fetch(source, target, connections=MOST)
    assert target.read_bytes() == IMAGE
    assert told[-1] == slow


@pytest.fixture
def server():
    with ScriptedServer() as server:
        server.put(PATH, IMAGE * 16, etag='"v1"')
        yield server


def test_a32_one_connection_fifty_times_slower_is_not_waited_for(server, target, capfdbinary):
    """The second one would need half a minute for its quarter."""
    server.script(PATH, [Throttle(8 << 20), Throttle(64 << 10)], then=Throttle(8 << 20))
    began = time.monotonic()
    ran = run_here(capfdbinary, "cp", server.url(PATH), target, "--parallel", "4", "--json")
    assert ran.status == 0, ran.err
    assert target.read_bytes() == IMAGE * 16
    assert ran.told["received"] == 16 * N
    assert time.monotonic() - began < 12


def test_p16_what_a_manifest_had_received_ahead_of_a_stretch_is_told(server, target, tmp_path, capfdbinary):
    """A connection leaves at the edge of its stretch, and the chunk behind that may be under way."""
    manifest = tmp_path / "disk.meta4"
    made = run_here(capfdbinary, "digest", server.url(PATH), "-o", manifest, "--chunk-size", 8 * PART)
    assert made.status == 0, made.err
    ran = run_here(
        capfdbinary, "cp", "--manifest", manifest, "--parallel", "4", server.url(PATH), target, "--json"
    )
    assert ran.status == 0, ran.err
    assert target.read_bytes() == IMAGE * 16
    assert ran.told["received"] == 16 * N + ran.told["refetched"]


def test_a_server_without_ranges_is_read_over_one(server, target, capfdbinary):
    server.script(PATH, then=(NoRanges(), Throttle(8 << 20)))
    ran = run_here(capfdbinary, "cp", server.url(PATH), target, "--parallel", "4", "--json")
    assert ran.status == 0, ran.err
    assert target.read_bytes() == IMAGE * 16
    assert server.log.requests(PATH) > 1
    assert (ran.told["received"], ran.told["refetched"]) == (16 * N, 0), "the first goes on to its end"
