"""Every wait of the driver ends within a second of a cancel or a deadline, and by its own time-out."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from imgstore import Call, CancelToken
from imgstore.backends.http import HttpStore
from imgstore.errors import (
    BadReplyError,
    ConnectionLostError,
    DeadlineExceededError,
    ImgstoreError,
    OperationCancelledError,
    TimedOutError,
)
from imgstore.testing.server import (
    HeaderFlood,
    HeaderTrickle,
    NoLength,
    RawReply,
    Redirect,
    ScriptedServer,
    Stall,
    Trickle,
)

IMAGE = bytes(range(256)) * 4096
PATH = "/disk.img"
KEY = "disk.img"

# The promise is a second; what the machine adds is not the driver's.
PROMISE = 1.0


@pytest.fixture
def server():
    with ScriptedServer() as running:
        running.put(PATH, IMAGE, etag='"v1"')
        yield running


class Lookup:
    """A resolver that does not answer until it is let go."""

    def __init__(self):
        self.asked = threading.Event()
        self.go = threading.Event()

    def __call__(self, host, port):
        self.asked.set()
        self.go.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@contextlib.contextmanager
def waiting(where, **options):
    """A call that waits for ever at one place: what to call with a `Call`."""
    with ScriptedServer() as server, contextlib.ExitStack() as stack:
        server.put(PATH, IMAGE)
        host = "localhost" if where == "lookup" else None
        store = stack.enter_context(HttpStore(url=server.url("/", host=host), **options))

        def whole(call):
            with store.get(KEY, call=call) as stream:
                view = memoryview(bytearray(1 << 20))
                while stream.readinto(view):
                    pass

        if where == "lookup":
            store.resolve = lookup = Lookup()
            stack.callback(lookup.go.set)
        elif where == "connect":
            server.fill_backlog()
        elif where == "head":
            server.script(PATH, then=Stall())
        elif where == "head, dripping":
            server.script(PATH, then=HeaderTrickle(5))
        elif where == "body":
            server.script(PATH, then=Stall(at=100))
        elif where == "chunk":
            server.script(PATH, then=(NoLength(), RawReply(data=b"1", body_at=65536, close=False)))
        elif where == "stat":
            server.script(PATH, then=Stall())
            yield lambda call: store.stat(KEY, call=call)
            return
        yield whole


PLACES = ["lookup", "connect", "head", "head, dripping", "body", "chunk", "stat"]


@pytest.mark.parametrize("where", PLACES)
def test_a_cancel_ends_the_wait(where):
    with waiting(where, open_timeout=30, connect_timeout=30) as call:
        token = CancelToken()
        threading.Timer(0.2, token.cancel).start()
        began = time.monotonic()
        with pytest.raises(OperationCancelledError):
            call(Call(cancel=token))
        assert 0.1 < time.monotonic() - began < 0.2 + PROMISE


@pytest.mark.parametrize("where", PLACES)
def test_a_deadline_ends_the_wait(where):
    with waiting(where, open_timeout=30, connect_timeout=30) as call:
        began = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            call(Call(deadline=time.time() + 0.2))
        assert 0.1 < time.monotonic() - began < 0.2 + PROMISE


@pytest.mark.parametrize("where", ["lookup", "connect", "head", "head, dripping", "stat"])
def test_the_time_to_open_ends_the_wait(where):
    with waiting(where, open_timeout=0.2, connect_timeout=30) as call:
        began = time.monotonic()
        with pytest.raises(TimedOutError, match=r"did not begin its reply within 0\.2 seconds"):
            call(Call())
        assert 0.1 < time.monotonic() - began < 0.2 + PROMISE


@pytest.mark.parametrize("where", ["body", "chunk"])
def test_the_time_of_one_receive_ends_the_wait(where):
    with waiting(where, receive_timeout=0.5) as call:
        began = time.monotonic()
        with pytest.raises(TimedOutError, match=r"sent nothing for 0\.5 seconds") as caught:
            call(Call())
        assert 0.4 < time.monotonic() - began < 0.5 + PROMISE
        assert caught.value.offset == (100 if where == "body" else 65536)


def test_a_cancel_of_the_stream_ends_the_read(server):
    server.script(PATH, then=Stall(at=100))
    with HttpStore(url=server.url("/")) as store, store.get(KEY) as stream:
        assert stream.read(100) == IMAGE[:100]
        threading.Timer(0.3, stream.cancel).start()
        began = time.monotonic()
        with pytest.raises(OperationCancelledError):
            stream.read(1)
        assert time.monotonic() - began < 0.3 + PROMISE


def test_a_close_from_another_thread_ends_the_read(server):
    server.script(PATH, then=Stall(at=100))
    with HttpStore(url=server.url("/")) as store:
        stream = store.get(KEY)
        assert stream.read(100) == IMAGE[:100]
        threading.Timer(0.3, stream.close).start()
        with pytest.raises(OperationCancelledError):
            stream.read(1)
        server.log.wait_closed()


def test_a_slow_but_living_body_is_left_to_the_layers(server):
    server.script(PATH, then=Trickle(rate=20, at=100))
    with HttpStore(url=server.url("/"), receive_timeout=0.5) as store, store.get(KEY, 0, 120) as stream:
        assert stream.read() == IMAGE[:120]


def test_a_flood_that_takes_its_time(server):
    server.script(PATH, then=HeaderFlood(pause=0.05))
    with HttpStore(url=server.url("/"), open_timeout=0.6) as store:
        began = time.monotonic()
        with pytest.raises(TimedOutError):
            store.get(KEY)
        assert time.monotonic() - began < 0.6 + PROMISE


def test_redirects_share_one_deadline(server):
    for number in range(5):
        server.script(f"/{number}", then=(Redirect(f"/{number + 1}"), Stall(seconds=0.3)))
    with HttpStore(url=server.url("/"), open_timeout=0.7) as store:
        began = time.monotonic()
        with pytest.raises(TimedOutError):
            store.get("0")
        assert time.monotonic() - began < 0.7 + PROMISE
        assert 2 <= len(server.log) <= 3


def test_the_time_to_open_is_not_the_time_to_read(server):
    server.script(PATH, then=Trickle(rate=6, body_at=0))
    with HttpStore(url=server.url("/"), open_timeout=1) as store, store.get(KEY, 0, 8) as stream:
        assert stream.read() == IMAGE[:8]


def test_waiting_costs_little(server):
    server.script(PATH, then=Stall(at=100))
    with HttpStore(url=server.url("/"), receive_timeout=1.5) as store, store.get(KEY) as stream:
        stream.read(100)
        before = time.process_time()
        with pytest.raises(TimedOutError):
            stream.read(1)
        assert time.process_time() - before < 0.2


# Connecting


def address(port, ip="127.0.0.1"):
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def test_the_next_address_when_one_refuses(server):
    with HttpStore(url=f"http://images.test:{server.port}/") as store:
        store.resolve = lambda host, port: [address(closed_port()), address(port)]
        with store.get(KEY, 0, 5) as stream:
            assert stream.read() == IMAGE[:5]
        assert server.log[0].header("Host") == f"images.test:{server.port}"


def test_the_next_address_when_one_is_silent(server):
    with ScriptedServer() as silent:
        silent.fill_backlog()
        with HttpStore(url=f"http://images.test:{server.port}/", connect_timeout=0.4) as store:
            store.resolve = lambda host, port: [address(silent.port), address(port)]
            began = time.monotonic()
            with store.get(KEY, 0, 5) as stream:
                assert stream.read() == IMAGE[:5]
            assert 0.3 < time.monotonic() - began < 0.4 + PROMISE


def test_no_address_answers():
    ports = [closed_port(), closed_port()]
    with HttpStore(url="http://images.test/") as store:
        store.resolve = lambda host, port: [address(each) for each in ports]
        with pytest.raises(
            ConnectionLostError, match=r"images\.test port 80: .*refused \(2 addresses tried\)"
        ):
            store.get(KEY)
        store.resolve = lambda host, port: []
        with pytest.raises(ConnectionLostError, match=r"the name images\.test has no address"):
            store.get(KEY)


def test_the_last_address_is_silent():
    with ScriptedServer() as silent:
        silent.fill_backlog()
        store = HttpStore(url=silent.url("/"), connect_timeout=0.4)
        with store, pytest.raises(TimedOutError, match=r"no answer within 0\.4 seconds"):
            store.get(KEY)


def test_each_connection_looks_the_name_up_again(server):
    with ScriptedServer() as second:
        second.put(PATH, IMAGE, etag='"v1"')
        ports = [server.port, second.port, second.port]
        asked = []

        def resolve(host, port):
            asked.append((host, port))
            return [address(ports[len(asked) - 1])]

        with HttpStore(url="http://images.test/") as store:
            store.resolve = resolve
            with store.get(KEY, version='"v1"') as stream:
                assert stream.read(10) == IMAGE[:10]
            for _ in range(2):
                with store.get(KEY, 10, version='"v1"') as stream:
                    assert stream.read(10) == IMAGE[10:20]
            assert asked == [("images.test", 80)] * 3
            assert (len(server.log), len(second.log)) == (1, 2)


@pytest.mark.parametrize("number", [socket.EAI_AGAIN, socket.EAI_NONAME, socket.EAI_FAIL])
def test_a_lookup_that_fails_may_be_tried_again(number):
    def resolve(host, port):
        raise socket.gaierror(number, "no luck")

    with HttpStore(url="http://images.test/") as store:
        store.resolve = resolve
        with pytest.raises(ConnectionLostError, match=r"images\.test cannot be looked up: no luck") as caught:
            store.get(KEY)
        assert caught.value.retryable


def test_a_resolver_with_a_bug_is_no_weather():
    def resolve(host, port):
        raise RuntimeError("bug")

    with HttpStore(url="http://images.test/") as store:
        store.resolve = resolve
        with pytest.raises(ImgstoreError, match="unexpected RuntimeError") as caught:
            store.get(KEY)
        assert not caught.value.retryable


def test_a_literal_address_asks_nobody(server):
    with HttpStore(url=server.url("/")) as store:
        store.resolve = None
        assert store.stat(KEY).size == len(IMAGE)


def test_ipv6():
    with ScriptedServer(host="::1") as server:
        server.put(PATH, IMAGE)
        with HttpStore(url=server.url("/")) as store:
            assert store.stat(KEY).size == len(IMAGE)
        assert server.log[0].header("Host") == f"[::1]:{server.port}"


def test_a_reply_cut_by_a_reset_while_the_request_is_sent(server):
    server.greet([RawReply(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")] * 2)
    with HttpStore(url=server.url("/")) as store:
        for _ in range(2):
            with pytest.raises(ImgstoreError):
                store.get(KEY)
        assert store.stat(KEY).size == len(IMAGE)


def test_a_connection_kept_too_long_is_not_used(server):
    class Clock:
        began, late = time.monotonic(), 0.0

        def now(self):
            return self.began + self.late

        def time(self):
            return time.time()

    with HttpStore(url=server.url("/")) as store:
        store.clock = clock = Clock()
        for late, connections in ((0.0, 1), (3.9, 1), (8.0, 2)):
            clock.late = late
            with store.get(KEY, 0, 5, version='"v1"') as stream:
                stream.read()
            assert server.log.connections == connections


def test_a_failure_on_a_kept_connection_ends_the_others(server):
    with HttpStore(url=server.url("/")) as store:
        with store.get(KEY, 0, 5) as one, store.get(KEY, 0, 5) as two:
            one.read(), two.read()
        assert server.log.connections == 2
        server.script(PATH, [RawReply(b"")])
        with pytest.raises(ConnectionLostError, match="closed the connection without a reply"):
            store.get(KEY, version='"v1"')
        store.get(KEY, version='"v1"').close()
        assert server.log.connections == 3


def test_what_a_proxy_of_bytes_makes_of_a_reply(server):
    server.script(PATH, [RawReply(b"SSH-2.0-OpenSSH_9.2\r\n")])
    with HttpStore(url=server.url("/")) as store, pytest.raises(BadReplyError, match="not HTTP"):
        store.get(KEY)
