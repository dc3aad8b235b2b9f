"""Connections: urllib3's, on sockets that are watched, with heads and bodies read by our own rules."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.util import Url
from urllib3.util.wait import wait_for_read

from imgstore.backends._http.address import Address
from imgstore.backends._http.dial import Resolve, dial
from imgstore.backends._http.head import Inlet, read_head
from imgstore.backends._http.proxy import Proxy
from imgstore.backends._http.sockets import WatchedContext
from imgstore.backends._http.watch import Leash
from imgstore.backends._http_range import Reply
from imgstore.errors import AuthenticationError, BadReplyError, ConnectionLostError, UnavailableError

# How much of a request's body must be taken within its time: 17 KiB a second of the default 15 s.
_SLICE: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Line:
    """What a new connection needs besides its address."""

    leash: Leash
    resolve: Resolve
    connect_timeout: float
    admit: Callable[[str], None] | None


@dataclass(frozen=True, slots=True)
class Payload:
    """The body of a request, in memory, and the seconds for each slice of it and for the reply after that."""

    data: bytes | bytearray | memoryview
    send_timeout: float
    reply_timeout: float

    @property
    def late(self) -> str:
        return f"the server took nothing for {self.send_timeout:g} seconds"

    @property
    def no_reply(self) -> str:
        return f"the server did not begin its reply within {self.reply_timeout:g} seconds of the last byte"


class Answer:
    """What http.client takes for its response: the head only. A body is read past it, from the inlet."""

    will_close = False  # whether a connection is used again is decided when the body has ended

    def __init__(self, inlet: Inlet) -> None:
        self._inlet = inlet
        self._closed = False
        self.reply: Reply | None = None

    def begin(self, **_: Any) -> None:
        self.reply = read_head(self._inlet)

    def isclosed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True


class Connection(HTTPConnection):
    """What both kinds of connection change of urllib3's. Belongs to one request at a time."""

    auto_open = 0  # a closed connection stays closed: reconnecting behind our back would skip every check

    line: Line
    inlet: Inlet
    _spoiled = False

    def _new_conn(self) -> socket.socket:
        line = self.line
        return dial(
            self._dns_host,
            self.port,
            resolve=line.resolve,
            leash=line.leash,
            connect_timeout=line.connect_timeout,
            admit=line.admit,
            role="" if self.proxy is None else "the proxy ",
        )

    def _tunnel(self) -> None:
        """Asks a proxy for a tunnel (RFC 9110 §9.3.6), under the same rules as any reply."""
        host = f"[{self._tunnel_host}]" if ":" in str(self._tunnel_host) else str(self._tunnel_host)
        target = f"{host}:{self._tunnel_port}"
        headers: Mapping[str, str] = self._tunnel_headers  # type: ignore[attr-defined]
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if name.lower() != "host"]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        inlet = Inlet(self.sock.recv_into)
        status = read_head(inlet).status
        if status == 407:
            raise AuthenticationError("the proxy does not accept the credentials, or wants some (status 407)")
        if not 200 <= status < 300:
            kind = UnavailableError if status >= 500 or status in {408, 429} else ConnectionLostError
            raise kind(f"the proxy opens no tunnel to the server (status {status})")
        if inlet.pending:
            raise BadReplyError("the proxy sent bytes into the tunnel before anybody spoke")

    def connect(self) -> None:
        super().connect()
        self.inlet = Inlet(self.sock.recv_into)
        self.response_class = self._answer  # type: ignore[assignment]

    def _answer(self, sock: socket.socket, **_: Any) -> Answer:
        return Answer(self.inlet)

    def ask(self, method: str, target: str, headers: Mapping[str, str], payload: Payload | None) -> Reply:
        """Sends a request and gives the head of its reply, which may come before all of `payload` is sent.

        The fields name the payload's length.
        """
        self.request(method, target, headers=headers, preload_content=False, decode_content=False)
        if payload is not None:
            self._send_payload(payload)
        # past urllib3's getresponse: it parses the head a second time, with a body reader that is not used
        answer: Any = http.client.HTTPConnection.getresponse(self)
        answer.close()
        reply: Reply = answer.reply
        return reply

    def is_clean(self) -> bool:
        """Whether nothing came in that no request asked for, and the peer has not hung up."""
        pending = getattr(self.sock, "pending", int)
        return not self._spoiled and not self.inlet.pending and self.is_connected and not pending()

    def _send_payload(self, payload: Payload) -> None:
        """Sends it until the server has it all, answers, or hangs up; why it did may stand in a reply."""
        watch, view = self.line.leash.watch, memoryview(payload.data).cast("B")
        # after the handshake a TLS server sends tickets, which look like a reply from here
        answers_early = isinstance(self, PlainConnection)
        self._spoiled = True
        try:
            for at in range(0, len(view), _SLICE):
                if answers_early and wait_for_read(self.sock, timeout=0.0):
                    break
                watch.allow(payload.send_timeout, payload.late)
                self.sock.sendall(view[at : at + _SLICE])
            else:
                self._spoiled = False
        except (BrokenPipeError, ConnectionResetError):
            pass
        watch.allow(payload.reply_timeout, payload.no_reply)


class PlainConnection(Connection):
    """A connection without TLS: to a server, or to a proxy that forwards."""


class TlsConnection(Connection, HTTPSConnection):
    """A connection with TLS: to a server, through a tunnel, or to a forwarding proxy that speaks it."""


def make_connection(
    address: Address, proxy: Proxy | None, context: Callable[[], WatchedContext], line: Line
) -> Connection:
    """Makes a connection for requests to `address`; nothing is connected yet."""
    server = address if proxy is None else proxy.address
    options: dict[str, Any] = {"timeout": 0.0}  # non-blocking: the watch waits, not the socket
    if proxy is not None:
        options["proxy"] = Url(scheme=server.scheme, host=server.host, port=server.port)
    connection: Connection
    if "https" in {address.scheme, server.scheme}:
        tls = context()
        if proxy is not None:
            options["proxy_config"] = ProxyConfig(
                ssl_context=tls,
                use_forwarding_for_https=False,
                assert_hostname=None,
                assert_fingerprint=None,
            )
        connection = TlsConnection(server.host, server.port, ssl_context=tls, **options)
    else:
        connection = PlainConnection(server.host, server.port, **options)
    connection.line = line
    if proxy is not None and address.scheme == "https":
        connection.set_tunnel(address.host, address.port, proxy.headers, server.scheme)
    return connection
