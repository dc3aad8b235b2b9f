"""Manifests of RBD images: objects that follow their images, and that no listing shows."""

from __future__ import annotations

import contextlib
import io
import random
import threading

import pytest

from imgstore.backends.rbd import RbdStore, draft, names
from imgstore.errors import (
    AlreadyExistsError,
    ManifestError,
    NotFoundError,
    UnavailableError,
    UnsafeLocationError,
    VersionChangedError,
)
from imgstore.layers._manifests import SUFFIX, StoredManifests
from imgstore.manifest import CHUNK_SIZE
from imgstore.model import NO_CALL
from imgstore.stack import LayerSettings, build
from imgstore.transfer.sparse import open_source
from tests.manifests import manifest_of
from tests.real.conftest import Ceph
from tests.real.rbd import TIMES, driver, fence_off, reap, session_of, unwatched

SIZE = (9 << 20) + 5
DATA = random.Random(5).randbytes(SIZE)
OTHER = random.Random(6).randbytes(SIZE)


@pytest.fixture
def key(rbd_ceph: Ceph, request: pytest.FixtureRequest):
    """Gives a key; before and after there is no image of it, and no manifest in the pool."""
    key = f"kept/{request.node.name}"
    yield key
    rbd_ceph.come_back()
    with driver(rbd_ceph, trash_in_use=True) as store:
        with contextlib.suppress(NotFoundError):
            unwatched(lambda: store.writer.delete(key))
        reap(store)
    assert held(rbd_ceph) == []


@pytest.fixture
def store(rbd_ceph: Ceph):
    """A store that makes and requires manifests."""
    with build(driver(rbd_ceph), LayerSettings(verify="required", stall_timeout=2.0)) as layered:
        yield layered


def held(ceph: Ceph) -> list[str]:
    """Gives the manifests in the pool, as RADOS knows them."""
    return [
        each
        for each in ceph.tool("rados", "-p", "images", "ls").split()
        if each.startswith("imgstore.manifest.")
    ]


def whole(store, key) -> bytes:
    with store.get(key) as stream:
        return stream.read()


def bare(store) -> RbdStore:
    while not isinstance(store, RbdStore):
        store = store.inner
    return store


def id_of(store, key) -> str:
    version, _, _ = store.stat(key).version.rpartition("-")
    return version


def test_a_manifest_is_an_object_named_by_its_image_and_follows_it(rbd_ceph, store, key):
    info = store.writer.put(key, io.BytesIO(DATA), SIZE)
    assert held(rbd_ceph) == [f"imgstore.manifest.{id_of(store, key)}"]
    assert whole(store, key) == DATA
    kept = StoredManifests(bare(store)).find(key, NO_CALL)
    assert kept.chunks == manifest_of(DATA, CHUNK_SIZE).chunks
    assert kept.version == info.version
    first = held(rbd_ceph)
    store.writer.put(key, io.BytesIO(OTHER), SIZE, overwrite=True)
    assert len(held(rbd_ceph)) == 1
    assert held(rbd_ceph) != first
    assert whole(store, key) == OTHER
    for each in (store, bare(store)):
        assert key in {info.key for info in each.lister.list()}
        assert not [info.key for info in each.lister.list() if info.key.endswith(SUFFIX)]
    store.writer.delete(key)
    assert held(rbd_ceph) == []


def test_an_upload_in_parts_gets_one(store, key):
    token = store.uploader.begin(key, SIZE)
    part = store.uploader.put_part(token, 0, 0, memoryview(DATA))
    store.uploader.complete(token, [part])
    assert whole(store, key) == DATA


def test_it_is_read_and_replaced_and_removed_like_any_object(rbd_ceph, key):
    name = key + SUFFIX
    with driver(rbd_ceph) as store:
        with pytest.raises(NotFoundError, match="there is no image"):
            store.writer.put(name, io.BytesIO(b"too early"))
        store.writer.put(key, io.BytesIO(DATA), SIZE)
        for ask in (store.stat, store.get, store.writer.delete):
            with pytest.raises(NotFoundError, match="the image has no manifest"):
                ask(name)
        first = store.writer.put(name, io.BytesIO(b"one"))
        with pytest.raises(AlreadyExistsError, match="the image has a manifest"):
            store.writer.put(name, io.BytesIO(b"two"))
        assert (store.stat(name), whole(store, name)) == (first, b"one")
        second = store.writer.put(name, io.BytesIO(b"second"), overwrite=True)
        assert second.version != first.version
        with store.get(name, 2, 3, version=second.version) as stream:
            assert stream.read() == b"con"
        with open_source(store, name, 1) as stream:
            assert stream.read(99) == b"econd"
        with pytest.raises(VersionChangedError):
            store.get(name, version=first.version)
        with pytest.raises(VersionChangedError):
            store.writer.delete(name, version=first.version)
        store.writer.delete(name, version=second.version)
        with pytest.raises(NotFoundError):
            store.stat(name)
        with pytest.raises(UnsafeLocationError, match="that of an image's manifest"):
            store.uploader.begin(name, 1)
        assert whole(store, key) == DATA


def test_one_of_some_megabytes_in_one_piece(rbd_ceph, key):
    data = random.Random(7).randbytes(20 << 20)  # that of 1 TiB in chunks of 4 MiB
    with driver(rbd_ceph) as store:
        store.writer.put(key, io.BytesIO(DATA), SIZE)
        store.writer.put(key + SUFFIX, io.BytesIO(data), len(data))
        assert whole(store, key + SUFFIX) == data


def test_readers_see_one_or_the_other_while_it_is_replaced(rbd_ceph, key):
    texts, stop = {bytes([each]) * (each * 100_000) for each in range(1, 9)}, threading.Event()
    with driver(rbd_ceph) as store:
        store.writer.put(key, io.BytesIO(DATA), SIZE)
        store.writer.put(key + SUFFIX, io.BytesIO(min(texts)))

        def replace():
            try:
                for text in [*texts] * 4:
                    store.writer.put(key + SUFFIX, io.BytesIO(text), overwrite=True)
            finally:
                stop.set()

        writer = threading.Thread(target=replace)
        writer.start()
        seen = set()
        while not stop.is_set():
            with contextlib.suppress(UnavailableError):  # nobody replaces manifests so fast
                seen.add(whole(store, key + SUFFIX))
        writer.join()
        seen.add(whole(store, key + SUFFIX))
    assert seen <= texts


def test_what_a_killed_delete_left_of_a_manifest_goes_with_the_image(rbd_ceph, store, key):
    """The image has lost its name, and nothing of it was removed: `reap` finds it and its manifest."""
    store.writer.put(key, io.BytesIO(DATA), SIZE)
    with session_of(store) as session:
        session.rbd.rename(session.pool, names.name_of(key), names.gone())
    assert len(held(rbd_ceph)) == 1
    with pytest.raises(NotFoundError):
        store.stat(key + SUFFIX)
    reap(bare(store))
    assert held(rbd_ceph) == []


def test_a_manifest_of_an_image_that_is_just_removed_is_not_left(rbd_ceph, store, key, monkeypatch):
    bare(store).writer.put(key, io.BytesIO(DATA), SIZE)
    with session_of(store) as session:
        operate = session.pool.operate_write_op

    class Pool:
        """The pool; the image goes when its manifest has been written."""

        def __getattr__(self, name):
            return getattr(pool, name)

        def operate_write_op(self, change, name):
            draft.drop_manifest(session, name.rpartition(".")[2])
            session.rbd.rename(pool, names.name_of(key), names.gone())
            operate(change, name)

    with session_of(store) as session:
        pool = session.pool
        monkeypatch.setattr(session, "pool", Pool())
        with pytest.raises(NotFoundError, match="removed, or replaced, just now"):
            bare(store).writer.put(key + SUFFIX, io.BytesIO(b"late"))
        monkeypatch.setattr(session, "pool", pool)
    assert held(rbd_ceph) == []


def test_a_manifest_survives_a_client_that_is_fenced_off(rbd_ceph, store, key):
    store.writer.put(key, io.BytesIO(DATA), SIZE)
    fence_off(rbd_ceph, store)
    assert whole(store, key) == DATA
    fence_off(rbd_ceph, store)
    store.writer.delete(key)
    assert held(rbd_ceph) == []


def test_a_damaged_object_of_the_image_is_found_by_its_manifest(rbd_ceph, store, key):
    """Other bytes below librbd: the snapshot's own version says nothing of them."""
    bare(store).writer.put(key, io.BytesIO(OTHER), SIZE)
    StoredManifests(bare(store)).keep(key, manifest_of(DATA, CHUNK_SIZE), NO_CALL)
    with pytest.raises(Exception, match="does not match its sha256 digest, twice"):
        whole(store, key)
    bare(store).writer.delete(key + SUFFIX)
    with pytest.raises(ManifestError, match="there is no manifest"):
        whole(store, key)


def test_an_image_with_clones_takes_none_to_the_trash(rbd_ceph, key):
    with driver(rbd_ceph, trash_in_use=True, **TIMES) as store:
        store.writer.put(key, io.BytesIO(DATA), SIZE)
        store.writer.put(key + SUFFIX, io.BytesIO(b"one"))
        rbd_ceph.tool("rbd", "clone", f"images/{names.name_of(key)}@snap", "images/kept-clone")
        store.writer.delete(key)
        assert held(rbd_ceph) == []
    rbd_ceph.tool("rbd", "rm", "images/kept-clone")
