"""The connections of one store in one process: which may be used again, and one request over one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from imgstore.backends._http.address import Address
from imgstore.backends._http.connection import Connection, Line, Payload, make_connection
from imgstore.backends._http.dial import Resolve
from imgstore.backends._http.head import persists
from imgstore.backends._http.proxy import Proxy
from imgstore.backends._http.sockets import WatchedContext, tls_context
from imgstore.backends._http.watch import Leash, Watch
from imgstore.backends._http_range import Framing, Reply, framing
from imgstore.clock import Clock
from imgstore.errors import BadReplyError, ConfigError

# Apache closes an idle connection after 5 s, sooner than others: one older is more likely lost than good.
IDLE_SECONDS: Final = 4.0
# Idle connections of a store: as many as a parallel read by default has streams, twice.
IDLE_LIMIT: Final = 8

_Way: TypeAlias = "tuple[tuple[str, str, int], tuple[str, str, int] | None]"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The options about TLS."""

    ca_file: str | None
    client_cert: str | None
    client_key: str | None
    verify: bool


@dataclass(frozen=True, slots=True)
class Request:
    """One request, to one server, over one connection.

    Only a `pinned` one, whose reply must show what it belongs to (a version, a digest), goes over a
    connection that served another before: a stray reply that arrives there late is then refused, while an
    unpinned read would believe it.
    """

    method: str
    address: Address
    headers: Mapping[str, str]
    proxy: Proxy | None
    admit: Callable[[str], None] | None
    pinned: bool
    payload: Payload | None = None

    @property
    def way(self) -> _Way:
        return self.address.origin, None if self.proxy is None else self.proxy.address.origin


class Exchange:
    """A request whose reply's head is there. Its connection belongs to it alone until `finish` or `drop`."""

    def __init__(self, client: Client, request: Request, connection: Connection, reply: Reply) -> None:
        self._client = client
        self._way = request.way
        self._connection: Connection | None = connection
        self.inlet = connection.inlet
        self.reply = reply
        # RFC 9112 §6.3: these have no body, whatever their fields say
        self.bodiless = request.method == "HEAD" or reply.status in {204, 304}
        # §9.6: who says so sends nothing more there, whatever the server answers
        self._last = request.headers.get("Connection", "").lower() == "close"

    def finish(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not self._last and persists(self.reply) and connection.is_clean():
            self._client.keep(self._way, connection)
        else:
            connection.close()

    def dismiss(self) -> None:
        """Gives the connection up with the body unread; it is kept where there is no body."""
        with suppress(BadReplyError):
            if self.bodiless or framing(self.reply) == Framing(chunked=False, length=0):
                self.finish()
        self.drop()

    def drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Client:
    """Makes connections and keeps those that are clean. Callable from any thread of one process."""

    def __init__(self, tls: TlsFiles, *, resolve: Resolve, connect_timeout: float, clock: Clock) -> None:
        self._tls = tls
        self._resolve = resolve
        self._connect_timeout = connect_timeout
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: dict[_Way, list[tuple[float, Connection]]] = {}
        self._closed = False
        self._context: WatchedContext | None = None

    def exchange(self, request: Request, watch: Watch) -> Exchange:
        """Sends `request` and gives the head of the reply.

        A failure is the caller's to try again: after one on a connection that was kept, no other that leads
        the same way is used again.
        """
        connection = self._take(request.way) if request.pinned else None
        reused = connection is not None
        try:
            if connection is None:
                connection = self._connect(request, watch)
            else:
                connection.line.leash.watch = watch
                if request.proxy is None and request.admit is not None:
                    request.admit(str(connection.sock.getpeername()[0]))
            forwarded = request.proxy is not None and request.address.scheme == "http"
            target = request.address.url if forwarded else request.address.target
            headers = dict(request.headers)
            if forwarded and request.proxy is not None:
                headers.update(request.proxy.headers)
            reply = connection.ask(request.method, target, headers, request.payload)
        except BaseException:
            if connection is not None:
                connection.close()
            if reused:
                self._forget(request.way)
            raise
        return Exchange(self, request, connection, reply)

    def keep(self, way: _Way, connection: Connection) -> None:
        """Takes a clean connection for later; closes it, and others, where there are too many."""
        surplus = []
        with self._lock:
            self._idle.setdefault(way, []).append((self._clock.now() + IDLE_SECONDS, connection))
            if self._closed or sum(map(len, self._idle.values())) > IDLE_LIMIT:
                surplus, self._idle = [each for kept in self._idle.values() for each in kept], {}
        for _, each in surplus:
            each.close()

    def close(self) -> None:
        """Drops what is idle; what is in use is closed when it comes back."""
        with self._lock:
            self._closed = True
        self.abandon()

    def abandon(self) -> None:
        """Closes what is idle without a lock: in a child after a fork its owner may be gone for ever."""
        idle, self._idle = self._idle, {}
        for kept in idle.values():
            for _, connection in kept:
                connection.close()

    def _take(self, way: _Way) -> Connection | None:
        """Gives a kept connection that is still good, the youngest first."""
        now = self._clock.now()
        while True:
            with self._lock:
                kept = self._idle.get(way)
                if not kept:
                    return None
                until, connection = kept.pop()
            if now < until and connection.is_clean():
                return connection
            connection.close()

    def _forget(self, way: _Way) -> None:
        with self._lock:
            kept = self._idle.pop(way, [])
        for _, connection in kept:
            connection.close()

    def _connect(self, request: Request, watch: Watch) -> Connection:
        line = Line(
            Leash(watch),
            self._resolve,
            self._connect_timeout,
            request.admit if request.proxy is None else None,
        )
        connection = make_connection(request.address, request.proxy, self._tls_context, line)
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        return connection

    def _tls_context(self) -> WatchedContext:
        if self._context is None:
            files = self._tls
            try:
                # made by two threads at once, one of them is simply lost
                self._context = tls_context(
                    ca_file=files.ca_file,
                    cert=files.client_cert,
                    key=files.client_key,
                    verify=files.verify,
                )
            except OSError as exc:
                raise ConfigError(
                    "a file of the options 'ca_file', 'client_cert' and 'client_key' cannot be used "
                    f"({exc.strerror or 'unreadable'}); each holds PEM, a key without a password"
                ) from exc
        return self._context
