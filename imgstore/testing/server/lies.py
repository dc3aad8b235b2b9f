"""Faults of the reply: another status, range, length, version or coding than the honest one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from imgstore.testing.server.channel import Channel
from imgstore.testing.server.fault import Fault, Positioned
from imgstore.testing.server.reply import Piece, Position, Reply, plain
from imgstore.testing.server.request import Request
from imgstore.testing.server.shelf import Shelf, Shelved, serve


@dataclass(frozen=True)
class Status(Fault):
    """Another status: an error page instead of the image.

    `body` None is a line of text. `keep` true changes the status line alone: headers and image stay.
    """

    code: int
    headers: Mapping[str, str] | None = None
    body: bytes | None = None
    keep: bool = False

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        if self.keep:
            reply.status = self.code
        else:
            page = plain(self.code, self.body)
            reply.status, reply.headers, reply.body = page.status, page.headers, page.body
            reply.range = None
        for name, value in (self.headers or {}).items():
            reply.set(name, value)


@dataclass(frozen=True)
class Redirect(Fault):
    """Sends the peer to `location`, whatever it says: another host, a loop, `file:///etc/shadow`."""

    location: str
    status: int = 302

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        Status(self.status, {"Location": self.location}).shape(reply, image)


@dataclass(frozen=True)
class Header(Fault):
    """Replaces a header; no value removes it, several repeat it.

    Content-Length and Transfer-Encoding too: the body stays as it is, and the connection closes behind it
    where the length no longer tells its end.
    """

    name: str
    values: tuple[str, ...]

    def __init__(self, name: str, *values: str) -> None:
        """`Header("Content-Length", "5", "6")` sends two of them."""
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "values", values)

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        reply.set(self.name, *self.values)


@dataclass(frozen=True)
class WrongLength(Fault):
    """A Content-Length that differs from the body's by `by` bytes; the connection closes behind the body."""

    by: int

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        reply.set("Content-Length", str(reply.length + self.by))


@dataclass(frozen=True)
class ContentRange(Fault):
    """A Content-Range as written; None removes it.

    `{start}`, `{last}`, `{stop}` and `{size}` stand for the honest values: `"bytes {start}-{last}/*"`.
    """

    value: str | None

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        if self.value is None:
            reply.set("Content-Range")
        else:
            start, stop = reply.range or (0, 0)
            reply.set(
                "Content-Range", self.value.format(start=start, last=stop - 1, stop=stop, size=reply.size)
            )


@dataclass(frozen=True)
class WholeInstead(Fault):
    """Takes no notice of the Range: 200 with all of the image, or with its first `size` bytes only."""

    size: int | None = None

    def prepare(self, request: Request, shelf: Shelf) -> None:
        request.drop("Range", "If-Range")

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        if self.size is not None and image is not None and reply.range is not None:
            serve(reply, image, 0, min(self.size, len(image.data)))


@dataclass(frozen=True)
class NoRanges(WholeInstead):
    """A server without ranges, which says so: 200 and `Accept-Ranges: none`."""

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        super().shape(reply, image)
        reply.set("Accept-Ranges", "none")


@dataclass(frozen=True)
class ShiftRange(Fault):
    """Serves a range moved by `start` and `stop` bytes at its ends, within the image.

    One argument shifts both: `ShiftRange(+1)`. `ShiftRange(-10, +10)` is a superset, `ShiftRange(+10, -10)` a
    subset. Content-Range tells what is served; with `tell` false, what was asked, and nothing but a digest
    can find it out.
    """

    start: int
    stop: int | None = None
    tell: bool = True

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        if image is None or reply.range is None:
            return
        said = reply.get("Content-Range")
        size = len(image.data)
        start = min(max(0, reply.range[0] + self.start), size)
        stop = min(max(start, reply.range[1] + (self.start if self.stop is None else self.stop)), size)
        serve(reply, image, start, stop)
        if not self.tell:
            reply.set("Content-Range", *said)


@dataclass(frozen=True)
class Multipart(Fault):
    """`multipart/byteranges` with one part, in answer to a single range (RFC 9110 §15.3.7.2)."""

    boundary: str = "imgstore-boundary"

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        inner = [
            f"{name}: {value}" for name in ("Content-Type", "Content-Range") for value in reply.get(name)
        ]
        head = "\r\n".join([f"--{self.boundary}", *inner, "", ""]).encode()
        tail = f"\r\n--{self.boundary}--\r\n".encode()
        reply.set("Content-Type", f"multipart/byteranges; boundary={self.boundary}")
        reply.set("Content-Range")
        reply.fill(Piece(memoryview(head)), *reply.body, Piece(memoryview(tail)))


@dataclass(frozen=True)
class NoLength(Fault):
    """A body without Content-Length, in chunks of `chunk` bytes; `last` false leaves out the final one."""

    chunk: int = 64 * 1024
    last: bool = True

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        reply.chunk, reply.last_chunk = self.chunk, self.last
        reply.set("Content-Length")
        reply.set("Transfer-Encoding", "chunked")


@dataclass(frozen=True)
class CloseDelimited(Fault):
    """Neither length nor chunks: the connection's end is the body's end (RFC 9112 §6.3)."""

    version: Literal["HTTP/1.0", "HTTP/1.1"] = "HTTP/1.0"

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        reply.version, reply.chunk, reply.close = self.version, None, True
        reply.set("Content-Length")
        reply.set("Transfer-Encoding")


@dataclass(frozen=True)
class ConnectionClose(Fault):
    """`Connection: close`, and it is closed; with `tell` false it is closed without a word."""

    tell: bool = True

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        if self.tell:
            reply.close = True
        else:
            reply.on(Position(after=True), self._strike)

    def _strike(self, channel: Channel) -> None:
        channel.end("complete")


@dataclass(frozen=True, kw_only=True)
class Flip(Positioned):
    """Flips the bits `mask` of the byte at its place (`at` or `body_at`), if the reply carries it."""

    mask: int = 0xFF

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        place = self.body_at if self.at is None else reply.offset(self.at)
        body: list[Piece] = []
        for offset, piece in reply.pieces():
            if place is None or not offset <= place < offset + len(piece.data):
                body.append(piece)
                continue
            inside = place - offset
            bad = Piece(memoryview(bytes([piece.data[inside] ^ self.mask])), piece.image_at, piece.image)
            if piece.image_at is not None:
                bad = Piece(bad.data, piece.image_at + inside, piece.image)
            body += [piece.cut(0, inside), bad, piece.cut(inside + 1, len(piece.data))]
        reply.body = [piece for piece in body if piece.data]


@dataclass(frozen=True)
class Overlay(Fault):
    """Image bytes from `at` on read as `data`: a corrupt, zeroed or exchanged chunk under honest headers."""

    at: int
    data: bytes

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        body: list[Piece] = []
        for piece in reply.body:
            if piece.image_at is None:
                body.append(piece)
                continue
            start = min(max(0, self.at - piece.image_at), len(piece.data))
            stop = max(start, min(self.at + len(self.data) - piece.image_at, len(piece.data)))
            skip = max(0, piece.image_at - self.at)
            bad = memoryview(self.data)[skip : skip + stop - start]
            body += [piece.cut(0, start), Piece(bad, piece.image_at + start, piece.image)]
            body.append(piece.cut(stop, len(piece.data)))
        reply.body = [piece for piece in body if piece.data]
