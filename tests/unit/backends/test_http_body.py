"""Bodies by their framing, and the raw reader over them."""

from __future__ import annotations

import ssl

import pytest

from imgstore.backends._http.body import Body, Chunked, Sized, Unproven, reading
from imgstore.backends._http.head import Inlet
from imgstore.backends._http.watch import Watch
from imgstore.backends._http_range import Framing
from imgstore.clock import SYSTEM
from imgstore.errors import (
    BadReplyError,
    ConnectionLostError,
    OperationCancelledError,
    PermanentError,
    TruncatedError,
)
from imgstore.model import Call


class Wire:
    """What a connection delivers: pieces of bytes, or exceptions; then its end."""

    def __init__(self, *script, step=1 << 20):
        self.script = list(script)
        self.step = step
        self.ended = []
        self.inlet = Inlet(self.receive)

    def receive(self, view):
        if not self.script:
            return 0
        piece = self.script.pop(0)
        if isinstance(piece, Exception):
            raise piece
        count = min(len(piece), len(view), self.step)
        view[:count] = piece[:count]
        if count < len(piece):
            self.script.insert(0, piece[count:])
        return count

    def finish(self):
        self.ended.append("finish")

    def drop(self):
        self.ended.append("drop")


def everything(source, size=4):
    view = memoryview(bytearray(size))
    got = b""
    while count := source.readinto(view):
        got += view[:count]
    return got


def test_sized():
    wire = Wire(b"0123456789")
    body = Sized(wire.inlet, 7)
    assert not body.ended
    assert everything(body) == b"0123456"
    assert body.ended
    assert wire.script == [b"789"]
    assert Sized(wire.inlet, 0).ended


def test_sized_ends_early():
    body = Sized(Wire(b"012").inlet, 5)
    with pytest.raises(TruncatedError, match="after 3 of the body's 5 bytes") as caught:
        everything(body)
    assert caught.value.retryable
    assert not body.ended


WHOLE = b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: x\r\n\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 1 << 20])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_chunked(step, size):
    wire = Wire(WHOLE + b"next", step=step)
    body = Chunked(wire.inlet)
    assert everything(body, size) == b"abcdefg"
    assert body.ended
    assert everything(body) == b""
    rest = b"".join(wire.script)
    assert wire.inlet.pending + len(rest) == 4


def test_chunked_with_bare_line_feeds_and_any_case():
    assert everything(Chunked(Wire(b"00A \nabcdefghij\n0\n\n").inlet)) == b"abcdefghij"


def test_a_chunked_body_that_ends_early():
    for cut in range(len(WHOLE)):
        body = Chunked(Wire(WHOLE[:cut]).inlet)
        with pytest.raises((TruncatedError, ConnectionLostError)) as caught:
            everything(body)
        assert caught.value.retryable
        assert not body.ended


@pytest.mark.parametrize(
    "data",
    [
        b"-1\r\nabc",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b" 1\r\na\r\n",
        b"\r\na\r\n",
        b"g\r\n",
        b"1_0\r\n",
        b"1,1\r\n",
        b"8000000000000000\r\n",
        b"11111111111111111\r\n",
        b"1\rx\r\n",
        b"1" * 5000,
        b"1;" + b"x" * 5000 + b"\r\n",
        b"1\r\nab\r\n0\r\n\r\n",
        b"1\r\na0\r\n\r\n",
    ],
)
def test_chunks_that_make_no_sense(data):
    with pytest.raises(BadReplyError):
        everything(Chunked(Wire(data).inlet))


def test_the_largest_chunk():
    body = Chunked(Wire(b"7fffffffffffffff\r\nabc").inlet)
    assert body.readinto(memoryview(bytearray(10))) == 3


@pytest.mark.parametrize("end", [None, ssl.SSLEOFError(8, "EOF"), ssl.SSLZeroReturnError(6, "closed")])
def test_an_end_without_proof(end):
    wire = Wire(b"abc") if end is None else Wire(b"abc", end)
    body = Unproven(wire.inlet)
    view = memoryview(bytearray(10))
    assert body.readinto(view) == 3
    with pytest.raises(TruncatedError, match="neither a length nor another proof") as caught:
        body.readinto(view)
    assert caught.value.retryable
    assert caught.value.unprovable
    assert not body.ended


def test_the_framing_chooses():
    inlet = Wire().inlet
    assert isinstance(reading(inlet, Framing(chunked=True, length=None)), Chunked)
    assert isinstance(reading(inlet, Framing(chunked=False, length=0)), Sized)
    assert isinstance(reading(inlet, Framing(chunked=False, length=None)), Unproven)


def body_of(wire, source, limit):
    return Body(wire, source, limit, Watch(Call(), SYSTEM), 5.0)


def test_a_body_read_to_its_end_gives_the_connection_back_at_once():
    wire = Wire(b"0123456789")
    body = body_of(wire, Sized(wire.inlet, 5), 5)
    view = memoryview(bytearray(5))
    assert body.readinto(view) == 5
    assert wire.ended == ["finish"]
    assert body.readinto(view) == 0
    body.close()
    assert wire.ended[:2] == ["finish", "finish"]


def test_nothing_beyond_the_judged_range_is_delivered():
    wire = Wire(b"0123456789")
    body = body_of(wire, Sized(wire.inlet, 10), 5)
    assert everything(body, 100) == b"01234"
    assert wire.ended == []
    body.close()
    assert wire.ended == ["drop"]


def test_a_closed_body_is_not_at_its_end():
    wire = Wire(b"0123456789")
    body = body_of(wire, Sized(wire.inlet, 10), 10)
    body.close()
    assert wire.ended == ["drop"]
    with pytest.raises(ValueError, match="closed"):
        body.readinto(memoryview(bytearray(1)))


def test_an_empty_body_leaves_the_connection_good():
    wire = Wire()
    body = body_of(wire, Sized(wire.inlet, 0), 0)
    assert everything(body) == b""
    body.close()
    assert wire.ended[0] == "finish"


def test_an_unknown_size_ends_with_the_last_chunk():
    wire = Wire(WHOLE)
    body = body_of(wire, Chunked(wire.inlet), None)
    assert everything(body) == b"abcdefg"
    assert wire.ended == ["finish"]


def test_an_abort_ends_the_reading():
    wire = Wire(b"0123456789")
    body = body_of(wire, Sized(wire.inlet, 10), 10)
    body.abort()
    body.abort()
    for _ in range(2):
        with pytest.raises(OperationCancelledError):
            body.readinto(memoryview(bytearray(1)))


def test_exceptions_are_translated_and_leave_their_cause():
    wire = Wire(ConnectionResetError(104, "reset"), RuntimeError("bug"))
    body = body_of(wire, Sized(wire.inlet, 10), 10)
    with pytest.raises(ConnectionLostError) as caught:
        body.readinto(memoryview(bytearray(1)))
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    with pytest.raises(PermanentError, match="unexpected RuntimeError"):
        body.readinto(memoryview(bytearray(1)))
