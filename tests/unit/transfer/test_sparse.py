"""Holes pass through a transfer as holes, and the bytes are the same."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgstore.backends.memory import MemoryStore
from imgstore.errors import (
    AlreadyExistsError,
    DigestMismatchError,
    OperationCancelledError,
    RangeNotSatisfiableError,
    TruncatedError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.model import ByteRange, Call, CancelToken, Extent, ObjectInfo
from imgstore.stack import LayerSettings, build
from imgstore.stream import ByteStream
from imgstore.transfer import sparse
from imgstore.transfer.copy import copy
from imgstore.transfer.progress import Report
from imgstore.transfer.sparse import SparseStream, open_source
from imgstore.transfer.upload import upload

BLOCK = 4096  # of the memory store's extents
KEY = "disk.img"


@pytest.fixture(autouse=True)
def any_hole(monkeypatch):
    monkeypatch.setattr(sparse, "LEAST_HOLE", BLOCK)


class Target:
    """Notes what is written and what is skipped."""

    def __init__(self):
        self.data = bytearray()
        self.steps = []
        self.published = None

    def write(self, data):
        self.data += data
        self.steps.append(("write", len(data)))

    def skip(self, count):
        self.data += bytes(count)
        self.steps.append(("skip", count))

    def publish(self, size=None):
        self.published = size


def stored(data, **settings):
    store = build(MemoryStore(), LayerSettings(**settings))
    store.writer.put(KEY, io.BytesIO(data))
    return store


def image(plan):
    return b"".join((b"\0" if each == "0" else each.encode()) * BLOCK for each in plan)


@pytest.mark.parametrize(
    "plan, steps",
    [
        ("a0b", [("write", BLOCK), ("skip", BLOCK), ("write", BLOCK)]),
        ("00ab", [("skip", 2 * BLOCK), ("write", 2 * BLOCK)]),
        ("a00", [("write", BLOCK), ("skip", 2 * BLOCK)]),
        ("00", [("skip", 2 * BLOCK)]),
        ("ab", [("write", 2 * BLOCK)]),
        ("", []),
    ],
)
def test_a_copy_writes_the_data_and_skips_the_holes(plan, steps):
    store, target, report = stored(image(plan), max_streams=1), Target(), Report()
    call = Call(observe=report.observe)
    with open_source(store, KEY, call=call) as source:
        assert isinstance(source, SparseStream)
        copy(source, target, report=report, digest=True)
    assert target.data == image(plan)
    assert target.steps == steps
    assert target.published == report.bytes == report.total == len(target.data)
    assert report.received == sum(count for kind, count in steps if kind == "write")
    assert report.digests == {"sha256": hashlib.sha256(image(plan)).hexdigest()}


@given(st.text("ab0", max_size=9), st.data())
def test_any_range_read_in_any_way(plan, data):
    whole = image(plan)
    store = stored(whole, max_streams=1)
    offset = data.draw(st.integers(0, max(0, len(whole) - 1)))
    length = data.draw(st.none() | st.integers(1, len(whole) + BLOCK))
    got = bytearray()
    with open_source(store, KEY, offset, length) as source:
        while True:
            if data.draw(st.booleans()) and (hole := source.hole()):
                got += bytes(hole)
                continue
            piece = source.read(data.draw(st.sampled_from([BLOCK // 3, BLOCK - 1, BLOCK, 3 * BLOCK])))
            if not piece:
                break
            got += piece
        assert not source.hole()
        assert source.delivered == len(got)
    assert got == whole[offset : None if length is None else offset + length]


def test_small_holes_are_read(monkeypatch):
    monkeypatch.setattr(sparse, "LEAST_HOLE", 2 * BLOCK)
    store, target, report = stored(image("a0b00c")), Target(), Report()
    with open_source(store, KEY, call=Call(observe=report.observe)) as source:
        copy(source, target, report=report)
    assert target.steps == [("write", 3 * BLOCK), ("skip", 2 * BLOCK), ("write", BLOCK)]
    assert report.attempts == 2


@pytest.mark.parametrize("size, steps", [(256 << 10, 3), ((256 << 10) - BLOCK, 1)])
def test_a_hole_is_worth_it_from_a_quarter_of_a_mebibyte_on(monkeypatch, size, steps):
    monkeypatch.undo()
    store, target = stored(image("a") + bytes(size) + image("b")), Target()
    with open_source(store, KEY) as source:
        copy(source, target, report=Report())
    assert len(target.steps) == steps


def without_extents(store):
    store.extents = None


def without(name):
    def change(store):
        real = store._stat
        store._stat = lambda key, call: replace(real(key, call), **{name: None})

    return change


PLAIN = [without_extents, without("version"), without("size")]


@pytest.mark.parametrize("change", PLAIN)
def test_without_a_map_or_what_holds_it_to_the_bytes_it_is_a_plain_stream(change):
    store = stored(image("a0b"))
    change(store)
    with open_source(store, KEY, BLOCK, BLOCK) as source:
        assert isinstance(source, ByteStream)
        assert source.read() == image("0")


@pytest.mark.parametrize("change", [lambda store: None, *PLAIN])
def test_a_call_that_was_called_off_opens_nothing(change):
    store, token = stored(image("a0")), CancelToken()
    change(store)
    token.cancel()
    with pytest.raises(OperationCancelledError):
        open_source(store, KEY, call=Call(cancel=token))


@pytest.mark.parametrize("change", [lambda store: None, *PLAIN])
def test_the_call_is_handed_on(change):
    store, told = stored(image("a0")), []
    change(store)
    with open_source(store, KEY, call=Call(observe=told.append)) as source:
        assert len(source.read(BLOCK)) == BLOCK
    assert [event.kind for event in told if event.operation == "get"] == ["opened", "delivered"]
    assert change is without_extents or "stat" in [event.operation for event in told]


def test_the_map_is_asked_of_the_version_and_with_the_call(monkeypatch):
    store, asked, call = stored(image("a0")), [], Call(deadline=2e9)
    real = store.extents.extents

    def extents(key, **options):
        asked.append(options)
        return real(key, **options)

    monkeypatch.setattr(store.extents, "extents", extents)
    open_source(store, KEY, call=call).close()
    assert asked == [{"start": 0, "stop": None, "version": store.stat(KEY).version, "call": call}]


def test_a_hole_is_zeros_in_whatever_buffer():
    with open_source(stored(image("0a")), KEY) as source:
        buffer = bytearray(b"x" * 2 * BLOCK)
        assert source.readinto(buffer) == BLOCK
        assert buffer == image("0") + b"x" * BLOCK


@pytest.mark.parametrize("end", ["close", "exit", "hole"])
def test_what_is_open_is_closed(end):
    store = stored(image("a0b"), max_streams=1)
    closed = []
    real = store.extents.extents

    def extents(key, **options):
        try:
            yield from real(key, **options)
        finally:
            closed.append(key)

    store.extents = SimpleNamespace(extents=extents)
    source = open_source(store, KEY)
    source.read(BLOCK if end == "hole" else 10)
    if end == "hole":
        assert source.hole() == BLOCK
    elif end == "close":
        source.close()
    else:
        with source:
            pass
    # were its stream still open, this one would wait for its permit
    assert store.get(KEY, 0, 1, call=Call().within(5)).read() == b"a"
    source.close()
    assert closed == [KEY]


@pytest.mark.parametrize("offset, length", [(9 * BLOCK, None), (2 * BLOCK, 1)])
def test_a_range_behind_the_end_is_refused_at_once(offset, length):
    with pytest.raises(RangeNotSatisfiableError):
        open_source(stored(image("a0")), KEY, offset, length)


@pytest.mark.parametrize("offset, length", [(-1, None), (0, 0), (0, -5)])
def test_a_range_that_makes_no_sense_is_refused_at_once(offset, length):
    with pytest.raises(ValueError, match=r"offset|length"):
        open_source(stored(image("a0")), KEY, offset, length)


def test_an_image_replaced_between_two_stretches_is_not_mixed():
    store = stored(image("a0b"))
    with open_source(store, KEY) as source:
        assert source.read(BLOCK) == image("a")
        store.writer.put(KEY, io.BytesIO(image("c0d")), overwrite=True)
        assert source.hole() == BLOCK
        with pytest.raises(VersionChangedError):
            source.read(BLOCK)


def test_a_map_that_ends_early_is_no_end(monkeypatch):
    store = stored(image("a0b"))
    half = [Extent(ByteRange(0, BLOCK), "data")]
    monkeypatch.setattr(store.extents, "extents", lambda *args, **options: iter(half), raising=False)
    with open_source(store, KEY) as source:
        assert source.read(BLOCK) == image("a")
        with pytest.raises(TruncatedError, match=f"ends at {BLOCK}") as caught:
            source.read(BLOCK)
        assert (caught.value.key, caught.value.offset) == (KEY, BLOCK)


@pytest.mark.parametrize("plan", ["a0b", "00", "ab", ""])
def test_an_upload_gives_the_same_image(plan):
    store, other, report = stored(image(plan)), MemoryStore(), Report()
    with open_source(store, KEY) as source:
        info = upload(source, other, "copy", report=report, digest=True)
    assert other.get("copy").read() == image(plan)
    assert info == other.stat("copy")
    assert report.bytes == report.total == len(image(plan))
    assert report.digests == {"sha256": hashlib.sha256(image(plan)).hexdigest()}


def test_an_upload_tells_a_writer_that_asks_of_the_holes():
    store, taken = stored(image("a0b")), []

    class Writer:
        def put(self, key, source, size=None, **options):
            while True:
                if hole := source.hole():
                    taken.append(("hole", hole))
                elif data := source.read(1 << 20):
                    taken.append(("data", len(data)))
                else:
                    return ObjectInfo(key, None, None)

    other, report = MemoryStore(), Report()
    other.writer = Writer()
    with open_source(store, KEY) as source:
        upload(source, other, "copy", report=report, digest=True)
    assert taken == [("data", BLOCK), ("hole", BLOCK), ("data", BLOCK)]
    assert report.bytes == 3 * BLOCK
    assert report.digests == {"sha256": hashlib.sha256(image("a0b")).hexdigest()}


def test_what_the_source_claims_is_checked_before_publishing(monkeypatch):
    store, other = stored(image("a0b")), MemoryStore()
    with open_source(store, KEY) as source:
        source.info.digests["md5"] = "0" * 32
        with pytest.raises(DigestMismatchError):
            upload(source, other, "copy", report=Report())
    assert list(other.lister.list()) == []


def test_an_upload_replaces_only_where_it_is_asked_to():
    store, other = stored(image("a")), stored(image("b"))
    with open_source(store, KEY) as source, pytest.raises(AlreadyExistsError):
        upload(source, other, KEY, report=Report())
    with open_source(store, KEY) as source:
        report = Report()
        upload(source, other, KEY, report=report, overwrite=True)
    assert other.get(KEY).read() == image("a")
    assert report.digests == {}


def test_an_upload_without_a_map_of_its_source():
    store, other, report = stored(image("a0")), MemoryStore(), Report()
    with store.get(KEY) as source:
        upload(source, other, "copy", report=report)
    assert other.get("copy").read() == image("a0")
    assert report.bytes == 2 * BLOCK


def test_an_upload_hands_its_call_on():
    store, other, token = stored(image("a")), MemoryStore(), CancelToken()
    token.cancel()
    with open_source(store, KEY) as source, pytest.raises(OperationCancelledError):
        upload(source, other, "copy", report=Report(), call=Call(cancel=token))


def test_a_store_that_is_only_read_takes_nothing():
    store, other = stored(image("a")), MemoryStore()
    other.store_id, other.writer = "archive", None
    with open_source(store, KEY) as source, pytest.raises(UnsupportedError, match="only read") as caught:
        upload(source, other, "copy", report=Report())
    assert (caught.value.key, caught.value.store) == ("copy", "archive")


def test_a_source_without_holes_is_told_from_one_that_has_some():
    """A store that makes room for what is sparse asks for that."""
    told = []

    class Writer:
        def put(self, key, source, size=None, **options):
            told.append(hasattr(source, "hole"))
            return ObjectInfo(key, size, None)

    store, other = stored(image("a0")), MemoryStore()
    other.writer = Writer()
    for opened in (store.get(KEY), open_source(store, KEY)):
        with opened as source:
            upload(source, other, "copy", report=Report())
    assert told == [False, True]


def test_a_large_hole_comes_in_pieces_and_can_be_called_off(monkeypatch):
    monkeypatch.setattr(sparse, "MOST_HOLE", BLOCK)
    store, token = stored(image("a000")), CancelToken()
    with open_source(store, KEY, call=Call(cancel=token)) as source:
        assert source.read(BLOCK) == image("a")
        assert [source.hole(), source.hole()] == [BLOCK, BLOCK]
        token.cancel()
        with pytest.raises(OperationCancelledError):
            source.hole()
    assert source.delivered == 3 * BLOCK
