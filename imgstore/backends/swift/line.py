"""What python-swiftclient is given for its connection, and what is used of it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast
from urllib.parse import ParseResult

from imgstore.backends._http.client import Exchange
from imgstore.backends._http.transport import Transport
from imgstore.backends._http.watch import Watch
from imgstore.backends._http_range import Reply
from imgstore.backends.swift.failures import RefusedError
from imgstore.errors import BadReplyError, ConfigError
from imgstore.model import Call

Line = tuple[ParseResult, "Connection"]


class Functions(Protocol):
    """What is used of `swiftclient.client`: functions that make one request each, and try nothing again."""

    head_object: Callable[..., Any]
    put_object: Callable[..., Any]
    post_object: Callable[..., Any]
    copy_object: Callable[..., Any]
    delete_object: Callable[..., Any]
    head_container: Callable[..., Any]
    put_container: Callable[..., Any]
    post_container: Callable[..., Any]
    delete_container: Callable[..., Any]
    get_container: Callable[..., Any]
    head_account: Callable[..., Any]
    get_account: Callable[..., Any]


@functools.cache
def functions() -> Functions:
    """Gives swiftclient's functions. Raises: ConfigError where it is not installed."""
    try:
        return cast("Functions", importlib.import_module("swiftclient.client"))
    except ImportError as exc:
        raise ConfigError(
            "the Swift driver needs python-swiftclient: pip install 'python-swiftclient>=4.0'"
        ) from exc


class Sender(Protocol):
    """`Service.send`, and the transport that it sends on."""

    transport: Transport

    def send(
        self,
        method: str,
        path: str,
        fields: Mapping[str, str],
        *,
        call: Call,
        body: bytes | bytearray | memoryview | None = None,
        pinned: bool = False,
        reply_timeout: float | None = None,
    ) -> tuple[Exchange, Watch]: ...


class Payload:
    """The bytes of a request, as swiftclient passes them on untouched: neither a file nor an iterable."""

    def __init__(self, view: bytes | bytearray | memoryview) -> None:
        self.view = view


class Answer:
    """A reply as swiftclient reads it; one that is no success never reaches it."""

    reason = ""

    def __init__(self, reply: Reply, body: bytes) -> None:
        self.reply = reply
        self.status = reply.status
        self._body = body

    def read(self) -> bytes:
        return self._body

    def getheader(self, name: str, default: str | None = None) -> str | None:
        values = self.reply.values(name.lower())
        return values[0] if values else default

    def getheaders(self) -> list[tuple[str, str]]:
        """Gives none: swiftclient would log them, and would undo a percent-encoding too many."""
        return []


class Connection:
    """What swiftclient takes for its connection: one request, with the token added behind its back."""

    def __init__(self, sender: Sender, call: Call, *, pinned: bool, reply_timeout: float | None) -> None:
        self._sender = sender
        self._call = call
        self._pinned = pinned
        self._reply_timeout = reply_timeout
        self._answer: Answer | None = None

    def request(
        self, method: str, path: str, data: Payload | str | None = None, headers: Mapping[str, Any] = {}
    ) -> None:
        fields = {name: str(value) for name, value in headers.items()}
        fields = {
            name: value
            for name, value in fields.items()
            if name.lower() not in {"x-auth-token", "accept-encoding"}
        }
        if not self._pinned:
            fields["Connection"] = "close"  # a kept one would wait for a pinned request, and only for that
        body = data.view if isinstance(data, Payload) else None
        if body is None and method in {"PUT", "POST", "COPY"}:
            fields["Content-Length"] = "0"  # else Swift waits for a body, or answers 411
        exchange, watch = self._sender.send(
            method,
            path,
            fields,
            call=self._call,
            body=body,
            pinned=self._pinned,
            reply_timeout=self._reply_timeout,
        )
        body = self._sender.transport.read(exchange, watch)
        if not 200 <= exchange.reply.status < 300:
            raise RefusedError(exchange.reply, body)
        self._answer = Answer(exchange.reply, body)

    def getresponse(self) -> Answer:
        return self.answer

    @property
    def answer(self) -> Answer:
        if self._answer is None:
            raise BadReplyError("no request was made on this connection")
        return self._answer
