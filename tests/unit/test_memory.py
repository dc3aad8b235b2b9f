"""The memory driver's own promises; what every store promises is proven in tests/conformance."""

from __future__ import annotations

import errno
import hashlib
import io
import threading

import pytest

from imgstore.backends.memory import MemoryStore
from imgstore.backends.memory.store import MemoryReader
from imgstore.errors import (
    AlreadyExistsError,
    ConflictError,
    ConnectionLostError,
    DeadlineExceededError,
    DigestMismatchError,
    NoSpaceError,
    NotFoundError,
    PermanentError,
    RangeNotSatisfiableError,
    SourceChangedError,
    StorageIOError,
    UnsupportedError,
    UploadLostError,
    VersionChangedError,
)
from imgstore.model import ByteRange, Call, Extent, Part


class Clock:
    at = 1000.0

    def now(self):
        return self.at

    def time(self):
        return self.at


@pytest.fixture
def store():
    return made()


def made(**options):
    store = MemoryStore(**options)
    store.store_id, store.clock = "m", Clock()
    return store


def put(store, key="k", data=b"data", **options):
    return store.writer.put(key, io.BytesIO(data), **options)


def test_the_options_have_the_defaults_of_the_arguments():
    defaults = {each.dest: each.default for each in MemoryStore.OPTIONS}
    limits = MemoryStore().uploader.limits
    assert defaults["capacity"] is None
    assert (defaults["min_part"], defaults["max_part"], defaults["max_parts"], defaults["ordered"]) == (
        limits.min_part,
        limits.max_part,
        limits.max_parts,
        limits.ordered,
    )


def test_facets():
    store = MemoryStore()
    assert store.device is None
    assert store.acls is None
    assert None not in (
        store.writer,
        store.uploader,
        store.lister,
        store.extents,
        store.copier,
        store.space,
    )


def test_two_stores_share_nothing():
    one, two = MemoryStore(), MemoryStore()
    put(one)
    with pytest.raises(NotFoundError):
        two.stat("k")


# Reading


def test_a_reader_keeps_the_bytes_it_began_with(store):
    old = put(store, data=b"old bytes")
    with store.get("k") as stream:
        assert stream.read(3) == b"old"
        put(store, data=b"new", overwrite=True)
        store.writer.delete("k")
        assert stream.read() == b" bytes"
    put(store, data=b"newer")
    with pytest.raises(VersionChangedError):
        store.get("k", version=old.version)


def test_versions_are_never_used_twice(store):
    versions = {put(store, overwrite=True).version for _ in range(20)}
    put(other := made())
    assert len(versions | {other.stat("k").version}) == 21


def test_what_stat_tells(store):
    digests = {"sha256": hashlib.sha256(b"data").hexdigest()}
    info = put(store, digests=digests)
    assert store.stat("k") == info
    assert (info.key, info.size, info.modified, info.digests) == ("k", 4, 1000.0, digests)


def test_the_digests_are_not_the_caller_s_mapping(store):
    digests = {"md5": hashlib.md5(b"data").hexdigest()}
    put(store, digests=digests)
    digests.clear()
    assert set(store.stat("k").digests) == {"md5"}


def test_what_open_raises_names_key_and_store(store):
    put(store)
    for act, kind in (
        (lambda: store.get("none"), NotFoundError),
        (lambda: store.get("k", version="v"), VersionChangedError),
        (lambda: store.get("k", 4), RangeNotSatisfiableError),
        (lambda: store.get("k", 5), RangeNotSatisfiableError),
    ):
        with pytest.raises(kind) as caught:
            act()
        assert (caught.value.key in ("k", "none"), caught.value.store) == (True, "m")


def test_a_reader_fills_what_it_is_given_and_ends():
    reader = MemoryReader(b"0123456789", 2, 8)
    buffer = bytearray(4)
    assert [reader.readinto(memoryview(buffer)), bytes(buffer)] == [4, b"2345"]
    assert [reader.readinto(memoryview(buffer)), bytes(buffer)] == [2, b"6745"]
    assert reader.readinto(memoryview(buffer)) == 0


@pytest.mark.parametrize("end", ["abort", "close"])
def test_a_reader_that_was_ended_raises(end):
    reader = MemoryReader(b"0123456789", 0, 10)
    for _ in range(2):
        getattr(reader, end)()
        with pytest.raises(ConnectionLostError):
            reader.readinto(memoryview(bytearray(4)))


def test_translate():
    store = MemoryStore()
    error = store.translate(MemoryError())
    assert (type(error), error.errno) == (StorageIOError, errno.ENOMEM)
    assert isinstance(error.__cause__, MemoryError)
    assert type(store.translate(KeyError("x"))) is PermanentError
    gone = NotFoundError("x")
    assert store.translate(gone) is gone


# Putting


class Source:
    """Gives its pieces one a read, and calls what is callable among them."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)
        self.asked = []

    def read(self, size):
        self.asked.append(size)
        piece = self.pieces.pop(0) if self.pieces else b""
        return piece() if callable(piece) else piece


def test_a_source_that_does_not_block_is_refused(store):
    with pytest.raises(UnsupportedError, match="gave None") as caught:
        store.writer.put("k", Source(b"data", None))
    assert (caught.value.key, caught.value.store) == ("k", "m")
    assert list(store.lister.list()) == []


def test_a_source_is_read_until_it_ends(store):
    source = Source(b"a", b"b" * 10, b"c")
    assert store.writer.put("k", source).size == 12
    assert source.asked == [1 << 20] * 4
    assert store.get("k").read() == b"a" + b"b" * 10 + b"c"


@pytest.mark.parametrize("size, said", [(5, "gave 4 bytes where 5"), (3, "gave more than 3 bytes where 3")])
def test_another_size(store, size, said):
    with pytest.raises(SourceChangedError, match=said) as caught:
        put(store, size=size)
    assert (caught.value.key, caught.value.store) == ("k", "m")
    assert list(store.lister.list()) == []


def test_no_more_is_read_than_shows_that_it_is_too_much(store):
    source = Source(b"a" * 10, b"b" * 10, b"c" * 10)
    with pytest.raises(SourceChangedError):
        store.writer.put("k", source, 15)
    assert len(source.asked) == 2


def test_another_digest(store):
    with pytest.raises(DigestMismatchError, match="sha256") as caught:
        put(store, digests={"md5": hashlib.md5(b"data").hexdigest(), "sha256": "00"})
    assert (caught.value.key, caught.value.store) == ("k", "m")
    assert list(store.lister.list()) == []


def test_an_unknown_digest_is_refused_before_anything_is_read(store):
    source = Source(b"data")
    with pytest.raises(ValueError, match="crc99"):
        store.writer.put("k", source, digests={"crc99": "00"})
    with pytest.raises(ValueError, match="crc99"):
        store.uploader.begin("k", 5, digests={"crc99": "00"})
    assert source.asked == []


def test_a_taken_key_is_refused_before_anything_is_read(store):
    put(store)
    source = Source(b"data")
    with pytest.raises(AlreadyExistsError, match="overwrite") as caught:
        store.writer.put("k", source)
    assert (caught.value.key, caught.value.store) == ("k", "m")
    assert source.asked == []


def test_a_key_taken_while_the_source_is_read(store):
    source = Source(b"late", lambda: put(store, data=b"first") and b"")
    with pytest.raises(AlreadyExistsError):
        store.writer.put("k", source)
    assert store.get("k").read() == b"first"


def test_the_deadline_is_looked_at_after_each_read(store):
    def slow():
        store.clock.at += 5
        return b"data"

    source = Source(b"a", slow, b"c")
    with pytest.raises(DeadlineExceededError) as caught:
        store.writer.put("k", source, call=Call(deadline=1004.0))
    assert (caught.value.key, caught.value.store) == ("k", "m")
    assert len(source.asked) == 2


def test_delete(store):
    first = put(store)
    put(store, overwrite=True)
    for key, version, kind in (("none", None, NotFoundError), ("k", first.version, VersionChangedError)):
        with pytest.raises(kind) as caught:
            store.writer.delete(key, version=version)
        assert (caught.value.key, caught.value.store) == (key, "m")
    store.writer.delete("k", version=store.stat("k").version)
    assert list(store.lister.list()) == []


# Room


def test_without_a_capacity_there_is_no_end(store):
    put(store)
    assert store.space.free() is None


def test_room_is_taken_and_given_back():
    store = made(capacity=10)
    assert store.space.free() == 10
    put(store, "a", b"1234")
    assert store.space.free() == 6
    put(store, "b", b"123456")
    assert store.space.free() == 0
    store.writer.delete("a")
    assert store.space.free() == 4
    put(store, "empty", b"")
    assert store.space.free() == 4


@pytest.mark.parametrize("size", [None, 11])
def test_what_has_no_room_leaves_nothing(size):
    store = made(capacity=10)
    with pytest.raises(NoSpaceError, match="11 bytes have no room; 10 are free") as caught:
        put(store, data=b"x" * 11, size=size)
    assert (caught.value.key, caught.value.store) == ("k", "m")
    assert store.space.free() == 10
    put(store, data=b"x" * 10, size=10)


def test_a_size_without_room_is_refused_before_anything_is_read():
    source = Source(b"data")
    with pytest.raises(NoSpaceError):
        made(capacity=3).writer.put("k", source, 4)
    assert source.asked == []


def test_room_that_is_gone_when_the_source_ends():
    store = made(capacity=10)
    source = Source(b"123456", lambda: put(store, "other", b"12345") and b"")
    with pytest.raises(NoSpaceError):
        store.writer.put("k", source)
    assert store.space.free() == 5
    assert [info.key for info in store.lister.list()] == ["other"]


def test_an_overwrite_needs_room_beside_the_old():
    store = made(capacity=10)
    put(store, data=b"123456")
    with pytest.raises(NoSpaceError):
        put(store, data=b"12345", overwrite=True)
    assert store.get("k").read() == b"123456"
    put(store, data=b"abcd", overwrite=True)
    assert store.space.free() == 6


def test_a_copy_takes_room():
    store = made(capacity=10)
    put(store, data=b"123456", digests={"md5": hashlib.md5(b"123456").hexdigest()})
    with pytest.raises(NoSpaceError):
        store.copier.copy("k", "l")
    store.writer.delete("k")
    put(store, data=b"12345")
    info = store.copier.copy("k", "l")
    assert store.space.free() == 0
    assert info.version != store.stat("k").version


def test_a_copy_has_the_digests_of_its_source(store):
    digests = {"md5": hashlib.md5(b"data").hexdigest()}
    put(store, digests=digests)
    assert store.copier.copy("k", "l").digests == digests


# Uploads


def part(store, token, number, data, offset=None):
    return store.uploader.put_part(token, number, number * 4 if offset is None else offset, memoryview(data))


def test_parts_take_room_until_they_are_dropped():
    store = made(capacity=10)
    token = store.uploader.begin("k", 8)
    part(store, token, 0, b"aaaa")
    assert store.space.free() == 6
    part(store, token, 0, b"bb")
    assert store.space.free() == 8
    part(store, token, 0, b"cccc")
    with pytest.raises(NoSpaceError):
        part(store, token, 1, b"x" * 7, 1)
    assert store.space.free() == 6
    for _ in range(2):
        store.uploader.abort(token)
        assert store.space.free() == 10


def test_completing_needs_no_more_room():
    store = made(capacity=8)
    token = store.uploader.begin("k", 8)
    parts = [part(store, token, 0, b"aaaa"), part(store, token, 1, b"bbbb")]
    assert store.space.free() == 0
    store.uploader.complete(token, parts)
    assert store.space.free() == 0
    store.writer.delete("k")
    assert store.space.free() == 8


def test_parts_that_were_not_asked_for_give_their_room_back():
    store = made(capacity=10)
    token = store.uploader.begin("k", None)
    parts = [part(store, token, 0, b"aaaa"), part(store, token, 1, b"bbbb")]
    store.uploader.complete(token, parts[:1])
    assert store.space.free() == 6
    assert store.get("k").read() == b"aaaa"


def test_an_upload_without_room_is_refused_at_once():
    with pytest.raises(NoSpaceError):
        made(capacity=3).uploader.begin("k", 4)


def test_begin_refuses_a_taken_key(store):
    put(store)
    with pytest.raises(AlreadyExistsError):
        store.uploader.begin("k", 4)
    assert list(store.uploader.uploads()) == []
    store.uploader.begin("k", 4, overwrite=True)


@pytest.mark.parametrize(
    "number, offset, size, said",
    [
        (-1, 0, 4, "numbered from 0 to 2"),
        (3, 0, 4, "numbered from 0 to 2"),
        (0, -1, 4, r"\[-1, 3\) lies outside"),
        (0, 17, 4, r"\[17, 21\) lies outside the image of 20"),
        (0, 0, 3, "3 bytes; a part has 4 to 8"),
        (0, 0, 9, "9 bytes; a part has 4 to 8"),
        (0, 0, 0, "0 bytes; a part has 4 to 8"),
    ],
)
def test_parts_that_the_limits_forbid(number, offset, size, said):
    store = made(min_part=4, max_part=8, max_parts=3)
    token = store.uploader.begin("k", 20)
    with pytest.raises(ValueError, match=said):
        part(store, token, number, bytes(size), offset)
    assert list(store.uploader.parts(token)) == []


def test_parts_at_the_limits():
    store = made(min_part=4, max_part=8, max_parts=4)
    token = store.uploader.begin("k", 15)
    parts = [part(store, token, 0, bytes(4), 0), part(store, token, 1, bytes(8), 4)]
    parts.append(part(store, token, 3, bytes(3), 12))
    assert store.uploader.complete(token, parts).size == 15


def test_a_small_part_of_unknown_size_shows_at_the_end():
    store = made(min_part=4)
    token = store.uploader.begin("k", None)
    parts = [part(store, token, 0, bytes(3), 0), part(store, token, 1, bytes(3), 3)]
    with pytest.raises(ValueError, match="part 0: 3 bytes; only the last"):
        store.uploader.complete(token, parts)
    assert store.uploader.complete(token, parts[:1]).size == 3


def test_an_ordered_store():
    store = made(ordered=True)
    token = store.uploader.begin("k", 12)
    with pytest.raises(ValueError, match="in order, next is 0"):
        part(store, token, 1, b"bbbb")
    part(store, token, 0, b"xxxx")
    parts = [part(store, token, n, b"aaaa") for n in (0, 1, 2)]
    assert store.uploader.complete(token, parts).size == 12


def test_parts_that_do_not_adjoin(store):
    token = store.uploader.begin("k", 12)
    parts = [part(store, token, 0, b"aaaa", 0), part(store, token, 1, b"bbbb", 5)]
    with pytest.raises(ValueError, match="part 1 begins at 5, not at 4"):
        store.uploader.complete(token, parts)
    overlapping = [parts[0], part(store, token, 1, b"bbbb", 3)]
    with pytest.raises(ValueError, match="begins at 3, not at 4"):
        store.uploader.complete(token, overlapping)


def test_parts_that_are_too_few(store):
    token = store.uploader.begin("k", 12)
    with pytest.raises(SourceChangedError, match="hold 4 bytes where 12") as caught:
        store.uploader.complete(token, [part(store, token, 0, b"aaaa")])
    assert (caught.value.key, caught.value.store) == ("k", "m")


def test_parts_that_are_not_held(store):
    token = store.uploader.begin("k", 8)
    old = part(store, token, 0, b"aaaa")
    new = part(store, token, 0, b"AAAA")
    last = part(store, token, 1, b"bbbb")
    for parts in ([old, last], [new, last, Part(2, 8, 4, "t")]):
        with pytest.raises(UploadLostError, match="does not hold part") as caught:
            store.uploader.complete(token, parts)
        assert (caught.value.key, caught.value.store) == ("k", "m")
    store.uploader.complete(token, [last, new])
    assert store.get("k").read() == b"AAAAbbbb"


def test_complete_again_while_the_image_is_there(store):
    token = store.uploader.begin("k", 4)
    parts = [part(store, token, 0, b"aaaa")]
    info = store.uploader.complete(token, parts)
    put(store, "other")
    assert store.uploader.complete(token, parts) == store.uploader.complete(token, []) == info
    store.writer.delete("k")
    with pytest.raises(UploadLostError) as caught:
        store.uploader.complete(token, parts)
    assert caught.value.store == "m"


def test_a_put_is_no_upload(store):
    put(store)
    with pytest.raises(UploadLostError):
        store.uploader.complete("", [])


def test_a_conflict(store):
    token = store.uploader.begin("k", 4)
    parts = [part(store, token, 0, b"aaaa")]
    put(store)
    with pytest.raises(ConflictError, match="first") as caught:
        store.uploader.complete(token, parts)
    assert (caught.value.key, caught.value.store) == ("k", "m")
    assert [each.token for each in store.uploader.uploads()] == [token]


def test_uploads_by_their_age(store):
    tokens = []
    for key in "ab":
        tokens.append(store.uploader.begin(key, 4))
        store.clock.at += 10
    assert [(each.token, each.key, each.started) for each in store.uploader.uploads()] == [
        (tokens[0], "a", 1000.0),
        (tokens[1], "b", 1010.0),
    ]
    assert [each.key for each in store.uploader.uploads(10)] == ["a", "b"]
    assert [each.key for each in store.uploader.uploads(10.001)] == ["a"]
    assert list(store.uploader.uploads(20.001)) == []


def test_two_completes_at_once_are_one(store):
    token = store.uploader.begin("k", 4)
    parts = [part(store, token, 0, b"aaaa")]
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(store.uploader.complete(token, parts))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert found == [store.stat("k")] * 4


# Extents and lists


@pytest.mark.parametrize(
    "data, extents",
    [
        (b"", []),
        (b"x", [("data", 0, 1)]),
        (bytes(1), [("zero", 0, 1)]),
        (bytes(4096), [("zero", 0, 4096)]),
        (bytes(4097), [("zero", 0, 4097)]),
        (bytes(4096) + b"x", [("zero", 0, 4096), ("data", 4096, 4097)]),
        (b"x" + bytes(4095), [("data", 0, 4096)]),
        (b"x" + bytes(8191), [("data", 0, 4096), ("zero", 4096, 8192)]),
        (bytes(4095) + b"x" + bytes(4096), [("data", 0, 4096), ("zero", 4096, 8192)]),
        (b"x" * 9000, [("data", 0, 9000)]),
    ],
)
def test_extents(store, data, extents):
    put(store, data=data)
    found = list(store.extents.extents("k"))
    assert found == [Extent(ByteRange(start, stop), kind) for kind, start, stop in extents]


@pytest.mark.parametrize(
    "start, stop, extents",
    [
        (5, 6, [("zero", 5, 6)]),
        (4095, 4097, [("zero", 4095, 4096), ("data", 4096, 4097)]),
        (4096, 8192, [("data", 4096, 8192)]),
        (8191, None, [("data", 8191, 8192), ("zero", 8192, 9000)]),
        (8999, 1 << 40, [("zero", 8999, 9000)]),
        (7, 7, []),
    ],
)
def test_extents_of_a_range(store, start, stop, extents):
    put(store, data=bytes(4096) + b"x" * 4096 + bytes(808))
    found = list(store.extents.extents("k", start=start, stop=stop))
    assert found == [Extent(ByteRange(low, high), kind) for kind, low, high in extents]


def test_extents_that_make_no_sense(store):
    info = put(store)
    for start, stop in ((-1, None), (3, 2)):
        with pytest.raises(ValueError, match="byte range"):
            store.extents.extents("k", start=start, stop=stop)
    for start in (4, 5):
        with pytest.raises(RangeNotSatisfiableError, match="4 bytes") as caught:
            store.extents.extents("k", start=start)
        assert (caught.value.key, caught.value.store) == ("k", "m")
    put(store, overwrite=True)
    with pytest.raises(VersionChangedError):
        store.extents.extents("k", version=info.version)


def test_a_list_is_of_the_moment_it_began(store):
    put(store, "a")
    found = store.lister.list()
    put(store, "b")
    store.writer.delete("a")
    assert [info.key for info in found] == ["a"]
