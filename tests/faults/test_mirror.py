"""Three servers of one image: one is killed, one stalls, one flips bits, and the read is byte-identical."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools

import pytest

from imgstore import stack
from imgstore.backends.http import HttpStore
from imgstore.backends.memory import MemoryStore
from imgstore.errors import ConfigError, DigestMismatchError, RetriesExhaustedError
from imgstore.layers.mirror import Leg, Mirror
from imgstore.layers.verify import VerifyLayer
from imgstore.model import Call
from imgstore.testing.server import Cut, Flip, Header, Overlay, Reset, ScriptedServer, Stall, Status
from imgstore.transfer.progress import Report
from tests import canary
from tests.faults.rows import IMAGE, PATH, Clock, N, digest_of
from tests.manifests import Given, manifest_of
from tests.thinning import thinned

KEY = "disk"
CHUNK = 64 << 10
MANIFEST = manifest_of(IMAGE, CHUNK, key=KEY, digests={"sha256": hashlib.sha256(IMAGE).hexdigest()})
WINDOW = 0.3  # seconds of silence that are a stall
TRIES = 3


class Mirrored:
    """Scripted servers `a`, `b`, `c`, each with the image, and a mirror of the stores that read them."""

    def __init__(self):
        self.clock = Clock()
        self.told = []
        self.servers = {name: ScriptedServer() for name in "abc"}
        for server in self.servers.values():
            server.put(PATH, IMAGE)
            server.start()
        self.stores = []

    def mirror(self, *, verified=True):
        legs = [
            Leg(self.leg(name, server, verified=verified), PATH[1:], number)
            for number, (name, server) in enumerate(self.servers.items(), 1)
        ]
        manifest = MANIFEST if verified else None
        store = Mirror(legs, key=KEY, manifest=manifest, clock=self.clock, observe=self.told.append)
        self.stores.append(store)
        return store

    def leg(self, name, server, *, verified):
        driver, key = HttpStore.at(server.url(PATH), trust_env=False)
        driver.store_id = name
        settings = stack.LayerSettings(resume_attempts=TRIES, stall_timeout=WINDOW)
        store = stack.build(driver, settings, clock=self.clock, observe=self.told.append)
        if not verified:
            return store
        return VerifyLayer(store, Given({key: MANIFEST}), required=True, observe=self.told.append)

    def spans(self, name):
        log = self.servers[name].log
        log.wait_idle()
        return [each.range_taken for each in log.exchanges(PATH) if each.range_taken]

    def failures(self):
        """Who failed, and how: what the mirror tells of its legs."""
        events = [event for event in self.told if (event.kind, event.store) == ("failed", "mirror")]
        return [(event.error.store, type(event.error).__name__) for event in events]

    def sources(self):
        return [(event.store, event.offset) for event in self.told if event.kind == "source"]

    def close(self):
        for store in self.stores:
            store.close()
        for server in self.servers.values():
            server.stop()
            server.log.wait_closed()


@pytest.fixture
def rig():
    with contextlib.closing(Mirrored()) as made:
        yield made


def read(mirror, call=None):
    with mirror.get(KEY, call=call or Call()) as stream:
        return b"".join(bytes(piece) for piece in stream.chunks(50_000))


HOW = {
    "killed": "RetriesExhaustedError",
    "stalls": "RetriesExhaustedError",
    "flips": "DigestMismatchError",
}
ORDERS = list(itertools.permutations(HOW))


@pytest.mark.promise
@pytest.mark.parametrize("order", thinned([(each,) for each in ORDERS], 3), ids=map("-".join, ORDERS))
def test_one_killed_one_stalling_one_flipping_bits(rig, order):
    third = N // 3
    for number, (name, fate) in enumerate(zip("abc", order, strict=True)):
        server, place = rig.servers[name], (number + 1) * third - 7
        # the leg's own tries are used up as well; after that it would serve again
        if fate == "killed":
            server.script(PATH, [Reset(at=place), *[Reset()] * TRIES])
        elif fate == "stalls":
            server.script(PATH, [Stall(at=place), *[Stall(body_at=0)] * TRIES])
        else:
            server.trap(PATH, Flip(at=place), times=2)
    report = Report()
    assert read(rig.mirror(), Call(observe=report.observe)) == IMAGE
    assert rig.failures() == [(name, HOW[fate]) for name, fate in zip("abc", order, strict=True)]
    assert [name for name, _ in rig.sources()] == ["a", "b", "c", "a"]
    assert all(at % CHUNK == 0 for _, at in rig.sources())
    stalled = {event.store for event in rig.told if event.kind == "stalled"}
    assert stalled == {"abc"[order.index("stalls")]}
    assert all(report.sources[name] > third // 2 for name in "abc")
    # each change of legs costs the chunks that were under way: hashed, being received, or fetched twice
    assert N < sum(report.sources.values()) == report.received <= N + 8 * CHUNK


@pytest.mark.parametrize("drop", [False, True])
def test_a_chunk_bad_for_good_at_one_server_comes_from_the_next(rig, drop):
    bad = 20
    at = bad * CHUNK + 5
    rig.servers["a"].trap(PATH, Flip(at=at), times=None)
    if drop:
        rig.servers["a"].script(PATH, [Cut(at=at - CHUNK), Cut(at=at + 1)])
    assert read(rig.mirror()) == IMAGE
    assert rig.failures() == [("a", "DigestMismatchError")]
    assert rig.sources() == [("a", 0), ("b", bad * CHUNK)]
    # twice there, then once elsewhere, from that chunk on
    assert sum(start <= at < stop for start, stop in rig.spans("a")) == 2
    assert rig.spans("b") == [(bad * CHUNK, N)]
    assert rig.spans("c") == []


@pytest.mark.parametrize("drop", [False, True])
def test_a_chunk_bad_everywhere_is_named(rig, drop):
    bad = 20
    at = bad * CHUNK + 5
    for server in rig.servers.values():
        server.trap(PATH, Flip(at=at), times=None)
    if drop:
        rig.servers["b"].script(PATH, [Cut(at=at - 5)])
    with pytest.raises(DigestMismatchError, match="no leg of the mirror could serve 'disk': a: ") as caught:
        read(rig.mirror())
    assert caught.value.chunks == (bad,)
    assert caught.value.offset == bad * CHUNK
    for name in "abc":
        assert sum(start <= at < stop for start, stop in rig.spans(name)) <= 2


@pytest.mark.parametrize("drop", [False, True])
def test_a_server_all_of_whose_chunks_are_bad_is_left_soon(rig, drop):
    rig.servers["a"].script(PATH, [Cut(at=CHUNK // 2)] if drop else [], then=Overlay(at=0, data=bytes(N)))
    assert read(rig.mirror()) == IMAGE
    assert rig.failures() == [("a", "DigestMismatchError")]
    # the first chunk twice, and what the kernels had taken ahead
    assert len(rig.spans("a")) <= 3 + drop
    assert rig.spans("b") == [(0, N)]


def test_replicas_with_tags_of_their_own_are_one_image_by_its_digest(rig):
    for name, server in rig.servers.items():
        server.put(PATH, IMAGE, etag=f'"{name}"')
        server.script(PATH, then=Header(*digest_of(IMAGE)))
    step = N // 4
    for number, name in enumerate("ab", 1):
        rig.servers[name].script(
            PATH, [(Header(*digest_of(IMAGE)), Cut(at=number * step))], then=Status(503, {"Retry-After": "0"})
        )
    mirror = rig.mirror(verified=False)
    with mirror.get(KEY) as stream:
        assert stream.info.version == f"sha256:{hashlib.sha256(IMAGE).hexdigest()}"
        assert b"".join(bytes(piece) for piece in stream.chunks()) == IMAGE
    assert rig.sources() == [("a", 0), ("b", step), ("c", 2 * step)]
    assert [rig.spans(name) for name in "abc"] == [[(0, step)], [(step, 2 * step)], [(2 * step, N)]]


def test_replicas_without_a_proof_are_never_mixed(rig):
    rig.servers["a"].script(PATH, [Cut(at=N // 2)], then=Status(503, {"Retry-After": "0"}))
    with (
        rig.mirror(verified=False).get(KEY) as stream,
        pytest.raises(RetriesExhaustedError),
    ):
        while stream.readinto(bytearray(50_000)):
            pass
    assert stream.delivered == N // 2
    assert (rig.spans("b"), rig.spans("c")) == ([], [])


def test_the_best_server_is_back_when_it_has_healed(rig):
    server = rig.servers["a"]
    mirror = rig.mirror()
    server.stop()
    assert read(mirror) == IMAGE
    server.start()
    assert read(mirror) == IMAGE
    assert rig.spans("a") == []
    rig.clock.skip(31)
    assert read(mirror) == IMAGE
    assert rig.sources() == [("b", 0), ("b", 0), ("a", 0)]


# As code makes one


@pytest.fixture
def scratch():
    store = MemoryStore()
    store.store_id = "scratch"
    return store


def test_urls_and_stores_make_one_store(rig, scratch):
    scratch.writer.put("copy", io.BytesIO(IMAGE))
    urls = [server.url(PATH) for server in rig.servers.values()]
    rig.servers["a"].script(PATH, [Cut(at=N // 2)], then=Status(503, {"Retry-After": "0"}))
    rig.servers["b"].script(PATH, then=Status(404))
    third = stack.leg(stack.build(scratch), "copy", priority=3)
    sources = [*urls[:2], third, urls[2]]
    with stack.mirrored(sources, manifest=MANIFEST, clock=rig.clock, observe=rig.told.append) as store:
        with store.get(KEY) as stream:
            assert stream.info.version == MANIFEST.pin
            assert b"".join(bytes(piece) for piece in stream.chunks()) == IMAGE
        whole = N // 2 // CHUNK * CHUNK
        assert rig.sources() == [(urls[0], 0), ("scratch", whole)]
        assert rig.failures() == [(urls[0], "RetriesExhaustedError"), (urls[1], "NotFoundError")]
        # one that broke and as many tries as one makes that others stand in for
        assert len(rig.servers["a"].log.exchanges(PATH)) == 1 + stack.LEG_ATTEMPTS
    with pytest.raises(ValueError, match="closed"):
        scratch.get("copy")


def test_without_a_manifest_the_first_source_names_the_image(rig):
    urls = [rig.servers[name].url(PATH) for name in "ab"]
    rig.servers["a"].script(PATH, then=Status(404))
    with stack.mirrored(urls, clock=rig.clock) as store, store.get(PATH[1:]) as stream:
        assert stream.read() == IMAGE
    with stack.mirrored(urls, key="x", clock=rig.clock) as store:
        assert store.stat("x").size == N


def test_the_last_source_makes_all_of_its_tries(rig):
    rig.servers["a"].script(PATH, [Status(503, {"Retry-After": "0"})] * 4)
    settings = stack.LayerSettings(resume_attempts=5)
    with stack.mirrored([rig.servers["a"].url(PATH)], settings=settings, clock=rig.clock) as store:
        assert store.get(PATH[1:]).read() == IMAGE


@pytest.mark.parametrize(
    "sources, why",
    [
        ([], "a mirror of no stores"),
        (["ftp://h/x"], "one begins with http://, https://, rbd://, s3://, swift://"),
        (["disk.img"], "that is no URL that can be read"),
        (["http://h/x", "http://h/x"], "are called http://h/x, http://h/x; a name for each would do"),
    ],
)
def test_what_is_no_source(sources, why):
    with pytest.raises(ConfigError, match=why):
        stack.mirrored(sources)


def test_a_url_that_is_none_is_not_repeated():
    with pytest.raises(ConfigError) as caught:
        stack.mirrored([f"htp://u:{canary.PASSWORD}@h/x"])
    assert not canary.found(str(caught.value))
