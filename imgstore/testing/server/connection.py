"""One connection, from its greeting to its end: requests in, replies out, each one logged."""

from __future__ import annotations

from collections.abc import Callable

from imgstore.testing.server.channel import Channel
from imgstore.testing.server.fault import Positioned, Script
from imgstore.testing.server.log import Exchange, Log
from imgstore.testing.server.reply import Reply, plain
from imgstore.testing.server.request import Inlet, MalformedError, Request
from imgstore.testing.server.wire import EndedError, Wire


class Connection:
    """Serves one wire until it ends; for a thread of its own."""

    def __init__(self, wire: Wire, log: Log, greeting: Script, compose: Callable[[Request], Reply]) -> None:
        """`compose` makes the reply to a request, faults included."""
        self._wire = wire
        self._log = log
        self._number = log.connected()
        self._greeting = greeting
        self._compose = compose

    def run(self) -> None:
        """Serves; returns when the connection is closed."""
        try:
            self._serve()
            self._wire.finish()
            self._wire.linger()
        except EndedError as ended:
            if ended.kind in {"cut", "complete", "broken"}:
                # The FIN is sent. Closing with unread input would turn it into a reset.
                self._wire.linger()
        finally:
            self._wire.close()
            self._log.disconnected()

    def _serve(self) -> None:
        for fault in self._greeting:
            if isinstance(fault, Positioned):
                fault.strike(Channel(self._wire, Reply(0)))
        self._wire.handshake()
        inlet = Inlet(self._wire)
        while True:
            try:
                request = inlet.request()
            except MalformedError:
                Channel(self._wire, plain(400)).send()
                return
            if request is None or not self._exchange(request):
                return

    def _exchange(self, request: Request) -> bool:
        """Answers one request; whether another may follow."""
        exchange = Exchange(
            self._number,
            request.method,
            request.target,
            list(request.headers),
            request.header("Range"),
            body_received=len(request.body),
        )
        number = self._log.begin(exchange, self._wire.taken)
        ended = "broken"
        try:
            reply = self._compose(request)
            self._log.note(number, status=reply.status, range_served=reply.range)
            closing = self._closes(request, reply)
            Channel(self._wire, reply).send()
            if closing:
                self._wire.finish()
            ended = "complete"
            return not closing
        except EndedError as error:
            ended = error.kind
            raise
        finally:
            self._log.end(number, ended)

    def _closes(self, request: Request, reply: Reply) -> bool:
        if reply.close is None:
            reply.close = not request.keeps_alive()
        if reply.close:
            reply.set("Connection", "close")
        return reply.close or not reply.framed()
