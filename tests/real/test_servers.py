"""What the tests of this folder stand on: the servers do what their prefixes say."""

from __future__ import annotations

import os
import random
import socket
import time
from typing import Any

import pytest
import urllib3

from tests.real.conftest import need

DATA = random.Random(7).randbytes(3 << 20)
RANGE = {"Range": "bytes=5-9"}


def ask(url: str, headers: dict[str, str] | None = None, **options: Any) -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager(**options) as pool:
        return pool.request("GET", url, headers=headers, redirect=False, retries=False)


@pytest.fixture(scope="module")
def image(nginx: Any) -> str:
    nginx.put("servers.img", DATA)
    return "servers.img"


@pytest.mark.parametrize(
    "prefix, status, there, missing",
    [
        ("files", 206, {"ETag", "Last-Modified", "Content-Range", "Content-Length"}, set()),
        ("norange", 200, {"ETag", "Content-Length"}, {"Content-Range", "Accept-Ranges"}),
        ("noetag", 206, {"Last-Modified", "Content-Range"}, {"ETag"}),
        ("weak", 206, {"ETag", "Last-Modified", "Content-Range"}, set()),
        ("novalidators", 206, {"Content-Range"}, {"ETag", "Last-Modified"}),
        (
            "nolength",
            200,
            {"Transfer-Encoding"},
            {"Content-Length", "ETag", "Last-Modified", "Content-Range"},
        ),
        ("ratelimited", 206, {"ETag", "Content-Range"}, set()),
        ("auth", 401, {"WWW-Authenticate"}, {"Content-Range"}),
        ("redirect", 302, {"Location"}, {"Content-Range"}),
        ("503", 503, {"Retry-After"}, {"Content-Range"}),
        ("403", 403, set(), {"Content-Range"}),
    ],
)
def test_each_prefix_does_as_it_says(
    nginx: Any, image: str, prefix: str, status: int, there: set[str], missing: set[str]
) -> None:
    reply = ask(nginx.url(prefix, image), RANGE)
    assert reply.status == status
    assert {name for name in there | missing if name in reply.headers} == there
    if status == 206:
        assert reply.data == DATA[5:10]
    if status == 200:
        assert reply.data == DATA


def test_a_weak_etag_is_weak_and_follows_the_file(nginx: Any) -> None:
    nginx.put("weak.img", b"one")
    first = ask(nginx.url("weak", "weak.img")).headers["ETag"]
    nginx.put("weak.img", b"two")
    second = ask(nginx.url("weak", "weak.img"))
    assert first.startswith('W/"')
    assert second.headers["ETag"] != first
    assert second.data == b"two"


def test_auth_opens_with_the_password(nginx: Any, image: str) -> None:
    headers = urllib3.make_headers(basic_auth=f"{nginx.user}:{nginx.password}")
    assert ask(nginx.url("auth", image), headers).data == DATA


def test_tls_is_vouched_for_by_its_own_ca_only(nginx: Any, image: str) -> None:
    assert ask(nginx.tls_url("files", image), ca_certs=str(nginx.ca)).data == DATA
    with pytest.raises(urllib3.exceptions.SSLError):
        ask(nginx.tls_url("files", image))


def test_mutual_tls_wants_a_client_certificate(nginx: Any, image: str) -> None:
    certificate, key = map(str, nginx.client)
    ca = str(nginx.ca)
    assert ask(nginx.mtls_url(image), ca_certs=ca, cert_file=certificate, key_file=key).data == DATA
    assert ask(nginx.mtls_url(image), ca_certs=ca).status == 400


def receive(connection: socket.socket) -> int:
    """Gives how many bytes came until the end; a cut by a reset counts as an end."""
    count = 0
    while True:
        try:
            data = connection.recv(1 << 16)
        except ConnectionResetError:
            return count
        if not data:
            return count
        count += len(data)


@pytest.fixture
def slow(nginx: Any, image: str) -> Any:
    """Gives a connection in mid-body."""
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=5) as connection:
        connection.sendall(f"GET /ratelimited/{image} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert connection.recv(1000)
        yield connection


def test_kill9_cuts_and_start_brings_back_the_same_ports(nginx: Any, image: str, slow: Any) -> None:
    nginx.kill9("nginx")
    assert receive(slow) < len(DATA)
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        ask(nginx.url("files", image))
    nginx.up("nginx")
    assert ask(nginx.url("files", image)).data == DATA


def test_pause_is_silence_until_cont(nginx: Any, slow: Any) -> None:
    nginx.pause("nginx")
    slow.settimeout(0.5)
    # What was under way before the pause may still arrive.
    with pytest.raises(TimeoutError):
        receive(slow)
    nginx.cont("nginx")
    slow.settimeout(5)
    assert slow.recv(1)


def test_a_server_left_killed_or_paused_is_up_for_the_next_test(nginx: Any) -> None:
    nginx.pause("nginx")


def test_and_it_is(nginx: Any, image: str) -> None:
    assert ask(nginx.url("files", image), RANGE).data == DATA[5:10]


def test_a_replaced_file_leaves_open_connections_their_bytes(nginx: Any) -> None:
    nginx.put("replaced.img", b"a" * 10)
    before = ask(nginx.url("files", "replaced.img")).headers["ETag"]
    nginx.put("replaced.img", b"b" * 10)
    after = ask(nginx.url("files", "replaced.img"))
    assert after.headers["ETag"] != before
    assert after.data == b"b" * 10


def test_stop_ends_every_process(nginx: Any) -> None:
    master = int((nginx.folder / "run" / "nginx.pid").read_text().split()[0])
    nginx.stop()
    end = time.monotonic() + 5
    while os.path.exists(f"/proc/{master}") and time.monotonic() < end:
        # a process whose parent never asks stays listed, ended
        with open(f"/proc/{master}/status") as status:
            if "State:\tZ" in status.read():
                break
        time.sleep(0.02)
    else:
        assert not os.path.exists(f"/proc/{master}")
    with pytest.raises(urllib3.exceptions.NewConnectionError):
        ask(nginx.url("files", "servers.img"))


def test_a_missing_server_is_a_skip_or_where_promised_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "no-such-server not installed: apt-get install nothing"
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("IMGSTORE_REAL", raising=False)
    with pytest.raises(pytest.skip.Exception, match=reason):
        need("no-such-server", "sh", package="nothing")
    for name, value in (("CI", "true"), ("IMGSTORE_REAL", "required")):
        with monkeypatch.context() as context:
            context.setenv(name, value)
            with pytest.raises(pytest.fail.Exception, match=reason):
                need("no-such-server", package="nothing")
