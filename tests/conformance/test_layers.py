"""The layers, proven with the kit."""

from __future__ import annotations

from imgstore.layers.base import Layer
from imgstore.layers.limit import LimitLayer
from imgstore.layers.metrics import MetricsLayer
from imgstore.layers.resume import ResumeLayer
from imgstore.testing.conformance import LayerSuite


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


class TestResume(LayerSuite):
    wraps = frozenset({"writer", "uploader", "lister", "extents"})

    def layer(self, inner):
        return ResumeLayer(inner)
