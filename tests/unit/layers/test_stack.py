from __future__ import annotations

import dataclasses
import inspect
import io

import pytest

from imgstore.backends.memory import MemoryStore
from imgstore.clock import SYSTEM
from imgstore.errors import ConfigError, ConnectionLostError, PermanentError, RetriesExhaustedError
from imgstore.layers.base import Layer
from imgstore.layers.limit import LimitLayer
from imgstore.layers.metrics import MetricsLayer
from imgstore.layers.parallel import ParallelLayer
from imgstore.layers.resume import ResumeLayer
from imgstore.layers.verify import VerifyLayer
from imgstore.model import NO_CALL, Call
from imgstore.retry import TokenBucket
from imgstore.stack import (
    FACETS,
    LayerSettings,
    build,
    followed,
    leg,
    makes_manifests,
    over_one,
    proven,
    unproven,
)
from imgstore.store import FACETS as FACET_NAMES
from imgstore.store import Store
from tests.manifests import Given
from tests.unit.layers.scripted import DATA, Attempt, Clock, Facet, ScriptedStore

LOST = ConnectionLostError("lost")
LAYERS = {
    "metrics": MetricsLayer,
    "limit": lambda inner: LimitLayer(inner, max_streams=1, rate_limit=1e9),
    "resume": lambda inner: ResumeLayer(inner, jitter=lambda: 0.0),
    "verify": lambda inner: VerifyLayer(inner, Given({}), hide=".meta4"),
    "parallel": lambda inner: ParallelLayer(inner, streams=4),
}


def built(*attempts, clock=None, **settings):
    driver = ScriptedStore(*attempts)
    options = {name: settings.pop(name) for name in ("observe", "bucket", "jitter") if name in settings}
    store = build(driver, LayerSettings(**settings), clock=clock or driver.clock, **options)
    return store, driver


def layers_of(store):
    """Gives the layers from the outermost inwards, and the driver last."""
    found = [store]
    while isinstance(found[-1], Layer):
        found.append(found[-1].inner)
    return found


def kinds_of(store):
    return [type(each) for each in layers_of(store)]


def equipped():
    """A store with every facet."""
    inner = ScriptedStore()
    for name in FACET_NAMES:
        setattr(inner, name, Facet())
    return inner


def public(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


def test_the_table_says_wrap_or_pass_for_each_layer_and_facet():
    assert set(FACETS) == set(LAYERS)
    for table in FACETS.values():
        assert set(table) == set(FACET_NAMES)
        assert set(table.values()) <= {"wrap", "pass"}


PASSED = [(layer, facet) for layer in FACETS for facet in FACET_NAMES if FACETS[layer][facet] == "pass"]
WRAPPED = [(layer, facet) for layer in FACETS for facet in FACET_NAMES if FACETS[layer][facet] == "wrap"]


@pytest.mark.parametrize("layer, facet", PASSED)
def test_what_is_passed_is_the_very_object_of_the_store_inside(layer, facet):
    inner = equipped()
    assert getattr(LAYERS[layer](inner), facet) is getattr(inner, facet)


ASKED = {
    "writer": lambda facet, call: facet.put("image", io.BytesIO(), call=call),
    "uploader": lambda facet, call: facet.begin("image", 1, call=call),
    "lister": lambda facet, call: list(facet.list(call=call)),
    "extents": lambda facet, call: list(facet.extents("image", call=call)),
    "copier": lambda facet, call: facet.copy("image", "copy", call=call),
}


@pytest.mark.parametrize("layer, facet", WRAPPED)
def test_what_is_wrapped_is_another_object_that_adds_what_the_layer_is_for(layer, facet):
    inner, told = equipped(), []
    inside = getattr(inner, facet)
    inside.outcomes = [ConnectionLostError("lost"), iter([])]
    wrapped = getattr(LAYERS[layer](inner), facet)
    assert wrapped is not inside
    if layer == "metrics":
        with pytest.raises(ConnectionLostError):
            ASKED[facet](wrapped, Call(observe=told.append))
        assert [event.kind for event in told] == ["failed"]
    elif layer == "verify":
        with pytest.raises(ConnectionLostError):
            ASKED[facet](wrapped, Call())
        assert len(inside.calls) == 1
    else:
        ASKED[facet](wrapped, Call())
        assert len(inside.calls) == 2


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("facet", FACET_NAMES)
def test_what_the_store_lacks_no_layer_makes_up(layer, facet):
    assert getattr(LAYERS[layer](ScriptedStore()), facet) is None


ATTRIBUTES = {"OPTIONS", "store_id", "endpoint", "clock", *FACET_NAMES}


def test_a_layer_forwards_every_public_member_of_a_store():
    inner = equipped()
    inner.OPTIONS = ["an option"]
    forwarded = {"stat", "get", "translate", "close"}
    assert public(Store) == ATTRIBUTES | forwarded
    assert public(Layer) == public(Store)
    plain = Layer(inner)
    for name in ATTRIBUTES:
        assert getattr(plain, name) is getattr(inner, name), name


def test_a_layer_forwards_stat():
    inner, call = ScriptedStore(), Call(deadline=2e9)
    assert Layer(inner).stat("image", call=call).size == len(DATA)
    assert inner.calls == [call]


def test_a_layer_forwards_get_and_what_lies_before_the_range():
    inner, call = ScriptedStore(Attempt(serve_from=2)), Call(deadline=2e9)
    with Layer(inner).get("image", 5, 7, version="v1", call=call) as stream:
        assert stream.lead == 3
        assert stream.read() == DATA[5:12]
    assert (inner.asked, inner.calls) == ([(5, 12, "v1")], [call])
    with Layer(inner).get("image", 5) as stream:
        assert stream.range.stop == len(DATA)
    assert inner.asked[-1] == (5, None, None)


def test_a_layer_forwards_translate():
    inner, cause = ScriptedStore(), KeyError("what")
    error = Layer(inner).translate(cause)
    assert isinstance(error, PermanentError)
    assert error.__cause__ is cause


def test_a_layer_forwards_close_and_is_closed_itself():
    inner = ScriptedStore()
    layer = Layer(inner)
    layer.close()
    for store in (layer, inner):
        with pytest.raises(ValueError, match="is closed"):
            store.stat("image")


def test_a_stream_through_a_layer_is_cancelled_closed_and_held_as_the_one_inside():
    inner = ScriptedStore()
    stream = Layer(inner).get("image")
    inner.raws[0].held = 4.0
    assert stream.held == 4.0
    stream.cancel()
    assert inner.raws[0].aborted
    stream.close()
    assert inner.raws[0].closed


def test_the_order_of_the_layers():
    store, driver = built(max_streams=1, rate_limit=1e9)
    assert kinds_of(store) == [ResumeLayer, LimitLayer, MetricsLayer, ScriptedStore]
    assert layers_of(store)[-1] is driver


@pytest.mark.parametrize(
    "settings, kinds",
    [
        ({}, [ResumeLayer, MetricsLayer]),
        ({"max_streams": 3}, [ResumeLayer, LimitLayer, MetricsLayer]),
        ({"verify": "required"}, [VerifyLayer, ResumeLayer, MetricsLayer]),
        ({"verify": "if-present"}, [VerifyLayer, ResumeLayer, MetricsLayer]),
        ({"store_manifests": True}, [VerifyLayer, ResumeLayer, MetricsLayer]),
        ({"store_manifests": False}, [ResumeLayer, MetricsLayer]),
        ({"verify": "required", "manifest_store": "other"}, [ResumeLayer, MetricsLayer]),
        ({"rate_limit": 3.0}, [ResumeLayer, LimitLayer, MetricsLayer]),
        ({"resume_attempts": 0}, [MetricsLayer]),
        ({"resume_attempts": 0, "max_streams": 3}, [LimitLayer, MetricsLayer]),
    ],
)
def test_settings_switch_layers_on_and_off_and_never_reorder(settings, kinds):
    assert kinds_of(built(**settings)[0]) == [*kinds, ScriptedStore]


def test_the_defaults():
    assert dataclasses.asdict(LayerSettings()) == {
        "resume_attempts": 8,
        "stall_timeout": 15.0,
        "stall_floor": 16384,
        "deadline": None,
        "skip_limit": 1073741824,
        "proof_limit": 2.0,
        "max_streams": None,
        "rate_limit": None,
        "verify": "off",
        "manifest_store": None,
        "store_manifests": None,
        "parallel": 1,
        "part_size": 8388608,
    }


@pytest.mark.parametrize("layer", [ResumeLayer, LimitLayer, ParallelLayer])
def test_a_layer_by_itself_has_the_same_defaults(layer):
    defaults = dataclasses.asdict(LayerSettings())
    parameters = inspect.signature(layer.__init__).parameters
    shared = [name for name in parameters if name in defaults]
    assert shared
    assert {name: parameters[name].default for name in shared} == {name: defaults[name] for name in shared}


NAN = float("nan")


@pytest.mark.parametrize("value", [-1, -0.001, NAN])
@pytest.mark.parametrize("name", ["resume_attempts", "stall_floor", "skip_limit", "proof_limit"])
def test_a_setting_below_zero_is_refused(name, value):
    with pytest.raises(ConfigError, match=rf"{name} is {value}; it is 0 or more"):
        LayerSettings(**{name: value})
    assert getattr(LayerSettings(**{name: 0}), name) == 0


@pytest.mark.parametrize("value", [0, -1, NAN])
@pytest.mark.parametrize(
    "name", ["stall_timeout", "deadline", "max_streams", "rate_limit", "parallel", "part_size"]
)
def test_a_setting_of_nothing_is_refused(name, value):
    with pytest.raises(ConfigError, match=rf"{name} is {value}; it is above 0"):
        LayerSettings(**{name: value})
    assert getattr(LayerSettings(**{name: 1}), name) == 1


def test_an_endless_rate_is_refused():
    with pytest.raises(ConfigError, match="rate_limit is inf; None lifts the limit"):
        LayerSettings(rate_limit=float("inf"))


def test_settings_can_neither_be_changed_nor_misspelt():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LayerSettings().deadline = 3
    with pytest.raises(TypeError):
        LayerSettings(8)


def test_the_clock_reaches_the_driver_and_every_layer():
    clock = Clock()
    store, _ = built(clock=clock, max_streams=1)
    assert all(each.clock is clock for each in layers_of(store))
    assert build(ScriptedStore()).clock is SYSTEM


def test_the_stores_observer_is_told_of_attempts_and_resumes():
    told = []
    store, _ = built(Attempt(at=10, error=LOST), Attempt(), observe=told.append, jitter=lambda: 0.0)
    with store.get("image", 0, 20) as stream:
        stream.read()
    assert [event.kind for event in told] == [
        "opened", "delivered", "failed", "opened", "resumed", "delivered",
    ]  # fmt: skip


def test_jitter_spreads_the_pauses():
    store, driver = built(Attempt(refuse=LOST), Attempt(), jitter=lambda: 0.25)
    store.get("image").close()
    assert driver.clock.slept == [0.05]


def test_without_a_jitter_of_the_callers_pauses_are_random():
    slept = set()
    for _ in range(5):
        store, driver = built(Attempt(refuse=LOST), Attempt())
        store.get("image").close()
        slept.update(driver.clock.slept)
    assert len(slept) > 1
    assert all(0 <= seconds < 0.2 for seconds in slept)


def test_stores_of_one_endpoint_share_its_bucket():
    bucket = TokenBucket()
    for left in (465, 430):
        store, _ = built(Attempt(refuse=LOST), bucket=bucket)
        with pytest.raises(RetriesExhaustedError):
            store.get("image")
        assert bucket.tokens == left


def test_a_stack_without_a_bucket_has_its_own():
    stores = [built()[0], built()[0]]
    assert stores[0]._bucket is not stores[1]._bucket


def test_each_limit_reaches_its_layer():
    (limit,) = [each for each in layers_of(built(max_streams=3)[0]) if isinstance(each, LimitLayer)]
    assert (limit._permits._value, limit._bandwidth) == (3, None)
    (limit,) = [each for each in layers_of(built(rate_limit=400.0)[0]) if isinstance(each, LimitLayer)]
    assert (limit._permits, limit._bandwidth.burst) == (None, 100)


@pytest.mark.parametrize(
    "settings",
    [
        {"resume_attempts": 2},
        {"stall_timeout": 2.0},
        {"stall_floor": 7.0},
        {"deadline": 3.0},
        {"skip_limit": 5},
        {"proof_limit": 0.5},
    ],
)
def test_each_setting_of_resume_reaches_its_layer(settings):
    """By what the layer does then: each of these reads ends otherwise by default."""
    (name,) = settings
    attempts = {
        "resume_attempts": [Attempt(refuse=LOST)] * 2 + [Attempt()],
        "stall_timeout": [Attempt(each=1, seconds=1.0)] * 2 + [Attempt()],
        "stall_floor": [Attempt(each=16, seconds=1.0)],
        "deadline": [Attempt(opening=4.0, refuse=LOST), Attempt()],
        "skip_limit": [Attempt(serve_from=0), Attempt()],
        "proof_limit": [Attempt(at=200, error=LOST, version=None), Attempt(version=None)],
    }[name]
    assert _ending(attempts, settings) != _ending(attempts, {})


def _ending(attempts, settings):
    store, driver = built(*attempts, jitter=lambda: 0.0, **settings)
    try:
        with store.get("image", 10, 300) as stream:
            data = stream.read()
    except OSError as exc:
        return type(exc), driver.asked, driver.clock.elapsed
    return data, driver.asked, driver.clock.elapsed


@pytest.mark.parametrize("rate_limit", [None, 1e6])
def test_every_combination_works_with_one_stream_at_a_time(rate_limit):
    """A layer closes its stream before it opens another for the same call; the script asserts it."""
    breaks = [
        Attempt(refuse=LOST),
        Attempt(at=70_000, error=LOST, version=None),
        Attempt(at=50_000, error=LOST, version=None),
        Attempt(at=80_000, version=None),
        Attempt(version=None),
    ]
    told = []
    store, driver = built(*breaks, max_streams=1, rate_limit=rate_limit, observe=told.append)
    with store.get("image") as stream:
        assert stream.read() == DATA
    assert len(driver.asked) == 5
    assert store.stat("image").size == len(DATA)
    with store.get("image", 5, 5) as stream:
        assert stream.read() == DATA[5:10]


def test_a_pause_holds_no_permit():
    store, driver = built(Attempt(refuse=LOST), Attempt(at=10, error=LOST), Attempt(), max_streams=1)
    (limit,) = [each for each in layers_of(store) if isinstance(each, LimitLayer)]
    free, sleep = [], driver.clock.sleep

    def watched(seconds, wake=None):
        free.append(limit._permits._value)
        sleep(seconds, wake)

    driver.clock.sleep = watched
    with store.get("image", 0, 20) as stream:
        stream.read()
    assert free == [1, 1]


@pytest.mark.parametrize("own, window, given", [(15.0, 1.0, 1.0), (5.0, 15.0, 5.0), (60.0, 60.0, 20.0)])
def test_a_driver_that_waits_itself_waits_no_longer_than_the_stall_window(own, window, given):
    driver = ScriptedStore()
    driver.receive_timeout = own
    build(driver, LayerSettings(stall_timeout=window))
    assert driver.receive_timeout == given
    plain = ScriptedStore()
    build(plain)
    assert not hasattr(plain, "receive_timeout")


@pytest.mark.parametrize(
    "settings, makes",
    [
        ({}, False),
        ({"verify": "if-present"}, False),
        ({"verify": "required"}, True),
        ({"verify": "required", "store_manifests": False}, False),
        ({"store_manifests": True}, True),
    ],
)
def test_manifests_are_made_where_they_are_required_or_asked_for(settings, makes):
    store = build(MemoryStore(), LayerSettings(**settings))
    store.writer.put("disk", io.BytesIO(b"bytes"))
    assert [info.key for info in layers_of(store)[-1].lister.list()] == ["disk", "disk.meta4"][: 1 + makes]


def test_made_without_being_asked_to_prove_nothing_is_proven():
    store = build(MemoryStore(), LayerSettings(store_manifests=True))
    driver = layers_of(store)[-1]
    store.writer.put("disk", io.BytesIO(b"bytes"))
    driver.writer.put("disk.meta4", io.BytesIO(b"none"), overwrite=True)
    assert store.get("disk").read() == b"bytes"


def test_a_store_without_its_proof_and_the_manifests_of_it():
    driver = MemoryStore()
    plain = build(driver)
    store, manifests = unproven(plain)
    assert store is plain
    strict = build(driver, LayerSettings(verify="required"))
    strict.writer.put("disk", io.BytesIO(b"bytes"))
    assert manifests.find("disk", NO_CALL).size == 5
    store, manifests = unproven(strict)
    assert kinds_of(store) == [ResumeLayer, MetricsLayer, MemoryStore]
    assert manifests is strict.manifests


def test_manifests_that_are_followed_by_who_was_built_without():
    driver = MemoryStore()
    strict = build(driver, LayerSettings(verify="required"))
    assert followed(strict) is strict
    strict.writer.put("disk", io.BytesIO(b"bytes"))
    driver.writer.put("bare", io.BytesIO(b"bytes"))
    plain = followed(build(driver))
    assert [info.key for info in plain.lister.list()] == ["bare", "disk"]
    assert plain.get("bare").read() == b"bytes"
    plain.writer.put("new", io.BytesIO(b"bytes"))
    plain.writer.delete("disk")
    assert [info.key for info in driver.lister.list()] == ["bare", "new"]


@pytest.mark.parametrize(
    "settings, made",
    [
        ({}, False),
        ({"verify": "if-present"}, False),
        ({"verify": "required"}, True),
        ({"store_manifests": True}, True),
    ],
)
def test_whether_what_is_stored_gets_a_manifest(settings, made):
    store = build(MemoryStore(), LayerSettings(**settings))
    assert makes_manifests(store) == made
    assert makes_manifests(Layer(followed(store))) == made
    assert not makes_manifests(MemoryStore())


class TestParallel:
    """It stays the outermost layer, whatever is put below it or taken away."""

    SETTINGS = LayerSettings(parallel=3, part_size=2, deadline=60.0)

    @pytest.fixture
    def driver(self):
        driver = MemoryStore()
        build(driver, LayerSettings(store_manifests=True)).writer.put("disk", io.BytesIO(b"bytes"))
        return driver

    def kinds(self, store):
        return [type(each) for each in layers_of(store)][:2]

    def held(self, store):
        outer = layers_of(store)[0]
        assert isinstance(outer, ParallelLayer)
        assert (outer.streams, outer.part_size, outer._deadline) == (3, 2, 60.0)
        assert store.get("disk").read() == b"bytes"
        return True

    def test_it_is_off_unless_asked_for(self, driver):
        assert ParallelLayer not in kinds_of(build(driver))

    def test_it_is_built_around_the_others(self, driver):
        plain, strict = (
            build(driver, self.SETTINGS),
            build(driver, dataclasses.replace(self.SETTINGS, verify="required")),
        )
        assert self.kinds(plain) == [ParallelLayer, ResumeLayer]
        assert self.kinds(strict) == [ParallelLayer, VerifyLayer]
        assert self.held(plain)
        assert self.held(strict)

    def test_what_is_proven_is_proven_in_parts(self, driver):
        strict = build(driver, dataclasses.replace(self.SETTINGS, verify="required"))
        manifest = strict.inner.manifest("disk", NO_CALL)
        store = proven(build(driver, self.SETTINGS), manifest)
        assert self.kinds(store) == [ParallelLayer, VerifyLayer]
        assert self.held(store)

    def test_manifests_are_followed_below(self, driver):
        strict = build(driver, dataclasses.replace(self.SETTINGS, verify="required"))
        assert followed(strict) is strict
        store = followed(build(driver, self.SETTINGS))
        assert self.kinds(store) == [ParallelLayer, VerifyLayer]
        assert [info.key for info in store.lister.list()] == ["disk"]
        assert self.held(store)

    def test_what_is_not_to_be_proven_is_read_in_parts(self, driver):
        strict = build(driver, dataclasses.replace(self.SETTINGS, verify="required"))
        store, manifests = unproven(strict)
        assert manifests is strict.inner.manifests
        assert self.kinds(store) == [ParallelLayer, ResumeLayer]
        assert self.held(store)
        plain = build(driver, self.SETTINGS)
        assert unproven(plain)[0] is plain

    def test_a_leg_has_the_manifests_of_the_layer_below(self, driver):
        strict = build(driver, dataclasses.replace(self.SETTINGS, verify="required"))
        assert leg(strict).manifest == strict.inner.manifest
        assert leg(build(driver, self.SETTINGS)).manifest is None


def test_who_opens_the_connections_himself_is_told_how_many_and_how_long():
    driver = MemoryStore()
    assert over_one(driver, NO_CALL) == (driver, 1, NO_CALL)
    store = build(driver, LayerSettings(parallel=3, deadline=5.0))
    inner, connections, call = over_one(store, NO_CALL)
    assert inner is store.inner
    assert connections == 3
    assert 0 < call.remaining() <= 5.0
