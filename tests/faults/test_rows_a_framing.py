"""Rows A1-A6, A10, A22, A23 and A26-A29: where a reply ends, and where it only seems to."""

from __future__ import annotations

import itertools
import random
import time
import tracemalloc

import pytest

from imgstore.backends._http.sockets import WatchedSocket
from imgstore.errors import ProtocolViolationError, TruncatedError
from imgstore.testing import server as wire
from tests.faults import rows
from tests.faults.rows import BUFFER, CHUNK, IMAGE, PATH, TRIES, K, N

rig = rows.rig

EDGES = (0, 1, BUFFER - 1, BUFFER, BUFFER + 1, CHUNK - 1, CHUNK, N - 1)
RANDOM = tuple(random.Random(1).sample(range(N), 4))


def spans_around(*places):
    """The spans of a read that broke at `places` and cost no byte twice."""
    edges = [0, *places, N]
    return [(start, stop) for start, stop in itertools.pairwise(edges) if start < stop]


@pytest.mark.parametrize("at", EDGES + RANDOM)
def test_a1_a_cut_is_resumed_at_its_byte(rig, at):
    rig.script(wire.Cut(at=at))
    assert rig.read() == IMAGE
    assert rig.spans == spans_around(at)
    assert rig.asked == ["bytes=0-", f"bytes={at}-"]
    assert rig.sent == N


@pytest.mark.parametrize("at", [1, K, CHUNK + 1, N - 1])
def test_a2_a_reset_is_resumed_at_its_byte(rig, at):
    rig.script(wire.Reset(at=at))
    assert rig.read() == IMAGE
    assert rig.spans == spans_around(at)
    assert rig.sent == N


def test_a3_every_break_of_many_is_resumed_at_its_byte(rig):
    places = range(BUFFER + 1, N, BUFFER + 1)
    kinds = (wire.Cut, wire.Reset)
    rig.script(*(kinds[number % 2](at=place) for number, place in enumerate(places)))
    assert rig.read() == IMAGE
    assert rig.spans == spans_around(*places)


@pytest.mark.parametrize("at", [0, 1, K, N - 1])
def test_a4_a_chunked_body_without_its_last_chunk_is_resumed(rig, at):
    rig.script((wire.NoLength(), wire.Cut(at=at)), then=wire.NoLength())
    assert rig.read() == IMAGE
    assert rig.spans == spans_around(at)


def test_a4_of_unknown_size_it_is_read_on_behind_what_was_delivered(rig):
    rig.script((wire.NoRanges(), wire.NoLength(), wire.Cut(at=K)), then=(wire.NoRanges(), wire.NoLength()))
    assert rig.read() == IMAGE
    assert rig.spans == [(0, K), (0, N)]
    assert rig.counted("refetched") == K


@pytest.mark.parametrize("at", [0, K, N])
def test_a4_of_unknown_size_it_is_truncated_in_the_end(rig, at):
    rig.script(then=(wire.NoRanges(), wire.NoLength(last=False), wire.Cut(at=at)))
    assert len(rig.fails(TruncatedError).data) == at
    assert rig.requests == TRIES + (at > 0)


@pytest.mark.parametrize("chunk", [b"1_0", b"-5", b"", b"fffffffffffffffff", b"5;" + b"x" * 5000])
def test_a4_a_chunk_without_a_valid_size_delivers_nothing(rig, chunk):
    head = f"HTTP/1.1 206 OK\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 0-{N - 1}/{N}\r\n\r\n"
    rig.script(then=wire.RawReply(head.encode() + chunk + b"\r\nwrong"))
    assert rig.fails(ProtocolViolationError).data == b""
    assert rig.requests == TRIES


@pytest.mark.parametrize("at", [0, K, N - 1])
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_a5_a_body_without_framing_is_resumed_where_the_size_is_known(rig, version, at):
    rig.script((wire.CloseDelimited(version), wire.Cut(at=at)), then=wire.CloseDelimited(version))
    assert rig.read() == IMAGE
    assert rig.spans == spans_around(at)


@pytest.mark.parametrize("at", [K, N])
def test_a5_of_unknown_size_a_plain_close_proves_nothing(rig, at):
    rig.script(then=(wire.NoRanges(), wire.CloseDelimited(), wire.Cut(at=at)))
    assert len(rig.fails(TruncatedError).data) == at
    assert rig.requests == 1


@pytest.mark.parametrize("framing", [(wire.CloseDelimited(),), (wire.NoLength(last=False), wire.Cut(at=N))])
def test_a5_of_unknown_size_a_digest_proves_the_end(rig, framing):
    rig.server.shelf.put(PATH, IMAGE, etag='"v1"', headers=(rows.digest_of(IMAGE),))
    rig.script(then=(wire.NoRanges(), *framing))
    assert rig.read() == IMAGE
    assert rig.requests == 1


@pytest.mark.parametrize("at", [0, 1, K, N - 1])
def test_a5_and_nothing_short_of_it(rig, at):
    rig.server.shelf.put(PATH, IMAGE, etag='"v1"', headers=(rows.digest_of(IMAGE),))
    rig.script(then=(wire.NoRanges(), wire.CloseDelimited(), wire.Cut(at=at)))
    assert len(rig.fails(TruncatedError).data) == at


@pytest.mark.parametrize("extra", [b"surplus", b"x" * (1 << 20)])
def test_a6_what_follows_the_length_is_not_delivered(rig, extra):
    rig.script(wire.ExtraBytes(extra))
    store, key = rig.store()
    assert rows.read(store, key) == IMAGE
    time.sleep(0.2)  # a surplus still on its way would be met by the next request, and cost it a try
    assert rows.read(store, key, version='"v1"') == IMAGE
    assert rig.log.connections == 2
    # we hang up on what is surplus, and so the server cannot be sure of the last acknowledgements
    assert 2 * N - sum(each.unsure for each in rig.exchanges) <= rig.sent <= 2 * N


def test_a6_what_follows_the_range_is_not_delivered(rig):
    rig.script(wire.ShiftRange(0, +100))
    store, key = rig.store()
    assert rows.read(store, key, K, 50) == IMAGE[K : K + 50]
    assert rows.read(store, key, 7, 50, version='"v1"') == IMAGE[7:57]
    assert rig.log.connections == 2


HEADS = {
    "endless lines": wire.HeaderFlood(None),
    "a million lines": wire.HeaderFlood(10**6),
    "a line of 1 MiB": wire.HeaderFlood(1, 1 << 20),
    "a status line of 1 MiB": wire.RawReply(b"HTTP/1.1 200 " + b"x" * (1 << 20), head_at=0),
    "no line at all": wire.RawReply(b"\0" * (1 << 20), head_at=0),
}


@pytest.mark.parametrize("fault", HEADS.values(), ids=HEADS)
def test_a10_a_head_without_end_is_refused_after_64_kib(rig, monkeypatch, fault):
    received = []
    plain = WatchedSocket.recv_into

    def counting(self, *arguments):
        received.append(plain(self, *arguments))
        return received[-1]

    monkeypatch.setattr(WatchedSocket, "recv_into", counting)
    rig.script(then=fault)
    assert rig.fails(ProtocolViolationError, resume_attempts=1).data == b""
    # the receive in which the limit is passed is the last
    assert sum(received[:-1]) <= 64 << 10
    assert max(received) <= 16 << 10
    assert rig.sent == 0


def test_a10_the_next_try_is_served(rig):
    rig.script(wire.HeaderFlood(None))
    assert rig.read() == IMAGE
    assert rig.sent == N


@pytest.mark.parametrize("by", [-1, -BUFFER, +1, +BUFFER])
def test_a22_the_shorter_of_two_lengths_is_delivered_and_the_rest_asked_for(rig, by):
    rig.script(wire.WrongLength(by))
    store, key = rig.store()
    with store.get(key) as stream:
        assert stream.info.size == N
        assert b"".join(map(bytes, stream.chunks(BUFFER))) == IMAGE
    assert rig.asked == ["bytes=0-", f"bytes={N + by}-"][: 2 if by < 0 else 1]


BEHIND = {
    "length": (),
    "last chunk missing": (wire.NoLength(last=False),),
    "no framing": (wire.CloseDelimited(),),
}


@pytest.mark.parametrize("framing", BEHIND.values(), ids=BEHIND)
def test_a23_a_reset_behind_the_last_byte_asks_nothing_more(rig, framing):
    rig.script((*framing, wire.Stall(0.05, at=N), wire.Reset(at=N)))
    assert rig.read() == IMAGE
    assert rig.requests == 1
    assert rig.sent == N


@pytest.mark.parametrize("codings", [("gzip",), ("br",), ("deflate",), ("x-own",), ("gzip", "gzip")], ids=str)
def test_a26_an_encoded_body_is_refused_unread(rig, codings):
    rig.script(then=rows.refused(wire.ContentEncoding(*codings)))
    assert rig.fails(ProtocolViolationError).data == b""
    assert (rig.requests, rig.sent) == (TRIES, 0)
    assert {each.header("Accept-Encoding") for each in rig.exchanges} == {"identity"}


def test_a26_an_encoded_reply_in_mid_read_delivers_nothing(rig):
    rig.script(wire.Cut(at=K), rows.refused(wire.ContentEncoding("gzip")))
    assert rig.read() == IMAGE
    assert rig.spans == [(0, K), (K, N)]


def test_a27_a_reply_nobody_asked_for_answers_nothing(rig):
    rig.script(wire.EarlyResponse())
    store, key = rig.store()
    assert rows.read(store, key) == IMAGE
    assert rows.read(store, key, version='"v1"') == IMAGE
    assert rig.log.connections == 2


def test_a27_nor_does_one_in_the_same_packet(rig):
    head = b'HTTP/1.1 206 OK\r\nETag: "v1"\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 5\r\n\r\n'
    rig.put(b"small")
    rig.script(wire.RawReply(head + b"small" + head + b"EVIL!", close=False))
    store, key = rig.store()
    assert rows.read(store, key) == rows.read(store, key, version='"v1"') == b"small"
    assert rig.log.connections == 2


@pytest.mark.parametrize("taken", [0, 1, BUFFER, N - 1])
def test_a27_an_abandoned_connection_is_not_used_again(rig, taken):
    store, key = rig.store()
    with store.get(key) as stream:
        assert stream.read(taken) == IMAGE[:taken]
    assert rows.read(store, key, K, version='"v1"') == IMAGE[K:]
    assert rig.log.connections == 2


def test_a27_a_clean_one_is_for_a_read_that_knows_its_version(rig):
    store, key = rig.store()
    assert rows.read(store, key) == rows.read(store, key, version='"v1"') == IMAGE
    assert rig.log.connections == 1
    assert rows.read(store, key) == IMAGE
    assert rig.log.connections == 2


def test_a28_ten_interim_replies_are_passed_over(rig):
    rig.script(wire.Interim(10))
    assert rig.read() == IMAGE
    assert rig.requests == 1


@pytest.mark.parametrize("count", [11, None])
def test_a28_more_are_refused(rig, count):
    rig.script(then=rows.refused(wire.Interim(count)))
    assert rig.fails(ProtocolViolationError).data == b""
    assert (rig.requests, rig.sent) == (TRIES, 0)


@pytest.mark.parametrize("code", [101, 201, 202, 203, 204, 205, 226, 300, 304, 306])
def test_a28_a_status_that_answers_no_range_is_refused(rig, code):
    rig.script(then=wire.Status(code, body=b"" if code == 204 else None))
    assert rig.fails(ProtocolViolationError).data == b""
    assert rig.requests == TRIES


def test_a28_every_get_is_ranged(rig):
    rig.script(wire.Cut(at=K), wire.Status(503))
    rig.read()
    rig.read(5, 7)
    assert rig.asked == ["bytes=0-", f"bytes={K}-", f"bytes={K}-", "bytes=5-11"]


LENGTHS = {
    "negative": ("-5",),
    "signed": ("+5",),
    "list": ("5,5",),
    "two": ("5", "6"),
    "huge": (str(10**23),),
    "beyond 2**63": (str(2**63),),
    "no number": ("0x10",),
    "fraction": ("5.0",),
    "underscore": ("1_0",),
    "foreign digits": ("\N{ARABIC-INDIC DIGIT FIVE}".encode().decode("latin-1"),),
    "empty": ("",),
}


@pytest.mark.parametrize("values", LENGTHS.values(), ids=LENGTHS)
def test_a29_a_length_that_is_none_is_refused(rig, values):
    rig.script(then=rows.refused(wire.Header("Content-Length", *values)))
    tracemalloc.start()
    try:
        assert rig.fails(ProtocolViolationError).data == b""
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20  # nothing is allocated by the length that was said
    assert (rig.requests, rig.sent) == (TRIES, 0)


@pytest.mark.parametrize("coding", ["chunked", "identity", "gzip, chunked", "xchunked", "chunked, chunked"])
def test_a29_length_and_transfer_encoding_together_are_refused(rig, coding):
    rig.script(then=rows.refused(wire.Header("Transfer-Encoding", coding)))
    assert rig.fails(ProtocolViolationError).data == b""
    assert (rig.requests, rig.sent) == (TRIES, 0)


def test_a29_the_same_length_twice_is_one_length(rig):
    rig.script(wire.Header("Content-Length", str(N), str(N)))
    assert rig.read() == IMAGE
    assert rig.requests == 1
