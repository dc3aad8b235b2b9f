from __future__ import annotations

import io

import pytest

from imgstore.errors import AlreadyExistsError, ConnectionLostError, NotFoundError
from imgstore.layers.metrics import MetricsLayer
from imgstore.model import Call, Event
from tests.unit.layers.scripted import DATA, Attempt, Facet, ScriptedStore

LOST = ConnectionLostError("lost")


class Watch(list):
    """An observer that keeps what it is told."""

    @property
    def call(self):
        return Call(observe=self.append)


def measured(*attempts, observe=None, **facets):
    inner = ScriptedStore(*attempts)
    for name, facet in facets.items():
        setattr(inner, name, facet)
    return MetricsLayer(inner, observe=observe), inner


def event(kind, **fields):
    return Event(kind, "scripted", **{"key": "image", **fields})


def test_a_clean_read_is_one_attempt_and_its_receives():
    store, _ = measured(Attempt(opening=2.5))
    watch = Watch()
    with store.get("image", 10, 100, call=watch.call) as stream:
        stream.read(60)
        stream.read(40)
    assert watch == [
        event("opened", offset=10, seconds=2.5),
        event("delivered", offset=10, count=60),
        event("delivered", offset=70, count=40),
    ]


def test_what_is_asked_is_passed_on():
    store, inner = measured()
    with store.get("image", 5, 7, version="v1") as stream:
        assert stream.read() == DATA[5:12]
    assert inner.asked == [(5, 12, "v1")]


def test_bytes_before_the_range_are_counted_where_they_lie():
    store, _ = measured(Attempt(serve_from=0))
    watch = Watch()
    with store.get("image", 100, 10, call=watch.call) as stream:
        stream.read()
    assert watch == [
        event("opened", offset=100),
        event("delivered", offset=0, count=10),
        *[event("delivered", offset=at, count=10) for at in range(10, 100, 10)],
        event("delivered", offset=100, count=10),
    ]


def test_an_open_that_fails():
    store, _ = measured(Attempt(refuse=LOST))
    watch = Watch()
    with pytest.raises(ConnectionLostError):
        store.get("image", 7, call=watch.call)
    assert watch == [event("failed", offset=7, error=LOST, opening=True)]


def test_a_read_that_breaks():
    store, _ = measured(Attempt(at=30, error=LOST))
    watch = Watch()
    stream = store.get("image", 10, call=watch.call)
    stream.read(20)
    with pytest.raises(ConnectionLostError):
        stream.read(1)
    assert watch[1:] == [
        event("delivered", offset=10, count=20),
        event("failed", offset=30, error=LOST),
    ]


def test_a_proven_end_delivers_nothing_and_is_not_told():
    store, _ = measured(Attempt(size=None, data=b"abc"))
    watch = Watch()
    with store.get("image", call=watch.call) as stream:
        assert stream.read() == b"abc"
    assert [each.kind for each in watch] == ["opened", "delivered"]


def test_a_stat():
    store, inner = measured(Attempt(opening=1.5))
    watch = Watch()
    info = store.stat("image", call=watch.call)
    assert info.size == len(DATA)
    assert watch == [event("opened", operation="stat", seconds=1.5)]
    assert inner.calls == [watch.call]


def test_a_stat_that_fails():
    missing = NotFoundError("no")
    store, _ = measured(Attempt(refuse=missing))
    watch = Watch()
    with pytest.raises(NotFoundError):
        store.stat("image", call=watch.call)
    assert watch == [event("failed", operation="stat", error=missing, opening=True)]


def test_the_call_and_the_store_are_both_told():
    of_store, of_call = Watch(), Watch()
    store, _ = measured(observe=of_store.append)
    store.stat("image", call=of_call.call)
    assert of_store == of_call == [event("opened", operation="stat")]


def test_the_store_is_told_of_calls_without_an_observer():
    of_store = Watch()
    store, _ = measured(observe=of_store.append)
    store.stat("image")
    assert of_store == [event("opened", operation="stat")]


def test_with_nobody_to_tell_no_event_is_made(monkeypatch):
    store, _ = measured()
    monkeypatch.delattr("imgstore.layers.metrics.Event")
    with store.get("image") as stream:
        assert stream.read() == DATA


def test_an_interrupt_is_nobodys_attempt():
    store, _ = measured(Attempt(refuse=KeyboardInterrupt()))
    watch = Watch()
    with pytest.raises(KeyboardInterrupt):
        store.stat("image", call=watch.call)
    assert watch == []


def test_cancelling_and_closing_reach_the_store_inside():
    store, inner = measured()
    stream = store.get("image")
    stream.cancel()
    assert inner.raws[0].aborted
    stream.close()
    assert inner.raws[0].closed


def test_the_wait_inside_is_told_on():
    store, inner = measured()
    stream = store.get("image")
    inner.raws[0].held = 3.0
    assert stream.held == 3.0


def test_facets_that_the_store_lacks_stay_lacking():
    store, _ = measured()
    assert store.writer is None
    assert store.uploader is None


SOURCE = io.BytesIO(b"data")
WRITES = [
    ("put", ("image", SOURCE, 4), {"overwrite": True, "digests": {"md5": "0"}}, "image"),
    ("delete", ("image",), {"version": "v1"}, "image"),
]
UPLOADS = [
    ("begin", ("image", 4), {"digests": {"md5": "0"}, "overwrite": True}, "image"),
    ("put_part", ("token", 3, 12, memoryview(b"data")), {}, ""),
    ("parts", ("token",), {}, ""),
    ("complete", ("token", [1, 2]), {}, ""),
    ("abort", ("token",), {}, ""),
]
OPERATIONS = [
    *[("writer", *each) for each in WRITES],
    *[("uploader", *each) for each in UPLOADS],
]


@pytest.mark.parametrize("facet, operation, args, options, key", OPERATIONS)
def test_an_operation_of_a_facet_is_one_attempt(facet, operation, args, options, key):
    inside = Facet()
    store, _ = measured(**{facet: inside})
    watch = Watch()
    given = getattr(getattr(store, facet), operation)(*args, **options, call=watch.call)
    assert inside.calls == [(operation, args, {**options, "call": watch.call})]
    assert given is (None if operation in {"delete", "abort"} else inside.outcomes[0])
    assert watch == [event("opened", key=key, operation=operation)]


@pytest.mark.parametrize("facet, operation, args, options, key", OPERATIONS)
def test_an_operation_of_a_facet_that_fails(facet, operation, args, options, key):
    taken = AlreadyExistsError("taken")
    store, _ = measured(**{facet: Facet(taken)})
    watch = Watch()
    with pytest.raises(AlreadyExistsError):
        getattr(getattr(store, facet), operation)(*args, **options, call=watch.call)
    assert watch == [event("failed", key=key, operation=operation, error=taken, opening=True)]


def test_what_is_not_said_stays_unsaid():
    writer, uploader = Facet(), Facet()
    store, _ = measured(writer=writer, uploader=uploader)
    store.writer.put("image", SOURCE)
    store.uploader.begin("image", 4)
    plain = {"overwrite": False, "digests": None, "call": Call()}
    assert writer.calls == [("put", ("image", SOURCE, None), plain)]
    assert uploader.calls == [("begin", ("image", 4), plain)]


def test_pending_uploads_and_limits_are_those_of_the_store():
    uploader = Facet(["one", "two"])
    store, _ = measured(uploader=uploader)
    watch = Watch()
    assert store.uploader.limits is uploader.limits
    assert store.uploader.uploads(60.0, call=watch.call) == ["one", "two"]
    store.uploader.uploads()
    assert uploader.calls == [
        ("uploads", (60.0,), {"call": watch.call}),
        ("uploads", (0.0,), {"call": Call()}),
    ]
    assert watch == []
