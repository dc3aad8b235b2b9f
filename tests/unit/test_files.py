"""What a RangeFile fetches, keeps and refuses, over a store that notes each request."""

from __future__ import annotations

import contextlib
import gc
import io
import random
import threading
import traceback
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgstore import stack
from imgstore.backends.memory import MemoryStore
from imgstore.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    NotFoundError,
    OperationCancelledError,
    UnpinnableError,
    UnsafeLocationError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.files import BLOCK, NEAR, READ_AHEAD, open_image
from imgstore.model import Call, CancelToken
from imgstore.stream import Opened

KI = 1 << 10
MI = 1 << 20
IMAGE = random.Random(7).randbytes(12 * MI + 17)
SIZE = len(IMAGE)


class Noted(MemoryStore):
    """A memory store that notes each range it is asked for and the version, and may first do something."""

    def __init__(self, data=IMAGE):
        super().__init__()
        self.asked = []
        self.versions = []
        self.before = lambda: None
        self.changed = {}  # what it says of the image instead
        self.put(data)

    def put(self, data):
        return self.writer.put("disk", io.BytesIO(data), overwrite=True)

    def _open(self, key, start, stop, version, call):
        self.asked.append((start, stop))
        self.versions.append(version)
        self.before()
        opened = super()._open(key, start, stop, version, call)
        return Opened(opened.raw, replace(opened.info, **self.changed), opened.range)


@pytest.fixture
def store():
    return Noted()


def fetched(store):
    """Gives what was asked for since the last time."""
    asked, store.asked = store.asked, []
    return asked


def read_at(file, offset, size):
    file.seek(offset)
    data = file.read(size)
    assert data == IMAGE[offset : offset + size]
    return data


def test_opening_is_one_request_that_feeds_the_first_reads(store):
    with open_image(store, "disk") as file:
        assert fetched(store) == [(0, BLOCK)]
        assert file.read(512) == IMAGE[:512]
        assert read_at(file, BLOCK - 100, 100)
        assert read_at(file, 5, 5)
        assert (file.size, file.name, file.version) == (SIZE, "disk", store.stat("disk").version)
        assert file.info == store.stat("disk")
        assert fetched(store) == []


def test_reads_in_sequence_fetch_twice_as_much_each_time(store):
    with open_image(store, "disk") as file:
        while file.read(4 * KI):
            pass
    lengths = [stop - start for start, stop in store.asked]
    assert lengths == [BLOCK << n for n in range(9)] + [4 * MI, SIZE - BLOCK * 511 - 4 * MI]
    assert [stop for _, stop in store.asked][:-1] == [start for start, _ in store.asked][1:]


def test_the_version_holds_for_every_request(store):
    with open_image(store, "disk") as file:
        file.readall()
        read_at(file, 5 * MI, 10)
    assert store.versions == [None, file.version, file.version]


def test_a_small_read_at_random_fetches_one_block(store):
    with open_image(store, "disk") as file:
        fetched(store)
        places = random.Random(1).sample(range(1, 190), 100)
        for place in places:
            read_at(file, place * 64 * KI + 5, 4 * KI)
    for start, stop in store.asked:
        assert stop - start in {BLOCK, 2 * BLOCK}  # the latter where one lies just behind another
    assert len(store.asked) == 100


def test_a_place_just_behind_the_last_request_goes_on_from_it(store):
    with open_image(store, "disk") as file:
        fetched(store)
        read_at(file, MI, 4 * KI)
        read_at(file, MI + BLOCK + NEAR, 4 * KI)
        read_at(file, MI + BLOCK + NEAR + 2 * BLOCK + NEAR + 1, 4 * KI)
    assert store.asked == [
        (MI, MI + BLOCK),
        (MI + BLOCK + NEAR, MI + BLOCK + NEAR + 2 * BLOCK),
        (MI + 3 * BLOCK + 2 * NEAR + 1, MI + 4 * BLOCK + 2 * NEAR + 1),
    ]


def test_a_place_before_the_window_begins_small_again(store):
    with open_image(store, "disk") as file:
        file.read(3 * MI)
        file.read(KI)
        fetched(store)
        read_at(file, 2 * MI, KI)
        assert fetched(store) == [(2 * MI, 2 * MI + BLOCK)]


def test_a_large_read_at_random_is_fetched_as_it_is_and_leaves_the_window(store):
    with open_image(store, "disk") as file:
        fetched(store)
        for offset in (5 * MI, MI, 8 * MI, 3 * MI):
            read_at(file, offset, MI)
            assert fetched(store) == [(offset, offset + MI)]
        read_at(file, 100, 100)
        assert fetched(store) == []


def test_large_reads_in_sequence_are_read_ahead_up_to_the_limit(store):
    with open_image(store, "disk", read_ahead=4 * MI) as file:
        fetched(store)
        for place in range(8):
            read_at(file, MI + place * MI, MI)
    assert store.asked == [(MI, 2 * MI), (2 * MI, 4 * MI), (4 * MI, 8 * MI), (8 * MI, 12 * MI)]


def test_reads_of_the_whole_read_ahead_and_more_go_past_the_window(store):
    with open_image(store, "disk", read_ahead=MI) as file:
        fetched(store)
        for place in range(8):
            read_at(file, place * MI + BLOCK, MI)
    assert store.asked == [(place * MI + BLOCK, place * MI + MI + BLOCK) for place in range(8)]


def test_the_window_near_the_end_reaches_back(store):
    with open_image(store, "disk") as file:
        fetched(store)
        read_at(file, SIZE - 22, 22)
        read_at(file, SIZE - 42, 20)
        read_at(file, SIZE - 10_000, 5_000)
    assert store.asked == [(SIZE - BLOCK, SIZE)]


def test_what_is_in_memory_is_not_fetched_again(store):
    with open_image(store, "disk") as file:
        fetched(store)
        file.seek(BLOCK - 1000)
        buffer = bytearray(MI)
        assert file.readinto(buffer) == MI
        assert buffer == IMAGE[BLOCK - 1000 : BLOCK - 1000 + MI]
    assert store.asked == [(BLOCK, BLOCK - 1000 + MI)]


def test_all_that_is_left_is_one_request(store):
    with open_image(store, "disk") as file:
        fetched(store)
        assert file.read() == IMAGE
        assert file.read() == b""
    assert store.asked == [(BLOCK, SIZE)]


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK])
def test_an_image_of_one_block_is_fetched_once(size):
    store = Noted(IMAGE[:size])
    with open_image(store, "disk") as file:
        assert file.read() == IMAGE[:size]
        assert file.seek(0) == 0
        assert file.read() == IMAGE[:size]
    assert store.asked == [(0, BLOCK)]


def test_without_read_ahead_each_read_is_fetched_as_it_is(store):
    with open_image(store, "disk", read_ahead=0) as file:
        for offset in (0, 100, 200, 5 * MI, SIZE - 100, 200):
            read_at(file, offset, 100)
    # the byte of the opening is not fetched again
    assert store.asked == [(0, 1), (1, 100)] + [
        (offset, offset + 100) for offset in (100, 200, 5 * MI, SIZE - 100, 200)
    ]


def test_a_small_read_ahead_is_the_smallest_request_as_well(store):
    with open_image(store, "disk", read_ahead=1000) as file:
        for _ in range(10):
            file.read(300)
        read_at(file, 5 * MI, 10)
    assert {stop - start for start, stop in store.asked} == {1000}


def test_a_negative_read_ahead_makes_no_sense(store):
    with pytest.raises(ValueError, match="read_ahead is -1"):
        open_image(store, "disk", read_ahead=-1)
    assert store.asked == []


@given(st.data())
def test_any_reads_give_what_a_file_gives(data):
    size = data.draw(st.integers(0, 200 * KI), "size")
    store = Noted(IMAGE[:size])
    model = io.BytesIO(IMAGE[:size])
    read_ahead = data.draw(st.sampled_from([0, 1, 1000, BLOCK, 50_000, READ_AHEAD]), "read_ahead")
    places = st.integers(0, size + 10)
    sizes = st.integers(0, 2 * BLOCK) | st.integers(0, size)
    steps = st.lists(
        st.tuples(st.just("read"), sizes)
        | st.tuples(st.just("readinto"), sizes)
        | st.tuples(st.just("seek"), places)
    )
    with open_image(store, "disk", read_ahead=read_ahead) as file:
        for step, number in data.draw(steps, "steps"):
            if step == "readinto":
                ours, theirs = bytearray(number), bytearray(number)
                assert file.readinto(ours) == model.readinto(theirs)
                assert ours == theirs
            else:
                assert getattr(file, step)(number) == getattr(model, step)(number)
            assert file.tell() == model.tell()
    assert all(start < size or start == 0 for start, _ in store.asked)


def test_memory_is_the_read_ahead_whatever_the_image(store):
    with open_image(store, "disk", read_ahead=MI) as file:
        buffer = bytearray(100 * KI)
        tracemalloc.start()
        try:
            while file.readinto(buffer):
                pass
            for offset in range(0, SIZE, 300 * KI):
                file.seek(offset)
                file.readinto(buffer)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert MI <= peak <= MI + 64 * KI


def test_a_large_read_takes_the_memory_of_what_it_gives(store):
    with open_image(store, "disk") as file:
        tracemalloc.start()
        try:
            data = file.read(8 * MI)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert data == IMAGE[: 8 * MI]
    assert peak <= 8 * MI + 64 * KI


def views_in(error):
    """Gives the views of memory that the tracebacks of an error lead to."""
    found = []
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            found += [each for each in frame.f_locals.values() if isinstance(each, memoryview)]
        error = error.__cause__ or error.__context__
    return found


class Breaking(Noted):
    """One whose bodies break, once there is something to be raised."""

    raised = None

    def _open(self, *given):
        opened = super()._open(*given)
        return opened if self.raised is None else replace(opened, raw=self)

    def readinto(self, buffer):
        front = buffer[: len(buffer) // 2]
        front[:] = bytes(len(front))
        try:
            self.fail(front)
        except OSError as exc:
            raise self.raised from exc

    def fail(self, view):
        raise OSError(f"the cause, at {len(view)}")

    def abort(self):
        pass


@pytest.mark.parametrize("raised", [ConnectionLostError("gone"), KeyboardInterrupt()])
def test_a_large_read_that_fails_leaves_no_view_of_memory_that_is_gone(raised):
    store = Breaking()
    with open_image(store, "disk") as file:
        store.raised = raised
        file.seek(5 * MI)
        with pytest.raises(type(raised)) as caught:
            file.read(MI)
        assert caught.value.__cause__ is not None
        assert views_in(caught.value) == []
        assert file.tell() == 5 * MI


def test_a_failed_read_leaves_nothing_that_the_collector_trips_over(store):
    """CPython 3.12 crashed on a view of io.BytesIO in the traceback of the error that is kept."""
    with open_image(store, "disk") as file:
        store.put(bytes(SIZE))
        file.seek(5 * MI)
        with pytest.raises(VersionChangedError):
            file.read(10)
    del file
    gc.collect()


def test_a_replaced_image_is_refused_for_good(store):
    with open_image(store, "disk") as file:
        file.read(10)
        store.put(bytes(SIZE))
        assert file.read(100) == IMAGE[10:110]  # from memory, and of the version that was opened
        file.seek(5 * MI)
        with pytest.raises(VersionChangedError) as first:
            file.read(10)
        assert file.tell() == 5 * MI
        fetched(store)
        file.seek(0)
        for read in (lambda: file.read(1), file.readall, lambda: file.readinto(bytearray(1))):
            with pytest.raises(VersionChangedError) as later:
                read()
            assert later.value is first.value
        assert store.asked == []


def test_the_version_asked_for_is_the_one_that_is_read(store):
    old = store.stat("disk").version
    with open_image(store, "disk", version=old) as file:
        assert file.version == old
    new = store.put(IMAGE[::-1]).version
    with pytest.raises(VersionChangedError):
        open_image(store, "disk", version=old)
    with open_image(store, "disk", version=new) as file:
        assert file.read(10) == IMAGE[:-11:-1]


@pytest.mark.parametrize("change", [{"size": SIZE + 1}, {"digests": {"sha256": "00"}}])
def test_another_image_under_the_same_version_is_refused(store, change):
    store.changed = {"digests": {"sha256": "11"}}
    with open_image(store, "disk") as file:
        store.changed |= change
        file.seek(MI)
        with pytest.raises(VersionChangedError, match="under one version"):
            file.read(10)


def test_an_image_without_a_version_is_refused_unless_it_came_whole(store):
    store.changed = {"version": None}
    with pytest.raises(UnpinnableError) as raised:
        open_image(store, "disk")
    assert raised.value.key == "disk"
    store.put(IMAGE[:BLOCK])
    with open_image(store, "disk") as file:
        store.put(IMAGE[BLOCK : 2 * BLOCK])
        assert file.version is None
        assert file.read() == IMAGE[:BLOCK]


def test_an_image_without_a_length_is_refused(store):
    store.changed = {"size": None}
    with pytest.raises(UnsupportedError, match="length") as raised:
        open_image(store, "disk")
    assert raised.value.key == "disk"


@pytest.mark.parametrize("key, kind", [("nothing", NotFoundError), ("/disk", UnsafeLocationError)])
def test_opening_raises_what_get_raises(store, key, kind):
    with pytest.raises(kind):
        open_image(store, key)


def test_a_store_that_is_closed_opens_nothing(store):
    file = open_image(store, "disk")
    store.close()
    with pytest.raises(ValueError, match="is closed"):
        file.seek(MI)
        file.read(1)
    with pytest.raises(ValueError, match="is closed"):
        open_image(store, "disk")
    file.close()


def test_the_deadline_holds_for_the_life_of_the_file(store):
    call = Call().within(3600)
    with open_image(store, "disk", call=call) as file:
        store.clock = Late()
        assert file.read(10) == IMAGE[:10]
        file.seek(MI)
        for _ in range(2):
            with pytest.raises(DeadlineExceededError):
                file.read(10)


class Late(type(MemoryStore.clock)):
    """The clock of two hours later."""

    def time(self):
        return super().time() + 7200


def test_cancelling_the_call_ends_the_file(store):
    token = CancelToken()
    with open_image(store, "disk", call=Call(cancel=token)) as file:
        token.cancel()
        file.seek(MI)
        for _ in range(2):
            with pytest.raises(OperationCancelledError):
                file.read(10)


def test_one_file_that_is_closed_cancels_no_other(store):
    call = Call(cancel=CancelToken())
    open_image(store, "disk", call=call).close()
    with open_image(store, "disk", call=call) as file:
        assert read_at(file, MI, 10)
    assert not call.cancel.cancelled


def test_events_reach_the_observer(store):
    told = []
    layered = stack.build(store)
    with open_image(layered, "disk", call=Call(observe=told.append)) as file:
        read_at(file, MI, 10)
    assert [(each.kind, each.offset, each.count) for each in told] == [
        ("opened", 0, 0),
        ("delivered", 0, BLOCK),
        ("opened", MI, 0),
        ("delivered", MI, BLOCK),
    ]


@contextlib.contextmanager
def held(store, file):
    """Holds a read of `file` in the store, in another thread; gives what becomes of it."""
    inside, go_on, outcome = threading.Event(), threading.Event(), []

    def wait():
        store.before = lambda: None
        inside.set()
        assert go_on.wait(10)

    def read():
        try:
            outcome.append(file.read(10))
        except Exception as exc:
            outcome.append(exc)

    store.before = wait
    file.seek(MI)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert inside.wait(10)
        yield outcome
    finally:
        go_on.set()
        reader.join(10)


def test_a_second_reader_is_refused_and_disturbs_nothing(store):
    with open_image(store, "disk") as file:
        with held(store, file) as outcome, pytest.raises(UnsupportedError, match="two threads"):
            file.read(1)
        assert outcome == [IMAGE[MI : MI + 10]]
        assert file.read(10) == IMAGE[MI + 10 : MI + 20]


def test_closing_ends_a_read_of_another_thread(store):
    file = open_image(store, "disk")
    with held(store, file) as outcome:
        file.close()
    assert isinstance(outcome[0], OperationCancelledError)


def test_shared_by_threads_through_a_buffer(store):
    with io.BufferedReader(open_image(store, "disk")) as file:
        taken = []

        def take():
            while piece := file.read(7000):
                taken.append(piece)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    pieces = [IMAGE[at : at + 7000] for at in range(0, SIZE, 7000)]
    assert sorted(taken) == sorted(pieces)


def test_an_error_of_the_store_is_final(store):
    def fail():
        raise ConnectionLostError("gone")

    with open_image(store, "disk") as file:
        store.before = fail
        file.seek(MI)
        with pytest.raises(ConnectionLostError, match="gone"):
            file.read(10)
        store.before = lambda: None
        with pytest.raises(ConnectionLostError, match="gone"):
            file.read(10)


def test_an_interrupt_is_not_final(store):
    def interrupt():
        store.before = lambda: None
        raise KeyboardInterrupt

    with open_image(store, "disk") as file:
        store.before = interrupt
        file.seek(MI)
        with pytest.raises(KeyboardInterrupt):
            file.read(10)
        assert file.read(10) == IMAGE[MI : MI + 10]
