"""The head of a reply, read and judged strictly: what two readers could understand differently is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from imgstore.backends._http_range import Reply
from imgstore.errors import BadReplyError, ConnectionLostError

HEAD_LIMIT: Final = 64 << 10  # bytes of all header sections of a reply; real ones stay under 16 KiB
INTERIM_LIMIT: Final = 10  # 1xx replies before the final one; one "103 Early Hints" is usual
# One receive of a head, with the first bytes of the body behind it: more only copies twice.
_BLOCK: Final = 16 << 10

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Inlet:
    """Bytes of a connection: lines of heads through a small buffer, bodies past it, straight to the caller.

    `receive` is a socket's `recv_into`. Bytes of a body that are in the buffer are given without another
    receive, so that none is lost to an error of the next.
    """

    def __init__(self, receive: Callable[[memoryview], int]) -> None:
        self._receive = receive
        self._memory = bytearray(_BLOCK)
        self._buffer = memoryview(self._memory)
        self._start = 0
        self._stop = 0

    @property
    def pending(self) -> int:
        """Bytes that were received and not taken yet."""
        return self._stop - self._start

    def line(self, limit: int) -> bytes | None:
        """Gives the next line with its end, None where the connection ends first.

        Raises: BadReplyError for one longer than `limit` bytes.
        """
        taken = bytearray()
        while True:
            if not self.pending and not self._fill():
                return None
            end = self._memory.find(b"\n", self._start, self._stop) + 1
            taken += self._buffer[self._start : end or self._stop]
            self._start = end or self._stop
            if len(taken) > limit:
                raise BadReplyError(f"the server sent a line or a head longer than {limit} bytes")
            if end:
                return bytes(taken)

    def readinto(self, view: memoryview) -> int:
        """Fills the front of `view` with what is there, else by one receive; 0 where the connection ends."""
        if not self.pending:
            return self._receive(view)
        count = min(len(view), self.pending)
        view[:count] = self._buffer[self._start : self._start + count]
        self._start += count
        return count

    def _fill(self) -> bool:
        self._start = self._stop = 0
        self._stop = self._receive(self._buffer)
        return self._stop > 0


def read_head(inlet: Inlet) -> Reply:
    """Reads up to the end of the final reply's head (RFC 9112 §2 to §5), past interim replies.

    Raises: BadReplyError for what is malformed, too long or too often interim; ConnectionLostError where the
    connection ends first.
    """
    left = HEAD_LIMIT
    for _ in range(INTERIM_LIMIT + 1):
        reply, left = _read_one(inlet, left)
        if reply.status >= 200:
            return reply
        if reply.status == 101:
            raise BadReplyError("the server switches to a protocol that nobody asked for")
    raise BadReplyError(f"the server sent more than {INTERIM_LIMIT} interim replies")


def persists(reply: Reply) -> bool:
    """Whether the connection may serve another request after this reply (RFC 9112 §9.3)."""
    options = ",".join(reply.values("connection")).lower().split(",")
    return reply.minor == 1 and "close" not in (option.strip() for option in options)


def parse_trailers(inlet: Inlet) -> None:
    """Reads past the trailer section of a chunked body, which nothing here believes.

    Raises: as `read_head`.
    """
    left = HEAD_LIMIT
    while line := _line(inlet, left):
        left -= len(line) + 2


def _read_one(inlet: Inlet, left: int) -> tuple[Reply, int]:
    line = _line(inlet, left, at_start=True)
    left -= len(line) + 2
    if (match := _STATUS_LINE.fullmatch(line)) is None:
        raise BadReplyError("the server's reply is not HTTP/1.1")
    fields: list[tuple[str, str]] = []
    while line := _line(inlet, left):
        left -= len(line) + 2
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name) or _FORBIDDEN.search(value):
            raise BadReplyError("the server sent a malformed header line")
        fields.append((name, value.strip(" \t")))
    return Reply(int(match[1]), int(match[2]), tuple(fields)), left - 2


def _line(inlet: Inlet, left: int, *, at_start: bool = False) -> str:
    raw = inlet.line(max(left, 0))
    if raw is None and at_start:
        raise ConnectionLostError("the server closed the connection without a reply")
    if raw is None:
        raise ConnectionLostError("the connection ended in the middle of a reply's head")
    # RFC 9112 §2.2: a bare LF ends a line too
    return raw[:-1].removesuffix(b"\r").decode("latin-1")
