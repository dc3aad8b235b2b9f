"""Store: what is checked before a driver is asked, and what becomes of what it raises."""

from __future__ import annotations

import gc

import pytest

from imgstore.clock import SYSTEM
from imgstore.errors import (
    BadReplyError,
    DeadlineExceededError,
    NotFoundError,
    OperationCancelledError,
    PermanentError,
    RangeNotSatisfiableError,
    UnavailableError,
    UnsafeLocationError,
    VersionChangedError,
)
from imgstore.model import ANY, NO_CALL, ByteRange, Call, CancelToken, ObjectInfo
from imgstore.store import FACETS, Store, unknown
from imgstore.stream import ByteStream, Opened

DATA = bytes(range(100))


class Clock:
    at = 1000.0

    def now(self):
        return self.at

    def time(self):
        return self.at


class Raw:
    def __init__(self, data):
        self.data = data
        self.closes = 0

    def readinto(self, buffer):
        count = min(len(buffer), len(self.data))
        buffer[:count] = self.data[:count]
        self.data = self.data[count:]
        return count

    def abort(self):
        pass

    def close(self):
        self.closes += 1


class Driver(Store):
    """Notes what it is asked; raises `failure`, or serves `served` of an image of `size` bytes."""

    store_id = "s"
    failure = None
    size = 100
    served = None

    def __init__(self):
        self.clock = Clock()
        self.asked = []
        self.raws = []

    def _open(self, key, start, stop, version, call):
        self.asked.append((key, start, stop, version, call))
        if self.failure is not None:
            raise self.failure
        self.raws.append(Raw(DATA[start:stop]))
        end = self.size if stop is None else stop
        return Opened(self.raws[-1], ObjectInfo(key, self.size, "v"), self.served or ByteRange(start, end))

    def translate(self, exc):
        return UnavailableError(f"translated {exc}")


class Stating(Driver):
    def _stat(self, key, call):
        self.asked.append((key, call))
        if self.failure is not None:
            raise self.failure
        return ObjectInfo(key, 5, "v")


@pytest.fixture
def store():
    return Driver()


def test_the_interface_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Store()


def test_facets_are_optional():
    assert set(FACETS) == {"writer", "uploader", "lister", "extents", "device", "copier", "acls", "space"}
    assert {getattr(Driver(), name) for name in FACETS} == {None}
    assert Store.OPTIONS == ()
    assert Store.store_id == ""
    assert Store.clock is SYSTEM


# get


@pytest.mark.parametrize(
    "arguments, start, stop",
    [((), 0, None), ((5,), 5, None), ((5, 1), 5, 6), ((0, 100), 0, 100), ((99, 1), 99, 100)],
)
def test_get_asks_the_driver_for_a_half_open_range(store, arguments, start, stop):
    call = Call()
    with store.get("k", *arguments, version="v", call=call) as stream:
        assert stream.read() == DATA[start:stop]
        assert stream.range == ByteRange(start, 100 if stop is None else stop)
    assert store.asked == [("k", start, stop, "v", call)]
    assert store.asked[0][4] is call


@pytest.mark.parametrize("version", [None, "v", ANY])
def test_get_passes_the_version_on(store, version):
    store.get("k", version=version).close()
    assert store.asked[0][3:] == (version, NO_CALL)


def test_get_gives_a_stream(store):
    stream = store.get("k")
    assert type(stream) is ByteStream
    assert stream.info == ObjectInfo("k", 100, "v")
    stream.close()
    assert store.raws[0].closes == 1


@pytest.mark.parametrize("offset", [-1, -(1 << 62)])
def test_a_negative_offset_asks_nobody(store, offset):
    with pytest.raises(ValueError, match=f"offset {offset} is negative"):
        store.get("k", offset)
    assert store.asked == []


@pytest.mark.parametrize("length", [0, -1, -99])
def test_a_length_below_one_asks_nobody(store, length):
    with pytest.raises(ValueError, match=f"length {length} is below 1"):
        store.get("k", 0, length)
    assert store.asked == []


@pytest.mark.parametrize("arguments", [("5",), (1.5,), (None,), (0, "5"), (0, 1.5)])
def test_what_is_no_integer_asks_nobody(store, arguments):
    with pytest.raises(TypeError):
        store.get("k", *arguments)
    assert store.asked == []


def test_what_is_an_integer_by_its_index(store):
    class Five:
        def __index__(self):
            return 5

    store.get("k", Five(), Five()).close()
    assert store.asked[0][1:3] == (5, 10)


def test_the_size_of_the_image_is_not_asked_for_before(store):
    with pytest.raises(RangeNotSatisfiableError) as caught:
        store.served = ByteRange(0, 100)
        store.get("k", 100)
    assert (caught.value.key, caught.value.store) == ("k", "s")
    assert len(store.asked) == 1
    assert store.raws[0].closes == 1


@pytest.mark.parametrize(
    "version, served, kind",
    [("other", None, VersionChangedError), (None, ByteRange(1, 100), BadReplyError)],
)
def test_a_body_that_is_refused_is_closed(store, version, served, kind):
    store.served = served
    with pytest.raises(kind) as caught:
        store.get("k", version=version)
    assert (caught.value.key, caught.value.store, caught.value.__cause__) == ("k", "s", None)
    assert store.raws[0].closes == 1


def test_a_foreign_exception_is_translated_and_is_the_cause(store):
    store.failure = OSError(5, "EIO")
    with pytest.raises(UnavailableError, match="translated") as caught:
        store.get("k")
    assert caught.value.__cause__ is store.failure
    assert (caught.value.key, caught.value.store) == ("k", "s")


def test_an_error_of_ours_comes_out_unchanged(store):
    cause = OSError(5, "EIO")
    store.failure = NotFoundError("gone")
    store.failure.__cause__ = cause
    with pytest.raises(NotFoundError) as caught:
        store.get("k")
    assert caught.value is store.failure
    assert caught.value.__cause__ is cause
    assert (caught.value.key, caught.value.store) == ("k", "s")


def test_fields_that_an_error_has_are_kept(store):
    store.failure = NotFoundError("gone", key="inner", store="other")
    with pytest.raises(NotFoundError) as caught:
        store.get("k")
    assert (caught.value.key, caught.value.store) == ("inner", "other")


def test_an_interrupt_comes_out_and_leaves_nothing_open(store, monkeypatch):
    store.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        store.get("k")
    store.failure = None

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("imgstore.store.ByteStream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.get("k")
    assert store.raws[0].closes == 1


def test_what_a_read_raises_goes_through_translate(store):
    with store.get("k") as stream:
        store.raws[0].readinto = lambda _: 1 // 0
        with pytest.raises(UnavailableError, match="translated integer") as caught:
            stream.read()
    assert (caught.value.key, caught.value.store, caught.value.offset) == ("k", "s", 0)


def test_the_stream_has_the_call_and_the_clock(store):
    token = CancelToken()
    with store.get("k", call=Call(deadline=1005.0, cancel=token)) as stream:
        store.clock.at = 1004.9
        assert stream.read(1) == DATA[:1]
        store.clock.at = 1005.0
        with pytest.raises(DeadlineExceededError):
            stream.read(1)
    with store.get("k", call=Call(cancel=token)) as stream:
        token.cancel()
        with pytest.raises(OperationCancelledError):
            stream.read(1)


# What get and stat share


@pytest.mark.parametrize("kind", [Driver, Stating])
@pytest.mark.parametrize("operation", ["stat", "get"])
class TestEveryCall:
    def test_a_key_is_checked_first(self, kind, operation):
        store = kind()
        with pytest.raises(UnsafeLocationError):
            getattr(store, operation)("../k")
        assert store.asked == []

    def test_a_call_that_is_over_asks_nobody(self, kind, operation):
        store = kind()
        token = CancelToken()
        token.cancel()
        for call, error in (
            (Call(cancel=token), OperationCancelledError),
            (Call(deadline=1000.0), DeadlineExceededError),
        ):
            with pytest.raises(error) as caught:
                getattr(store, operation)("k", call=call)
            assert (caught.value.key, caught.value.store) == ("k", "s")
        assert store.asked == []

    def test_a_closed_store_asks_nobody(self, kind, operation):
        store = kind()
        for _ in range(2):
            store.close()
            with pytest.raises(ValueError, match="store 's' is closed"):
                getattr(store, operation)("../k")
        assert store.asked == []

    def test_what_the_driver_raises(self, kind, operation):
        store = kind()
        store.failure = KeyError("x")
        with pytest.raises(UnavailableError, match="translated") as caught:
            getattr(store, operation)("k")
        assert caught.value.__cause__ is store.failure
        assert (caught.value.key, caught.value.store) == ("k", "s")
        store.failure = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            getattr(store, operation)("k")


# stat


def test_stat_opens_the_image_where_there_is_no_cheaper_way(store):
    call = Call()
    assert store.stat("k", call=call) == ObjectInfo("k", 100, "v")
    assert store.asked == [("k", 0, None, None, call)]
    assert store.raws[0].closes == 1


def test_stat_of_a_driver_with_a_cheaper_way():
    store, call = Stating(), Call()
    assert store.stat("k", call=call) == ObjectInfo("k", 5, "v")
    assert store.asked == [("k", call)]


def test_an_error_of_ours_comes_out_of_stat_unchanged():
    store = Stating()
    store.failure = NotFoundError("gone")
    with pytest.raises(NotFoundError) as caught:
        store.stat("k")
    assert caught.value is store.failure
    assert caught.value.__cause__ is None


# close


def test_a_store_is_a_context_manager(store):
    with store as entered:
        assert entered is store
        store.stat("k")
    with pytest.raises(ValueError, match="closed"):
        store.stat("k")


def test_streams_outlive_the_store(store):
    stream = store.get("k")
    store.close()
    del store
    gc.collect()
    assert stream.read() == DATA


def test_closing_one_store_leaves_another(store):
    store.close()
    assert Driver().stat("k").size == 100


# unknown


def test_what_no_driver_knows_is_permanent_and_has_its_cause():
    exc = ZeroDivisionError("division by zero")
    error = unknown(exc)
    assert type(error) is PermanentError
    assert (str(error), error.__cause__) == ("unexpected ZeroDivisionError", exc)
    assert not error.retryable
