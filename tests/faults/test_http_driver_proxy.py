"""Proxies: forwarding and tunnels, with and without TLS of their own, and proxies that misbehave."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from base64 import b64decode

import pytest

from imgstore.backends.http import HttpStore
from imgstore.errors import (
    AuthenticationError,
    BadReplyError,
    ConnectionLostError,
    TimedOutError,
    TlsError,
    TransientError,
    UnavailableError,
    UnsafeLocationError,
)
from imgstore.testing.server import Cut, Redirect, Reset, ScriptedServer, Stall, TlsTruncate
from imgstore.testing.server.certificates import make_authority
from tests import canary

IMAGE = bytes(range(256)) * 1024
PATH = "/disk.img"
KEY = "disk.img"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server():
    with ScriptedServer() as running:
        running.put(PATH, IMAGE, etag='"v1"')
        yield running


@pytest.fixture
def secure(authority):
    with ScriptedServer(tls=authority.context()) as running:
        running.put(PATH, IMAGE, etag='"v1"')
        yield running


class Proxy:
    """Passes bytes on after one request's head; keeps the heads. `says` is sent instead of serving."""

    def __init__(self, tls=None, says=None, more=b""):
        self.heads = []
        self.says = says
        self.more = more
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.port = self._listener.getsockname()[1]
        self._open = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for each in self._threads:
            each.join()
        self._listener.close()

    def url(self, scheme="http", user=""):
        return f"{scheme}://{user}127.0.0.1:{self.port}"

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._open.append(sock)
                thread = threading.Thread(target=self._serve, args=(sock,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, sock):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(sock)
            if self._tls:
                sock = stack.enter_context(self._tls.wrap_socket(sock, server_side=True))
            while True:
                head = b""
                while b"\r\n\r\n" not in head:
                    data = sock.recv(1)
                    if not data:
                        return
                    head += data
                self.heads.append(head.decode("latin-1"))
                if self.says is not None:
                    sock.sendall(self.says)
                    sock.recv(1)
                    return
                method, target, _ = self.heads[-1].split("\r\n")[0].split(" ")
                if method == "CONNECT":
                    _host, _, port = target.rpartition(":")
                    upstream = stack.enter_context(socket.create_connection(("127.0.0.1", int(port))))
                    sock.sendall(b"HTTP/1.1 200 Established\r\nX: y\r\n\r\n" + self.more)
                    self._pass_on(sock, upstream)
                    return
                authority, _, path = target.removeprefix("http://").partition("/")
                with socket.create_connection(("127.0.0.1", int(authority.rpartition(":")[2]))) as upstream:
                    rest = head.partition(b"\r\n")[2].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
                    upstream.sendall(f"{method} /{path} HTTP/1.1\r\n".encode() + rest)
                    while data := upstream.recv(1 << 16):
                        sock.sendall(data)
                return

    def _pass_on(self, one, two):
        ends = {one: two, two: one}
        while True:
            ready = [each for each in ends if getattr(each, "pending", int)()]
            ready = ready or select.select(list(ends), [], [])[0]
            for each in ready:
                data = each.recv(1 << 16)
                if not data:
                    return
                ends[each].sendall(data)


def read(store, offset=0, length=None):
    with store.get(KEY, offset, length, version='"v1"') as stream:
        return stream.read()


def test_http_is_forwarded(server):
    with Proxy() as proxy, HttpStore(url=server.url("/"), proxy=proxy.url(user="u:pw@")) as store:
        assert read(store) == IMAGE
        assert store.stat(KEY).size == len(IMAGE)
        head = proxy.heads[0]
        assert head.startswith(f"GET {server.url(PATH)} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n")
        told = next(line for line in head.split("\r\n") if line.startswith("Proxy-Authorization: Basic "))
        assert b64decode(told.rpartition(" ")[2]) == b"u:pw"


def test_https_goes_through_a_tunnel(secure, authority):
    options = {"ca_file": str(authority.ca), "token": canary.TOKEN}
    with Proxy() as proxy, HttpStore(url=secure.url("/"), proxy=proxy.url(user="u:pw@"), **options) as store:
        assert read(store) == IMAGE
        assert read(store, 5, 5) == IMAGE[5:10]
        assert len(proxy.heads) == 1
        assert store.stat(KEY).size == len(IMAGE)
        assert len(proxy.heads) == 2
        assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{secure.port} HTTP/1.1\r\nHost: 127.0.0.1:")
        assert "Proxy-Authorization: Basic " in proxy.heads[0]
        assert "Bearer" not in proxy.heads[0]
    assert secure.log[0].header("Proxy-Authorization") is None


def test_a_proxy_that_speaks_tls(server, secure, authority):
    with Proxy(authority.context()) as proxy:
        options = {"proxy": proxy.url("https"), "ca_file": str(authority.ca)}
        with HttpStore(url=server.url("/"), **options) as store:
            assert read(store) == IMAGE
        with HttpStore(url=secure.url("/"), **options) as store:
            assert read(store) == IMAGE
            assert read(store, 5, 5) == IMAGE[5:10]
    with Proxy(authority.context(authority.self_signed)) as proxy:
        options["proxy"] = proxy.url("https")
        for url in (server.url("/"), secure.url("/")):
            with HttpStore(url=url, **options) as store, pytest.raises(TlsError):
                store.get(KEY)


def test_the_environments_proxy(server, monkeypatch):
    with Proxy() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url())
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with HttpStore(url=server.url("/")) as store:
            read(store)
        assert len(proxy.heads) == 1
        with HttpStore(url=server.url("/"), trust_env=False) as store:
            read(store)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with HttpStore(url=server.url("/")) as store:
            read(store)
        assert len(proxy.heads) == 1


@pytest.mark.parametrize(
    "says,kind,said",
    [
        (b"HTTP/1.1 407 No\r\n\r\n", AuthenticationError, "status 407"),
        (b"HTTP/1.1 403 No\r\n\r\n", ConnectionLostError, "opens no tunnel to the server .status 403"),
        (b"HTTP/1.1 503 No\r\n\r\n", UnavailableError, "status 503"),
        (b"HTTP/1.1 302 No\r\nLocation: http://h/\r\n\r\n", ConnectionLostError, "status 302"),
        (b"SSH-2.0\r\n", BadReplyError, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nsurprise", BadReplyError, "before anybody spoke"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70000 + b"\r\n\r\n", BadReplyError, "longer than"),
    ],
)
def test_a_proxy_that_opens_no_tunnel(secure, authority, says, kind, said):
    with Proxy(says=says) as proxy:
        store = HttpStore(url=secure.url("/"), proxy=proxy.url(), ca_file=str(authority.ca))
        with store, pytest.raises(kind, match=said):
            store.get(KEY)


def test_a_forwarding_proxy_that_wants_credentials(server):
    with Proxy(says=b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n") as proxy:
        store = HttpStore(url=server.url("/"), proxy=proxy.url())
        with store, pytest.raises(AuthenticationError, match="behind a proxy"):
            store.get(KEY)


def test_a_silent_proxy_ends_with_the_time_to_open(secure, authority):
    with Proxy(says=b"") as proxy:
        options = {"proxy": proxy.url(), "ca_file": str(authority.ca), "open_timeout": 0.5}
        with HttpStore(url=secure.url("/"), **options) as store:
            began = time.monotonic()
            with pytest.raises(TimedOutError):
                store.get(KEY)
            assert time.monotonic() - began < 1.5


def test_no_proxy_there(server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    secret = f"http://u:{canary.TOKEN}@127.0.0.1:{port}"
    with HttpStore(url=server.url("/"), proxy=secret) as store, pytest.raises(ConnectionLostError) as caught:
        store.get(KEY)
    assert not canary.found(f"{caught.value!r} {vars(store)!r}")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "cannot-be-looked-up.test"])
def test_no_stranger_leads_inside_through_a_proxy(server, host):
    def resolve(name, port):
        if name.endswith(".test"):
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)

    with ScriptedServer() as other, Proxy() as proxy:
        other.put(PATH, IMAGE, etag='"v1"')
        server.script(PATH, then=Redirect(f"http://{host}:{other.port}{PATH}"))
        with HttpStore(url=server.url("/"), proxy=proxy.url()) as store:
            store.resolve = resolve
            with pytest.raises(UnsafeLocationError):
                store.get(KEY)
        assert len(proxy.heads) == 1
        with HttpStore(url=server.url("/"), proxy=proxy.url(), redirect_hosts=[host]) as store:
            assert read(store) == IMAGE


@pytest.mark.parametrize("fault", [Cut(at=1000), TlsTruncate(at=1000), Reset(at=1000), Stall(at=1000)])
def test_tls_in_tls_that_breaks(secure, authority, fault):
    """urllib3's transport for TLS inside TLS waits on our sockets below."""
    secure.script(PATH, [fault])
    with Proxy(authority.context()) as proxy:
        options = {"proxy": proxy.url("https"), "ca_file": str(authority.ca), "receive_timeout": 0.5}
        with HttpStore(url=secure.url("/"), **options) as store, store.get(KEY) as stream:
            got = stream.read(1000)
            with pytest.raises(TransientError):
                stream.read(1)
    assert got == IMAGE[:1000]
