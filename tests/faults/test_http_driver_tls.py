"""TLS: who is believed, what is never tried insecurely, and what a truncation is (A31)."""

from __future__ import annotations

import ssl
import threading
import time

import pytest

from imgstore import Call, CancelToken
from imgstore.backends.http import HttpStore
from imgstore.errors import (
    ConfigError,
    ConnectionLostError,
    ImgstoreError,
    OperationCancelledError,
    TimedOutError,
    TlsError,
    TruncatedError,
)
from imgstore.testing.server import (
    CloseDelimited,
    Cut,
    NoLength,
    PlaintextOnTls,
    Reset,
    ScriptedServer,
    Stall,
    TlsAlert,
    TlsTruncate,
    WholeInstead,
)
from imgstore.testing.server.certificates import make_authority

IMAGE = bytes(range(256)) * 4096
PATH = "/disk.img"
KEY = "disk.img"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority):
    with ScriptedServer(tls=authority.context()) as running:
        running.put(PATH, IMAGE, etag='"v1"')
        yield running


@pytest.fixture
def store(server, authority):
    with HttpStore(url=server.url("/"), ca_file=str(authority.ca)) as made:
        yield made


def read(store, offset=0, length=None, **options):
    with store.get(KEY, offset, length, **options) as stream:
        return stream.read()


def broken(store, *args, **options):
    got = bytearray()
    view = memoryview(bytearray(1 << 16))
    with pytest.raises(ImgstoreError) as caught, store.get(KEY, *args, **options) as stream:
        while count := stream.readinto(view):
            got += view[:count]
    return bytes(got), caught.value


def test_every_byte_over_one_connection(store, server):
    for _ in range(2):
        assert read(store, version='"v1"') == IMAGE
        assert read(store, 1000, 100, version='"v1"') == IMAGE[1000:1100]
    assert server.log.connections == 1
    assert store.stat(KEY).size == len(IMAGE)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_names_and_addresses(server, authority, name):
    with HttpStore(url=server.url("/", host=name), ca_file=str(authority.ca)) as store:
        assert read(store, 0, 10) == IMAGE[:10]


@pytest.mark.parametrize(
    "certificate,said",
    [
        ("expired", "certificate has expired"),
        ("self_signed", "self-signed certificate"),
        ("wrong_host", "not valid for"),
    ],
)
def test_a_server_that_cannot_prove_itself(authority, certificate, said):
    with ScriptedServer(tls=authority.context(getattr(authority, certificate))) as server:
        server.put(PATH, IMAGE)
        with HttpStore(url=server.url("/"), ca_file=str(authority.ca)) as store:
            with pytest.raises(TlsError, match=said) as caught:
                store.get(KEY)
            assert not caught.value.retryable
        assert len(server.log) == 0
        with HttpStore(url=server.url("/"), verify_tls=False) as store:
            assert read(store, 0, 10) == IMAGE[:10]


def test_the_systems_authorities_do_not_know_it(server):
    with (
        HttpStore(url=server.url("/")) as store,
        pytest.raises(TlsError, match="could not prove its identity"),
    ):
        store.get(KEY)


def test_plain_text_on_a_tls_port(store, server):
    server.greet([PlaintextOnTls()])
    with pytest.raises(TlsError, match="no TLS handshake"):
        store.get(KEY)


def test_an_alert_in_the_handshake(store, server):
    server.greet([TlsAlert()])
    with pytest.raises(TlsError, match="handshake failure"):
        store.get(KEY)


def test_tls_on_a_plain_port():
    with ScriptedServer() as server:
        store = HttpStore(url=server.url("/").replace("http:", "https:"))
        with store, pytest.raises((TlsError, ConnectionLostError)):
            store.get(KEY)


def test_http_on_a_tls_port(server):
    store = HttpStore(url=server.url("/").replace("https:", "http:"))
    with store, pytest.raises(ImgstoreError):
        store.get(KEY)


@pytest.mark.parametrize("fault", [Cut(), Reset(), TlsTruncate()])
def test_a_handshake_that_breaks_is_weather(store, server, fault):
    server.greet([fault])
    with pytest.raises(ConnectionLostError) as caught:
        store.get(KEY)
    assert caught.value.retryable
    assert read(store, 0, 10) == IMAGE[:10]


@pytest.mark.parametrize("at", [0, 1, 16384, 100_000])
@pytest.mark.parametrize("fault", [Cut, Reset, TlsTruncate, PlaintextOnTls, TlsAlert])
def test_a_break_in_mid_stream_is_weather(store, server, at, fault):
    server.script(PATH, [fault(at=at)])
    got, error = broken(store)
    assert type(error) in {TruncatedError, ConnectionLostError}
    assert error.retryable
    assert got == IMAGE[:at]
    assert read(store) == IMAGE


@pytest.mark.parametrize("framing", [CloseDelimited(), NoLength(last=False)])
@pytest.mark.parametrize("end", [TlsTruncate(at=len(IMAGE)), None])
def test_no_end_of_tls_proves_the_end_of_the_image(store, server, framing, end):
    faults = (WholeInstead(), framing) if end is None else (WholeInstead(), framing, end)
    server.script(PATH, then=faults)
    got, error = broken(store)
    assert got == IMAGE
    assert type(error) in {TruncatedError, ConnectionLostError}
    assert error.retryable
    assert getattr(error, "unprovable", False) is isinstance(framing, CloseDelimited)


def test_chunks(store, server):
    server.script(PATH, then=NoLength())
    assert read(store) == IMAGE


@pytest.mark.parametrize("where", ["handshake", "head", "body"])
def test_a_cancel_ends_the_wait(store, server, where):
    if where == "handshake":
        server.greet([Stall()])
    else:
        server.script(PATH, then=Stall(at=100) if where == "body" else Stall())
    token = CancelToken()
    threading.Timer(0.4, token.cancel).start()
    began = time.monotonic()
    with pytest.raises(OperationCancelledError), store.get(KEY, call=Call(cancel=token)) as stream:
        stream.read()
    assert 0.3 < time.monotonic() - began < 1.4


def test_the_handshake_belongs_to_the_time_to_open(server, authority):
    server.greet([Stall()])
    store = HttpStore(url=server.url("/"), ca_file=str(authority.ca), open_timeout=0.5)
    with store, pytest.raises(TimedOutError):
        store.get(KEY)


@pytest.mark.parametrize("option", ["ca_file", "client_cert"])
def test_files_that_cannot_be_used(server, authority, tmp_path, option):
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (tmp_path / "missing", empty, tmp_path):
        store = HttpStore(url=server.url("/"), **{option: str(path)})
        with store, pytest.raises(ConfigError, match="cannot be used"):
            store.get(KEY)


@pytest.fixture
def suspicious(authority):
    """A server that wants to know who asks."""
    context = authority.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.ca)
    with ScriptedServer(tls=context) as running:
        running.put(PATH, IMAGE)
        yield running


def test_a_client_certificate(suspicious, authority):
    options = {"ca_file": str(authority.ca), "client_cert": str(authority.wrong_host)}
    with HttpStore(url=suspicious.url("/"), **options) as store:
        assert read(store) == IMAGE
    key = authority.wrong_host.parent / "wrong-host.key"
    with HttpStore(url=suspicious.url("/"), client_key=str(key), **options) as store:
        assert read(store) == IMAGE


def test_a_client_certificate_that_is_missing(suspicious, authority):
    with HttpStore(url=suspicious.url("/"), ca_file=str(authority.ca)) as store:
        got, error = broken(store)
    # TLS 1.3 tells only after the handshake, and the reset behind it may be quicker than the alert.
    assert type(error) in {TlsError, ConnectionLostError}
    assert got == b""


def test_a_peer_that_says_nothing_after_the_handshake(store, server):
    server.script(PATH, [Cut(head_at=0)])
    with pytest.raises(ConnectionLostError):
        store.get(KEY)
