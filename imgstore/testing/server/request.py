"""A request as it arrived, and the reading of it off the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from imgstore.testing.server.wire import EndedError, Wire

# Larger than any head a client of images sends.
HEAD_LIMIT: Final = 1 << 20


@dataclass
class Request:
    """A parsed request. A fault may edit `headers` before the reply is made; the log keeps what came."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes = field(default=b"", repr=False)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the question mark."""
        return self.target.partition("?")[2]

    def header(self, name: str) -> str | None:
        """The values of that name, in any case, joined by commas (RFC 9110 §5.3); None without one."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    def drop(self, *names: str) -> None:
        """Forgets headers: the reply is made as if they had not been sent."""
        gone = {name.lower() for name in names}
        self.headers = [(key, value) for key, value in self.headers if key.lower() not in gone]

    def keeps_alive(self) -> bool:
        """Whether the peer expects the connection to stay open (RFC 9112 §9.3)."""
        options = {option.strip().lower() for option in (self.header("Connection") or "").split(",")}
        if self.version == "HTTP/1.0":
            return "keep-alive" in options
        return "close" not in options


class MalformedError(Exception):
    """The request can't be parsed; it deserves a 400."""


class Inlet:
    """Reads requests off a wire, one after the other; what was read too far waits for the next."""

    def __init__(self, wire: Wire) -> None:
        """Reads nothing yet."""
        self._wire = wire
        self._buffer = bytearray()

    def request(self) -> Request | None:
        """The next request with its whole body, or None when the peer sends no more.

        Raises: MalformedError; EndedError("peer-left") when it ends in the middle.
        """
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > HEAD_LIMIT:
                message = "head too large"
                raise MalformedError(message)
            data = self._wire.receive()
            if not data:
                return None
            self._buffer += data
            if not self._buffer[:1].isalpha():
                message = "no method"  # a TLS handshake, for one, which would wait for an answer
                raise MalformedError(message)
        head = bytes(self._upto(b"\r\n\r\n")).decode("latin-1")
        request = parse(head)
        request.body = self._body(request)
        return request

    def _body(self, request: Request) -> bytes:
        chunked = "chunked" in (request.header("Transfer-Encoding") or "").lower()
        length = request.header("Content-Length")
        if not chunked and length is None:
            return b""
        if (request.header("Expect") or "").lower() == "100-continue":
            self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not chunked:
            return self._exactly(number(length or "", int))
        body = bytearray()
        while size := number(
            self._upto(b"\r\n").partition(b";")[0].decode("latin-1"), lambda text: int(text, 16)
        ):
            body += self._exactly(size)
            self._upto(b"\r\n")
        while self._upto(b"\r\n"):
            pass
        return bytes(body)

    def _upto(self, mark: bytes) -> bytes:
        while (place := self._buffer.find(mark)) < 0:
            self._more()
        found = bytes(self._buffer[:place])
        del self._buffer[: place + len(mark)]
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _more(self) -> None:
        data = self._wire.receive()
        if not data:
            raise EndedError("peer-left")
        self._buffer += data


def number(text: str, convert: Callable[[str], int]) -> int:
    """A length out of a request.

    Raises: MalformedError.
    """
    try:
        value = convert(text.strip())
    except ValueError as error:
        raise MalformedError(text) from error
    if value < 0:
        raise MalformedError(text)
    return value


def parse(head: str) -> Request:
    r"""A request out of its head, without the empty line.

    >>> parse("GET /a?b=c HTTP/1.1\r\nHost: h").query
    'b=c'

    Raises: MalformedError.
    """
    first, *lines = head.split("\r\n")
    words = first.split(" ")
    pairs = [line.partition(":") for line in lines]
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or not all(mark for _, mark, _ in pairs):
        raise MalformedError(first)
    return Request(words[0], words[1], words[2], [(name, value.strip()) for name, _, value in pairs])
