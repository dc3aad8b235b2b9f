"""Faults of the content coding: a body that is not the identity (RFC 9110 §8.4)."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from imgstore.testing.server.fault import Fault
from imgstore.testing.server.reply import Piece, Reply
from imgstore.testing.server.shelf import Shelved

# A megabyte of zeros at a time keeps a bomb cheap to build.
BLOCK: Final = 1 << 20

CODINGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "deflate": lambda data: zlib.compress(data, 1),
}


@dataclass(frozen=True)
class ContentEncoding(Fault):
    """The body in the codings given, one inside the other: `ContentEncoding("gzip", "gzip")`.

    A coding that the standard library has not (`br`) is said and not done. `drop` leaves out that many last
    bytes of the coded stream, under framing that is in order. Offsets of the image have no place in it.
    """

    codings: tuple[str, ...]
    drop: int = 0

    def __init__(self, *codings: str, drop: int = 0) -> None:
        """In the order they were applied; none is gzip."""
        object.__setattr__(self, "codings", codings or ("gzip",))
        object.__setattr__(self, "drop", drop)

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        data = b"".join(piece.data for piece in reply.body)
        for coding in self.codings:
            data = CODINGS.get(coding, bytes)(data)
        reply.set("Content-Encoding", ", ".join(self.codings))
        reply.fill(Piece(memoryview(data)[: len(data) - self.drop], image=reply.range is not None))


@dataclass(frozen=True)
class Bomb(Fault):
    """A gzip body of `size` zeros when unpacked, `layers` deep; none of it is image."""

    size: int = 1 << 28
    layers: int = 1

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        packer = zlib.compressobj(9, wbits=31)
        blocks = [packer.compress(bytes(min(BLOCK, self.size - at))) for at in range(0, self.size, BLOCK)]
        data = b"".join(blocks) + packer.flush()
        for _ in range(self.layers - 1):
            data = gzip.compress(data)
        reply.set("Content-Encoding", ", ".join(["gzip"] * self.layers))
        reply.fill(Piece(memoryview(data)))
