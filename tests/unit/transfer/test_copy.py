"""One stream into one target."""

from __future__ import annotations

import hashlib
import io
import os
import threading

import pytest

from imgstore.backends.memory import MemoryStore
from imgstore.errors import DigestMismatchError, NoSpaceError, TruncatedError
from imgstore.hashing import hasher
from imgstore.model import ByteRange, ObjectInfo
from imgstore.store import unknown
from imgstore.stream import ByteStream, Opened
from imgstore.transfer import copy as module
from imgstore.transfer.copy import copy
from imgstore.transfer.progress import Report

DATA = os.urandom(5000)


class Target:
    def __init__(self, *, room=1 << 30):
        self.data = b""
        self.published = None
        self._room = room

    def write(self, data):
        if len(self.data) + len(data) > self._room:
            raise NoSpaceError("full")
        self.data += data

    def publish(self, size=None):
        self.published = size


class Raw:
    """A body in pieces that may end early or break."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    def readinto(self, buffer):
        if not self.pieces:
            return 0
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        buffer[: len(piece)] = piece
        return len(piece)

    def abort(self):
        pass

    def close(self):
        pass


def stream(*pieces, size=5000, start=0, digests=None):
    info = ObjectInfo("disk.img", size, None, digests=digests or {})
    opened = Opened(Raw(*pieces), info, ByteRange(start, size))
    return ByteStream(opened, start, None, translate=unknown)


@pytest.mark.parametrize("size", [0, 1, 4999, 5000])
@pytest.mark.parametrize("buffer", [1, 7, 5000, 1 << 20])
def test_every_byte_arrives(monkeypatch, size, buffer):
    monkeypatch.setattr(module, "BUFFER", buffer)
    store, target, report = MemoryStore(), Target(), Report()
    store.writer.put("disk.img", io.BytesIO(DATA[:size]))
    with store.get("disk.img") as source:
        copy(source, target, report=report)
    assert target.data == DATA[:size]
    assert target.published == size
    assert (report.bytes, report.total) == (size, size)
    assert report.digests == {}


def test_a_range_is_a_copy_too():
    store, target = MemoryStore(), Target()
    store.writer.put("disk.img", io.BytesIO(DATA))
    with store.get("disk.img", 10, 20) as source:
        copy(source, target, report=Report(), digest=True)
    assert target.data == DATA[10:30]
    assert target.published == 20


@pytest.mark.parametrize("pieces", [[DATA], [DATA[:1], DATA[1:]]])
def test_an_unknown_size_ends_with_its_proof(pieces):
    target, report = Target(), Report()
    copy(stream(*pieces, size=None), target, report=report)
    assert target.data == DATA
    assert target.published == report.bytes == len(DATA)
    assert report.total is None


def test_an_early_end_publishes_nothing():
    target = Target()
    with pytest.raises(TruncatedError):
        copy(stream(DATA[:100]), target, report=Report())
    assert target.published is None


def test_a_break_publishes_nothing_and_the_count_is_exact():
    target, report = Target(), Report()
    with pytest.raises(TruncatedError):
        copy(stream(DATA[:100], DATA[100:300], TruncatedError("cut")), target, report=report)
    assert target.published is None
    assert report.bytes == 300


def test_a_full_target_is_not_counted():
    target, report = Target(room=250), Report()
    with pytest.raises(NoSpaceError):
        copy(stream(DATA[:100], DATA[100:200], DATA[200:300]), target, report=report)
    assert target.published is None
    assert report.bytes == 200


def test_digests_are_told_when_wanted():
    report = Report()
    copy(stream(DATA), Target(), report=report, digest=True)
    assert report.digests == {"sha256": hashlib.sha256(DATA).hexdigest()}


@pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "sha512"])
@pytest.mark.parametrize("wanted", [False, True])
def test_what_the_source_names_is_checked(name, wanted):
    good = hashlib.new(name, DATA).hexdigest()
    report = Report()
    copy(stream(DATA, digests={name: good.upper()}), Target(), report=report, digest=wanted)
    assert report.digests[name] == good
    assert ("sha256" in report.digests) == (wanted or name == "sha256")
    target = Target()
    bad = hashlib.new(name, b"other").hexdigest()
    with pytest.raises(DigestMismatchError, match=f"another {name} digest"):
        copy(stream(DATA, digests={name: bad}), target, report=Report(), digest=wanted)
    assert target.published is None


def test_the_strongest_that_is_known_decides():
    digests = {
        "crc": "0",
        "md5": hashlib.md5(DATA).hexdigest(),
        "sha512": hashlib.sha512(b"other").hexdigest(),
    }
    with pytest.raises(DigestMismatchError, match="sha512"):
        copy(stream(DATA, digests=digests), Target(), report=Report())
    report = Report()
    copy(stream(DATA, digests={"crc": "0"}), Target(), report=report)
    assert report.digests == {}


@pytest.mark.parametrize("start, stop", [(1, None), (0, 10)])
def test_the_digest_of_the_whole_says_nothing_of_a_range(start, stop):
    info = ObjectInfo("disk.img", len(DATA), None, digests={"md5": "0" * 32})
    opened = Opened(Raw(DATA[start:stop]), info, ByteRange(start, stop or len(DATA)))
    target = Target()
    copy(ByteStream(opened, start, stop, translate=unknown), target, report=Report())
    assert target.data == DATA[start:stop]


def test_a_digest_of_an_unknown_size_is_checked():
    digests = {"sha256": hashlib.sha256(b"other").hexdigest()}
    with pytest.raises(DigestMismatchError):
        copy(stream(DATA, size=None, digests=digests), Target(), report=Report())


class Slow:
    """A digest that takes nothing before it is let go."""

    def __init__(self):
        self.go = threading.Event()
        self.taken = 0

    def update(self, data):
        assert self.go.wait(20)
        self.taken += len(data)

    def hexdigest(self):
        return f"{self.taken} bytes"


@pytest.fixture
def slow(monkeypatch):
    digest = Slow()
    monkeypatch.setattr(hasher, "new", lambda name: digest)
    yield digest
    digest.go.set()


def test_bytes_are_written_while_they_are_hashed(slow, monkeypatch):
    monkeypatch.setattr(module, "BUFFER", 1000)

    class LetsGo(Target):
        def write(self, data):
            super().write(data)
            if len(self.data) == 5000:
                assert not slow.taken
                slow.go.set()

    target, report = LetsGo(), Report()
    copy(stream(*[DATA[at : at + 1000] for at in range(0, 5000, 1000)]), target, report=report, digest=True)
    assert (target.data, target.published) == (DATA, 5000)
    assert report.digests == {"sha256": "5000 bytes"}


def test_f8_no_more_is_read_than_memory_holds_unhashed(slow, monkeypatch):
    monkeypatch.setattr(module, "BUFFER", 1000)
    monkeypatch.setattr(module, "_MEMORY", 3000)
    body = Raw(*[DATA[at : at + 1000] for at in range(0, 5000, 1000)])
    opened = Opened(body, ObjectInfo("disk.img", 5000, None), ByteRange(0, 5000))
    target, report = Target(), Report()
    source = ByteStream(opened, 0, None, translate=unknown)
    copying = threading.Thread(target=copy, args=(source, target), kwargs={"report": report, "digest": True})
    copying.start()
    copying.join(0.1)
    waiting, unread = copying.is_alive(), len(body.pieces)
    slow.go.set()
    copying.join(20)
    assert (waiting, unread) == (True, 2)
    assert (target.data, target.published) == (DATA, 5000)
    assert report.digests == {"sha256": "5000 bytes"}


def test_a_digest_that_fails_publishes_nothing(slow):
    slow.update = lambda data: 1 / 0
    target = Target()
    with pytest.raises(ZeroDivisionError):
        copy(stream(DATA), target, report=Report(), digest=True)
    assert target.published is None
