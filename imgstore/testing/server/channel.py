"""The sending of one reply, with what happens on the way."""

from __future__ import annotations

import time
from typing import Final

from imgstore.testing.server.reply import Piece, Position, Reply, Strike
from imgstore.testing.server.wire import SLICE, EndedError, Wire

# A limited rate is dealt out twenty times a second: smooth enough for a window of a second.
DEALS: Final = 20


class Channel:
    """Sends a reply over a wire and strikes at the positions given. For the connection's own thread."""

    def __init__(self, wire: Wire, reply: Reply) -> None:
        """Sends nothing yet."""
        self.wire = wire
        self.reply = reply
        self._rate: float | None = None
        self._due = 0.0

    def send(self) -> None:
        """Sends the whole reply and waits until the peer's kernel has it.

        Raises: EndedError when a strike ends it, the peer leaves or the server stops.
        """
        head = self.reply.head()
        self._stretch(head, self._head_strikes(len(head)))
        self._body()
        for position, strike in self.reply.strikes:
            if position.after:
                strike(self)
        self.wire.drain()

    def pace(self, rate: float | None) -> None:
        """From here on, `rate` bytes a second; None is as fast as the peer reads.

        Raises: ValueError when it isn't positive.
        """
        if rate is not None and rate <= 0:
            message = f"rate {rate} is not positive"
            raise ValueError(message)
        self._rate = rate
        self._due = time.monotonic()

    def end(self, kind: str, *, notify: bool = True) -> None:
        """Ends the connection with a FIN, and the exchange with `kind`.

        Raises: EndedError, always.
        """
        self.wire.finish(notify=notify)
        raise EndedError(kind)

    def _body(self) -> None:
        if self.reply.bodiless:
            strikes = [(0, strike) for position, strike in self.reply.strikes if position.body_at == 0]
            self._stretch(b"", strikes)
            return
        strikes = self._body_strikes()
        step = self.reply.chunk
        for offset, piece in self.reply.pieces():
            for start in range(0, len(piece.data), step or len(piece.data)):
                part = piece.cut(start, start + (step or len(piece.data)))
                self._part(offset + start, part, strikes)
        self._stretch(b"", [(0, strike) for _, strike in strikes])
        if step is not None and self.reply.last_chunk:
            self.wire.send(b"0\r\n\r\n")

    def _part(self, offset: int, part: Piece, strikes: list[tuple[int, Strike]]) -> None:
        # What strikes exactly between two chunks does so before the second one is announced.
        while strikes and strikes[0][0] == offset:
            strikes.pop(0)[1](self)
        inside = []
        while strikes and strikes[0][0] < offset + len(part.data):
            place, strike = strikes.pop(0)
            inside.append((place - offset, strike))
        if self.reply.chunk is not None:
            self.wire.send(b"%x\r\n" % len(part.data))
        self._stretch(part.data, inside, image=part.image)
        if self.reply.chunk is not None:
            self.wire.send(b"\r\n")

    def _stretch(
        self, data: bytes | memoryview, strikes: list[tuple[int, Strike]], *, image: bool = False
    ) -> None:
        view, sent = memoryview(data), 0
        for place, strike in [*strikes, (len(view), None)]:
            while sent < place:
                step = SLICE if self._rate is None else max(1, int(self._rate / DEALS))
                stop = min(place, sent + step)
                self.wire.send(view[sent:stop], image=image)
                self._wait(stop - sent)
                sent = stop
            if strike is not None:
                strike(self)

    def _wait(self, count: int) -> None:
        if self._rate is not None:
            # A peer that read slowly earns no burst afterwards.
            self._due = max(self._due, time.monotonic() - 1 / DEALS) + count / self._rate
            self.wire.hold(self._due - time.monotonic())

    def _head_strikes(self, length: int) -> list[tuple[int, Strike]]:
        found = []
        for position, strike in self.reply.strikes:
            place = position.head_at
            if position == Position():
                place = 0
            if place is not None and place <= length:
                found.append((length - 2 if place < 0 else place, strike))
        return sorted(found, key=lambda item: item[0])

    def _body_strikes(self) -> list[tuple[int, Strike]]:
        found = []
        for position, strike in self.reply.strikes:
            place = position.body_at if position.at is None else self.reply.offset(position.at)
            if place is not None and place <= self.reply.length:
                found.append((place, strike))
        return sorted(found, key=lambda item: item[0])
