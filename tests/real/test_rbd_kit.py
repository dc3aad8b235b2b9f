"""The RBD driver on a real Ceph, proven with the kit: alone, on cloned images, and in all layers."""

from __future__ import annotations

import io
import multiprocessing
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from imgstore.backends.rbd import RbdStore
from imgstore.backends.rbd.names import name_of
from imgstore.stack import LayerSettings, build
from imgstore.testing.conformance import ExtentSuite, ListSuite, ReadSuite, UploadSuite, WriteSuite
from tests.real.conftest import Ceph
from tests.real.rbd import session_of

Seeds = Callable[..., Any]


@pytest.fixture(scope="module")
def seeds(rbd_ceph: Ceph) -> Iterator[Seeds]:
    """Gives what runs a function, a store its first argument, in another process.

    That store stays connected, so that it costs a case no connection of its own. Its sockets, which librados
    renews when it pleases, would be taken for some that the tested store has left.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, _connect, (rbd_ceph.user, str(rbd_ceph.conf))) as process:

        def run(work: Callable[..., Any], *given: Any) -> Any:
            return process.submit(_run, work, *given).result()

        run(_remove, run(_put, "warm", b"x"))
        yield run
        run(RbdStore.close)


_stores: list[RbdStore] = []


def _connect(user: str, ceph_conf: str) -> None:
    _stores.append(RbdStore(user=user, ceph_conf=ceph_conf, object_size=1 << 20))


def _run(work: Callable[..., Any], *given: Any) -> Any:
    return work(*_stores, *given)


def _put(store: RbdStore, key: str, data: bytes, overwrite: bool = False) -> str:
    store.writer.put(key, io.BytesIO(data), overwrite=overwrite)
    return key


def _remove(store: RbdStore, key: str) -> None:
    store.writer.delete(key)


def _put_clone(store: RbdStore, key: str, data: bytes) -> None:
    """Makes an image whose first half is its parent's, its second half its own."""
    half, parent = len(data) // 2, f"parent-{uuid.uuid4().hex}"
    _put(store, parent, data[:half] + b"\xff" * (len(data) - half))
    with session_of(store) as session:
        pool, layering = session.pool, session.bindings.rbd.RBD_FEATURE_LAYERING
        # In objects of 4 KiB, or writing the second half would copy the first
        layout = {"features": layering, "order": 12, "stripe_unit": 1 << 12, "stripe_count": 1}
        session.rbd.clone(pool, parent, "snap", pool, name_of(key), **layout)
        image = session.open(name_of(key), writable=True)
        try:
            image.write(data[half:], half)
            image.create_snap("snap")
            image.protect_snap("snap")
        finally:
            session.close(image)


class Place:
    """A pool of RBD images."""

    @pytest.fixture(autouse=True)
    def _place(self, rbd_ceph: Ceph, seeds: Seeds):
        self.ceph = rbd_ceph
        self.seeds = seeds

    def store(self):
        return RbdStore(user=self.ceph.user, ceph_conf=str(self.ceph.conf), object_size=1 << 20)

    def seed(self, key, data):
        self.seeds(_put, key, data)

    def replace(self, key, data):
        self.seeds(_put, key, data, True)

    def remove(self, key):
        self.seeds(_remove, key)

    def unreachable(self):
        return RbdStore(user=self.ceph.user, ceph_conf=str(self.ceph.conf), pool="nowhere")


class Clones(Place):
    """Each image is a clone, but for an empty one: Ceph clones no images without a byte."""

    def seed(self, key, data):
        self.seeds(_put_clone if data else _put, key, data)


class InLayers:
    """The driver in all its layers; some cases hold several streams at once, so a few permits."""

    def store(self):
        return build(super().store(), LayerSettings(max_streams=16))

    def test_options_are_the_arguments(self):
        """Those of the layers are settings, and no options of the driver."""
        assert self.subject.OPTIONS == RbdStore.OPTIONS


class TestRead(Place, ReadSuite):
    pass


class TestReadClones(InLayers, Clones, ReadSuite):
    pass


class TestWrite(Place, WriteSuite):
    pass


class TestUpload(InLayers, Place, UploadSuite):
    pass


class TestList(Place, ListSuite):
    pass


class TestExtents(Place, ExtentSuite):
    pass


class TestExtentsOfClones(InLayers, Clones, ExtentSuite):
    pass
