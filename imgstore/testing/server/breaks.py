"""Faults of the connection: it ends, waits, crawls, or carries what no reply should.

All take their place as `at`, `body_at` or `head_at` (see `Position`); with none they strike before the first
byte of the head. Those that need no place may also meet a connection before its first request, or TLS's
handshake, through `ScriptedServer.greet`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imgstore.testing.server.channel import Channel
from imgstore.testing.server.fault import Fault, Positioned
from imgstore.testing.server.reply import Position, Reply, phrase
from imgstore.testing.server.shelf import Shelved
from imgstore.testing.server.wire import EndedError

# A fatal alert, handshake_failure, in the clear: no record that an encrypted connection may carry (RFC 8446
# §6).
ALERT: Final = b"\x15\x03\x03\x00\x02\x02\x28"


@dataclass(frozen=True, kw_only=True)
class Cut(Positioned):
    """An end in order: close_notify under TLS, then FIN; the peer gets every byte up to there."""

    def strike(self, channel: Channel) -> None:
        channel.end("cut")


@dataclass(frozen=True, kw_only=True)
class TlsTruncate(Positioned):
    """Ends the TCP connection with a FIN but no close_notify: TLS calls it truncation (RFC 8446 §6.1)."""

    def strike(self, channel: Channel) -> None:
        channel.end("cut", notify=False)


@dataclass(frozen=True, kw_only=True)
class Reset(Positioned):
    """Ends the connection with a RST, once the peer's kernel has every byte up to there."""

    def strike(self, channel: Channel) -> None:
        channel.wire.reset()
        raise EndedError("reset")


@dataclass(frozen=True)
class Stall(Positioned):
    """Sends nothing for `seconds`, then goes on; None is until the peer leaves or the server stops.

    Without a place it is silence: the request is read and never answered. Followed by Reset at the same
    place, it holds the connection before it breaks it.
    """

    seconds: float | None = None

    def strike(self, channel: Channel) -> None:
        channel.wire.drain()
        try:
            channel.wire.hold(self.seconds)
        except EndedError:
            raise EndedError("stalled") from None


@dataclass(frozen=True)
class Trickle(Positioned):
    """From its place on, `rate` bytes a second."""

    rate: float = 1.0

    def strike(self, channel: Channel) -> None:
        channel.pace(self.rate)


@dataclass(frozen=True)
class Throttle(Fault):
    """The whole body at `rate` bytes a second."""

    rate: float

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        reply.on(Position(body_at=0), lambda channel: channel.pace(self.rate))


@dataclass(frozen=True)
class HeaderDelay(Fault):
    """The head comes after `seconds`."""

    seconds: float

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        reply.on(Position(head_at=0), Stall(seconds=self.seconds).strike)


@dataclass(frozen=True)
class BodyDelay(Fault):
    """The head comes at once, the body `seconds` later: a peer that rejects the head costs no body byte."""

    seconds: float

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        reply.on(Position(body_at=0), Stall(seconds=self.seconds).strike)


@dataclass(frozen=True)
class HeaderTrickle(Fault):
    """The head at `rate` bytes a second, the body at full speed."""

    rate: float

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        reply.on(Position(head_at=0), lambda channel: channel.pace(self.rate))
        reply.on(Position(body_at=0), lambda channel: channel.pace(None))


@dataclass(frozen=True)
class HeaderFlood(Fault):
    """`count` header lines of `size` bytes each before the head ends; count None is without end.

    A count of 1 with a large size is one huge line. `pause` seconds between two lines make it a slow flood,
    which no timeout of a single receive ends.
    """

    count: int | None = None
    size: int = 64
    pause: float = 0.0

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        reply.on(Position(head_at=-1), self._strike)

    def _strike(self, channel: Channel) -> None:
        sent = 0
        while self.count is None or sent < self.count:
            name = b"X-Flood-%d: " % sent
            channel.wire.send(name.ljust(max(len(name), self.size - 2), b"x") + b"\r\n")
            if self.pause:
                channel.wire.hold(self.pause)
            sent += 1


@dataclass(frozen=True)
class Interim(Fault):
    """`count` interim replies of a 1xx status before the final one; None is without end (RFC 9110 §15.2)."""

    count: int | None = 1
    status: int = 103

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        reply.on(Position(head_at=0), self._strike)

    def _strike(self, channel: Channel) -> None:
        sent = 0
        while self.count is None or sent < self.count:
            channel.wire.send(f"HTTP/1.1 {self.status} {phrase(self.status)}\r\n\r\n".encode())
            sent += 1


@dataclass(frozen=True)
class ExtraBytes(Fault):
    """`data` behind the end of the reply; the connection stays open unless the reply closes it."""

    data: bytes = b"surplus"

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        reply.on(Position(after=True), lambda channel: channel.wire.send(self.data))


@dataclass(frozen=True)
class EarlyResponse(Fault):
    """A second reply right behind the first, which nobody asked for: poison for a connection used again."""

    body: bytes = b"EVIL"
    status: int = 200

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        head = f"HTTP/1.1 {self.status} {phrase(self.status)}\r\nContent-Length: {len(self.body)}\r\n\r\n"
        reply.on(Position(after=True), lambda channel: channel.wire.send(head.encode() + self.body))


@dataclass(frozen=True)
class RawReply(Positioned):
    """`data` instead of the rest of the reply; then FIN, or with `close` false an open, silent connection."""

    data: bytes
    close: bool = True

    def strike(self, channel: Channel) -> None:
        channel.wire.send(self.data)
        if self.close:
            channel.end("complete")
        Stall().strike(channel)


@dataclass(frozen=True)
class PlaintextOnTls(Positioned):
    """Bytes in the clear on a TLS connection, then FIN; on greeting, a plain HTTP reply to the handshake."""

    data: bytes = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def strike(self, channel: Channel) -> None:
        channel.wire.send_plain(self.data)
        channel.end("broken", notify=False)


@dataclass(frozen=True)
class TlsAlert(Positioned):
    """A record that TLS forbids there, by default a fatal alert in the clear; then FIN."""

    record: bytes = ALERT

    def strike(self, channel: Channel) -> None:
        channel.wire.send_plain(self.record)
        channel.end("broken", notify=False)
