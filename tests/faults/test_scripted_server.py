"""The scripted server: each fault as it shows on the wire, and a log that is right to the byte."""

from __future__ import annotations

import array
import contextlib
import fcntl
import gzip
import http.client
import mmap
import random
import socket
import ssl
import termios
import threading
import time
from collections.abc import Iterator

import pytest

from imgstore.testing import server as kit
from imgstore.testing.server import ScriptedServer
from imgstore.testing.server.certificates import Authority, make_authority

IMAGE = random.Random(7).randbytes(1 << 20)
PATH = "/disk.img"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as started:
        started.put(PATH, IMAGE, etag='"v1"')
        yield started


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@contextlib.contextmanager
def dialled(server, **options):
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family) as sock:
        for name, value in options.items():
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        sock.settimeout(5)
        sock.connect((server.host, server.port))
        yield sock


def ask(path=PATH, method="GET", **headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def everything(sock):
    """What arrives until the end, and what the end was."""
    got = bytearray()
    try:
        while data := sock.recv(1 << 16):
            got += data
    except ConnectionResetError:
        return bytes(got), "reset"
    except TimeoutError:
        return bytes(got), "silence"
    return bytes(got), "fin"


def exactly(sock, size):
    got = bytearray()
    while len(got) < size and (data := sock.recv(size - len(got))):
        got += data
    return bytes(got)


def talk(server, request=None, wait=5.0):
    """The raw head and body of one exchange on a connection of its own, and how it ended."""
    try:
        with dialled(server) as sock:
            sock.settimeout(wait)
            sock.sendall(request or ask(Connection="close"))
            got, end = everything(sock)
    except ConnectionResetError:  # before it was asked
        got, end = b"", "reset"
    head, _, body = got.partition(b"\r\n\r\n")
    return head.decode("latin-1"), body, end


def fetch(server, method="GET", path=PATH, **headers):
    """A reply as http.client understands it, body read."""
    client = http.client.HTTPConnection(server.host, server.port, timeout=5)
    with contextlib.closing(client):
        client.request(
            method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        with contextlib.closing(client.getresponse()) as reply:
            return reply.status, reply.headers, reply.read()


def last(server):
    server.log.wait_idle()
    return server.log[-1]


# The honest server


def test_whole_image(server):
    status, headers, body = fetch(server)
    assert (status, body) == (200, IMAGE)
    assert headers["ETag"] == '"v1"'
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["Date"]
    entry = last(server)
    assert (entry.body_sent, entry.ended, entry.range_served) == (len(IMAGE), "complete", (0, len(IMAGE)))
    assert entry.range_taken == (0, len(IMAGE))


@pytest.mark.parametrize(
    "asked,start,stop",
    [
        ("bytes=0-", 0, len(IMAGE)),
        ("bytes=10-19", 10, 20),
        ("bytes=1000000-99999999", 1000000, len(IMAGE)),
        ("bytes=-5", len(IMAGE) - 5, len(IMAGE)),
    ],
)
def test_range(server, asked, start, stop):
    status, headers, body = fetch(server, Range=asked)
    assert (status, body) == (206, IMAGE[start:stop])
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(IMAGE)}"
    assert headers["Content-Length"] == str(stop - start)
    entry = last(server)
    assert (entry.range_asked, entry.range_served, entry.body_sent) == (asked, (start, stop), stop - start)


@pytest.mark.parametrize("asked", ["bytes=5-1", "bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes=a-b"])
def test_what_is_no_single_range_is_ignored(server, asked):
    assert fetch(server, Range=asked)[0] == 200


@pytest.mark.parametrize("asked", [f"bytes={len(IMAGE)}-", "bytes=-0"])
def test_range_beyond_the_end(server, asked):
    status, headers, _ = fetch(server, Range=asked)
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(IMAGE)}")
    assert last(server).body_sent == 0


def test_empty_image(server):
    server.put("/empty", b"")
    status, headers, _ = fetch(server, path="/empty", Range="bytes=0-")
    assert (status, headers["Content-Range"]) == (416, "bytes */0")
    assert fetch(server, path="/empty")[::2] == (200, b"")


def test_head_has_no_body_and_is_logged(server):
    status, headers, body = fetch(server, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(len(IMAGE)), b"")
    assert last(server).body_sent == 0


MODIFIED = 1_700_000_000
BEFORE, SAME = "Tue, 14 Nov 2023 22:13:19 GMT", "Tue, 14 Nov 2023 22:13:20 GMT"


@pytest.mark.parametrize(
    "headers,status",
    [
        ({"If_Match": '"v1"'}, 206),
        ({"If_Match": '"v0", "v1"'}, 206),
        ({"If_Match": "*"}, 206),
        ({"If_Match": '"v2"'}, 412),
        ({"If_Match": 'W/"v1"'}, 412),
        ({"If_Match": '"v1"', "If_Unmodified_Since": BEFORE}, 206),
        ({"If_Unmodified_Since": BEFORE}, 412),
        ({"If_Unmodified_Since": SAME}, 206),
        ({"If_Unmodified_Since": "never"}, 206),
        ({"If_None_Match": 'W/"v1"'}, 304),
        ({"If_None_Match": '"v2"'}, 206),
        ({"If_Modified_Since": SAME}, 304),
        ({"If_Modified_Since": BEFORE}, 206),
        ({"If_Range": '"v1"'}, 206),
        ({"If_Range": '"v2"'}, 200),
        ({"If_Range": SAME}, 206),
        ({"If_Range": BEFORE}, 200),
    ],
)
def test_preconditions(server, headers, status):
    server.put(PATH, IMAGE, etag='"v1"', last_modified=MODIFIED)
    got, seen, _ = fetch(server, Range="bytes=3-9", **headers)
    assert got == status
    if status != 412:
        assert (seen["ETag"], seen["Last-Modified"]) == ('"v1"', SAME)


def test_weak_tags_never_match_strongly(server):
    server.put(PATH, IMAGE, etag='W/"v1"')
    assert fetch(server, If_Match='W/"v1"')[0] == 412
    assert fetch(server, Range="bytes=1-2", If_Range='W/"v1"')[0] == 200


def test_missing_image_and_wrong_method(server):
    assert fetch(server, path="/none")[0] == 404
    assert fetch(server, "DELETE")[0] == 405


def test_one_connection_serves_many_requests(server):
    with contextlib.closing(http.client.HTTPConnection(server.host, server.port)) as client:
        for start in range(0, 100, 10):
            client.request("GET", PATH + "?part", headers={"Range": f"bytes={start}-{start + 9}"})
            assert client.getresponse().read() == IMAGE[start : start + 10]
        server.log.wait_idle()
        assert (server.log.connections, server.log.open_connections) == (1, 1)
    server.log.wait_closed()
    assert server.log.requests(PATH) == 10
    assert server.log.body_bytes(PATH) == 100
    assert {entry.connection for entry in server.log} == {1}


def test_old_http_and_broken_requests(server):
    head, body, end = talk(server, b"GET /disk.img HTTP/1.0\r\n\r\n")
    assert "Connection: close" in head
    assert (len(body), end) == (len(IMAGE), "fin")
    assert talk(server, b"nonsense\r\n\r\n")[0].startswith("HTTP/1.1 400 ")
    assert talk(server, b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n")[0].startswith("HTTP/1.1 400 ")


def test_request_bodies_are_read(server):
    class Echo(ScriptedServer):
        def answer(self, request):
            return kit.plain(201, request.body)

    with Echo() as echo:
        assert fetch(echo, "PUT")[2] == b""
        with contextlib.closing(http.client.HTTPConnection(echo.host, echo.port)) as client:
            client.request("PUT", "/a", body=b"counted")
            assert client.getresponse().read() == b"counted"
            client.request("PUT", "/a", body=iter([b"chu", b"nked"]), encode_chunked=True)
            assert client.getresponse().read() == b"chunked"
        assert talk(echo, ask("/a", "PUT", Expect="100-continue", Content_Length="0", Connection="close"))[
            0
        ].startswith("HTTP/1.1 100")
        echo.log.wait_idle()
        assert [entry.body_received for entry in echo.log] == [0, 7, 7, 0]


def test_an_mmap_is_served(server, tmp_path):
    (tmp_path / "image").write_bytes(IMAGE)
    with open(tmp_path / "image", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        server.put("/mapped", data)
        assert fetch(server, path="/mapped")[2] == IMAGE
        server.log.wait_idle()
        server.stop()
        server.remove("/mapped")


@pytest.mark.parametrize("host", ["::1", "127.0.0.2"])
def test_other_addresses(host):
    with ScriptedServer(host=host) as server:
        server.put(PATH, b"data")
        assert fetch(server)[2] == b"data"
        assert server.url(PATH) == f"http://{'[::1]' if host == '::1' else host}:{server.port}{PATH}"


def test_speed():
    data = bytes(200 << 20)
    with ScriptedServer() as server, dialled(server) as sock:
        server.put(PATH, data)
        sock.sendall(ask(Connection="close"))
        buffer, count, began = bytearray(1 << 20), 0, time.monotonic()
        while got := sock.recv_into(buffer):
            count += got
        assert time.monotonic() - began < 3  # 0.3 s on two idle cores
        entry = last(server)
        assert entry.body_sent == len(data)
        assert entry.body_sent + entry.other_sent == count


# Breaks, and the count of bytes at each


PLACES = [0, 1, 65535, 65536, 65537, len(IMAGE) - 1, len(IMAGE)]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault,end", [(kit.Cut, "fin"), (kit.Reset, "reset")])
def test_a_break_is_exact(server, fault, end, place):
    server.script(PATH, [fault(at=place)])
    head, body, seen = talk(server)
    assert head.startswith("HTTP/1.1 200 OK")
    assert (body, seen) == (IMAGE[:place], end)
    entry = last(server)
    assert (entry.body_sent, entry.unsure, entry.ended) == (place, 0, "cut" if end == "fin" else "reset")
    assert entry.other_sent == len(head) + 4


def test_image_and_body_offsets(server):
    ranged = ask(Range="bytes=1000-1999")
    server.script(PATH, [kit.Cut(at=1500), kit.Cut(body_at=20), kit.Cut(at=2000), kit.Cut(head_at=12)])
    assert talk(server, ranged)[1] == IMAGE[1000:1500]
    assert talk(server, ranged)[1] == IMAGE[1000:1020]
    assert talk(server, ranged)[1] == IMAGE[1000:2000]
    assert talk(server, ranged)[::2] == ("HTTP/1.1 206", "fin")
    server.log.wait_idle()
    assert [entry.range_taken for entry in server.log] == [(1000, 1500), (1000, 1020), (1000, 2000), None]
    with pytest.raises(ValueError, match="at most one"):
        kit.Cut(at=1, body_at=1)


def test_a_place_outside_the_reply_is_never_reached(server):
    server.script(PATH, [kit.Cut(at=5), kit.Cut(body_at=1 << 30), kit.Cut(head_at=1 << 20)])
    for _ in range(3):
        assert fetch(server, Range="bytes=10-19")[2] == IMAGE[10:20]
    assert server.unused(PATH) == 0


def test_cut_and_reset_before_any_byte(server):
    server.script(PATH, [kit.Cut(), kit.Reset()])
    assert talk(server) == ("", b"", "fin")
    assert talk(server) == ("", b"", "reset")


@pytest.mark.parametrize("place", [0, 7, 10, 25, 30])
def test_chunked_body_cut(server, place):
    server.put("/small", IMAGE[:30])
    server.script("/small", [(kit.NoLength(chunk=10), kit.Cut(at=place))])
    _, body, _ = talk(server, ask("/small"))
    full = b"".join(b"a\r\n" + IMAGE[start : start + 10] + b"\r\n" for start in (0, 10, 20))
    framing = 3 if place % 10 else 0
    assert body == full[: place // 10 * 15 + framing + place % 10]
    assert last(server).body_sent == place


@pytest.mark.parametrize("last_chunk", [True, False])
def test_chunked_without_its_end(server, last_chunk):
    server.script(PATH, [kit.NoLength(chunk=1000, last=last_chunk)])
    if last_chunk:
        assert fetch(server)[2] == IMAGE
    else:
        with pytest.raises(http.client.IncompleteRead):
            fetch(server)
    assert last(server).body_sent == len(IMAGE)


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_close_delimited(server, version):
    server.script(PATH, [kit.CloseDelimited(version), (kit.CloseDelimited(version), kit.Cut(at=99))])
    head, body, end = talk(server, ask())
    assert head.startswith(version)
    assert "Content-Length" not in head
    assert (body, end) == (IMAGE, "fin")
    assert talk(server, ask())[1:] == (IMAGE[:99], "fin")


def test_reset_behind_the_last_byte_after_a_pause(server):
    end = len(IMAGE)
    server.script(PATH, [(kit.Stall(at=end, seconds=0.2), kit.Reset(at=end))])
    began = time.monotonic()
    _, body, seen = talk(server)
    assert (body, seen) == (IMAGE, "reset")
    assert time.monotonic() - began >= 0.2


def test_stall_goes_on_after_its_time(server):
    server.script(PATH, [kit.Stall(at=70000, seconds=0.2)])
    with dialled(server) as sock:
        sock.sendall(ask(Connection="close"))
        time.sleep(0.1)
        assert server.log[-1].ended == "open"
        assert server.log[-1].body_sent == 70000
        assert everything(sock)[0].endswith(IMAGE)
    assert last(server).ended == "complete"


def test_stall_ends_when_the_peer_leaves(server):
    server.script(PATH, [kit.Stall(at=5)])
    _, body, end = talk(server, wait=0.1)
    assert (body, end) == (IMAGE[:5], "silence")
    assert (last(server).ended, last(server).body_sent) == ("stalled", 5)


def test_silence(server):
    server.script(PATH, [kit.Stall()])
    assert talk(server, wait=0.1) == ("", b"", "silence")
    assert last(server).ended == "stalled"


def test_stop_ends_what_is_held(server):
    server.put(PATH, bytes(32 << 20))  # more than the kernel's buffers hold
    server.script(PATH, [kit.Stall(at=5), kit.Trickle(at=5, rate=0.01), kit.Stall(), None])
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(dialled(server)) for _ in range(6)]
        for sock in socks[:4]:
            sock.sendall(ask())
            while server.log.requests() < socks.index(sock) + 1:
                time.sleep(0.001)
        time.sleep(0.05)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 3  # what it ends would last for minutes
    assert server.log.open_connections == 0
    server.log.wait_idle(0)
    assert {entry.ended for entry in server.log} == {"stalled", "stopped"}


def queued(sock):
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, count)
    return count[0]


def settled(sock):
    """What the kernel has taken for a reader who does not read."""
    before, now = -1, queued(sock)
    while before != now:
        time.sleep(0.1)
        before, now = now, queued(sock)
    return now


@pytest.mark.parametrize("read", [0, 100_000])
def test_a_peer_that_leaves_in_mid_body(server, read):
    server.put(PATH, bytes(32 << 20))
    with dialled(server, SO_RCVBUF=32768) as sock:
        sock.sendall(ask())
        exactly(sock, read)
        total = read + settled(sock)
        live = server.log[-1]
        assert live.body_sent + live.other_sent == total
    entry = last(server)
    assert entry.ended == "peer-left"
    assert entry.body_sent + entry.other_sent == total
    assert 0 < entry.body_sent < total


def test_a_peer_that_leaves_a_chunked_body(server):
    server.put(PATH, bytes(32 << 20))
    server.script(PATH, [kit.NoLength(chunk=1000)])
    with dialled(server, SO_RCVBUF=32768) as sock:
        sock.sendall(ask())
        time.sleep(0.1)
        got = sock.recv(settled(sock))
        got += sock.recv(settled(sock)) if queued(sock) else b""
    _, _, rest = got.partition(b"\r\n\r\n")
    whole, part = divmod(len(rest), 1007)  # "3e8", 1000 bytes, and four of line ends
    entry = last(server)
    assert entry.body_sent == whole * 1000 + min(max(0, part - 5), 1000)
    assert entry.other_sent == len(got) - entry.body_sent


def test_backpressure_is_no_fault(server):
    server.put(PATH, bytes(16 << 20))
    with dialled(server, SO_RCVBUF=32768) as sock:
        sock.sendall(ask(Connection="close"))
        time.sleep(0.3)
        with pytest.raises(TimeoutError):
            server.log.wait_idle(0)
        assert everything(sock)[0].endswith(bytes(16 << 20))
    assert last(server).ended == "complete"


def test_thousand_cuts_cost_no_byte_twice(server):
    server.script(PATH, then=kit.Cut(body_at=4096))
    got = b""
    while len(got) < len(IMAGE):
        got += talk(server, ask(Range=f"bytes={len(got)}-"))[1]
    assert got == IMAGE
    server.log.wait_idle()
    assert server.log.body_bytes(PATH) == len(IMAGE)


@pytest.mark.parametrize("fault", [kit.Throttle(500_000), kit.Trickle(body_at=0, rate=500_000)])
def test_rate(server, fault):
    server.put(PATH, IMAGE[:150_000])
    server.script(PATH, [fault])
    began = time.monotonic()
    assert talk(server)[1] == IMAGE[:150_000]
    assert 0.29 <= time.monotonic() - began < 3  # 0.3 s, and room for a machine that pauses


def test_trickle_begins_at_its_place(server):
    server.script(PATH, [kit.Trickle(at=100_000, rate=20)])
    assert 100_001 <= len(talk(server, wait=0.02)[1]) <= 100_010
    assert last(server).ended == "peer-left"


# The head


def test_head_and_body_come_late(server):
    server.script(PATH, [kit.HeaderDelay(0.15), kit.BodyDelay(5)])
    began = time.monotonic()
    assert talk(server)[1] == IMAGE
    assert time.monotonic() - began >= 0.15
    head, body, end = talk(server, wait=0.1)
    assert head.startswith("HTTP/1.1 200 OK")
    assert (body, end) == (b"", "silence")
    assert (last(server).ended, last(server).body_sent) == ("stalled", 0)


def test_head_byte_by_byte(server):
    server.script(PATH, [kit.HeaderTrickle(1000)])
    began = time.monotonic()
    head, body, _ = talk(server)
    assert time.monotonic() - began >= len(head) / 1000 * 0.9
    assert body == IMAGE


def test_header_floods(server):
    server.script(
        PATH,
        [
            kit.HeaderFlood(count=500, size=40),
            kit.HeaderFlood(1, size=1 << 20),
            kit.HeaderFlood(),
            kit.HeaderFlood(pause=9),
        ],
    )
    head, body, _ = talk(server)
    lines = [line for line in head.split("\r\n") if line.startswith("X-Flood")]
    assert (len(lines), {len(line) for line in lines}) == (500, {38})
    assert body == IMAGE
    assert len(talk(server)[0]) > 1 << 20
    with dialled(server) as sock:
        sock.sendall(ask())
        assert len(exactly(sock, 200_000)) == 200_000
    entry = last(server)
    assert (entry.ended, entry.body_sent) == ("peer-left", 0)
    assert entry.other_sent + entry.unsure >= 200_000
    assert talk(server, wait=0.05)[2] == "silence"


def test_interim_replies(server):
    server.script(PATH, [kit.Interim(3), kit.Interim(None, 102)])
    with dialled(server) as sock:
        sock.sendall(ask(Connection="close"))
        got, _ = everything(sock)
    assert got.count(b"HTTP/1.1 103 Early Hints\r\n\r\n") == 3
    assert got.endswith(IMAGE)
    with dialled(server) as sock:
        sock.sendall(ask())
        assert exactly(sock, 100_000).count(b"HTTP/1.1 102") > 1000
    assert last(server).ended == "peer-left"


@pytest.mark.parametrize(
    "faults,lines",
    [
        ((kit.Header("Content-Length", "5", "6"),), ["Content-Length: 5", "Content-Length: 6"]),
        ((kit.Header("Content-Length", "+5"),), ["Content-Length: +5"]),
        ((kit.Header("Content-Length", "5,5"),), ["Content-Length: 5,5"]),
        ((kit.Header("Content-Length", str(10**23)),), [f"Content-Length: {10**23}"]),
        ((kit.Header("Content-Length", "-5"),), ["Content-Length: -5"]),
        ((kit.Header("Content-Length"),), []),
        ((kit.WrongLength(+7),), [f"Content-Length: {len(IMAGE) + 7}"]),
    ],
)
def test_lengths(server, faults, lines):
    server.script(PATH, [faults])
    head, body, end = talk(server, ask())
    assert [line for line in head.split("\r\n") if line.startswith("Content-Length")] == lines
    assert (body, end) == (IMAGE, "fin")


def test_length_and_chunks_together(server):
    server.put(PATH, b"12345")
    server.script(PATH, [(kit.NoLength(), kit.Header("Content-Length", "9"))])
    head, body, _ = talk(server)
    assert "Transfer-Encoding: chunked" in head
    assert "Content-Length: 9" in head
    assert body == b"5\r\n12345\r\n0\r\n\r\n"


def test_header_edits_keep_their_place(server):
    server.script(PATH, [(kit.Header("etag", "x"), kit.Header("Accept-Ranges"), kit.Header("X-New", "1"))])
    names = [line.partition(":")[0] for line in talk(server)[0].split("\r\n")[1:]]
    assert names == ["Date", "Content-Type", "etag", "Content-Length", "X-New", "Connection"]


# The reply


def test_status(server):
    server.script(
        PATH,
        [
            kit.Status(503, headers={"Retry-After": "1"}),
            kit.Status(403, body=b"<html>"),
            kit.Status(204),
            kit.Status(206, keep=True),
            kit.Status(299),
        ],
    )
    status, headers, body = fetch(server)
    assert (status, headers["Retry-After"], body) == (503, "1", b"503 Service Unavailable\n")
    assert fetch(server)[::2] == (403, b"<html>")
    assert fetch(server)[::2] == (204, b"")
    assert fetch(server)[::2] == (206, IMAGE)
    assert fetch(server)[0] == 299
    server.log.wait_idle()
    assert [(entry.status, entry.body_sent) for entry in server.log][::3] == [(503, 0), (206, len(IMAGE))]


def test_redirect(server):
    server.script(PATH, then=kit.Redirect("file:///etc/shadow", 307))
    status, headers, _ = fetch(server)
    assert (status, headers["Location"]) == (307, "file:///etc/shadow")


def test_whole_instead(server):
    server.script(PATH, [kit.WholeInstead(), kit.WholeInstead(size=100), kit.NoRanges()])
    assert fetch(server, Range="bytes=500-")[::2] == (200, IMAGE)
    assert fetch(server, Range="bytes=500-")[::2] == (200, IMAGE[:100])
    status, headers, body = fetch(server, Range="bytes=500-")
    assert (status, headers["Accept-Ranges"], body) == (200, "none", IMAGE)
    server.log.wait_idle()
    assert [entry.range_served for entry in server.log] == [(0, len(IMAGE)), (0, 100), (0, len(IMAGE))]


@pytest.mark.parametrize(
    "fault,start,stop",
    [
        (kit.ShiftRange(+1), 101, 201),
        (kit.ShiftRange(-1), 99, 199),
        (kit.ShiftRange(-10, +10), 90, 210),
        (kit.ShiftRange(+10, -10), 110, 190),
        (kit.ShiftRange(-1000, 0), 0, 200),
        (kit.ShiftRange(0, +(1 << 30)), 100, len(IMAGE)),
    ],
)
def test_wrong_range(server, fault, start, stop):
    server.script(PATH, [fault])
    status, headers, body = fetch(server, Range="bytes=100-199")
    assert (status, body) == (206, IMAGE[start:stop])
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(IMAGE)}"
    assert last(server).range_taken == (start, stop)


def test_wrong_range_untold(server):
    server.script(PATH, [kit.ShiftRange(+1, tell=False)])
    _, headers, body = fetch(server, Range="bytes=100-199")
    assert body == IMAGE[101:201]
    assert headers["Content-Range"] == f"bytes 100-199/{len(IMAGE)}"


def test_content_range(server):
    server.script(
        PATH,
        [kit.ContentRange("bytes {start}-{last}/*"), kit.ContentRange("bytes 9-1/x"), kit.ContentRange(None)],
    )
    seen = [fetch(server, Range="bytes=3-4")[1]["Content-Range"] for _ in range(3)]
    assert seen == ["bytes 3-4/*", "bytes 9-1/x", None]


def test_multipart(server):
    server.script(PATH, [kit.Multipart("B")])
    status, headers, body = fetch(server, Range="bytes=3-9")
    assert (status, headers["Content-Type"], headers["Content-Range"]) == (
        206,
        "multipart/byteranges; boundary=B",
        None,
    )
    inner = b"--B\r\nContent-Type: application/octet-stream\r\n"
    inner += f"Content-Range: bytes 3-9/{len(IMAGE)}\r\n\r\n".encode()
    assert body == inner + IMAGE[3:10] + b"\r\n--B--\r\n"
    assert last(server).body_sent == 7


def test_flip_and_overlay(server):
    server.script(
        PATH,
        [(kit.Flip(at=150), kit.Flip(body_at=0, mask=1), kit.Cut(at=180)), kit.Overlay(195, b"0123456789")],
    )
    body = talk(server, ask(Range="bytes=100-199"))[1]
    expected = bytearray(IMAGE[100:180])
    expected[50] ^= 0xFF
    expected[0] ^= 1
    assert body == expected
    assert last(server).body_sent == 80
    assert fetch(server, Range="bytes=100-199")[2] == IMAGE[100:195] + b"01234"
    server.script(PATH, then=kit.Overlay(95, b"0123456789"))
    assert fetch(server, Range="bytes=100-199")[2] == b"56789" + IMAGE[105:200]
    assert fetch(server, Range="bytes=500-599")[2] == IMAGE[500:600]


def test_trap_waits_for_its_byte(server):
    server.trap(PATH, kit.Flip(at=500), times=2)
    server.trap(PATH, kit.Cut(at=700), times=None)
    assert fetch(server, Range="bytes=0-499")[2] == IMAGE[:500]
    flipped = bytes([IMAGE[500] ^ 0xFF])
    for expected in (flipped, flipped, IMAGE[500:501]):
        assert fetch(server, Range="bytes=500-509")[2] == expected + IMAGE[501:510]
    for _ in range(3):
        assert talk(server, ask(Range="bytes=690-709"))[1] == IMAGE[690:700]
    with pytest.raises(ValueError, match="no place"):
        server.trap(PATH, kit.Status(500))


def test_codings(server):
    server.script(
        PATH, [kit.ContentEncoding(), kit.ContentEncoding("deflate", "gzip"), kit.ContentEncoding("br")]
    )
    _, headers, body = fetch(server)
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == IMAGE
    assert last(server).body_sent == len(body)
    _, headers, body = fetch(server)
    assert headers["Content-Encoding"] == "deflate, gzip"
    assert fetch(server)[2] == IMAGE


def test_coding_without_its_tail_and_bomb(server):
    server.script(PATH, [(kit.ContentEncoding(drop=9), kit.NoLength()), kit.Bomb(1 << 24, layers=2)])
    with pytest.raises(EOFError):
        gzip.decompress(fetch(server)[2])
    _, headers, body = fetch(server)
    assert headers["Content-Encoding"] == "gzip, gzip"
    assert len(body) < 1000
    assert len(gzip.decompress(gzip.decompress(body))) == 1 << 24
    assert last(server).body_sent == 0


# The connection


def test_surplus_and_early_reply(server):
    server.script(PATH, [kit.ExtraBytes(b"more"), kit.EarlyResponse(b"EVIL")])
    assert talk(server)[1] == IMAGE + b"more"
    assert last(server).body_sent == len(IMAGE)
    with dialled(server) as sock:
        for _ in range(2):
            sock.sendall(ask(Range="bytes=0-3"))
            time.sleep(0.05)
        got = sock.recv(1 << 16)
    assert got.count(b"HTTP/1.1 ") == 3
    first, second = got.partition(b"EVIL")[::2]
    assert first.endswith(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
    assert second.endswith(IMAGE[:4])


def test_raw_reply(server):
    server.script(PATH, [kit.RawReply(b"SSH-2.0\r\n"), kit.RawReply(b"x", close=False)])
    assert talk(server) == ("SSH-2.0\r\n", b"", "fin")
    assert talk(server, wait=0.05) == ("x", b"", "silence")


@pytest.mark.parametrize("tell", [True, False])
def test_connection_close(server, tell):
    server.script(PATH, [kit.ConnectionClose(tell=tell)])
    head, body, end = talk(server, ask())
    assert ("Connection: close" in head) is tell
    assert (body, end) == (IMAGE, "fin")
    assert last(server).ended == "complete"


# The version


def test_swap(server):
    other = bytes(len(IMAGE))
    server.script(
        PATH, [None, kit.Swap(other), (kit.Swap(IMAGE, etag='"v1"'), kit.IgnoreIfMatch()), kit.Swap(None)]
    )
    tag = fetch(server)[1]["ETag"]
    assert tag == '"v1"'
    assert fetch(server, If_Match=tag)[0] == 412
    status, headers, body = fetch(server, If_Match='"else"')
    assert (status, headers["ETag"], body) == (200, '"v1"', IMAGE)
    assert fetch(server)[0] == 404


def test_every_put_has_a_tag_of_its_own(server):
    first, second = server.put("/a", b"a"), server.put("/a", b"a")
    assert first.etag != second.etag
    assert fetch(server, path="/a")[1]["ETag"] == second.etag


def test_a_reply_under_way_keeps_its_bytes(server):
    server.script(PATH, [kit.Stall(at=1000, seconds=0.2)])
    with dialled(server) as sock:
        sock.sendall(ask(Connection="close"))
        time.sleep(0.05)
        server.put(PATH, bytes(len(IMAGE)))
        assert everything(sock)[0].endswith(IMAGE)


@pytest.mark.parametrize(
    "fault,etag",
    [
        (kit.NoValidators(), None),
        (kit.ReplaceValidator("W/{etag}"), 'W/"v1"'),
        (kit.ReplaceValidator('"{opaque}-gzip"'), '"v1-gzip"'),
        (kit.ReplaceValidator("v1"), "v1"),
    ],
)
def test_validators(server, fault, etag):
    server.put(PATH, IMAGE, etag='"v1"', last_modified=MODIFIED)
    server.script(PATH, [fault])
    headers = fetch(server, If_Match='"v1"')[1]
    assert headers["ETag"] == etag
    assert (headers["Last-Modified"] is None) is isinstance(fault, kit.NoValidators)


# The script and the server


def test_script_in_order_then_for_ever(server):
    server.script(PATH, [kit.Status(500), None, kit.Status(503)], then=kit.Status(410), method="GET")
    assert fetch(server, "HEAD")[0] == 200
    assert [fetch(server)[0] for _ in range(5)] == [500, 200, 503, 410, 410]
    server.script(PATH)
    assert fetch(server)[0] == 200


def test_each_step_goes_to_one_of_many_threads(server):
    server.script(PATH, [kit.Status(500)] * 20)
    seen = []
    threads = [
        threading.Thread(target=lambda: seen.append(fetch(server, Range="bytes=0-9")[0])) for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [206] * 20 + [500] * 20


def test_guard_is_a_signature_that_expires(server):
    good = ["one"]
    server.guard(PATH, lambda request: request.query == f"token={good[0]}")
    server.script(PATH, [kit.Cut(at=10)])
    assert fetch(server, path=PATH + "?token=old")[0] == 403
    assert talk(server, ask(PATH + "?token=one"))[1] == IMAGE[:10]
    good[0] = "two"
    assert fetch(server, path=PATH + "?token=one")[0] == 403
    assert fetch(server, path=PATH + "?token=two")[0] == 200
    assert server.log[-1].path == PATH


def test_greetings(server):
    server.greet([kit.Reset(), kit.Cut(), kit.Stall(), None])
    assert talk(server)[2] == "reset"
    assert talk(server) == ("", b"", "fin")
    assert talk(server, wait=0.05) == ("", b"", "silence")
    assert talk(server)[1] == IMAGE
    assert server.log.requests() == 1
    assert server.log.connections == 4


def test_refused_then_accepted_again(server):
    with dialled(server) as before:
        before.sendall(ask(Range="bytes=0-3"))
        assert before.recv(1 << 16)
        server.refuse()
        with pytest.raises(ConnectionRefusedError):
            talk(server)
        before.sendall(ask(Range="bytes=0-3"))
        assert before.recv(1 << 16)
        server.accept_again()
        assert talk(server)[1] == IMAGE


def test_stop_and_start_keep_port_and_log(server):
    port = server.port
    fetch(server)
    server.stop()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        talk(server)
    server.start()
    server.start()
    assert server.port == port
    assert fetch(server)[2] == IMAGE
    assert server.log.requests() == 2


def test_full_backlog(server):
    server.fill_backlog()
    with socket.socket() as sock:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.connect((server.host, server.port))
    server.accept_again()
    assert fetch(server)[2] == IMAGE


def test_port_taken_leaves_nothing(server):
    second = ScriptedServer(port=server.port)
    with pytest.raises(OSError, match="in use"):
        second.start()
    second.stop()


def test_log_is_a_sequence_of_copies(server):
    fetch(server, X_Mine="yes")
    entry = last(server)
    assert entry.header("x-mine") == "yes"
    assert entry.finished is not None
    assert entry.finished >= entry.started
    entry.body_sent = 0
    assert server.log[0].body_sent == len(IMAGE)
    assert len(server.log[0:5]) == len(server.log) == len(list(server.log)) == 1
    assert server.log.body_bytes("/else") == 0


# TLS


@pytest.fixture
def secure(authority) -> Iterator[ScriptedServer]:
    with ScriptedServer(tls=authority.context()) as started:
        started.put(PATH, IMAGE)
        yield started


def securely(server, authority, request=None, wait=5.0, name="localhost"):
    with dialled(server) as raw:
        context = authority.client()
        with context.wrap_socket(raw, server_hostname=name, suppress_ragged_eofs=False) as sock:
            sock.settimeout(wait)
            sock.sendall(request or ask())
            got, end = bytearray(), "fin"
            try:
                while data := sock.recv(1 << 16):
                    got += data
            except ssl.SSLEOFError:
                end = "truncated"
            except ssl.SSLError as error:
                end = error.reason or "error"
            except ConnectionResetError:
                end = "reset"
            except TimeoutError:
                end = "silence"
    head, _, body = bytes(got).partition(b"\r\n\r\n")
    return head.decode("latin-1"), body, end


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_tls_serves_and_counts_plaintext(secure, authority, name):
    assert securely(secure, authority, ask(Connection="close"), name=name)[1:] == (IMAGE, "fin")
    assert last(secure).body_sent == len(IMAGE)
    assert secure.url(PATH, host="localhost").startswith("https://localhost:")


@pytest.mark.parametrize("place", [0, 1, 16384, 70001, len(IMAGE)])
@pytest.mark.parametrize(
    "fault,end,kind",
    [(kit.Cut, "fin", "cut"), (kit.TlsTruncate, "truncated", "cut"), (kit.Reset, "reset", "reset")],
)
def test_tls_breaks_are_exact(secure, authority, fault, end, kind, place):
    secure.script(PATH, [fault(at=place)])
    _, body, seen = securely(secure, authority)
    # OpenSSL 3 under some Pythons calls the reset an EOF: SSL_read_ex returns 0 for both.
    assert seen in {end, "truncated"}
    assert body == IMAGE[:place]
    assert (last(secure).body_sent, last(secure).ended) == (place, kind)


@pytest.mark.parametrize(
    "fault", [kit.PlaintextOnTls(at=5000), kit.TlsAlert(at=5000), kit.TlsAlert(b"junk" * 5, at=5000)]
)
def test_tls_garbage_in_mid_body(secure, authority, fault):
    secure.script(PATH, [fault])
    _, body, end = securely(secure, authority)
    assert body == IMAGE[:5000]
    assert end not in {"fin", "truncated", "silence", "reset"}
    assert last(secure).ended == "broken"


def test_tls_peer_that_leaves(secure, authority):
    secure.put(PATH, bytes(32 << 20))
    with (
        dialled(secure, SO_RCVBUF=32768) as raw,
        authority.client().wrap_socket(raw, server_hostname="localhost") as sock,
    ):
        sock.sendall(ask())
        assert len(sock.recv(1000)) <= 1000
        settled(sock)
        live = secure.log[-1].body_sent
    entry = last(secure)
    assert entry.ended == "peer-left"
    assert entry.body_sent == live
    assert entry.body_sent % 16384 == 0


@pytest.mark.parametrize("certificate", ["expired", "wrong_host", "self_signed"])
def test_bad_certificates(authority, certificate):
    with ScriptedServer(tls=authority.context(getattr(authority, certificate))) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            securely(server, authority)
        server.log.wait_closed()
        assert server.log.requests() == 0


@pytest.mark.parametrize("fault", [kit.PlaintextOnTls(), kit.TlsAlert(), kit.RawReply(b"junk")])
def test_handshake_met_with_garbage(secure, authority, fault):
    secure.greet([fault])
    with pytest.raises(ssl.SSLError):
        securely(secure, authority)
    assert securely(secure, authority, ask(Connection="close"))[1] == IMAGE


def test_plaintext_client_on_tls_and_the_reverse(secure, server, authority):
    assert talk(secure)[1] == b""
    with pytest.raises(ssl.SSLError):
        securely(server, authority)


def test_tls_stop_while_held(secure, authority):
    secure.script(PATH, [kit.Stall(at=5)])
    assert securely(secure, authority, wait=0.1)[1:] == (IMAGE[:5], "silence")
    with dialled(secure):  # never says hello
        secure.stop()
    secure.log.wait_idle(0)
