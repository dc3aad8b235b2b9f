"""The verify layer: what leaves it has matched, and a bad chunk costs that chunk."""

from __future__ import annotations

import io
import logging
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgstore.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    DigestMismatchError,
    ManifestError,
    NotFoundError,
    OperationCancelledError,
    RangeNotSatisfiableError,
    TimedOutError,
    VersionChangedError,
)
from imgstore.layers import _chunk_reader as reader
from imgstore.layers.verify import VerifyLayer
from imgstore.manifest import Manifest
from imgstore.model import ANY, ByteRange, Call, Extent
from imgstore.stream import Opened
from imgstore.testing.conformance._place import STALLED_AT, WatchedStore
from tests.manifests import Given, manifest_of

KEY = "disk"
CHUNK = 1000
COUNT = 400
IMAGE = bytes(number * 7 % 251 for number in range(CHUNK * COUNT - 300))


class Bent(WatchedStore):
    """Flips the byte at each offset of `flips` as often as it says, and breaks at `breaks` once."""

    def __init__(self):
        super().__init__()
        self.store_id = "bent"
        self.flips = {}
        self.breaks = set()
        self.broken = lambda: None

    def _open(self, key, start, stop, version, call):
        opened = super()._open(key, start, stop, version, call)
        return Opened(Bending(self, opened.raw, start), opened.info, opened.range)

    def ranges(self):
        return [(start, stop) for start, stop, *_ in self.opens]


class Bending:
    def __init__(self, store, inner, at):
        self.store, self.inner, self.at = store, inner, at

    def readinto(self, buffer):
        for place in sorted(self.store.breaks):
            if place == self.at:
                self.store.breaks.discard(place)
                self.store.broken()
                raise ConnectionLostError("cut")
            if self.at < place < self.at + len(buffer):
                buffer = buffer[: place - self.at]
        count = self.inner.readinto(buffer)
        for place, times in self.store.flips.items():
            if times and self.at <= place < self.at + count:
                self.store.flips[place] -= 1
                buffer[place - self.at] ^= 1
        self.at += count
        return count

    def abort(self):
        self.inner.abort()

    def close(self):
        self.inner.close()


@pytest.fixture
def store():
    made = Bent()
    made.writer.put(KEY, io.BytesIO(IMAGE))
    return made


def layered(store, *, required=True, manifest=None, **options):
    manifests = Given({KEY: manifest or manifest_of(IMAGE, CHUNK)})
    return VerifyLayer(store, manifests, required=required, **options)


def whole(layer, **options):
    with layer.get(KEY, **options) as stream:
        return stream.read()


def test_a_clean_read_is_one_request(store):
    told = []
    assert whole(layered(store, observe=told.append)) == IMAGE
    assert store.ranges() == [(0, len(IMAGE))]
    assert not told


@settings(max_examples=25)
@given(st.data())
def test_any_range_is_what_was_asked(data):
    store = Bent()
    store.writer.put(KEY, io.BytesIO(IMAGE))
    offset = data.draw(st.integers(0, len(IMAGE) - 1))
    length = data.draw(st.none() | st.integers(1, len(IMAGE) + CHUNK))
    for place in data.draw(st.lists(st.integers(0, len(IMAGE) - 1), max_size=4)):
        store.flips[place] = 1
    wanted = IMAGE[offset:] if length is None else IMAGE[offset : offset + length]
    assert whole(layered(store), offset=offset, length=length) == wanted


@pytest.mark.parametrize("place", [0, 5 * CHUNK + 7, 6 * CHUNK - 1, len(IMAGE) - 1])
def test_a_bad_chunk_is_fetched_again_alone(store, place):
    store.flips[place] = 1
    told = []
    assert whole(layered(store, observe=told.append)) == IMAGE
    number = place // CHUNK
    bad = (number * CHUNK, min((number + 1) * CHUNK, len(IMAGE)))
    (first, again, *rest) = store.ranges()
    assert (first, again) == ((0, len(IMAGE)), bad)
    # what had been received when the chunk was judged is not asked for again
    assert len(rest) <= 1
    assert all(bad[1] <= start <= bad[1] + reader.AHEAD * CHUNK for start, _ in rest)
    seen = [(event.kind, event.store, event.offset, event.count) for event in told]
    size = bad[1] - bad[0]
    assert seen == [("refetched", "bent", bad[0], size), ("repaired", "bent", bad[0], size)]


def test_a_stream_to_spare_leaves_the_first_where_it_is(store):
    store.flips = {3 * CHUNK: 1, 200 * CHUNK + 5: 1, len(IMAGE) - 1: 1}
    assert whole(layered(store, spare=True)) == IMAGE
    bad = [(3 * CHUNK, 4 * CHUNK), (200 * CHUNK, 201 * CHUNK), (399 * CHUNK, len(IMAGE))]
    assert store.ranges() == [(0, len(IMAGE)), *bad]
    assert store.most_open == 2
    assert store.now_open == 0


def test_a_chunk_that_stays_bad_ends_the_read_where_it_begins(store):
    store.flips[7 * CHUNK + 1] = -1
    taken = b""
    with layered(store).get(KEY) as stream:
        with pytest.raises(DigestMismatchError, match=r"chunk 7 of 'disk' \(bytes 7000 to 8000\)") as caught:
            while piece := stream.read(100):
                taken += piece
        assert caught.value.chunks == (7,)
        assert caught.value.offset == stream.delivered == 7 * CHUNK
    assert taken == IMAGE[: 7 * CHUNK]
    assert store.ranges()[1:] == [(7 * CHUNK, 8 * CHUNK)]
    assert store.now_open == 0


def test_a_source_that_lies_often_is_not_asked_for_ever(store):
    store.flips = dict.fromkeys(range(0, len(IMAGE), CHUNK), 1)
    with pytest.raises(DigestMismatchError, match="and 8 others were wrong") as caught:
        whole(layered(store))
    assert caught.value.chunks == (8,)  # one in fifty of 400 is eight
    again = [stop - start for start, stop in store.ranges() if stop - start == CHUNK]
    assert len(again) == 8


def test_the_chunks_that_came_before_a_failure_are_delivered_before_it(store, monkeypatch):
    broken, matches = threading.Event(), Manifest.matches

    def late(manifest, number, data):
        """The last two are being hashed still when the third one breaks."""
        if number >= 7:
            broken.wait(5)
        return matches(manifest, number, data)

    monkeypatch.setattr(Manifest, "matches", late)
    store.breaks = {9 * CHUNK + 10}
    store.broken = broken.set
    with layered(store).get(KEY) as stream:
        with pytest.raises(ConnectionLostError):
            while stream.readinto(bytearray(CHUNK)):
                pass
        assert stream.delivered == 9 * CHUNK


@pytest.mark.parametrize("version, passed", [(None, ANY), (ANY, ANY)])
def test_the_digests_stand_in_for_a_version(store, version, passed):
    whole(layered(store), version=version)
    assert store.opens[0][2] is passed


def test_a_version_that_is_asked_for_is_held_to(store):
    layer = layered(store)
    version = layer.stat(KEY).version
    assert whole(layer, version=version) == IMAGE
    with pytest.raises(VersionChangedError):
        layer.get(KEY, version="another")


def test_an_image_replaced_before_a_repair_is_another(store):
    store.flips[7 * CHUNK] = 1
    manifest = manifest_of(IMAGE, CHUNK, version=store.stat(KEY).version)
    with layered(store, manifest=manifest).get(KEY) as stream:
        assert stream.read(CHUNK) == IMAGE[:CHUNK]
        store.writer.put(KEY, io.BytesIO(bytes(len(IMAGE))), overwrite=True)
        with pytest.raises(VersionChangedError, match="replaced while it was read"):
            stream.read()


STALE = [manifest_of(IMAGE + b"x", CHUNK), manifest_of(IMAGE, CHUNK, version="another")]


@pytest.mark.parametrize("manifest", STALE)
def test_a_stale_manifest_is_an_error_where_one_is_required(store, manifest):
    with pytest.raises(ManifestError, match="of another image"):
        layered(store, manifest=manifest).get(KEY)
    assert store.now_open == 0


@pytest.mark.parametrize("manifest", STALE)
def test_a_stale_manifest_is_a_warning_where_none_is_required(store, manifest, caplog):
    assert whole(layered(store, manifest=manifest, required=False)) == IMAGE
    assert "'disk' is read unverified: its manifest is of another image" in caplog.text


def test_a_stale_manifest_is_told_of_once(store, caplog):
    """An image with holes is opened anew behind each of them."""
    caplog.set_level(logging.WARNING)
    layer = layered(store, manifest=STALE[0], required=False)
    for offset in (0, 10, 20):
        whole(layer, offset=offset, length=10)
    assert caplog.text.count("is read unverified") == 1
    store.writer.put(KEY, io.BytesIO(IMAGE[1:]), overwrite=True)
    whole(layer)
    assert caplog.text.count("is read unverified") == 2


class Remembering(Given):
    """Remembers a stale manifest until it is told to forget."""

    def forget(self, key):
        return (
            self.manifests.update({key: self.fresh}) is None and self.manifests.pop("old", None) is not None
        )


def test_a_manifest_that_was_remembered_is_found_anew(store):
    manifests = Remembering({KEY: STALE[0], "old": True})
    manifests.fresh = manifest_of(IMAGE, CHUNK)
    assert whole(VerifyLayer(store, manifests, required=True)) == IMAGE


def test_without_a_manifest(store):
    layer = VerifyLayer(store, Given({}), required=True)
    with pytest.raises(ManifestError, match="no manifest of 'disk'"):
        layer.get(KEY)
    with pytest.raises(NotFoundError):
        layer.get("missing")
    assert layer.stat(KEY) == store.stat(KEY)
    assert whole(VerifyLayer(store, Given({}))) == IMAGE


def test_the_image_is_described_by_its_store(store):
    layer = layered(store, manifest=manifest_of(IMAGE, CHUNK, digests={"sha256": "0" * 64}))
    with layer.get(KEY) as stream:
        assert stream.info == store.stat(KEY)  # its chunks prove it: nobody has to hash the whole again


@pytest.mark.parametrize("offset", [len(IMAGE), len(IMAGE) + 1])
def test_behind_the_end(store, offset):
    with pytest.raises(RangeNotSatisfiableError):
        layered(store).get(KEY, offset)
    assert not store.opens


def test_small_reads_of_one_chunk_are_one_request(store):
    layer = layered(store)
    version = layer.stat(KEY).version
    for offset in range(0, CHUNK, 100):
        assert whole(layer, offset=offset, length=100, version=version) == IMAGE[offset : offset + 100]
    assert store.ranges() == [(0, CHUNK)]
    # only with the version is it known to be the same image still
    whole(layer, offset=0, length=10)
    whole(layer, offset=CHUNK - 1, length=2, version=version)
    assert store.ranges()[1:] == [(0, CHUNK), (0, 2 * CHUNK)]
    store.writer.delete(KEY)
    with pytest.raises(NotFoundError):
        layer.get(KEY, 0, 10, version="another")


def test_no_more_memory_than_is_said(store, monkeypatch):
    made = []
    monkeypatch.setattr(reader, "paged", lambda size: made.append(size) or memoryview(bytearray(size)))
    whole(layered(store))
    assert made == [CHUNK] * (reader.AHEAD + 1)
    made.clear()
    whole(layered(store), offset=10, length=CHUNK)
    assert made == [CHUNK]


def test_holes_are_believed_where_the_manifest_proves_them():
    store = Bent()
    image = bytes(10 * CHUNK) + b"data" + bytes(10 * CHUNK)
    store.writer.put(KEY, io.BytesIO(image))

    class Extents:
        def extents(self, key, *, start=0, stop=None, version=None, call=None):
            yield Extent(ByteRange(start, 5), "data")
            yield Extent(ByteRange(5, len(image)), "hole")

    store.extents = Extents()
    layer = layered(store, manifest=manifest_of(image, CHUNK))
    found = [(each.range.start, each.range.stop, each.kind) for each in layer.extents.extents(KEY)]
    assert found == [
        (0, 5, "data"),
        (5, 10 * CHUNK, "hole"),
        (10 * CHUNK, 11 * CHUNK, "data"),
        (11 * CHUNK, len(image), "hole"),
    ]
    unproven = VerifyLayer(store, Given({}))
    assert [each.kind for each in unproven.extents.extents(KEY)] == ["data", "hole"]


class OneHole:
    """Tells of an image that it is one hole, as long as the store says."""

    def __init__(self, store):
        self._store = store

    def extents(self, key, *, start=0, stop=None, version=None, call=None):
        if size := self._store.stat(key).size:
            yield Extent(ByteRange(start, size if stop is None else stop), "hole")


@pytest.mark.parametrize("size", [0, 4 * CHUNK, 20 * CHUNK], ids=["empty", "cut off", "longer"])
@pytest.mark.parametrize("stop", [None, 2 * CHUNK])
def test_a_map_without_data_is_held_against_the_manifest_too(size, stop, caplog):
    """Of such an image no byte is read, which is where else another one is found."""
    store = Bent()
    store.writer.put(KEY, io.BytesIO(bytes(size)))
    store.extents = OneHole(store)
    manifest = manifest_of(bytes(4 * CHUNK) + b"data" * CHUNK, CHUNK)
    with pytest.raises(ManifestError, match="of another image"):
        [*layered(store, manifest=manifest).extents.extents(KEY, stop=stop)]
    lenient = VerifyLayer(store, Given({KEY: manifest}))
    assert [*lenient.extents.extents(KEY)] == [*store.extents.extents(KEY)]
    assert "is read unverified" in caplog.text


def test_a_map_is_held_against_the_manifest_that_is_there_now():
    store = Bent()
    store.writer.put(KEY, io.BytesIO(bytes(4 * CHUNK)))
    store.extents = OneHole(store)
    manifests = Remembering({KEY: manifest_of(bytes(3 * CHUNK), CHUNK), "old": True})
    manifests.fresh = manifest_of(bytes(4 * CHUNK), CHUNK)
    layer = VerifyLayer(store, manifests, required=True)
    assert [each.kind for each in layer.extents.extents(KEY)] == ["hole"]


# The store stalls in the middle of the first chunk: one chunk, hashed here, or several, hashed beside.
@pytest.mark.parametrize("chunk", [len(IMAGE), 2 * STALLED_AT])
def test_a_cancel_ends_a_read_that_waits(store, chunk):
    store.stalled.add(KEY)
    stream = layered(store, manifest=manifest_of(IMAGE, chunk)).get(KEY)
    errors = []

    def read():
        try:
            stream.read(10)
        except OperationCancelledError as exc:
            errors.append(exc)

    thread = threading.Thread(target=read)
    thread.start()
    stream.cancel()
    thread.join(5)
    stream.close()
    assert len(errors) == 1
    assert store.now_open == 0


def test_a_deadline_ends_a_read_that_waits(store):
    store.stalled.add(KEY)
    layer = layered(store, manifest=manifest_of(IMAGE, 2 * STALLED_AT))
    with (
        layer.get(KEY, call=Call().within(0.05)) as stream,
        pytest.raises((DeadlineExceededError, TimedOutError)),
    ):
        stream.read(10)
