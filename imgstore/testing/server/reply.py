"""A reply before it is sent: faults edit it, the channel sends it."""

from __future__ import annotations

import http
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imgstore.testing.server.channel import Channel


@dataclass(frozen=True)
class Piece:
    """A stretch of a body; `image_at` is the image offset of its first byte, None for what is no image."""

    data: memoryview
    image_at: int | None = None
    image: bool = False

    def cut(self, start: int, stop: int) -> Piece:
        """The stretch `[start, stop)` of this one, without copying."""
        at = None if self.image_at is None else self.image_at + start
        return Piece(self.data[start:stop], at, self.image)


@dataclass(frozen=True)
class Position:
    """A place in a reply. At most one is set; with none it is the place before the first byte of the head.

    `at`: an offset in the image; its own end is a place too. `body_at`: an offset in this reply's body,
    before chunk framing. `head_at`: an offset in the head; -1 is before the empty line that ends it.
    `after`: behind everything, the last chunk included. A place outside the reply is never reached.
    """

    at: int | None = None
    body_at: int | None = None
    head_at: int | None = None
    after: bool = False


Strike = Callable[["Channel"], None]
"""What happens at a position: it may wait, send, change the rate, or end it all by raising EndedError."""


@dataclass
class Reply:
    """Status, headers in order, body, framing, and what is to happen on the way."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: list[Piece] = field(default_factory=list, repr=False)
    reason: str | None = None
    version: str = "HTTP/1.1"
    chunk: int | None = None
    """The size of the chunks of a chunked body; None is not chunked."""
    last_chunk: bool = True
    bodiless: bool = False
    """True for a HEAD: headers speak of a body that is not sent."""
    close: bool | None = None
    """Whether the connection ends after this reply; None leaves it to the framing and the request."""
    range: tuple[int, int] | None = None
    """The image offsets `[start, stop)` of the body."""
    size: int | None = None
    """The size of the image."""
    strikes: list[tuple[Position, Strike]] = field(default_factory=list, repr=False)

    def get(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def set(self, name: str, *values: str) -> None:
        """Replaces a header, in its place: no value removes it, several repeat it."""
        names = [key.lower() for key, _ in self.headers]
        place = names.index(name.lower()) if name.lower() in names else len(names)
        kept = [(key, value) for key, value in self.headers if key.lower() != name.lower()]
        self.headers = kept[:place] + [(name, value) for value in values] + kept[place:]

    def fill(self, *pieces: Piece) -> None:
        """Gives the reply another body, and the Content-Length of it unless it is chunked."""
        self.body = [piece for piece in pieces if piece.data]
        if self.chunk is None:
            self.set("Content-Length", str(self.length))

    def on(self, position: Position, strike: Strike) -> None:
        """Lets something happen at a position; at the same place, in the order given."""
        self.strikes.append((position, strike))

    @property
    def length(self) -> int:
        """Bytes of the body, without framing."""
        return sum(len(piece.data) for piece in self.body)

    def pieces(self) -> Iterator[tuple[int, Piece]]:
        """The pieces of the body with their offsets in it."""
        offset = 0
        for piece in self.body:
            yield offset, piece
            offset += len(piece.data)

    def offset(self, at: int) -> int | None:
        """Where image offset `at` stands in the body; its end counts; None outside."""
        for offset, piece in self.pieces():
            if piece.image_at is not None and piece.image_at <= at <= piece.image_at + len(piece.data):
                return offset + at - piece.image_at
        return 0 if self.range == (at, at) else None

    def framed(self) -> bool:
        """Whether the peer can tell where the body ends without the connection's end (RFC 9112 §6.3)."""
        if self.bodiless or self.status in {204, 304}:
            return True
        if self.chunk is not None:
            return self.last_chunk and self.version == "HTTP/1.1"
        return self.get("Content-Length") == [str(self.length)]

    def head(self) -> bytes:
        """Status line and headers, the empty line included."""
        reason = phrase(self.status) if self.reason is None else self.reason
        lines = [
            f"{self.version} {self.status} {reason}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def phrase(status: int) -> str:
    """The reason phrase of a status; "Unknown" for one outside the registry."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def plain(status: int, body: bytes | None = None) -> Reply:
    """A reply without an image: a line of text, or `body`."""
    reply = Reply(status, [("Date", formatdate(usegmt=True))])
    if status in {204, 304} and not body:
        return reply
    text = f"{status} {phrase(status)}\n".encode() if body is None else body
    reply.set("Content-Type", "text/plain")
    reply.fill(Piece(memoryview(text)))
    return reply
