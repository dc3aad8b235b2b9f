"""What `stack.mirrored` makes of URLs and stores; nothing is connected to."""

from __future__ import annotations

from dataclasses import replace

import pytest

# urllib3 binds a socket when it is imported, which no unit test may do: here, none has begun.
from imgstore.backends.http import HttpStore
from imgstore.errors import ConfigError, ManifestError
from imgstore.layers.base import Layer
from imgstore.layers.limit import LimitLayer
from imgstore.layers.metrics import MetricsLayer
from imgstore.layers.resume import ResumeLayer
from imgstore.layers.verify import VerifyLayer
from imgstore.model import Call
from imgstore.stack import LEG_ATTEMPTS, LayerSettings, build, leg, mirrored, proven
from tests import canary
from tests.manifests import Given, manifest_of
from tests.unit.layers.scripted import DATA, Attempt, Clock, ScriptedStore

KEY = "disk"
MANIFEST = manifest_of(DATA, 5000, key=KEY)
URLS = ["http://a/images/x.img", f"http://u:{canary.TOKEN}@b/y.img?s={canary.PRESIGNED_QUERY}"]


def layers(store):
    found = {}
    while isinstance(store, Layer):
        found[type(store)] = store
        store = store.inner
    return found, store


def tries(mirror):
    return [layers(each.store)[0][ResumeLayer]._attempts for each in mirror.legs]


def test_urls_are_legs_the_best_first():
    clock, told = Clock(), []
    with mirrored(URLS, clock=clock, settings=LayerSettings(max_streams=3), observe=told.append) as mirror:
        made = [(each.name, each.key, each.priority, each.manifest) for each in mirror.legs]
        assert made == [
            ("http://a/images/x.img", "images/x.img", 1, None),
            ("http://b/y.img?...", "y.img", 2, None),
        ]
        for each in mirror.legs:
            found, driver = layers(each.store)
            assert isinstance(driver, HttpStore)
            assert (driver.store_id, driver.clock) == (each.name, clock)
            assert found[LimitLayer]._max_streams == 3
            assert found[MetricsLayer]._observe == told.append
        assert mirror.clock is clock
        assert mirror._legs.key == "images/x.img"
    for each in mirror.legs:
        with pytest.raises(ValueError, match="is closed"):
            each.store.stat("x.img")


@pytest.mark.parametrize("own, given", [(8, [LEG_ATTEMPTS, LEG_ATTEMPTS, 8]), (1, [1, 1, 1])])
def test_all_but_the_last_are_left_soon(own, given):
    urls = [*URLS, "https://c/z.img"]
    with mirrored(urls, settings=LayerSettings(resume_attempts=own)) as mirror:
        assert tries(mirror) == given


def test_legs_are_taken_as_they_are():
    store = build(ScriptedStore())
    given = leg(store, "own", priority=7, name="mine")
    with mirrored([URLS[0], given, "http://c/z.img"]) as mirror:
        assert mirror.legs[1] is given
        assert (given.store, given.key, given.priority, given.name) == (store, "own", 7, "mine")
        assert [each.priority for each in mirror.legs] == [1, 7, 3]


def test_what_the_image_is_called():
    with mirrored(URLS, manifest=MANIFEST) as mirror:
        assert mirror._legs.key == KEY
    with mirrored(URLS, manifest=MANIFEST, key="other") as mirror:
        assert mirror._legs.key == "other"
    with pytest.raises(ConfigError, match="needs to know its key"):
        mirrored([leg(build(ScriptedStore()))], manifest=manifest_of(DATA, 5000))


def test_a_manifest_proves_every_leg():
    told = []
    bad = bytearray(DATA)
    bad[7] ^= 1
    # bad at first, then good: the chunk that is fetched again
    store = ScriptedStore(Attempt(data=bytes(bad)), Attempt(), Attempt())
    given = replace(leg(build(store, clock=Clock()), KEY), manifest=lambda key, call: None)
    with mirrored([given], manifest=MANIFEST, clock=Clock(), observe=told.append) as mirror:
        assert isinstance(mirror.legs[0].store, VerifyLayer)
        assert mirror.legs[0].manifest is None
        with mirror.get(KEY) as stream:
            assert stream.info.version == MANIFEST.pin
            assert stream.read() == DATA
    assert [event.kind for event in told if event.kind in {"source", "repaired"}] == ["source", "repaired"]


def test_a_manifest_of_another_image_proves_nothing():
    with pytest.raises(ManifestError, match="is of another image"):
        proven(ScriptedStore(Attempt(data=DATA[1:])), MANIFEST).get(KEY)


def test_no_sources():
    with pytest.raises(ConfigError, match="a mirror of no stores"):
        mirrored([])


def test_a_leg_brings_what_its_store_verifies_by():
    manifests = Given({KEY: MANIFEST})
    assert leg(VerifyLayer(ScriptedStore(), manifests)).manifest(KEY, Call()) is MANIFEST
    assert leg(VerifyLayer(ScriptedStore(), manifests, proves=False)).manifest(KEY, Call()) is None
    assert leg(VerifyLayer(ScriptedStore(), manifests)).priority == 1
    beside = VerifyLayer(ScriptedStore(), Given({KEY: MANIFEST, f"{KEY}.meta4": MANIFEST}), hide=".meta4")
    assert leg(beside).manifest(KEY, Call()) is MANIFEST
    assert leg(beside).manifest(f"{KEY}.meta4", Call()) is None
    assert leg(build(ScriptedStore())).manifest is None
    assert leg(proven(ScriptedStore(), MANIFEST)).manifest("any", Call()) == MANIFEST
