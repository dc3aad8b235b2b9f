"""The RBD driver on a real Ceph, proven with the kit: alone, on cloned images, and in all layers."""

from __future__ import annotations

import io
import uuid

import pytest

from imgstore.backends.rbd import RbdStore
from imgstore.backends.rbd.names import name_of
from imgstore.backends.rbd.waiting import Wait
from imgstore.model import NO_CALL
from imgstore.stack import LayerSettings, build
from imgstore.testing.conformance import ExtentSuite, ListSuite, ReadSuite, UploadSuite, WriteSuite
from tests.real.conftest import Ceph


@pytest.fixture(scope="module")
def seeds(rbd_ceph: Ceph):
    """Gives a store that is connected for the whole module: it costs a case no connection of its own."""
    with RbdStore(user=rbd_ceph.user, ceph_conf=str(rbd_ceph.conf), object_size=1 << 20) as store:
        store.writer.put("warm", io.BytesIO(b"x"))
        store.writer.delete("warm")
        yield store


class Place:
    """A pool of RBD images."""

    @pytest.fixture(autouse=True)
    def _place(self, rbd_ceph: Ceph, seeds: RbdStore):
        self.ceph = rbd_ceph
        self.seeds = seeds

    def store(self):
        return RbdStore(user=self.ceph.user, ceph_conf=str(self.ceph.conf), object_size=1 << 20)

    def seed(self, key, data):
        self.seeds.writer.put(key, io.BytesIO(data))

    def replace(self, key, data):
        self.seeds.writer.put(key, io.BytesIO(data), overwrite=True)

    def remove(self, key):
        self.seeds.writer.delete(key)

    def unreachable(self):
        return RbdStore(user=self.ceph.user, ceph_conf=str(self.ceph.conf), pool="nowhere")


class Clones(Place):
    """Each image is a clone: its first half is its parent's, its second half its own.

    An empty one is none: Ceph clones no images without a byte.
    """

    def seed(self, key, data):
        if not data:
            super().seed(key, data)
            return
        half, parent = len(data) // 2, f"parent-{uuid.uuid4().hex}"
        self.seeds.writer.put(parent, io.BytesIO(data[:half] + b"\xff" * (len(data) - half)))
        wait = Wait(NO_CALL, self.seeds.clock)
        with self.seeds._cluster.connected(wait) as session:
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
