"""The kit on each driver under each layer, each pair of layers and the whole stack, also with one stream."""

from __future__ import annotations

import io
import itertools

import pytest

from imgstore.backends.filesystem import FilesystemStore
from imgstore.backends.memory import MemoryStore
from imgstore.layers._manifests import SUFFIX, StoredManifests
from imgstore.layers.limit import LimitLayer
from imgstore.layers.metrics import MetricsLayer
from imgstore.layers.parallel import ParallelLayer
from imgstore.layers.resume import ResumeLayer
from imgstore.layers.verify import VerifyLayer
from imgstore.stack import LayerSettings, build
from imgstore.testing.conformance import (
    ExtentSuite,
    LayerSuite,
    ListSuite,
    ReadSuite,
    Suite,
    UploadSuite,
    WriteSuite,
)
from tests.conformance import test_filesystem, test_memory
from tests.conformance.parts import InParts
from tests.ramps import AtOnce

ONE = {"max_streams": 1}
MANY = {"max_streams": 16, "rate_limit": 1 << 40}

# From the inside to the outside, as stack.py orders them.
LAYERS = {
    "Metrics": MetricsLayer,
    "LimitToOne": lambda inner: LimitLayer(inner, **ONE),
    "Limit": lambda inner: LimitLayer(inner, **MANY),
    "Resume": ResumeLayer,
    "Verify": lambda inner: VerifyLayer(inner, StoredManifests(inner), hide=SUFFIX),
    "Parallel": lambda inner: ParallelLayer(inner, streams=4, part_size=InParts.part_size, ramp=AtOnce),
}
WRAPS = {
    "Metrics": {"writer", "uploader"},
    "Resume": {"writer", "uploader", "lister", "extents"},
    "Verify": {"writer", "uploader", "lister", "extents", "copier"},
}
SUITES = (ReadSuite, WriteSuite, UploadSuite, ListSuite, ExtentSuite)


def layered(names):
    def wrap(store):
        for name in names:
            store = LAYERS[name](store)
        return store

    return wrap


PAIRS = [pair for pair in itertools.combinations(LAYERS, 2) if pair != ("LimitToOne", "Limit")]
STACKS = {
    **{name: layered([name]) for name in LAYERS},
    **{"And".join(pair): layered(pair) for pair in PAIRS},
    "Whole": lambda store: build(store, LayerSettings(**MANY)),
    "WholeWithOne": lambda store: build(store, LayerSettings(**ONE)),
    "WholeKept": lambda store: build(store, LayerSettings(**MANY, verify="if-present", store_manifests=True)),
    "WholeVerified": lambda store: build(store, LayerSettings(**ONE, verify="if-present")),
    "WholeInParts": lambda store: build(store, LayerSettings(**MANY, parallel=4, part_size=16 << 10)),
    "WholeInPartsWithOne": lambda store: build(
        store, LayerSettings(**ONE, verify="if-present", parallel=4, part_size=16 << 10)
    ),
}

# The rest is run by make test-real. On a disk each case costs a few syncs; reads through one layer alone are
# test_layers.py's as well; of the pairs those stay where both change what is read, or who waits for whom.
BRIEF = {"Whole"}
LEFT = {"And".join(pair) for pair in PAIRS} | {"WholeKept", "WholeInParts"}
BRIEF_PAIRS = {("LimitToOne", "Verify"), ("Resume", "Verify"), ("Resume", "Parallel"), ("Verify", "Parallel")}


class Memory(test_memory.Place):
    driver = MemoryStore

    def full(self):
        return MemoryStore(capacity=1000)


class Filesystem(test_filesystem.Place):
    driver = FilesystemStore

    def seed(self, key, data):
        """Behind the layers: one that makes manifests takes no key that leaves no room for theirs."""
        with test_filesystem.Place.store(self) as store:
            store.writer.put(key, io.BytesIO(data))

    @pytest.fixture
    def _small(self, tmp_path):
        with test_filesystem.small_disk(tmp_path / "small") as self.small:
            yield

    def full(self):
        return FilesystemStore(data_dir=self.small)


def place(driver, name, wrap):
    """Gives the place of `driver` with its store in layers."""

    class Place(driver):
        streams = 1 if "One" in name or name == "WholeVerified" else Suite.streams

        def store(self):
            return wrap(super().store())

        def full(self):
            return wrap(super().full())

        def test_options_are_the_arguments(self):
            assert self.subject.OPTIONS == driver.driver.OPTIONS

    if hasattr(driver, "unreachable"):
        Place.unreachable = lambda self: wrap(driver.unreachable(self))
    return Place


def define():
    for driver, (name, wrap), suite in itertools.product((Memory, Filesystem), STACKS.items(), SUITES):
        called = f"Test{suite.__name__.removesuffix('Suite')}{driver.__name__}{name}"
        made = type(called, (place(driver, name, wrap), suite), {})
        if driver is Filesystem and suite is WriteSuite:
            made = pytest.mark.usefixtures("_small")(made)
        passed = "Para" in name or "Parts" in name  # which passes every facet
        if (
            name in LEFT
            or (driver is Filesystem and name not in BRIEF)
            or (suite is ReadSuite and name in LAYERS)
            or (passed and suite is not ReadSuite)
        ):
            made = pytest.mark.wide(made)
        globals()[called] = made
    for pair in PAIRS:
        called = f"TestLayer{'And'.join(pair)}"
        wraps = frozenset().union(*(WRAPS.get(each, ()) for each in pair))
        wrap = layered(pair)
        made = type(
            called,
            (InParts if "Parallel" in pair else LayerSuite,),
            {
                "wraps": wraps,
                "layer": lambda self, inner, wrap=wrap: wrap(inner),
                "streams": 1 if "LimitToOne" in pair else Suite.streams,
            },
        )
        globals()[called] = made if pair in BRIEF_PAIRS else pytest.mark.wide(made)


define()
