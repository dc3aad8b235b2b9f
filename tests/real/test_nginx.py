"""The http driver and the layers against a real nginx."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections import Counter

import pytest

from imgstore.backends.http import HttpStore
from imgstore.errors import (
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    RetriesExhaustedError,
    TlsError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.model import Call
from imgstore.stack import LayerSettings, build
from imgstore.testing.conformance import ReadSuite
from tests.real.conftest import Nginx

SIZE = 24 << 20  # more than the socket buffers of both ends hold, so that a server can be caught in mid-body
DATA = random.Random(2013).randbytes(SIZE)


class OnNginx(ReadSuite):
    """The read suite over one prefix of nginx."""

    prefix = "files"
    tls = False

    @pytest.fixture(autouse=True)
    def on(self, nginx: Nginx) -> None:
        self.nginx = nginx

    def store(self):
        where = self.nginx.tls_url if self.tls else self.nginx.url
        return HttpStore(url=where(self.prefix, ""), **({"ca_file": str(self.nginx.ca)} if self.tls else {}))

    def seed(self, key, data):
        self.nginx.put(key, data)

    replace = seed

    def remove(self, key):
        (self.nginx.root / key).unlink()

    def test_folder_of_a_key_is_no_image(self):
        """A server has folders: nginx leads to the index of one, and refuses to show it."""
        key = self.image(DATA[:10], "folder/image").rpartition("/")[0]
        with pytest.raises(PermissionDeniedError):
            self.subject.get(key)


class TestReadDriver(OnNginx):
    """The driver alone."""


class TestReadDriverTls(OnNginx):
    """The driver alone, over TLS with a private authority."""

    tls = True


class TestReadWithoutRanges(OnNginx):
    """A server that answers every request with the whole image."""

    prefix = "norange"


class TestReadWithoutEtag(OnNginx):
    """A server whose only validator is a date, too young to be strong."""

    prefix = "noetag"


class TestReadWithWeakEtag(OnNginx):
    """A server whose tag promises nothing about bytes."""

    prefix = "weak"


class TestReadWithoutValidators(OnNginx):
    """A server that offers nothing to tell one version from another."""

    prefix = "novalidators"


class TestReadStack(OnNginx):
    """All layers; some cases hold several streams at once, so a few permits."""

    def store(self):
        return build(super().store(), LayerSettings(max_streams=16))

    def test_options_are_the_arguments(self):
        assert self.subject.OPTIONS == HttpStore.OPTIONS


class TestReadStackWithoutValidators(TestReadStack):
    """All layers over a server without validators."""

    prefix = "novalidators"


def store_at(url, *, settings=None, **options):
    options.setdefault("receive_timeout", 1.0)
    driver, key = HttpStore.at(url, **options)
    return build(driver, settings or LayerSettings(stall_timeout=1.0)), key


def digest_of(stream) -> str:
    digest = hashlib.sha256()
    for piece in stream.chunks():
        digest.update(piece)
    return digest.hexdigest()


WHOLE = hashlib.sha256(DATA).hexdigest()


def watched():
    events = []
    return events, Call(observe=events.append)


def received(events) -> int:
    return sum(event.count for event in events if event.kind == "delivered")


@pytest.fixture
def image(nginx: Nginx) -> str:
    nginx.put("disk.img", DATA)
    return "disk.img"


@pytest.mark.parametrize("prefix", ["files", "norange", "noetag", "weak", "novalidators", "nolength"])
def test_a_whole_read_is_identical_on_every_location(nginx, image, prefix):
    store, key = store_at(nginx.url(prefix, image))
    with store, store.get(key) as stream:
        assert digest_of(stream) == WHOLE


@pytest.mark.parametrize("prefix", ["files", "noetag", "novalidators"])
def test_kill_9_and_restart_in_mid_read(nginx, image, prefix):
    events, call = watched()
    store, key = store_at(nginx.url(prefix, image))
    with store, store.get(key, call=call) as stream:
        head = stream.read(1 << 20)
        nginx.kill9("nginx")
        nginx.up("nginx")
        assert hashlib.sha256(head + b"".join(bytes(view) for view in stream.chunks())).hexdigest() == WHOLE
    assert Counter(event.kind for event in events)["resumed"] == 1
    proof = sum(event.count for event in events if event.kind == "refetched")
    assert received(events) == SIZE + proof
    assert (proof > 0) is (prefix != "files")


def test_kill_9_and_a_slow_restart_in_mid_read(nginx, image):
    store, key = store_at(nginx.url("files", image))
    with store, store.get(key) as stream:
        head = stream.read(1 << 20)
        nginx.kill9("nginx")
        threading.Timer(1.0, nginx.up, ["nginx"]).start()
        assert hashlib.sha256(head + b"".join(bytes(view) for view in stream.chunks())).hexdigest() == WHOLE


def test_sigstop_beyond_the_stall_window(nginx, image):
    events, call = watched()
    store, key = store_at(nginx.url("files", image))
    with store, store.get(key, call=call) as stream:
        head = stream.read(1 << 20)
        nginx.pause("nginx")
        wake = threading.Timer(2.0, nginx.cont, ["nginx"])
        wake.start()
        body = b"".join(bytes(view) for view in stream.chunks())
        wake.join()
    assert hashlib.sha256(head + body).hexdigest() == WHOLE
    kinds = Counter(event.kind for event in events)
    assert kinds["stalled"] >= 1
    assert kinds["resumed"] >= 1


@pytest.mark.parametrize("prefix", ["files", "norange"])
def test_replaced_in_mid_read(nginx, image, prefix):
    store, key = store_at(nginx.url(prefix, image))
    with store, store.get(key) as stream:
        head = stream.read(1 << 20)
        nginx.put(image, DATA[::-1])
        nginx.kill9("nginx")
        nginx.up("nginx")
        with pytest.raises(VersionChangedError) as raised:
            for piece in stream.chunks():
                head += bytes(piece)
    assert head == DATA[: len(head)]
    assert raised.value.offset == len(head)


def test_replaced_in_mid_read_without_validators(nginx, image):
    store, key = store_at(nginx.url("novalidators", image))
    changed = bytearray(DATA)
    changed[1000] ^= 1
    with store, store.get(key) as stream:
        head = stream.read(1 << 20)
        nginx.put(image, bytes(changed))
        nginx.kill9("nginx")
        nginx.up("nginx")
        with pytest.raises(VersionChangedError):
            for piece in stream.chunks():
                head += bytes(piece)
    assert head == DATA[: len(head)]


def test_replaced_while_it_is_being_read_goes_on_with_the_old_bytes(nginx, image):
    store, key = store_at(nginx.url("files", image))
    with store, store.get(key) as stream:
        head = stream.read(1 << 20)
        nginx.put(image, DATA[::-1])
        assert hashlib.sha256(head + b"".join(bytes(view) for view in stream.chunks())).hexdigest() == WHOLE


def test_deleted_in_mid_read(nginx, image):
    store, key = store_at(nginx.url("files", image))
    with store, store.get(key) as stream:
        stream.read(1 << 20)
        (nginx.root / image).unlink()
        nginx.kill9("nginx")
        nginx.up("nginx")
        with pytest.raises(NotFoundError) as raised:
            digest_of(stream)
    assert raised.value.offset >= 1 << 20


def test_an_image_without_a_length_is_read_only_from_its_start(nginx, image):
    store, key = store_at(nginx.url("nolength", image))
    with store:
        with pytest.raises(UnsupportedError, match="length"):
            store.get(key, 100)
        with store.get(key) as stream:
            assert stream.info.size is None
            assert stream.range.stop is None


def test_a_rate_above_the_floor_is_no_stall(nginx):
    nginx.put("small.img", DATA[: 600 << 10])
    events, call = watched()
    # nginx keeps to its rate by pauses of a second and more
    settings = LayerSettings(stall_timeout=4.0)
    store, key = store_at(nginx.url("ratelimited", "small.img"), settings=settings, receive_timeout=4.0)
    with store, store.get(key, call=call) as stream:
        assert stream.read() == DATA[: 600 << 10]
    assert Counter(event.kind for event in events)["stalled"] == 0


def test_503_each_time_ends_within_the_budget(nginx, image):
    events, call = watched()
    store, key = store_at(nginx.url("503", image), settings=LayerSettings(resume_attempts=2))
    with store, pytest.raises(RetriesExhaustedError) as raised:
        store.get(key, call=call)
    assert raised.value.attempts == 2
    assert Counter(event.kind for event in events)["failed"] == 2


def test_503_now_and_then_is_survived(nginx, image):
    settings = LayerSettings(resume_attempts=40)
    store, key = store_at(nginx.url("flaky", image), settings=settings)
    with store:
        for offset in range(0, 1 << 20, 1 << 18):
            with store.get(key, offset, 1000) as stream:
                assert stream.read() == DATA[offset : offset + 1000]


def test_redirects_credentials_and_refusals(nginx, image):
    store, key = store_at(nginx.url("redirect", image))
    with store, store.get(key, 5, 10) as stream:
        assert stream.read() == DATA[5:15]
    for prefix, refusal in [("auth", AuthenticationError), ("403", PermissionDeniedError)]:
        store, key = store_at(nginx.url(prefix, image))
        with store, pytest.raises(refusal):
            store.get(key)
    store, key = store_at(nginx.url("auth", image), username=nginx.user, password=nginx.password)
    with store, store.get(key, 5, 10) as stream:
        assert stream.read() == DATA[5:15]


def test_tls_is_verified_and_a_private_authority_can_be_trusted(nginx, image):
    store, key = store_at(nginx.tls_url("files", image))
    with store, pytest.raises(TlsError):
        store.get(key)
    store, key = store_at(nginx.tls_url("files", image), ca_file=str(nginx.ca))
    with store, store.get(key) as stream:
        assert digest_of(stream) == WHOLE


def test_kill_9_and_restart_in_mid_read_over_tls(nginx, image):
    store, key = store_at(nginx.tls_url("files", image), ca_file=str(nginx.ca))
    with store, store.get(key) as stream:
        head = stream.read(1 << 20)
        nginx.kill9("nginx")
        nginx.up("nginx")
        assert hashlib.sha256(head + b"".join(bytes(view) for view in stream.chunks())).hexdigest() == WHOLE


def test_a_client_certificate_opens_what_asks_for_one(nginx, image):
    certificate, private_key = map(str, nginx.client)
    store, key = store_at(
        nginx.mtls_url(image), ca_file=str(nginx.ca), client_cert=certificate, client_key=private_key
    )
    with store, store.get(key, 5, 10) as stream:
        assert stream.read() == DATA[5:15]


def test_an_old_file_without_etag_is_pinned_by_its_date(nginx, image):
    long_ago = time.time() - 3600
    os.utime(nginx.root / image, (long_ago, long_ago))
    events, call = watched()
    store, key = store_at(nginx.url("noetag", image))
    with store, store.get(key, call=call) as stream:
        assert stream.info.version is not None
        stream.read(1 << 20)
        nginx.kill9("nginx")
        nginx.up("nginx")
        digest_of(stream)
    assert received(events) == SIZE
