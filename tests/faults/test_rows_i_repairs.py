"""Row I9: readers that find one chunk bad at the same time, with and without a break in its repair (P14)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from imgstore.errors import ConnectionLostError, DigestMismatchError, OperationCancelledError
from imgstore.layers.resume import ResumeLayer
from imgstore.layers.verify import VerifyLayer
from imgstore.model import NO_CALL, Call, CancelToken, Event
from imgstore.testing.conformance._place import WatchedStore
from tests.faults import rows
from tests.manifests import Given, manifest_of

CHUNK = 64 << 10
IMAGE = rows.IMAGE[: 5 * CHUNK + 7]
BAD = 2  # the chunk that a first read has damaged
OTHER = IMAGE[: BAD * CHUNK] + bytes(CHUNK) + IMAGE[(BAD + 1) * CHUNK :]

both = pytest.mark.parametrize("drop", [False, True], ids=["whole", "broken"])


class Lying(WatchedStore):
    """Serves a chunk damaged in reads of the whole; who asks for it alone waits until `others` wait, too."""

    def __init__(self, others, *, drop=False, good=IMAGE):
        super().__init__()
        self._images.publish("disk", OTHER, overwrite=False, digests={})
        self.layer = None
        self.asked = 0
        self._good, self._others, self._drop = good, others, drop

    def _open(self, key, start, stop, version, call):
        if (start, stop) != (BAD * CHUNK, (BAD + 1) * CHUNK):
            return super()._open(key, start, stop, version, call)
        self.asked += 1
        wait_for(lambda: len(waiting(self.layer)) >= self._others)
        if self._drop:
            self._drop = False
            raise ConnectionLostError("lost")
        opened = super()._open(key, start, stop, version, call)
        opened.raw.close()
        self._images.publish("good", self._good, overwrite=True, digests={})
        found = super()._open("good", start, stop, None, call)
        return type(found)(found.raw, opened.info, found.range)


def waiting(layer):
    """The readers that wait for a chunk that another fetches."""
    return [each for flight in list(layer.repairs._under_way.values()) for each in flight._condition._waiters]


def wait_for(condition):
    pause = threading.Event()
    for _ in range(3000):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("what was waited for never came")


def layered(others, *, drop=False, good=IMAGE, manifests=None):
    store = Lying(others, drop=drop, good=good)
    given = manifests or Given({"disk": manifest_of(IMAGE, CHUNK)})
    store.layer = VerifyLayer(ResumeLayer(store, jitter=lambda: 0.0), given, required=True, spare=True)
    return store, store.layer


def read_by(layer, count, *, calls=()):
    """Reads the image in as many threads at once; gives what each got, or the error."""
    calls = [*calls, *[NO_CALL] * (count - len(calls))]

    def one(call):
        try:
            return rows.read(layer, "disk", call=call)
        except Exception as exc:
            return exc

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, calls))


@both
@pytest.mark.parametrize("readers", [2, 5])
def test_i9_two_repairs_of_one_chunk_are_one_fetch(readers, drop):
    told: list[Event] = []
    store, layer = layered(readers - 1, drop=drop)
    assert read_by(layer, readers, calls=[Call(observe=told.append)] * readers) == [IMAGE] * readers
    assert store.asked == 1 + drop
    kinds = [event.kind for event in told]
    assert (kinds.count("refetched"), kinds.count("repaired")) == (1, readers)
    assert layer.repairs._under_way == {}


@both
def test_i9_what_stays_bad_is_bad_for_both_after_two_attempts_each(drop):
    _, layer = layered(0, drop=drop, good=OTHER)
    found = read_by(layer, 3)
    assert [type(each) for each in found] == [DigestMismatchError] * 3
    assert {each.chunks for each in found} == {(BAD,)}
    assert layer.repairs._under_way == {}


def test_i9_a_reader_that_waits_can_be_cancelled():
    store, layer = layered(1)
    token = CancelToken()
    leads, done = threading.Event(), threading.Event()
    opened = store._open

    def held(key, start, stop, version, call):
        if (start, stop) == (BAD * CHUNK, (BAD + 1) * CHUNK):
            leads.set()
            done.wait(30)
        return opened(key, start, stop, version, call)

    store._others, store._open = 0, held
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(rows.read, layer, "disk")
        assert leads.wait(30)
        second = pool.submit(rows.read, layer, "disk", call=Call(cancel=token))
        wait_for(lambda: waiting(layer))
        token.cancel()
        with pytest.raises(OperationCancelledError):
            second.result(30)
        done.set()
        assert first.result(30) == IMAGE


def test_i9_one_that_fails_leaves_the_chunk_to_the_next():
    store, layer = layered(1)
    token = CancelToken()
    opened = store._open

    def cancelled(key, start, stop, version, call):
        if (start, stop) == (BAD * CHUNK, (BAD + 1) * CHUNK) and not token.cancelled:
            wait_for(lambda: waiting(layer))
            token.cancel()
            raise OperationCancelledError("the operation was cancelled")
        store._others = 0
        return opened(key, start, stop, version, call)

    store._open = cancelled
    found = read_by(layer, 2)
    assert sorted(isinstance(each, OperationCancelledError) for each in found) == [False, True]
    assert IMAGE in found
