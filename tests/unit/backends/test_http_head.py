"""Heads as they come off the wire: whole, in pieces, malformed, endless."""

from __future__ import annotations

import pytest

from imgstore.backends._http.head import HEAD_LIMIT, Inlet, parse_trailers, persists, read_head
from imgstore.backends._http_range import Reply
from imgstore.errors import BadReplyError, ConnectionLostError


def inlet(data, step=1 << 20):
    """An inlet that receives at most `step` bytes at a time, then the connection's end."""
    data = memoryview(bytes(data))
    at = 0

    def receive(view):
        nonlocal at
        count = min(step, len(view), len(data) - at)
        view[:count] = data[at : at + count]
        at += count
        return count

    return Inlet(receive)


def lines(*text, end="\r\n"):
    return end.join([*text, "", ""]).encode("latin-1")


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_head_in_pieces(step, end):
    source = inlet(
        lines("HTTP/1.1 206 Partial Content", 'ETag: "v1"', "X:\t a b \t", "Y:", end=end) + b"body", step
    )
    assert read_head(source) == Reply(1, 206, (("ETag", '"v1"'), ("X", "a b"), ("Y", "")))
    view = memoryview(bytearray(10))
    got = b""
    while count := source.readinto(view):
        got += view[:count]
    assert got == b"body"


@pytest.mark.parametrize(
    "line,minor,status",
    [
        ("HTTP/1.1 200 OK", 1, 200),
        ("HTTP/1.0 404 Not Found", 0, 404),
        ("HTTP/1.1 200", 1, 200),
        ("HTTP/1.1 200 ", 1, 200),
        ("HTTP/1.1 999 \xe9\t!", 1, 999),
    ],
)
def test_status_lines(line, minor, status):
    assert read_head(inlet(lines(line))) == Reply(minor, status)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "200 OK",
        "ICY 200 OK",
        "HTTP/2 200 OK",
        "HTTP/1.2 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 200 a\x00b",
        "HTTP/1.1 200 a\rb",
        "<html>",
    ],
)
def test_what_is_not_http(line):
    with pytest.raises(BadReplyError, match=r"not HTTP/1\.1"):
        read_head(inlet(lines(line)))


@pytest.mark.parametrize(
    "line",
    [
        "no colon",
        ": empty",
        "a b: c",
        "a : b",
        " folded: x",
        "\tfolded",
        "a\x00: b",
        "a: b\x00",
        "a: b\rc",
        "\xe9: b",
    ],
)
def test_malformed_header_lines(line):
    with pytest.raises(BadReplyError, match="malformed header line"):
        read_head(inlet(lines("HTTP/1.1 200 OK", "Good: yes", line)))


def test_interim_replies_are_passed_over():
    interim = lines("HTTP/1.1 103 Early Hints", "Link: x")
    assert read_head(inlet(interim * 10 + lines("HTTP/1.1 200 OK"))).status == 200
    with pytest.raises(BadReplyError, match="more than 10 interim replies"):
        read_head(inlet(interim * 11 + lines("HTTP/1.1 200 OK")))
    assert read_head(inlet(lines("HTTP/1.1 199 x") + lines("HTTP/1.1 200 OK", "a: b"))).fields == (
        ("a", "b"),
    )


def test_nobody_asked_for_another_protocol():
    with pytest.raises(BadReplyError, match="switches to a protocol"):
        read_head(inlet(lines("HTTP/1.1 101 Switching Protocols")))


def sized_head(size):
    start = b"HTTP/1.1 200 OK\r\nA: "
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"


def test_a_head_of_64_kib_and_not_a_byte_more():
    assert len(sized_head(HEAD_LIMIT)) == HEAD_LIMIT
    assert read_head(inlet(sized_head(HEAD_LIMIT))).status == 200
    with pytest.raises(BadReplyError, match="longer than"):
        read_head(inlet(sized_head(HEAD_LIMIT + 1)))


def test_interim_heads_count_too():
    interim = lines("HTTP/1.1 100 Continue")
    assert read_head(inlet(interim + sized_head(HEAD_LIMIT - len(interim)))).status == 200
    with pytest.raises(BadReplyError, match="longer than"):
        read_head(inlet(interim + sized_head(HEAD_LIMIT - len(interim) + 1)))


def test_endless_heads_are_given_up_early():
    received = 0

    def endless(view):
        nonlocal received
        view[:] = (
            (b"A: b\r\n" * len(view))[: len(view)]
            if received
            else b"HTTP/1.1 200 OK\r\n".ljust(len(view), b"a")
        )
        received += len(view)
        return len(view)

    with pytest.raises(BadReplyError):
        read_head(Inlet(endless))
    assert received <= 2 * HEAD_LIMIT


def test_a_connection_that_ends_first():
    with pytest.raises(ConnectionLostError, match="closed the connection without a reply"):
        read_head(inlet(b""))
    whole = lines("HTTP/1.1 200 OK", "a: b")
    for size in range(1, len(whole)):
        with pytest.raises(ConnectionLostError):
            read_head(inlet(whole[:size]))


def test_what_is_buffered_needs_no_receive():
    def once(view):
        assert not asked
        asked.append(1)
        view[:5] = b"a\nbcd"
        return 5

    asked: list[int] = []
    source = Inlet(once)
    assert source.line(10) == b"a\n"
    assert source.pending == 3
    view = memoryview(bytearray(2))
    assert (source.readinto(view), bytes(view)) == (2, b"bc")
    assert (source.readinto(view), source.pending) == (1, 0)


def test_a_body_goes_past_the_buffer():
    seen = []

    def receive(view):
        seen.append(len(view))
        return 1

    assert Inlet(receive).readinto(memoryview(bytearray(1 << 20))) == 1
    assert seen == [1 << 20]


def test_trailers():
    source = inlet(b"A: b\r\n\r\nnext")
    parse_trailers(source)
    assert source.pending == 4
    with pytest.raises(BadReplyError):
        parse_trailers(inlet(b"A: b\r\n" * (HEAD_LIMIT // 6 + 1)))
    with pytest.raises(ConnectionLostError):
        parse_trailers(inlet(b"A: b\r\n"))


@pytest.mark.parametrize(
    "minor,connection,persistent",
    [
        (1, [], True),
        (0, [], False),
        (0, ["keep-alive"], False),
        (1, ["close"], False),
        (1, ["Close"], False),
        (1, ["keep-alive"], True),
        (1, ["x, close"], False),
        (1, ["x", "close"], False),
        (1, ["closed"], True),
    ],
)
def test_whether_a_connection_lives_on(minor, connection, persistent):
    assert persists(Reply(minor, 200, tuple(("Connection", each) for each in connection))) is persistent
