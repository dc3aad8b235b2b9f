"""The layers, proven with the kit."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace

from imgstore.layers.base import Layer
from imgstore.layers.limit import LimitLayer
from imgstore.layers.metrics import MetricsLayer
from imgstore.layers.mirror import Leg, Mirror
from imgstore.layers.parallel import ParallelLayer
from imgstore.layers.resume import ResumeLayer
from imgstore.layers.verify import VerifyLayer
from imgstore.testing.conformance import LayerSuite, ReadSuite
from imgstore.testing.conformance._base import SIZE, pattern
from imgstore.testing.conformance._place import WatchedStore
from tests.conformance.parts import InParts
from tests.manifests import Given, Made
from tests.ramps import AtOnce


class TestBase(LayerSuite):
    def layer(self, inner):
        return Layer(inner)


class TestMetrics(LayerSuite):
    wraps = frozenset({"writer", "uploader"})

    def layer(self, inner):
        return MetricsLayer(inner)


class TestLimit(LayerSuite):
    def layer(self, inner):
        return LimitLayer(inner, max_streams=16, rate_limit=1 << 40)


class TestVerifyWithoutManifests(LayerSuite):
    wraps = frozenset({"writer", "uploader", "extents", "copier"})

    def layer(self, inner):
        return VerifyLayer(inner, Given({}))


class TestVerify(LayerSuite):
    wraps = frozenset({"writer", "uploader", "extents", "copier"})
    # Nothing is given before a whole chunk came; tests/unit/layers/test_verify.py has its stalls.
    stall = ReadSuite.stall

    def layer(self, inner):
        return VerifyLayer(inner, Made(inner, chunk_size=1000), required=True)


class TestVerifyInOneChunk(LayerSuite):
    wraps = frozenset({"writer", "uploader", "extents", "copier"})
    stall = ReadSuite.stall

    def layer(self, inner):
        return VerifyLayer(inner, Made(inner, chunk_size=1 << 20), required=True)

    def test_read_is_one_request(self):
        self.read(self.image(pattern(SIZE)), 1000)
        assert [start for start, *_ in self.place.opens] == [0], "the one request begins where its chunk does"


class TestResume(LayerSuite):
    wraps = frozenset({"writer", "uploader", "lister", "extents"})

    def layer(self, inner):
        return ResumeLayer(inner)


class TestParallel(LayerSuite):
    """Of ranges of at most a part, as all of the suite's are."""

    def layer(self, inner):
        return ParallelLayer(inner, streams=8)


class TestParallelInParts(InParts):
    """As many parts as there are connections, from the first byte on."""

    part_size = 2048

    def layer(self, inner):
        return ParallelLayer(inner, streams=4, part_size=self.part_size, ramp=AtOnce)


class Telling(WatchedStore):
    """Tells the digest of the whole image, as some stores do."""

    def _open(self, *args):
        opened = super()._open(*args)
        return replace(opened, info=self._told(opened.info))

    def _stat(self, key, call):
        return self._told(super()._stat(key, call))

    def _told(self, info):
        data = self._images.find(info.key).data
        return replace(info, digests={**info.digests, "sha256": hashlib.sha256(data).hexdigest()})


class MirrorSuite(ReadSuite):
    """A mirror is no layer, but as much of a store; what is done to an image is done to all its copies."""

    place = WatchedStore
    legs = 3

    def setup_method(self):
        super().setup_method()
        self.places = [self.place() for _ in range(self.legs)]
        for number, place in enumerate(self.places):
            place.store_id = f"leg-{number}"

    def store(self):
        return Mirror([Leg(place) for place in self.places])

    def seed(self, key, data):
        for place in self.places:
            place.writer.put(key, io.BytesIO(data))

    def replace(self, key, data):
        for place in self.places:
            place.writer.put(key, io.BytesIO(data), overwrite=True)

    def remove(self, key):
        for place in self.places:
            place.writer.delete(key)

    def stall(self, key):
        for place in self.places:
            place.stalled.add(key)

    def test_options_are_the_arguments(self):
        # a configuration gives it the names of its legs, which are stores by then
        assert self.subject.OPTIONS == ()

    def teardown_method(self):
        super().teardown_method()
        assert [place.now_open for place in self.places] == [0] * self.legs, "a leg's stream is left open"


class TestMirrorOfOne(MirrorSuite):
    legs = 1


class TestMirrorOfThree(MirrorSuite):
    pass


class TestMirrorOfThreeAlike(MirrorSuite):
    place = Telling


class TestMirrorWithOneLegLeft(MirrorSuite):
    """Two of the three have none of the images."""

    place = Telling

    def seed(self, key, data):
        self.places[2].writer.put(key, io.BytesIO(data))

    def replace(self, key, data):
        self.places[2].writer.put(key, io.BytesIO(data), overwrite=True)

    def remove(self, key):
        self.places[2].writer.delete(key)
