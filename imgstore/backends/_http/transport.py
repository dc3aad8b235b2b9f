"""Requests to any address, for drivers whose client libraries only build and parse them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Final

from imgstore.backends._http.address import parse
from imgstore.backends._http.body import Body, reading
from imgstore.backends._http.client import Client, Exchange, Request, TlsFiles
from imgstore.backends._http.connection import Payload
from imgstore.backends._http.dial import AddressInfo, Resolve, system_resolve
from imgstore.backends._http.failures import failure
from imgstore.backends._http.proxy import Proxies
from imgstore.backends._http.watch import Watch
from imgstore.backends._http_range import framing
from imgstore.clock import SYSTEM, Clock
from imgstore.errors import BadReplyError, ImgstoreError
from imgstore.model import Call
from imgstore.secret import Secret
from imgstore.stream import RawReader

LOG = logging.getLogger(__name__)

# Documents of a store, such as a page of a listing: S3's largest, 1,000 keys of 1 KiB in XML, is under 4 MiB.
DOCUMENT_LIMIT: Final = 8 << 20


class Transport:
    """Sends single requests: no redirect is followed, no status judged, nothing tried again.

    Times in seconds: `open_timeout` for the name, the connection and the head of a reply together,
    `connect_timeout` for each address, `receive_timeout` for each receive of a body and each 256 KiB sent.
    The constructor does no I/O. Callable from any thread; connections belong to the process that made them.
    """

    def __init__(
        self,
        tls: TlsFiles,
        *,
        proxy: Secret | None = None,
        trust_env: bool = True,
        open_timeout: float = 10.0,
        connect_timeout: float = 5.0,
        receive_timeout: float = 15.0,
        clock: Clock = SYSTEM,
        resolve: Resolve = system_resolve,
    ) -> None:
        self._tls = tls
        self._proxies = Proxies(proxy, trust_env=trust_env)
        self._open_timeout = open_timeout
        self._connect_timeout = connect_timeout
        self.receive_timeout = receive_timeout
        self._clock = clock
        self.resolve = resolve
        self._clients: dict[int, Client] = {}

    def watch(self, call: Call) -> Watch:
        """Gives what ends the waits of one request: by `call`, and after `open_timeout`."""
        watch = Watch(call, self._clock)
        seconds = self._open_timeout
        watch.allow(seconds, f"the server did not begin its reply within {seconds:g} seconds")
        return watch

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        watch: Watch,
        body: bytes | bytearray | memoryview | None = None,
        pinned: bool = False,
        reply_timeout: float | None = None,
    ) -> Exchange:
        """Sends one request and gives the head of its reply; the caller finishes or drops the exchange.

        Host and Content-Length are set where `headers` lack them. Only a `pinned` request uses a connection
        that served another: its reply must prove whose it is. `reply_timeout` counts from the last byte of
        `body` on (`open_timeout` unless given). `url` and `headers` may hold secrets; no message does.

        Raises: TransientError and its kin, TlsError; OperationCancelledError, DeadlineExceededError.
        """
        try:
            address, _ = parse(url, "the URL")
            fields = {"Accept-Encoding": "identity", **headers}
            named = {name.lower() for name in fields}
            if "host" not in named:
                fields["Host"] = address.authority
            payload = None
            if body is not None:
                payload = Payload(body, self.receive_timeout, reply_timeout or self._open_timeout)
                if "content-length" not in named:
                    fields["Content-Length"] = str(memoryview(body).nbytes)
            proxy = self._proxies.choose(address)
            request = Request(method, address, fields, proxy, None, pinned, payload)
            exchange = self._client().exchange(request, watch)
        except Exception as exc:  # noqa: BLE001  # translated, not swallowed
            raise _failure(exc) from _cause(exc)
        reply = exchange.reply
        LOG.debug("%s %s: status %d, request id %s", method, address, reply.status, reply.request_id)
        return exchange

    def stream(self, exchange: Exchange, limit: int | None, watch: Watch) -> RawReader:
        """Gives the body as a raw reader of at most `limit` bytes, which takes the exchange over.

        Raises: BadReplyError for a body whose end cannot be told; then the exchange is dropped.
        """
        try:
            body = reading(exchange.inlet, framing(exchange.reply))
        except BaseException:
            exchange.drop()
            raise
        return Body(exchange, body, limit, watch, self.receive_timeout)

    def read(self, exchange: Exchange, watch: Watch, *, limit: int = DOCUMENT_LIMIT) -> bytes:
        """Gives the whole body, which ends the exchange.

        Raises: BadReplyError for one above `limit` bytes; as `send` otherwise. Memory: twice the body.
        """
        if exchange.bodiless:
            exchange.finish()
            return b""
        raw = self.stream(exchange, None, watch)
        taken = bytearray()
        with memoryview(bytearray(64 << 10)) as buffer:
            try:
                while count := raw.readinto(buffer):
                    taken += buffer[:count]
                    if len(taken) > limit:
                        raise BadReplyError(f"the server sent a document above {limit} bytes")
            finally:
                raw.close()
        return bytes(taken)

    def close(self) -> None:
        """Drops the idle connections of this process; those in use are closed when they come back."""
        client = self._clients.get(os.getpid())
        if client is not None:
            client.close()

    def _client(self) -> Client:
        pid = os.getpid()
        client = self._clients.get(pid)
        if client is None:
            for other in set(self._clients) - {pid}:
                self._clients.pop(other).abandon()
            client = self._clients.setdefault(pid, self._make_client())
        return client

    def _make_client(self) -> Client:
        def resolve(host: str, port: int) -> Sequence[AddressInfo]:
            return self.resolve(host, port)

        return Client(self._tls, resolve=resolve, connect_timeout=self._connect_timeout, clock=self._clock)


def _failure(exc: Exception) -> ImgstoreError:
    return exc if isinstance(exc, ImgstoreError) else failure(exc)


def _cause(exc: Exception) -> BaseException | None:
    return exc.__cause__ if isinstance(exc, ImgstoreError) else failure(exc).__cause__
