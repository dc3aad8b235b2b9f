"""The layers, proven with the kit."""

from __future__ import annotations

from imgstore.layers.base import Layer
from imgstore.layers.limit import LimitLayer
from imgstore.layers.metrics import MetricsLayer
from imgstore.layers.resume import ResumeLayer
from imgstore.layers.verify import VerifyLayer
from imgstore.testing.conformance import LayerSuite, ReadSuite
from imgstore.testing.conformance._base import SIZE, pattern
from tests.manifests import Given, Made


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
    wraps = frozenset({"writer", "extents"})

    def layer(self, inner):
        return VerifyLayer(inner, Given({}))


class TestVerify(LayerSuite):
    wraps = frozenset({"writer", "extents"})
    # Nothing is given before a whole chunk came; tests/unit/layers/test_verify.py has its stalls.
    stall = ReadSuite.stall

    def layer(self, inner):
        return VerifyLayer(inner, Made(inner, chunk_size=1000), required=True)


class TestVerifyInOneChunk(LayerSuite):
    wraps = frozenset({"writer", "extents"})
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
