"""Manifests that are kept in a store, beside their images."""

from __future__ import annotations

import io

import pytest

from imgstore.errors import ManifestError, NotFoundError, VersionChangedError
from imgstore.layers._manifests import REMEMBERED, SUFFIX, StoredManifests, name_of
from imgstore.layers.verify import VerifyLayer
from imgstore.manifest.metalink import write_metalink
from imgstore.model import KEY_LIMIT, NO_CALL
from imgstore.testing.conformance._place import WatchedStore
from tests.manifests import manifest_of

IMAGE = bytes(range(256)) * 40
CHUNK = 1000


@pytest.fixture
def store():
    return WatchedStore()


def put(store, key, data=IMAGE, *, manifest=True, **fields):
    info = store.writer.put(key, io.BytesIO(data), overwrite=True)
    if manifest:
        file = io.BytesIO()
        write_metalink(manifest_of(data, CHUNK, key=key, **fields), file)
        store.writer.put(key + SUFFIX, io.BytesIO(file.getvalue()), overwrite=True)
    return info


def opened(store):
    """How many bodies were opened since the last time."""
    count = len(store.opens)
    store.opens.clear()
    return count


def test_a_manifest_is_found_beside_its_image(store):
    put(store, "a/disk")
    put(store, "bare", manifest=False)
    manifests = StoredManifests(store)
    assert manifests.find("a/disk", NO_CALL) == manifest_of(IMAGE, CHUNK, key="a/disk")
    assert manifests.find("bare", NO_CALL) is None
    assert manifests.find("missing", NO_CALL) is None


def test_what_is_no_manifest_is_an_error(store):
    store.writer.put("disk" + SUFFIX, io.BytesIO(b"<html>"))
    with pytest.raises(ManifestError):
        StoredManifests(store).find("disk", NO_CALL)


def test_a_key_too_long_for_one_has_none(store):
    assert name_of("k" * (KEY_LIMIT - len(SUFFIX))) is not None
    assert name_of("k" * (KEY_LIMIT - len(SUFFIX) + 1)) is None
    assert StoredManifests(store).find("k" * KEY_LIMIT, NO_CALL) is None
    assert opened(store) == 0


def test_one_that_names_a_version_is_remembered_until_it_is_forgotten(store):
    put(store, "disk", version="v1")
    manifests = StoredManifests(store)
    first = manifests.find("disk", NO_CALL)
    store.writer.delete("disk" + SUFFIX)
    assert manifests.find("disk", NO_CALL) is first
    assert opened(store) == 1
    assert manifests.forget("disk")
    assert not manifests.forget("disk")
    assert manifests.find("disk", NO_CALL) is None


def test_one_that_names_none_is_asked_for_again_when_it_has_changed(store):
    put(store, "disk")
    manifests = StoredManifests(store)
    assert manifests.find("disk", NO_CALL) is manifests.find("disk", NO_CALL)
    assert opened(store) == 1
    put(store, "disk", IMAGE[:5000])
    assert manifests.find("disk", NO_CALL).size == 5000
    assert opened(store) == 1
    store.writer.delete("disk" + SUFFIX)
    assert manifests.find("disk", NO_CALL) is None


def test_no_more_than_four_are_remembered(store):
    manifests = StoredManifests(store)
    for number in range(REMEMBERED + 1):
        put(store, f"disk{number}", version="v1")
        manifests.find(f"disk{number}", NO_CALL)
    opened(store)
    manifests.find("disk1", NO_CALL)
    assert opened(store) == 0
    manifests.find("disk0", NO_CALL)
    assert opened(store) == 1


@pytest.fixture
def layer(store):
    return VerifyLayer(store, StoredManifests(store), hide=SUFFIX)


def keys(store):
    return [info.key for info in store.lister.list()]


def test_manifests_are_not_listed(store, layer):
    put(store, "disk")
    assert keys(layer) == ["disk"]
    assert keys(store) == ["disk", "disk" + SUFFIX]


def test_the_manifest_goes_with_its_image(store, layer):
    put(store, "disk")
    layer.writer.delete("disk")
    assert keys(store) == []
    with pytest.raises(NotFoundError):
        layer.writer.delete("disk")


def test_a_delete_that_is_refused_leaves_the_manifest(store, layer):
    put(store, "disk")
    with pytest.raises(VersionChangedError):
        layer.writer.delete("disk", version="another")
    assert keys(store) == ["disk", "disk" + SUFFIX]
    layer.writer.delete("disk", version=store.stat("disk").version)
    assert keys(store) == []


def test_an_image_that_is_replaced_has_no_manifest_any_more(store, layer):
    put(store, "disk")
    layer.writer.put("disk", io.BytesIO(IMAGE[::-1]), overwrite=True)
    assert keys(store) == ["disk"]
    with layer.get("disk") as stream:
        assert stream.read() == IMAGE[::-1]


def test_an_image_replaced_by_others_is_stale_until_its_manifest_is_there(store):
    layer = VerifyLayer(store, StoredManifests(store), required=True, hide=SUFFIX)
    put(store, "disk", version=put(store, "disk").version)
    with pytest.raises(ManifestError, match="of another image"):
        layer.get("disk")
    new = put(store, "disk", IMAGE[::-1], manifest=False)
    file = io.BytesIO()
    write_metalink(manifest_of(IMAGE[::-1], CHUNK, key="disk", version=new.version), file)
    store.writer.put("disk" + SUFFIX, io.BytesIO(file.getvalue()), overwrite=True)
    with layer.get("disk") as stream:
        assert stream.read() == IMAGE[::-1]
