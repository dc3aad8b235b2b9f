"""What was stored, held against what was sent."""

from __future__ import annotations

import hashlib
import io
import logging

import pytest

from imgstore.backends.memory import MemoryStore
from imgstore.errors import (
    DigestMismatchError,
    InUseError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.model import Call, CancelToken
from imgstore.transfer.progress import Report
from imgstore.transfer.upload import upload
from tests.unit.layers.scripted import Clock

CHUNK = 4 << 20
IMAGE = bytes(range(256)) * 40_000  # two chunks, and a piece of a third
SHA256 = hashlib.sha256(IMAGE).hexdigest()


class Twisted(MemoryStore):
    """Keeps `data` in the place of what it is given, and `says` that it has these digests."""

    def __init__(self, data=IMAGE, **says):
        super().__init__()
        self.data, self.says, self.deadlines = data, says, []
        self.clock = Clock()
        self._put, self._delete = self.writer.put, self.writer.delete
        self.writer.put, self.writer.delete = self._twist, self._note

    def _twist(self, key, source, size=None, **options):
        self._put(key, source, size, **options)
        return self._images.publish(key, self.data, overwrite=True, digests=self.says)

    def _note(self, key, *, version=None, call):
        self.deadlines.append(call.remaining(self.clock))
        self._delete(key, version=version, call=call)


def overtaken(store):
    """Has another image take the place of each right after it was stored."""
    twist = store.writer.put

    def put(key, *args, **options):
        info = twist(key, *args, **options)
        store._images.publish(key, b"another's", overwrite=True, digests={})
        return info

    store.writer.put = put
    return store


@pytest.fixture
def source():
    store = MemoryStore()
    store.writer.put("a", io.BytesIO(IMAGE))
    with store.get("a") as stream:
        yield stream


def refused(source, store, **options):
    report = Report()
    with pytest.raises(DigestMismatchError) as raised:
        upload(source, store, "k", report=report, **options)
    assert report.digests == {}
    assert raised.value.key == "k"
    return raised.value


def test_a_store_that_says_the_same_is_believed(source):
    report = Report()
    info = upload(source, Twisted(sha256=SHA256.upper(), md5="0"), "k", report=report, digest=True)
    assert (info.key, report.digests) == ("k", {"sha256": SHA256})
    assert report.total == report.bytes == len(IMAGE)


def test_one_that_says_something_else_loses_the_image(source):
    store = Twisted(sha256="0" * 64)
    assert "another sha256 digest" in str(refused(source, store, digest=True))
    with pytest.raises(NotFoundError):
        store.stat("k")
    assert store.deadlines == [10]


def test_what_nobody_computed_is_not_compared(source):
    upload(source, Twisted(sha256="0" * 64), "k", report=Report())


@pytest.mark.parametrize(
    "data, chunks",
    [
        (IMAGE[:CHUNK] + b"x" + IMAGE[CHUNK + 1 :], (1,)),
        (b"x" + IMAGE[1:-1] + b"x", (0, 2)),
        (IMAGE[: 2 * CHUNK], (2,)),
        (IMAGE + bytes(CHUNK), (2,)),
        (IMAGE[:5], (0, 1, 2)),
    ],
)
def test_what_is_read_back_is_compared_chunk_for_chunk(source, data, chunks):
    error = refused(source, Twisted(data), read_back=True)
    assert error.chunks == chunks
    assert f"gives back {len(data)} bytes of the {len(IMAGE)}" in str(error)
    assert f"{len(chunks)} chunks of {CHUNK} bytes" in str(error)


def test_an_image_with_more_chunks_than_were_sent_is_another():
    store = MemoryStore()
    store.writer.put("a", io.BytesIO(IMAGE[:CHUNK]))
    with store.get("a") as stream:
        assert refused(stream, Twisted(IMAGE[: CHUNK + 1]), read_back=True).chunks == ()


def test_without_being_asked_nothing_is_read_back(source):
    store = Twisted(b"other")
    upload(source, store, "k", report=Report())
    assert store.stat("k").size == 5


def test_the_version_that_was_stored_is_read_back_and_no_other(source):
    store = overtaken(Twisted())
    with pytest.raises(VersionChangedError):
        upload(source, store, "k", report=Report(), read_back=True)
    assert store.stat("k").size == len(b"another's")


def test_an_image_of_somebody_else_by_then_is_not_removed(source):
    store = overtaken(Twisted(sha256="0" * 64))
    refused(source, store, digest=True)
    assert store.stat("k").size == len(b"another's")


def test_the_call_is_that_of_all_that_is_read_back(source, monkeypatch):
    """But for who hears of it: the target is none of the sources."""
    store, calls = Twisted(), []
    opened = store._open
    monkeypatch.setattr(store, "_open", lambda *given: (calls.append(given[-1]), opened(*given))[1])
    report, token = Report(), CancelToken()
    upload(source, store, "k", report=report, read_back=True, call=Call(cancel=token, observe=report.observe))
    assert calls == [Call(cancel=token)]
    assert (report.received, report.sources) == (0, {})


def test_what_cannot_be_read_back_stays(source, monkeypatch):
    store = Twisted()

    def unavailable(*_):
        raise UnavailableError("the weather is bad")

    monkeypatch.setattr(store, "_open", unavailable)
    with pytest.raises(UnavailableError):
        upload(source, store, "k", report=Report(), read_back=True)
    assert store.stat("k").size == len(IMAGE)


def test_what_cannot_be_removed_is_told(source, caplog):
    store = Twisted(sha256="0" * 64)
    store.store_id = "cold"

    def in_use(*_, **__):
        raise InUseError("it has clones")

    store.writer.delete = in_use
    with caplog.at_level(logging.WARNING):
        refused(source, store, digest=True)
    (record,) = caplog.records
    assert (
        record.getMessage() == "store cold: 'k' is not what was sent, and could not be removed: it has clones"
    )


def test_a_store_that_is_only_read_is_refused_first(source):
    store = MemoryStore()
    store.writer = None
    store.store_id = "web"
    with pytest.raises(UnsupportedError) as raised:
        upload(source, store, "k", report=Report())
    assert (raised.value.key, raised.value.store) == ("k", "web")
    assert source.delivered == 0


def test_what_a_writer_reads_into_its_own_memory_is_hashed_and_counted(source):
    class Filling:
        def put(self, key, source, size=None, **options):
            held, view = bytearray(), memoryview(bytearray(100_000))
            while count := source.readinto(view):
                held += view[:count]
            return store._images.publish(key, bytes(held), overwrite=False, digests={})

    store, report = MemoryStore(), Report()
    store.writer = Filling()
    upload(source, store, "k", report=report, digest=True)
    assert store.get("k").read() == IMAGE
    assert report.bytes == len(IMAGE)
    assert report.digests == {"sha256": SHA256}
