"""Requests of the drivers that build them elsewhere: bodies sent, replies read, connections kept."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from imgstore.backends._http import connection
from imgstore.backends._http.client import TlsFiles
from imgstore.backends._http.transport import Transport
from imgstore.errors import (
    BadReplyError,
    ConfigError,
    ConnectionLostError,
    OperationCancelledError,
    TimedOutError,
)
from imgstore.model import NO_CALL, Call, CancelToken

BODY = bytes(range(256)) * 4096
LARGE = bytes(32 << 20)  # above what the kernels at both ends hold
DONE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


class Peer:
    """A server that runs `serve(connection)` for each connection, in a thread of its own, and counts them."""

    def __init__(self, serve):
        self._serve = serve
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/a?key=secret"
        self._open, self._threads = [], []
        self.requests = []
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for each in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for each in [self._thread, *self._threads]:
            each.join()

    @property
    def connections(self):
        return len(self._open)

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._open.append(connection)
                self._threads.append(threading.Thread(target=self._run_one, args=(connection,)))
                self._threads[-1].start()

    def _run_one(self, connection):
        with connection, contextlib.suppress(OSError):
            self._serve(self, connection)

    def take(self, connection):
        """Reads a request with its body; False where there is none."""
        with connection.makefile("rb") as file:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = file.readline()
                if not line:
                    return False
                head += line
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2])
            body = file.read(int(fields.get("Content-Length", 0)))
        self.requests.append((head.split()[0].decode(), fields, body))
        return True


def answering(reply):
    def serve(peer, connection):
        while peer.take(connection):
            connection.sendall(reply)

    return serve


@pytest.fixture
def transport():
    made = Transport(TlsFiles(None, None, None, verify=True), trust_env=False, receive_timeout=30.0)
    yield made
    made.close()


def test_a_body_is_sent_whole_with_its_length(transport):
    with Peer(answering(DONE)) as peer:
        watch = transport.watch(NO_CALL)
        exchange = transport.send("PUT", peer.url, {"X-A": "b"}, watch=watch, body=memoryview(BODY))
        assert transport.read(exchange, watch) == b"done"
    (method, fields, body), *others = peer.requests
    assert (method, fields["X-A"], body, others) == ("PUT", "b", BODY, [])
    assert fields["Host"] in peer.url
    assert fields["Content-Length"] == str(len(BODY))


@pytest.mark.parametrize("pinned, connections", [(True, 1), (False, 3)])
def test_only_pinned_requests_use_a_connection_again(transport, pinned, connections):
    with Peer(answering(DONE)) as peer:
        for _ in range(3):
            watch = transport.watch(NO_CALL)
            exchange = transport.send("PUT", peer.url, {}, watch=watch, body=b"x", pinned=pinned)
            transport.read(exchange, watch)
    assert peer.connections == connections


def test_who_announces_the_end_of_a_connection_uses_it_no_more(transport):
    with Peer(answering(DONE)) as peer:
        for _ in range(2):
            watch = transport.watch(NO_CALL)
            exchange = transport.send("GET", peer.url, {"Connection": "close"}, watch=watch, pinned=True)
            assert transport.read(exchange, watch) == b"done"
        assert peer.connections == 2


def test_head_has_no_body_whatever_its_length_says(transport):
    with Peer(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n")) as peer:
        for _ in range(2):
            watch = transport.watch(NO_CALL)
            exchange = transport.send("HEAD", peer.url, {}, watch=watch, pinned=True)
            assert transport.read(exchange, watch) == b""
    assert peer.connections == 1


def test_a_stream_gives_the_body(transport):
    with Peer(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY))) as peer:
        watch = transport.watch(NO_CALL)
        raw = transport.stream(transport.send("GET", peer.url, {}, watch=watch), len(BODY), watch)
        taken, view = b"", memoryview(bytearray(1 << 20))
        while count := raw.readinto(view):
            taken += view[:count]
        raw.close()
    assert taken == BODY


def test_a_document_above_the_limit_is_refused(transport):
    with Peer(answering(DONE)) as peer:
        watch = transport.watch(NO_CALL)
        exchange = transport.send("GET", peer.url, {}, watch=watch)
        with pytest.raises(BadReplyError, match="above 3 bytes"):
            transport.read(exchange, watch, limit=3)


def test_a_reply_before_the_end_of_the_body_counts_and_ends_the_connection(transport):
    def serve(peer, connection):
        connection.recv(100)
        connection.sendall(BUSY)
        peer.over.wait(10)  # neither reads on nor closes

    with Peer(serve) as peer:
        exchange = transport.send(
            "PUT", peer.url, {}, watch=transport.watch(NO_CALL), body=LARGE, pinned=True
        )
        assert exchange.reply.status == 503
        exchange.finish()
        assert transport._client()._idle == {}


def test_a_reply_before_a_reset_counts(transport, monkeypatch):
    monkeypatch.setattr(connection, "_SLICE", len(LARGE))  # the reply comes in the middle of one

    def serve(peer, near):
        near.recv(100)
        near.sendall(BUSY)
        near.shutdown(socket.SHUT_RD)

    with Peer(serve) as peer:
        exchange = transport.send("PUT", peer.url, {}, watch=transport.watch(NO_CALL), body=LARGE)
        assert exchange.reply.status == 503
        exchange.drop()


def test_a_connection_that_breaks_in_mid_body_is_lost(transport):
    with Peer(lambda peer, connection: connection.recv(100)) as peer, pytest.raises(ConnectionLostError):
        transport.send("PUT", peer.url, {}, watch=transport.watch(NO_CALL), body=LARGE)


def test_a_server_that_takes_nothing_is_waited_for_no_longer_than_allowed(transport):
    transport.receive_timeout = 0.3
    with (
        Peer(lambda peer, connection: peer.over.wait(10)) as peer,
        pytest.raises(TimedOutError, match=r"took nothing for 0\.3 seconds"),
    ):
        transport.send("PUT", peer.url, {}, watch=transport.watch(NO_CALL), body=LARGE)


def test_a_reply_has_its_own_time(transport):
    def serve(peer, connection):
        peer.take(connection)
        peer.over.wait(10)

    with Peer(serve) as peer, pytest.raises(TimedOutError, match=r"within 0\.2 seconds of the last byte"):
        transport.send("PUT", peer.url, {}, watch=transport.watch(NO_CALL), body=BODY, reply_timeout=0.2)


def test_a_cancel_ends_the_sending(transport):
    cancel = CancelToken()
    with (
        Peer(lambda peer, connection: (cancel.cancel(), peer.over.wait(10))) as peer,
        pytest.raises(OperationCancelledError),
    ):
        transport.send("PUT", peer.url, {}, watch=transport.watch(Call(cancel=cancel)), body=LARGE)


def test_no_message_holds_the_query(transport, caplog):
    with Peer(answering(DONE)) as peer:
        watch = transport.watch(NO_CALL)
        with caplog.at_level("DEBUG"):
            transport.read(transport.send("GET", peer.url, {}, watch=watch), watch)
        assert "secret" not in caplog.text
        with pytest.raises(ConfigError) as caught:
            transport.send("GET", peer.url.replace("/a?", ":x/a?"), {}, watch=watch)
        assert "secret" not in str(caught.value)
