"""Manifests that are made of the images that are stored, and follow what becomes of them."""

from __future__ import annotations

import hashlib
import io
import threading
from dataclasses import replace

import pytest

from imgstore.backends._intake import Digests, Intake
from imgstore.backends.memory import MemoryStore
from imgstore.errors import (
    AlreadyExistsError,
    ConnectionLostError,
    DigestMismatchError,
    InUseError,
    ManifestError,
    NotFoundError,
    PermissionDeniedError,
    StorageIOError,
    UnsafeLocationError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.layers._manifests import SUFFIX, StoredManifests
from imgstore.layers.resume import ResumeLayer
from imgstore.layers.verify import VerifyLayer
from imgstore.manifest import CHUNK_SIZE
from imgstore.model import KEY_LIMIT, NO_CALL, Call, ObjectInfo
from tests.manifests import Given, manifest_of
from tests.unit.layers.scripted import Attempt, Clock, Facet, ScriptedStore

IMAGE = bytes(range(256)) * 40
OTHER = IMAGE[::-1]


@pytest.fixture
def store():
    return MemoryStore()


def layer_of(store, *, manifests=None, **options):
    kept = StoredManifests(manifests or store)
    return VerifyLayer(store, kept, required=True, makes=True, hide="" if manifests else SUFFIX, **options)


def lenient_of(store):
    return VerifyLayer(store, StoredManifests(store), makes=True, hide=SUFFIX)


@pytest.fixture
def layer(store):
    return layer_of(store)


def keys(store):
    return [info.key for info in store.lister.list()]


def read(store, key):
    with store.get(key) as stream:
        return stream.read()


def uploaded(layer, key, data=IMAGE, **options):
    uploader = layer.uploader
    token = uploader.begin(key, len(data), **options)
    half = len(data) // 2
    parts = [
        uploader.put_part(token, number, at, memoryview(data)[at:stop])
        for number, at, stop in ((1, half, len(data)), (0, 0, half))
    ]
    return uploader.complete(token, sorted(parts, key=lambda part: part.number))


def test_an_image_that_is_put_gets_a_manifest_that_names_its_version(store, layer):
    info = layer.writer.put("disk", io.BytesIO(IMAGE), len(IMAGE))
    assert keys(store) == ["disk", "disk" + SUFFIX]
    found = StoredManifests(store).find("disk", NO_CALL)
    whole = {"sha256": hashlib.sha256(IMAGE).hexdigest()}
    assert found == manifest_of(IMAGE, CHUNK_SIZE, key="disk", version=info.version, digests=whole)
    assert read(layer, "disk") == IMAGE


class Holed:
    """Data, a hole and data again."""

    def __init__(self):
        self.left = [IMAGE, 5000, IMAGE]

    def hole(self):
        return self.left.pop(0) if self.left and isinstance(self.left[0], int) else 0

    def read(self, size):
        return self.left.pop(0) if self.left else b""


def test_holes_of_the_source_belong_to_the_digests(store, monkeypatch):
    put, holes = store.writer.put, []

    def asking(key, source, *args, **options):
        pieces = [*Intake(source, None, Digests(None), store.clock, NO_CALL).pieces()]
        holes.extend(each for each in pieces if isinstance(each, int))
        data = b"".join(bytes(each) for each in pieces)
        return put(key, io.BytesIO(data), *args, **options)

    monkeypatch.setattr(store.writer, "put", asking)
    layer = layer_of(store)
    layer.writer.put("disk", Holed())
    assert read(layer, "disk") == IMAGE + bytes(5000) + IMAGE
    assert holes == [5000]


def test_an_image_that_is_replaced_gets_another(store, layer):
    layer.writer.put("disk", io.BytesIO(IMAGE))
    assert read(layer, "disk") == IMAGE
    layer.writer.put("disk", io.BytesIO(OTHER), overwrite=True)
    assert read(layer, "disk") == OTHER


def test_manifests_in_a_store_of_their_own(store):
    elsewhere = MemoryStore()
    layer = layer_of(store, manifests=elsewhere)
    layer.writer.put("disk", io.BytesIO(IMAGE))
    assert (keys(store), keys(elsewhere)) == (["disk"], ["disk" + SUFFIX])
    layer.writer.delete("disk")
    assert keys(elsewhere) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_image_whose_manifest_cannot_be_stored_is_taken_back_unless_it_replaced_one(store, overwrite):
    elsewhere = MemoryStore()
    if overwrite:
        store.writer.put("disk", io.BytesIO(OTHER))

    class Full:
        def put(self, *args, **options):
            raise StorageIOError("no room")

    elsewhere.writer = Full()
    with pytest.raises(StorageIOError):
        layer_of(store, manifests=elsewhere).writer.put("disk", io.BytesIO(IMAGE), overwrite=overwrite)
    assert keys(store) == (["disk"] if overwrite else [])


def test_what_could_have_no_manifest_is_refused_before_it_is_read(store):
    source = io.BytesIO(IMAGE)
    with pytest.raises(UnsafeLocationError, match="too long for a manifest"):
        layer_of(store).writer.put("k" * KEY_LIMIT, source)
    elsewhere = MemoryStore()
    elsewhere.writer = None
    layer = layer_of(store, manifests=elsewhere)
    with pytest.raises(UnsupportedError, match="only read"):
        layer.writer.put("disk", source)
    with pytest.raises(UnsupportedError, match="only read"):
        layer.uploader.begin("disk", 1)
    assert source.tell() == 0
    assert keys(store) == []


def test_a_put_that_fails_leaves_the_manifest_that_is_there(store, layer):
    layer.writer.put("disk", io.BytesIO(IMAGE))
    with pytest.raises(AlreadyExistsError):
        layer.writer.put("disk", io.BytesIO(OTHER))
    assert read(layer, "disk") == IMAGE


def test_a_put_that_is_tried_again_is_hashed_from_its_start(store):
    put, tries = store.writer.put, []

    def breaking(key, source, *args, **options):
        if tries.append(key) or len(tries) == 1:
            source.read(1000)
            raise ConnectionLostError("lost")
        return put(key, source, *args, **options)

    store.writer.put = breaking
    layer = layer_of(ResumeLayer(store, jitter=lambda: 0.0))
    source = io.BytesIO(b"head" + IMAGE)
    source.seek(4)
    layer.writer.put("disk", source)
    assert read(layer, "disk") == IMAGE
    assert tries[:2] == ["disk", "disk"]


def test_an_upload_in_parts_gets_a_manifest_too(store, layer):
    uploaded(layer, "disk")
    assert read(layer, "disk") == IMAGE
    uploaded(layer, "disk", OTHER, overwrite=True)
    assert read(layer, "disk") == OTHER


@pytest.mark.parametrize("way", ["put", "upload", "copy"])
def test_where_none_is_made_that_of_the_image_before_goes(store, layer, way):
    layer.writer.put("disk", io.BytesIO(IMAGE))
    store.writer.put("other", io.BytesIO(OTHER))
    plain = VerifyLayer(store, StoredManifests(store))
    if way == "put":
        plain.writer.put("disk", io.BytesIO(OTHER), overwrite=True)
    elif way == "upload":
        uploaded(plain, "disk", OTHER, overwrite=True)
    else:
        plain.copier.copy("other", "disk", overwrite=True)
    assert keys(store) == ["disk", "other"]
    assert read(plain, "disk") == OTHER


@pytest.mark.parametrize("way", ["put", "parts"])
def test_an_image_too_large_for_small_chunks_gets_larger_ones(store, layer, monkeypatch, way):
    data = bytes(3 * CHUNK_SIZE)
    monkeypatch.setattr("imgstore.manifest.digests.most_chunks", lambda _: 2)
    if way == "put":
        layer.writer.put("disk", io.BytesIO(data), len(data))
    else:
        uploaded(layer, "disk", data)
    assert StoredManifests(store).find("disk", NO_CALL).chunk_size == 2 * CHUNK_SIZE
    assert read(layer, "disk") == data


def test_an_image_whose_manifest_nobody_could_read_is_taken_back(store, layer, monkeypatch):
    monkeypatch.setattr("imgstore.layers._manifests.LIMIT", 200)
    with pytest.raises(ManifestError, match="is not read above 200"):
        layer.writer.put("disk", io.BytesIO(IMAGE))
    assert keys(store) == []


def test_a_copy_has_the_manifest_of_its_source_and_nothing_is_read_for_it(store, layer, monkeypatch):
    layer.writer.put("disk", io.BytesIO(IMAGE))
    opened = []
    monkeypatch.setattr(
        store, "_open", lambda key, *args, of=store._open: (opened.append(key), of(key, *args))[1]
    )
    info = layer.copier.copy("disk", "copy")
    assert opened in ([], ["disk" + SUFFIX])
    kept = StoredManifests(store).find("copy", NO_CALL)
    assert (kept.key, kept.version) == ("copy", info.version)
    assert read(layer, "copy") == IMAGE


def test_a_manifest_that_may_not_be_removed_stays_beside_what_was_stored(store, layer, monkeypatch, caplog):
    """The image is stored, and the manifest of the one before refuses it."""
    layer.writer.put("disk", io.BytesIO(OTHER))

    def refuse(key, **options):
        raise PermissionDeniedError("not yours")

    monkeypatch.setattr(store.writer, "delete", refuse)
    lenient = VerifyLayer(store, StoredManifests(store), hide=SUFFIX)
    info = lenient.writer.put("disk", io.BytesIO(IMAGE), overwrite=True)
    assert (info.size, read(lenient, "disk")) == (len(IMAGE), IMAGE)
    assert "that 'disk' had before, if there is one, could not be removed: not yours" in caplog.text
    with pytest.raises(ManifestError, match="of another image"):
        read(layer_of(store), "disk")
    with pytest.raises(PermissionDeniedError):
        lenient.writer.delete("disk")


def with_fault(store, layer, fault):
    """Has an image "disk" whose manifest is not the one that it should be."""
    info = layer.writer.put("disk", io.BytesIO(IMAGE))
    kept = StoredManifests(store)
    if fault == "none":
        kept.remove("disk", NO_CALL)
    elif fault == "broken":
        store.writer.put("disk" + SUFFIX, io.BytesIO(b"<html>"), overwrite=True)
    else:
        kept.keep("disk", manifest_of(OTHER, 1000, version=info.version + "x"), NO_CALL)


@pytest.mark.parametrize("fault", ["none", "stale", "broken"])
def test_what_must_not_be_read_is_not_copied_either(store, layer, fault):
    """Else the copy would have a manifest of its own, and what is wrong with the image could not be told."""
    with_fault(store, layer, fault)
    before = keys(store)
    with pytest.raises(ManifestError):
        read(layer_of(store), "disk")
    with pytest.raises(ManifestError):
        layer_of(store).copier.copy("disk", "copy")
    assert keys(store) == before


@pytest.mark.parametrize("fault", ["none", "stale", "broken"])
def test_a_copy_of_what_nothing_proves_is_read_for_its_own(store, layer, fault):
    with_fault(store, layer, fault)
    info = lenient_of(store).copier.copy("disk", "copy")
    assert read(layer, "copy") == IMAGE
    assert StoredManifests(store).find("copy", NO_CALL).version == info.version


def test_a_copy_of_what_is_damaged_is_damaged(store, layer):
    """By a manifest that names no version, only the bytes can tell that it is of another image."""
    layer.writer.put("disk", io.BytesIO(IMAGE))
    StoredManifests(store).keep("disk", manifest_of(OTHER, 1000), NO_CALL)
    info = layer_of(store).copier.copy("disk", "copy")
    assert StoredManifests(store).find("copy", NO_CALL).version == info.version
    for key in ("disk", "copy"):
        with pytest.raises(DigestMismatchError):
            read(layer_of(store), key)


def test_a_crash_between_image_and_manifest_shows_and_is_mended(store, layer):
    """The second half never happens: first for a new image, then for one that replaces another."""
    store.writer.put("disk", io.BytesIO(IMAGE))
    with pytest.raises(ManifestError, match="there is no manifest"):
        read(layer, "disk")
    layer.writer.put("disk", io.BytesIO(IMAGE), overwrite=True)
    store.writer.put("disk", io.BytesIO(OTHER), overwrite=True)
    with pytest.raises(ManifestError, match="of another image"):
        read(layer, "disk")
    assert read(VerifyLayer(store, StoredManifests(store)), "disk") == OTHER
    uploaded(layer, "disk", OTHER, overwrite=True)
    assert read(layer, "disk") == OTHER


def test_without_proving_images_are_read_as_they_are(store):
    layer = VerifyLayer(store, StoredManifests(store), proves=False, makes=True, hide=SUFFIX)
    layer.writer.put("disk", io.BytesIO(IMAGE))
    store.writer.put("disk" + SUFFIX, io.BytesIO(b"<html>"), overwrite=True)
    assert read(layer, "disk") == IMAGE
    assert list(layer.extents.extents("disk"))
    assert keys(layer) == ["disk"]
    layer.writer.delete("disk")
    with pytest.raises(NotFoundError):
        store.stat("disk" + SUFFIX)


def test_a_manifest_has_none_itself_and_is_read_as_it_is(store, layer):
    layer.writer.put("disk", io.BytesIO(IMAGE))
    assert read(layer, "disk") == IMAGE
    text = read(layer, "disk" + SUFFIX)
    layer.writer.put("disk" + SUFFIX, io.BytesIO(text), overwrite=True)
    uploaded(layer, "disk" + SUFFIX, text, overwrite=True)
    layer.copier.copy("disk" + SUFFIX, "other" + SUFFIX)
    assert keys(store) == ["disk", "disk" + SUFFIX, "other" + SUFFIX]
    layer.writer.delete("disk" + SUFFIX)
    with pytest.raises(ManifestError, match="there is no manifest"):  # nor is it remembered
        read(layer, "disk")


def test_in_a_store_without_manifests_such_a_key_is_an_image_like_any_other(store):
    layer = layer_of(store, manifests=MemoryStore())
    layer.writer.put("disk" + SUFFIX, io.BytesIO(IMAGE))
    assert read(layer, "disk" + SUFFIX) == IMAGE
    assert keys(layer) == ["disk" + SUFFIX]


@pytest.mark.parametrize("broken", [False, True])
def test_an_image_that_may_not_go_keeps_its_manifest(store, layer, monkeypatch, broken):
    layer.writer.put("disk", io.BytesIO(IMAGE))
    if broken:
        store.writer.put("disk" + SUFFIX, io.BytesIO(b"<html>"), overwrite=True)
    delete = store.writer.delete

    def refusing(key, **options):
        if key == "disk":
            raise InUseError("it has clones")
        delete(key, **options)

    monkeypatch.setattr(store.writer, "delete", refusing)
    with pytest.raises(InUseError):
        layer.writer.delete("disk")
    assert keys(store) == ["disk", "disk" + SUFFIX][: 1 if broken else 2]
    if not broken:
        assert read(layer, "disk") == IMAGE


INFO = ObjectInfo("disk", len(IMAGE), "v1")
CALL = Call(observe=lambda event: None)
ASKED = {
    "put": ("writer", ("disk", io.BytesIO(), 7), {"overwrite": True, "digests": {"md5": "0"}}),
    "delete": ("writer", ("disk",), {"version": "v1"}),
    "begin": ("uploader", ("disk", 7), {"overwrite": True, "digests": {"md5": "0"}}),
    "put_part": ("uploader", ("token", 1, 2, memoryview(b"3")), {}),
    "parts": ("uploader", ("token",), {}),
    "complete": ("uploader", ("token", ["part"]), {}),
    "abort": ("uploader", ("token",), {}),
    "uploads": ("uploader", (7.5,), {}),
    "copy": ("copier", ("disk", "copy"), {"overwrite": True}),
}


@pytest.fixture
def inner():
    """A store that holds `disk`, and whose facets note what they are asked."""
    store = ScriptedStore(*[Attempt(data=IMAGE, size=len(IMAGE))] * 9)
    for name in ("writer", "uploader", "copier"):
        setattr(store, name, Facet(INFO))
    return store


@pytest.mark.parametrize("makes", [False, True])
@pytest.mark.parametrize("name", ASKED)
def test_the_store_is_asked_what_the_layer_is_asked(inner, name, makes):
    facet, given, options = ASKED[name]
    layer = VerifyLayer(inner, Given({"disk": manifest_of(IMAGE, 1000)}), makes=makes)
    told = getattr(getattr(layer, facet), name)(*given, **options, call=CALL)
    # of what was read to make a manifest, whoever knows what was sent is to hear
    read_as = replace(INFO, digests={"sha256": hashlib.sha256(IMAGE).hexdigest()})
    expected = read_as if name == "complete" and makes else INFO
    assert told == (None if name in {"delete", "abort"} else expected)
    (asked,) = getattr(inner, facet).calls
    if name == "put" and makes:
        assert asked[1][0] == "disk"
        assert asked[1][2] == 7
    else:
        assert asked[1] == given
    assert asked[::2] == (name, {**options, "call": CALL})


@pytest.mark.parametrize("name", ["begin", "copy", "uploads"])
def test_and_without_options_by_their_defaults(inner, name):
    facet, given, _ = ASKED[name]
    layer = VerifyLayer(inner, Given({}))
    getattr(getattr(layer, facet), name)(*(() if name == "uploads" else given))
    ((_, given, options),) = getattr(inner, facet).calls
    wanted = {"begin": {"overwrite": False, "digests": None}, "copy": {"overwrite": False}, "uploads": {}}[
        name
    ]
    assert options == {**wanted, "call": NO_CALL}
    assert name != "uploads" or given == (0.0,)
    assert layer.uploader.limits is inner.uploader.limits


def test_a_copy_of_another_size_has_not_the_manifest_of_its_source(inner):
    given = Given({"disk": manifest_of(OTHER[:-1], 1000, version="v1")})
    info = VerifyLayer(inner, given, makes=True).copier.copy("disk", "copy")
    assert given.manifests[info.key].chunks == manifest_of(IMAGE, CHUNK_SIZE).chunks


def test_a_source_that_is_gone_proves_no_copy(store, monkeypatch):
    info = layer_of(store).writer.put("disk", io.BytesIO(IMAGE))
    StoredManifests(store).keep("disk", manifest_of(OTHER, 1000, version=info.version), NO_CALL)
    copy = store.copier.copy

    def copied(source, target, **options):
        info = copy(source, target, **options)
        store.writer.delete("disk")
        return info

    monkeypatch.setattr(store.copier, "copy", copied)
    layer_of(store).copier.copy("disk", "copy")
    made = StoredManifests(store).find("copy", NO_CALL)
    assert made.chunks == manifest_of(IMAGE, CHUNK_SIZE).chunks


def test_a_copy_that_could_have_no_manifest_is_refused_first(store, layer):
    layer.writer.put("disk", io.BytesIO(IMAGE))
    with pytest.raises(UnsafeLocationError):
        layer.copier.copy("disk", "k" * KEY_LIMIT)
    assert keys(store) == ["disk", "disk" + SUFFIX]


def test_the_version_that_was_completed_is_the_one_that_is_read(store, layer, monkeypatch):
    complete = store.uploader.complete

    def overtaken(*given, **options):
        info = complete(*given, **options)
        store.writer.put("disk", io.BytesIO(OTHER), overwrite=True)
        return info

    monkeypatch.setattr(store.uploader, "complete", overtaken)
    with pytest.raises(VersionChangedError):
        uploaded(layer, "disk")


def test_what_cannot_be_rewound_is_put_once(store, monkeypatch):
    class Pipe:
        def read(self, size):
            return b""

    class Stuck(io.BytesIO):
        def seekable(self):
            return False

    tries = []

    def broken(key, source, *args, **options):
        tries.append(source.read(10))
        raise ConnectionLostError("lost")

    monkeypatch.setattr(store.writer, "put", broken)
    layer = layer_of(ResumeLayer(store, jitter=lambda: 0.0))
    for source in (Pipe(), Stuck(IMAGE)):
        with pytest.raises(ConnectionLostError):
            layer.writer.put("disk", source)
    assert tries == [b"", IMAGE[:10]]


def test_hashing_ends_with_each_try(store):
    """Of an image that takes threads; a thread that is left fails every test."""
    put, tries = store.writer.put, []
    image = IMAGE * 400

    def breaking(key, source, *args, **options):
        if tries.append(key) or len(tries) == 1:
            source.read(3 << 20)
            raise ConnectionLostError("lost")
        if len(tries) == 2:
            source.read(3 << 20)
            raise StorageIOError("no room")
        return put(key, source, *args, **options)

    store.writer.put = breaking
    with pytest.raises(StorageIOError):
        layer_of(ResumeLayer(store, jitter=lambda: 0.0)).writer.put("disk", io.BytesIO(image))
    assert not [each for each in threading.enumerate() if each.name == "imgstore-hash"]


@pytest.mark.parametrize("may", [True, False])
def test_what_is_taken_back_is_the_version_that_was_put_within_ten_seconds(store, may, monkeypatch):
    elsewhere, asked, delete = MemoryStore(), [], store.writer.delete
    store.clock = Clock()

    class Full:
        def put(self, *args, **options):
            raise StorageIOError("no room")

    def deleted(key, *, version, call):
        asked.append((version, call.remaining(store.clock)))
        if not may:
            raise InUseError("somebody reads it")
        delete(key, version=version, call=call)

    elsewhere.writer = Full()
    monkeypatch.setattr(store.writer, "delete", deleted)
    with pytest.raises(StorageIOError):
        layer_of(store, manifests=elsewhere).writer.put("disk", io.BytesIO(IMAGE))
    ((version, left),) = asked
    assert left == 10
    assert version is not None
    assert keys(store) == ["disk"] * (not may)


def test_a_manifest_that_cannot_come_back_hides_no_refusal(store, layer, monkeypatch):
    layer.writer.put("disk", io.BytesIO(IMAGE))
    delete = store.writer.delete

    def refusing(key, **options):
        if key == "disk":
            monkeypatch.setattr(store.writer, "put", None)
            monkeypatch.setattr(layer.manifests, "keep", full)
            raise InUseError("it has clones")
        delete(key, **options)

    def full(*_):
        raise StorageIOError("no room")

    monkeypatch.setattr(store.writer, "delete", refusing)
    with pytest.raises(InUseError):
        layer.writer.delete("disk")


def test_the_call_is_that_of_all_that_a_manifest_takes(store, layer, monkeypatch):
    asked = []

    def noted(name):
        ask = getattr(store, name)

        def call(*given, **options):
            asked.append((name, options.get("call") or given[-1]))
            return ask(*given, **options)

        return call

    layer.writer.put("disk", io.BytesIO(IMAGE))
    for name in ("_open", "stat"):
        monkeypatch.setattr(store, name, noted(name))
    layer.copier.copy("disk", "copy", call=CALL)
    StoredManifests(store).remove("disk", NO_CALL)
    lenient_of(store).copier.copy("disk", "other", call=CALL)
    assert {name for name, _ in asked} == {"_open", "stat"}
    assert {call for _, call in asked} == {CALL}
