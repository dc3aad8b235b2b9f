"""The parallel layer: parts of one version, in order, and every thread gone at the end."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import signal
import threading
from dataclasses import replace

import pytest

from imgstore.errors import (
    ConfigError,
    ConnectionLostError,
    DeadlineExceededError,
    DigestMismatchError,
    OperationCancelledError,
    PermanentError,
    StorageIOError,
    TruncatedError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.layers import parallel as layers
from imgstore.layers.limit import LimitLayer
from imgstore.layers.parallel import ParallelLayer
from imgstore.layers.resume import ResumeLayer
from imgstore.layers.verify import VerifyLayer
from imgstore.model import ANY, ByteRange, Call, CancelToken
from imgstore.stream import Opened
from imgstore.testing.conformance._place import WatchedStore
from tests.manifests import Given, Made, manifest_of
from tests.ramps import AtOnce
from tests.unit.layers.scripted import Clock

KEY = "disk"
PART = 1000
COUNT = 20
SIZE = PART * COUNT - 300
IMAGE = bytes(number * 7 % 251 for number in range(SIZE))
FOR_EVER = 30.0


class Parts(WatchedStore):
    """A store whose replies can be told otherwise, and whose parts wait or fail as a test has it."""

    def __init__(self):
        super().__init__()
        self.store_id = "parts"
        self.told = {}  # what info says instead
        self.told_later = {}  # the same, of all but the first reply
        self.gates = {}  # by the start of a part: what it waits for
        self.errors = {}  # by the start of a part: what its first receive raises
        self.from_start = False  # whether ranges are ignored
        self.asked = []
        self.closed_at = []  # by the start of a part: those whose stream is closed
        self.opening = lambda start, call: None
        self.waiting = threading.Semaphore(0)
        self.writer.put(KEY, io.BytesIO(IMAGE))

    def _open(self, key, start, stop, version, call):
        self.asked.append((start, stop, version))
        self.opening(start, call)
        version = None if "version" in self.told else version
        opened = super()._open(key, 0 if self.from_start else start, stop, version, call)
        told = self.told if start == 0 else self.told | self.told_later
        served = opened.range if told.get("size", 0) is not None else ByteRange(start, None)
        return Opened(Gated(self, opened.raw, start), replace(opened.info, **told), served)

    def shut(self, *starts):
        """Has the parts that begin there wait."""
        self.gates = {start: threading.Event() for start in starts}

    @property
    def starts(self):
        return [start for start, *_ in self.asked]


class Gated:
    def __init__(self, store, inner, start):
        self.store, self.inner, self.start = store, inner, start
        self.aborted = threading.Event()

    def readinto(self, buffer):
        gate = self.store.gates.get(self.start)
        if gate is not None and not gate.is_set():
            self.store.waiting.release()
            while not (gate.wait(0.01) or self.aborted.is_set()):
                pass
            if self.aborted.is_set():
                raise ConnectionLostError("aborted")
        if (error := self.store.errors.pop(self.start, None)) is not None:
            raise error
        return self.inner.readinto(buffer)

    def abort(self):
        self.aborted.set()
        self.inner.abort()

    def close(self):
        self.inner.close()
        self.store.closed_at.append(self.start)


@pytest.fixture
def store():
    made = Parts()
    yield made
    assert made.now_open == 0, "a stream of the store inside is left open"


def parallel(inner, *, streams=4, part_size=PART, **options):
    return ParallelLayer(inner, streams=streams, part_size=part_size, **{"ramp": AtOnce, **options})


def threads():
    return [each.name for each in threading.enumerate() if each.name.startswith("imgstore-parallel")]


def read(store, *args, **options):
    with store.get(KEY, *args, **options) as stream:
        return stream.read()


def broken(stream):
    """Reads until an error; gives it and what came before."""
    got = bytearray()
    with pytest.raises(Exception) as raised:  # noqa: PT011  # the caller looks at it
        for piece in stream.chunks(333):
            got += piece
    return raised.value, bytes(got)


# What is passed straight through


@pytest.mark.parametrize(
    "offset, length", [(0, PART), (PART // 2, PART), (SIZE - PART, PART), (SIZE - 5, 99)]
)
def test_a_range_of_at_most_a_part_has_no_thread_and_no_request_more(store, offset, length):
    with parallel(store).get(KEY, offset, length) as stream:
        assert stream.read(1) == IMAGE[offset : offset + 1]
        assert (threads(), stream.read()) == ([], IMAGE[offset + 1 : offset + length])
    assert [(start, stop) for start, stop, _ in store.asked] == [(offset, offset + length)]


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART])
def test_nor_has_an_image_of_at_most_a_part(store, size):
    store.writer.put("small", io.BytesIO(IMAGE[:size]))
    with parallel(store).get("small") as stream:
        assert (stream.read(), threads()) == (IMAGE[:size], [])
    assert [(start, stop) for start, stop, _ in store.asked] == [(0, PART)]


def test_one_connection_is_no_layer_at_all(store):
    assert read(parallel(store, streams=1)) == IMAGE
    assert [(start, stop) for start, stop, _ in store.asked] == [(0, None)]


def test_a_stream_that_is_not_read_has_no_thread(store):
    with parallel(store).get(KEY):
        assert threads() == []
    assert store.starts == [0]


# Parts


@pytest.mark.parametrize("offset, length", [(0, None), (0, SIZE), (1, None), (999, 1002), (PART, 5 * PART)])
def test_parts_make_up_the_range(store, offset, length):
    stop = SIZE if length is None else offset + length
    assert read(parallel(store), offset, length) == IMAGE[offset:stop]
    assert sorted(store.starts) == [offset, *range((offset // PART + 1) * PART, stop, PART)]
    assert store.starts[0] == offset


def test_all_parts_are_of_the_version_that_the_first_tells(store):
    read(parallel(store))
    first, *others = [version for *_, version in store.asked]
    assert (first, set(others)) == (None, {store.stat(KEY).version})


def test_as_many_are_received_at_once_as_there_are_connections(store):
    store.shut(*range(0, SIZE, PART))
    with parallel(store).get(KEY) as stream:
        reader = threading.Thread(target=stream.read)
        reader.start()
        for _ in range(4):
            assert store.waiting.acquire(timeout=FOR_EVER)
        assert store.now_open == 4
        for gate in store.gates.values():
            gate.set()
        reader.join(FOR_EVER)
        assert stream.delivered == SIZE
    assert store.most_open == 4


def test_memory_is_that_of_the_ring_whatever_the_size(store, monkeypatch):
    made = []

    def memory(size):
        made.append(size)
        return memoryview(bytearray(size))

    monkeypatch.setattr(layers, "PartPlan", functools.partial(layers.PartPlan, memory=memory))
    assert read(parallel(store)) == IMAGE
    assert 1 <= len(made) <= 4 + 2
    assert set(made) == {PART}


def test_an_early_part_waits_for_the_one_before_it(store):
    store.shut(PART)
    with parallel(store).get(KEY) as stream:
        assert stream.read(PART) == IMAGE[:PART]
        assert store.waiting.acquire(timeout=FOR_EVER)
        timer = threading.Timer(0.05, store.gates[PART].set)
        timer.start()
        assert stream.read() == IMAGE[PART:]
        timer.join()


# One version, or one stream


def test_without_a_version_it_is_one_stream(store):
    store.told = {"version": None}
    with parallel(store).get(KEY) as stream:
        assert (stream.read(), threads()) == (IMAGE, [])
    assert [(start, stop) for start, stop, _ in store.asked] == [(0, PART), (0, None)]
    assert store.most_open == 1


def test_who_proves_the_bytes_himself_needs_no_version(store):
    store.told = {"version": None}
    assert read(parallel(store), version=ANY) == IMAGE
    assert len(store.opens) == COUNT
    assert {version for *_, version in store.asked} == {ANY}


@pytest.mark.parametrize("inner", [lambda store: store, ResumeLayer])
def test_without_a_size_it_is_one_stream(store, inner):
    store.told = {"size": None, "version": "v1"}
    with parallel(inner(store)).get(KEY) as stream:
        assert (stream.read(), threads()) == (IMAGE, [])
    assert [(start, stop) for start, stop, _ in store.asked] == [(0, PART), (0, None)]


@pytest.mark.parametrize(
    "told, said",
    [
        ({"size": SIZE + 1}, "it had 19700 bytes, and has 19701"),
        ({"digests": {"md5": "0" * 32}}, "it has another digest"),
    ],
)
def test_a_part_of_another_image_under_the_same_version_is_refused(store, told, said):
    store.told, store.told_later = {"digests": {"md5": "f" * 32}}, told
    with parallel(store).get(KEY) as stream:
        error, got = broken(stream)
    assert type(error) is VersionChangedError
    assert said in str(error)
    assert got == IMAGE[: len(got)]


def test_an_image_that_is_replaced_is_not_mixed(store):
    with parallel(store).get(KEY) as stream:
        store.writer.put(KEY, io.BytesIO(IMAGE[::-1]), overwrite=True)
        error, got = broken(stream)
    assert type(error) is VersionChangedError
    assert got == IMAGE[: len(got)]
    assert len(got) <= PART


def test_the_digest_of_the_whole_image_is_held_against_all_parts(store):
    store.told = {"digests": {"sha256": hashlib.sha256(IMAGE).hexdigest().upper()}}
    assert read(parallel(store)) == IMAGE
    assert read(parallel(store), 5) == IMAGE[5:]
    store.told = {"digests": {"sha256": "0" * 64}}
    with parallel(store).get(KEY) as stream:
        error, got = broken(stream)
    assert type(error) is DigestMismatchError
    assert len(got) < SIZE
    assert read(parallel(store), 5) == IMAGE[5:]


# Manifests


class Finding(Made):
    finds = 0

    def find(self, key, call):
        self.finds += 1
        return super().find(key, call)


@pytest.mark.parametrize("told", [{}, {"version": None}])
def test_parts_are_proven_by_the_manifest_of_the_first(store, told):
    store.told = told
    manifests = Finding(store, chunk_size=PART // 2)
    assert read(parallel(VerifyLayer(store, manifests, required=True))) == IMAGE
    assert manifests.finds == 1
    assert len(store.opens) >= COUNT


def test_without_a_manifest_it_is_looked_for_once(store):
    manifests = Given({})
    looked = []
    manifests.find = lambda *args: looked.append(args)
    assert read(parallel(VerifyLayer(store, manifests))) == IMAGE
    assert len(looked) == 1


@pytest.mark.parametrize("chunk, part", [(700, 1400), (2500, 2500), (PART, PART)])
def test_parts_are_whole_chunks(store, chunk, part):
    assert read(parallel(VerifyLayer(store, Made(store, chunk_size=chunk), required=True))) == IMAGE
    spans = sorted((start, min(stop, SIZE)) for start, stop, *_ in store.opens)
    if part != PART:
        spans.remove((0, -(-PART // chunk) * chunk))  # the first request knew of no chunks
    assert spans == [(start, min(start + part, SIZE)) for start in range(0, SIZE, part)]


def test_an_image_of_another_size_than_its_manifest_has_changed(store):
    """Without a version nothing but the sizes and the chunks tell."""
    store.told = {"version": None}
    layer = parallel(VerifyLayer(store, Given({KEY: manifest_of(IMAGE, PART)}), required=True))
    with layer.get(KEY) as stream:
        store.writer.put(KEY, io.BytesIO(IMAGE + b"more"), overwrite=True)
        error, got = broken(stream)
    assert type(error) is VersionChangedError
    assert got == IMAGE[: len(got)]


# Ranges that are ignored


def test_where_ranges_are_ignored_the_rest_is_one_stream(store):
    store.from_start = True
    with parallel(store).get(KEY) as stream:
        assert stream.read(PART * 3) == IMAGE[: PART * 3]
        assert threads() == []
        assert stream.read() == IMAGE[PART * 3 :]
    # one for the first part, one for each connection that asks at once, one for the rest
    assert 3 <= len(store.opens) <= 2 + 4
    assert store.asked[-1][:2] == (PART, SIZE)


def test_nor_is_a_range_begun_in_parts_that_starts_behind_what_is_sent(store):
    store.from_start = True
    assert read(parallel(store), 2 * PART + 5) == IMAGE[2 * PART + 5 :]
    assert [(start, stop) for start, stop, _ in store.asked] == [(2005, 3000), (2005, None)]


# Errors


def test_what_came_before_the_error_is_delivered(store):
    store.errors = {2 * PART: StorageIOError("gone")}
    store.shut(2 * PART)
    with parallel(store, streams=2).get(KEY) as stream:
        assert stream.read(1) == IMAGE[:1]
        assert store.waiting.acquire(timeout=FOR_EVER)
        while PART not in store.closed_at:  # the part before it may not even have begun to come
            threading.Event().wait(0.001)
        store.gates[2 * PART].set()
        error, got = broken(stream)
        assert threads() == []
    assert (type(error), error.offset, got) == (StorageIOError, 2 * PART, IMAGE[1 : 2 * PART])


def test_i8_the_first_error_wins_and_the_others_are_noted(store):
    store.shut(PART)
    store.errors = {PART: StorageIOError("first")}

    def opening(start, call):
        """The third part fails when the read is given up already, and by itself."""
        if start == 2 * PART:
            assert call.cancel.wait(FOR_EVER)
            raise StorageIOError("second")

    store.opening = opening
    with parallel(store, streams=3).get(KEY) as stream:
        assert stream.read(PART) == IMAGE[:PART]
        assert store.waiting.acquire(timeout=FOR_EVER)
        store.gates[PART].set()
        error, got = broken(stream)
    assert (str(error), error.offset, got) == ("first", PART, b"")
    assert error.__notes__ == ["another connection: StorageIOError: second"]


@pytest.mark.parametrize(
    "bug, kind, said",
    [
        (MemoryError("no more"), StorageIOError, "no memory for the image"),
        (KeyError("bug"), PermanentError, "unexpected KeyError"),
        (SystemExit(1), PermanentError, "unexpected SystemExit in a thread that reads"),
        (GeneratorExit(), PermanentError, "unexpected GeneratorExit in a thread that reads"),
    ],
)
def test_e12_whatever_ends_a_thread_ends_the_read(store, bug, kind, said):
    store.shut(*range(2 * PART, SIZE, PART))
    store.errors = {PART: bug}
    with parallel(store).get(KEY) as stream:
        error, got = broken(stream)
        assert threads() == []
    assert (type(error), str(error)) == (kind, said)
    assert got == IMAGE[: len(got)]


def test_a_store_that_ends_a_part_early_is_no_hang(store):
    class Short(Gated):
        def readinto(self, buffer):
            return 0 if self.start == PART else super().readinto(buffer)

    opened = store._open
    store._open = lambda *args: replace(made := opened(*args), raw=Short(store, made.raw.inner, args[1]))
    with parallel(store).get(KEY) as stream:
        error, _ = broken(stream)
    assert type(error) is TruncatedError


def test_a_part_that_breaks_resumes_by_itself(store):
    store.errors = {3 * PART: ConnectionLostError("cut")}
    assert read(parallel(ResumeLayer(store, jitter=lambda: 0.0))) == IMAGE
    assert store.starts.count(3 * PART) == 2
    assert len(store.opens) == COUNT + 1


# The end of the threads


@pytest.fixture
def pending(store):
    """A stream whose first part is read and whose other connections wait, for ever as far as they know."""
    store.shut(*range(PART, SIZE, PART))

    @contextlib.contextmanager
    def opened(**options):
        call = options.pop("call", Call())
        with parallel(store, **options).get(KEY, call=call) as stream:
            assert stream.read(PART) == IMAGE[:PART]
            for _ in range(4):
                assert store.waiting.acquire(timeout=FOR_EVER)
            yield stream

    return opened


def test_close_ends_every_thread(pending):
    with pending() as stream:
        assert len(threads()) == 4
        stream.close()
        assert threads() == []


def test_a_stream_that_is_dropped_ends_its_threads(store):
    store.shut(*range(PART, SIZE, PART))
    stream = parallel(store).get(KEY)
    stream.read(PART)
    assert threads()
    del stream
    assert threads() == []


@pytest.mark.parametrize("how", ["stream", "call"])
def test_a_cancel_ends_the_reader_and_every_thread(pending, how):
    token = CancelToken()
    with pending(call=Call(cancel=token)) as stream:
        timer = threading.Timer(0.05, stream.cancel if how == "stream" else token.cancel)
        timer.start()
        with pytest.raises(OperationCancelledError):
            stream.read()
        timer.join()
        assert threads() == []


@pytest.mark.parametrize("own", [True, False])
def test_a_deadline_ends_the_reader_and_every_thread(store, pending, own):
    store.clock = Clock()
    options = {"deadline": 60.0} if own else {"call": Call().within(60.0, clock=store.clock)}
    with pending(**options) as stream:
        store.clock.elapsed += 60.0
        with pytest.raises(DeadlineExceededError):
            stream.read()
        assert threads() == []


def test_the_deadline_is_that_of_the_call_and_not_of_each_part(store):
    read(parallel(store, deadline=60.0))
    deadlines = {round(call.deadline, 1) for *_, call in store.opens}
    assert max(deadlines) - min(deadlines) < 1.0


def test_a_copy_of_the_process_has_no_threads_to_read_with(pending):
    """Also where one of them had the lock when the process was copied."""
    with pending() as stream:
        has_lock, may_go = threading.Event(), threading.Event()

        def hold():
            with stream._raw._room:
                has_lock.set()
                may_go.wait(FOR_EVER)

        holder = threading.Thread(target=hold)
        holder.start()
        has_lock.wait(FOR_EVER)
        child = os.fork()
        if not child:
            status = 1
            signal.alarm(int(FOR_EVER))
            with contextlib.suppress(BaseException):
                try:
                    stream.read()
                except UnsupportedError as exc:
                    status = 0 if "another process" in str(exc) else 2
            os._exit(status)
        may_go.set()
        holder.join()
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


# Few threads, few permits


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_where_the_system_gives_no_more_threads_it_goes_on_with_fewer(store, monkeypatch, allowed):
    started = []
    start = threading.Thread.start

    def limited(thread):
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert read(parallel(store)) == IMAGE
    assert len(started) == allowed
    assert store.most_open <= max(1, allowed)


def test_one_permit_is_enough_also_for_two_readers(store):
    layer = parallel(LimitLayer(store, max_streams=1))
    got = []
    readers = [threading.Thread(target=lambda: got.append(read(layer))) for _ in range(2)]
    for each in readers:
        each.start()
    for each in readers:
        each.join(FOR_EVER)
    assert got == [IMAGE, IMAGE]
    assert store.most_open == 1


# What is told


def test_the_observer_is_told_one_thing_at_a_time(store):
    busy, overlaps, told = threading.Lock(), [], []

    def observe(event):
        if not busy.acquire(blocking=False):
            overlaps.append(event)
            return
        told.append(event)
        threading.Event().wait(0.001)  # in which another thread may come along
        busy.release()

    class Telling(ResumeLayer):
        def _open(self, key, start, stop, version, call):
            for _ in range(5):
                call.emit(object())
            return super()._open(key, start, stop, version, call)

    read(parallel(Telling(store)), call=Call(observe=observe))
    assert len(told) == 5 * COUNT
    assert not overlaps


@pytest.mark.parametrize("name", ["streams", "part_size"])
def test_no_stream_and_no_byte_are_refused(store, name):
    with pytest.raises(ConfigError, match=f"{name} is 0; it is 1 or more"):
        parallel(store, **{name: 0})


def test_nothing_stays_open_where_no_reader_could_be_made(store):
    def ramp(most):
        raise MemoryError(most)

    with pytest.raises(StorageIOError):
        parallel(store, ramp=ramp).get(KEY)
    assert store.now_open == 0
