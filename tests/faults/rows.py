"""What the tests of the rows share: an image, a scripted server, HTTP stores in all their layers, a clock."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import pytest

from imgstore import stack
from imgstore.backends.http import HttpStore
from imgstore.clock import SystemClock
from imgstore.errors import ImgstoreError, StoreError
from imgstore.model import NO_CALL
from imgstore.testing.server import BodyDelay, ScriptedServer
from imgstore.testing.server.certificates import make_authority

BUFFER = 64 << 10
CHUNK = 4 << 20
IMAGE = random.Random(2).randbytes(CHUNK + 2 * BUFFER + 17)
N = len(IMAGE)
OTHER = random.Random(3).randbytes(N)  # another version of the same size: no byte of it may be seen
K = 3 * BUFFER + 5  # where a first reply breaks, in the tests that are about the second
PATH = "/disk.img"
TRIES = 3

_SETTINGS = {each.name for each in fields(stack.LayerSettings)}


class Clock(SystemClock):
    """The machine's clock, but pauses are noted instead of slept, and `skip` lets time pass at once."""

    def __init__(self):
        self.pauses = []
        self.skipped = 0.0
        self.meanwhile = lambda: None  # what happens during a pause

    def now(self):
        return super().now() + self.skipped

    def time(self):
        return super().time() + self.skipped

    def sleep(self, seconds, wake=None):
        self.pauses.append(seconds)
        self.meanwhile()

    def skip(self, seconds):
        self.skipped += seconds


@dataclass
class Broken:
    """How a read ended that did not succeed: the error, and what the caller had by then."""

    error: ImgstoreError
    data: bytes


class Rig:
    """A scripted server with one image, and stores that read it through every layer."""

    def __init__(self, tls=None):
        self.server = ScriptedServer(tls=tls)
        self.log = self.server.log
        self.clock = Clock()
        self.events = []
        self.image = IMAGE
        self._stores = []
        self._others = []
        self.put()
        self.server.start()

    def put(self, data=IMAGE, **validators):
        self.image = data
        self.server.put(PATH, data, **{"etag": '"v1"', **validators})

    def another(self):
        """Gives a second server, empty and started: another origin."""
        server = ScriptedServer()
        server.start()
        self._others.append(server)
        return server

    def script(self, *faults, then=None, method=None):
        self.server.script(PATH, faults, then=then, method=method)

    def store(self, *, url=None, clock=None, bucket=None, jitter=random.random, resolve=None, **options):
        """Gives a store and its key. `options` are those of the driver and the settings of the layers."""
        settings = {name: options.pop(name) for name in _SETTINGS & options.keys()}
        driver, key = HttpStore.at(url or self.server.url(PATH), trust_env=False, **options)
        if resolve is not None:
            driver.resolve = resolve
        settings = stack.LayerSettings(**{"resume_attempts": TRIES, **settings})
        store = stack.build(
            driver,
            settings,
            clock=clock or self.clock,
            bucket=bucket,
            jitter=jitter,
            observe=self.events.append,
        )
        self._stores.append(store)
        return store, key

    def read(self, offset=0, length=None, *, version=None, call=NO_CALL, **options):
        """Gives what one read delivers; raises what it raises."""
        store, key = self.store(**options)
        return read(store, key, offset, length, version=version, call=call)

    def fails(self, kind, offset=0, length=None, *, version=None, call=NO_CALL, **options):
        """Reads, expecting an error of exactly `kind`; holds what came before to the image, byte for byte."""
        store, key = self.store(**options)
        got = bytearray()
        with pytest.raises(kind) as raised:
            read(store, key, offset, length, version=version, call=call, into=got)
        error = raised.value
        assert type(error) is kind, repr(error)
        assert error.key == key
        assert got == self.image[offset : offset + len(got)]
        if isinstance(error, StoreError):
            assert error.errno
            if error.offset is not None:
                assert error.offset == offset + len(got)
        return Broken(error, bytes(got))

    @property
    def spans(self):
        """The image bytes that each request cost, by the server's log; requests that cost none left out."""
        return [each.range_taken for each in self.exchanges if each.range_taken]

    @property
    def exchanges(self):
        self.log.wait_idle()
        return [_certain(each) for each in self.log.exchanges(PATH)]

    @property
    def requests(self):
        return len(self.exchanges)

    @property
    def sent(self):
        return sum(each.body_sent for each in self.exchanges)

    @property
    def asked(self):
        return [each.range_asked for each in self.exchanges]

    def counted(self, kind):
        return sum(event.count for event in self.events if event.kind == kind)

    def kinds(self):
        return {event.kind for event in self.events}

    def close(self):
        """Closes the stores, sees every connection gone, and stops the servers."""
        servers = [self.server, *self._others]
        with contextlib.ExitStack() as last:  # the last one first
            for end in [each.stop for each in servers] + [each.log.wait_closed for each in servers]:
                last.callback(end)
            for store in self._stores:
                last.callback(store.close)


def read(store, key, offset=0, length=None, *, version=None, call=NO_CALL, into=None):
    """Gives the bytes of a range, read through a buffer of 64 KiB; `into` has them also after an error."""
    got = bytearray() if into is None else into
    with store.get(key, offset, length, version=version, call=call) as stream:
        for piece in stream.chunks(BUFFER):
            got += piece
    return bytes(got)


def _certain(exchange):
    """The exchange, its range whole where only the acknowledgement of the end was on its way.

    A client that leaves in front of a chunked body's end has all it wanted; its kernel may still have held
    back the acknowledgement of the last segment (`Exchange.unsure`).
    """
    start, stop = exchange.range_served or (0, 0)
    whole, sure = stop - start, exchange.body_sent
    if exchange.ended == "peer-left" and sure < whole <= sure + exchange.unsure:
        return replace(exchange, body_sent=whole, unsure=0)
    return exchange


def refused(*faults):
    """A reply with `faults` whose body waits: who believes the head, or waits for more, takes for ever."""
    return (*faults, BodyDelay(30))


def digest_of(data):
    """Gives the header field that promises the whole image's digest (RFC 9530 §3)."""
    return ("Repr-Digest", f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:")


@pytest.fixture
def rig() -> Iterator[Rig]:
    with contextlib.closing(Rig()) as made:
        yield made


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secure(authority) -> Iterator[Rig]:
    with contextlib.closing(Rig(tls=authority.context())) as made:
        yield made


def later(seconds, action):
    """Calls `action` after `seconds` in a thread of its own, which is started."""
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer
