"""Mirrors by configuration: which stores they join, what they leave to them, and what stops the start."""

from __future__ import annotations

import io

import pytest
import stevedore._cache

from imgstore.backends.memory import MemoryStore
from imgstore.cli.configured import every
from imgstore.cli.output import Terminal
from imgstore.config import load, open_stores
from imgstore.errors import ConfigError, ConnectionLostError, NotFoundError, VersionChangedError
from imgstore.layers.mirror import Mirror
from imgstore.layers.resume import ResumeLayer
from imgstore.manifest import write_metalink
from imgstore.model import Call
from imgstore.steps import NotApplicableError
from imgstore.stream import Opened
from imgstore.testing.faults import SimClock
from tests.manifests import manifest_of

DATA = bytes(range(256)) * 512
KEY = "disk"


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("IMGSTORE_CONFIG", raising=False)
    monkeypatch.setattr(stevedore._cache._c, "_disable_caching", True)


@pytest.fixture
def write(tmp_path):
    """Gives what makes a configuration of stores a, b and c in memory, of a mirror `m`, and of more lines."""

    def made(legs, *lines, enabled=""):
        path = tmp_path / "imgstore.conf"
        stores = "m:mirror, a:memory, b:memory, c:memory"
        path.write_text(
            "\n".join(
                [
                    "[imgstore]",
                    f"enabled_stores = {stores}{enabled}",
                    "default_store = m",
                    "[store_defaults]",
                    "resume_attempts = 0",
                    *lines,
                    "[store_m]",
                    legs,
                ]
            )
        )
        return load(str(path))

    return made


def refused(conf):
    with pytest.raises(ConfigError) as caught:
        open_stores(conf)
    return str(caught.value)


def innermost(store):
    while not isinstance(store, MemoryStore):
        store = store.inner
    return store


def seed(store, data=DATA, *, proven=False):
    store = innermost(store)
    store.writer.put(KEY, io.BytesIO(data))
    if proven:
        file = io.BytesIO()
        write_metalink(manifest_of(data, 10_000, key=KEY), file)
        store.writer.put(f"{KEY}.meta4", io.BytesIO(file.getvalue()))


class Breaking:
    """A raw reader that gives `count` bytes and then loses its connection."""

    held = 0.0

    def __init__(self, raw, count):
        self.raw, self.left = raw, count

    def readinto(self, buffer):
        if not self.left:
            raise ConnectionLostError("the peer hung up")
        count = self.raw.readinto(buffer[: self.left])
        self.left -= count
        return count

    def abort(self):
        self.raw.abort()

    def close(self):
        self.raw.close()


def break_at(store, count, monkeypatch):
    """Has every read of the image end after `count` bytes; small ones, as those of manifests, pass."""
    driver = innermost(store)
    opening = driver._open

    def _open(key, *arguments):
        opened = opening(key, *arguments)
        return Opened(Breaking(opened.raw, count), opened.info, opened.range) if key == KEY else opened

    monkeypatch.setattr(driver, "_open", _open)


def test_a_mirror_is_a_store_like_any_other(write):
    clock, told = SimClock(), []
    with open_stores(write("legs = c:3, a, b:2"), clock=clock, observe=told.append) as stores:
        assert dict(stores.drivers) == {"m": "mirror", "a": "memory", "b": "memory", "c": "memory"}
        mirror = stores.default
        assert (mirror.store_id, mirror.clock, mirror.location) == ("m", clock, "c:3, a:1, b:2")
        assert {leg.name: (leg.priority, leg.store) for leg in mirror.legs} == {
            "c": (3, stores["c"]),
            "a": (1, stores["a"]),
            "b": (2, stores["b"]),
        }
        seed(stores["b"])
        told.clear()
        assert mirror.get(KEY).read() == DATA
        with pytest.raises(NotFoundError):
            stores["a"].get(KEY)
        failed = next(event for event in told if event.store == "m")
        assert (failed.kind, failed.error.store) == ("failed", "a")
        assert [event.store for event in told if event.kind == "source"] == ["b"]
        with pytest.raises(NotFoundError) as caught:
            mirror.get("other")
        assert caught.value.store == "m"


@pytest.mark.parametrize("verify", ["required", "if-present"])
def test_legs_that_verify_by_equal_manifests_go_on_for_one_another(write, monkeypatch, verify):
    with open_stores(write("legs = a:1, b:2", f"verify = {verify}")) as stores:
        for name in "ab":
            seed(stores[name], proven=True)
        break_at(stores["a"], 35_000, monkeypatch)
        with stores["m"].get(KEY) as stream:
            assert stream.info.version == manifest_of(DATA, 10_000, key=KEY).pin
            assert stream.read() == DATA


def test_one_stream_at_a_time_is_enough(write, monkeypatch):
    """To look for a manifest while a stream is open would wait for that stream for ever."""
    monkeypatch.setattr("imgstore.layers._manifests.REMEMBERED", 0)
    with open_stores(write("legs = a:1, b:2", "verify = required", "max_streams = 1")) as stores:
        for name in "ab":
            seed(stores[name], proven=True)
        break_at(stores["a"], 35_000, monkeypatch)
        with stores["m"].get(KEY, call=Call().within(5)) as stream:
            assert stream.read() == DATA


def test_legs_that_prove_nothing_are_never_mixed(write, monkeypatch):
    with open_stores(write("legs = a:1, b:2", "verify = if-present")) as stores:
        seed(stores["a"])
        seed(stores["b"], proven=True)
        break_at(stores["a"], 35_000, monkeypatch)
        with stores["m"].get(KEY) as stream:
            assert stream.info.version.startswith("a:")
            with pytest.raises(ConnectionLostError):
                stream.read()
            assert stream.delivered == 35_000


def test_a_mirror_closes_none_of_the_stores_that_others_use(write):
    with open_stores(write("legs = a, b")) as stores:
        seed(stores["a"])
        stores["m"].close()
        with pytest.raises(ValueError, match="'m' is closed"):
            stores["m"].get(KEY)
        assert stores["a"].get(KEY).read() == DATA
    with pytest.raises(ValueError, match="'a' is closed"):
        stores["a"].get(KEY)


def test_two_mirrors_of_one_store(write):
    with open_stores(write("legs = a, b", "[store_n]", "legs = a", enabled=", n:mirror")) as stores:
        seed(stores["a"])
        assert stores["m"].get(KEY).read() == stores["n"].get(KEY).read() == DATA


@pytest.mark.parametrize(
    "legs, said",
    [
        ("", "the option 'legs' is needed; set it in [store_m]"),
        ("legs = ", "the option 'legs' is needed; set it in [store_m]"),
        ("legs = a, d", "legs has 'd', which is not enabled"),
        ("legs = aa", "legs has 'aa', which is not enabled (did you mean 'a'?)"),
        ("legs = a, m", "legs has 'm', which is a mirror; the stores that it joins would do"),
        ("legs = a, n", "legs has 'n', which is a mirror; the stores that it joins would do"),
        ("legs = a:1, a:2", "legs names 'a' twice; once would do"),
        ("legs = a:0", "legs has 'a:0'; NAME:PRIORITY would do, with a priority of 1 to 999999"),
        ("legs = a:1:b", "legs has 'a:1:b'; NAME:PRIORITY would do"),
        ("legs = a b", "legs has 'a b'; NAME:PRIORITY would do"),
        ("legs = a:fast", "legs has 'a:fast'; NAME:PRIORITY would do"),
    ],
)
def test_legs_that_make_no_mirror(write, legs, said):
    told = refused(write(legs, "[store_n]", "legs = b", enabled=", n:mirror"))
    assert told.startswith(f"store 'm', driver 'mirror': {said}")


@pytest.mark.parametrize("line", ["verify = required", "capacity = 5", "leg = a"])
def test_a_mirror_has_no_other_options(write, line):
    assert f"[store_m] has no option '{line.split()[0]}'" in refused(write(f"legs = a\n{line}"))


def test_legs_have_no_defaults(write):
    assert "[store_defaults] has no option 'legs'" in refused(write("legs = a", "legs = b"))


def test_manifests_are_in_no_mirror(write):
    told = refused(write("legs = a", "[store_b]", "verify = required", "manifest_store = m"))
    assert (
        told == "store 'b', driver 'memory': manifest_store is 'm', a mirror; a store that it joins would do"
    )


def test_a_mirror_is_among_the_drivers_there_are(write):
    assert "(did you mean 'mirror'?); there are: " in refused(write("legs = a", enabled=", x:miror"))


def test_options_of_a_run_are_those_of_the_legs(write):
    terminal = Terminal()
    terminal.config_file = write("legs = a, b").config_file[0]
    with every(terminal, {"m": {"resume_attempts": 3}}) as stores:
        assert {name for name in "abc" if isinstance(stores[name], ResumeLayer)} == {"a", "b"}


# What `imgstore check` asks of a mirror


def steps(mirror, key):
    """What each step finds, or how it fails."""
    found = {}
    for step in mirror.steps(key):
        try:
            found[step.name] = step.run(Call())
        except (NotApplicableError, NotFoundError, VersionChangedError) as exc:
            found[step.name] = exc
    return found


def test_each_leg_is_checked(write):
    with open_stores(write("legs = a, b, c", "verify = if-present")) as stores:
        mirror = stores["m"]
        assert isinstance(mirror, Mirror)
        assert {type(each) for each in steps(mirror, None).values()} == {NotApplicableError}
        seed(stores["a"], proven=True)
        seed(stores["b"], DATA[1:])
        found = steps(mirror, KEY)
        pin = manifest_of(DATA, 10_000, key=KEY).pin
        assert found["leg a"] == f"{len(DATA)} bytes, proven by its manifest: version {pin}"
        assert str(found["leg b"]) == (
            f"it holds another image than a: it has {len(DATA) - 1} bytes, not {len(DATA)}"
        )
        assert isinstance(found["leg c"], NotFoundError)
        advised = {step.name: step.advise(found[step.name]) for step in mirror.steps(KEY)[1:]}
        assert advised["leg b"] == "copy the right image to b, or take b out of the legs"
        assert advised["leg c"].startswith("imgstore check c says more")
