"""Requests: botocore builds, signs and parses them, and our own connections carry them.

botocore announces each request to the handlers of `before-send` (Boto3 documentation, "Extensibility guide"),
and takes what one of them returns for the response. So its own HTTP client is never used, and cancellation,
deadlines, silence, TLS and proxies are those of `Transport`. Its retries are off.
"""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from imgstore.backends._http.client import Exchange
from imgstore.backends._http.transport import Transport
from imgstore.backends._http.watch import Watch
from imgstore.backends._http_range import Reply
from imgstore.backends.s3.client import Client, Place, response
from imgstore.backends.s3.credentials import Credentials, Keys
from imgstore.backends.s3.refusals import STALE, refused
from imgstore.clock import Clock
from imgstore.errors import ConfigError, StoreError
from imgstore.model import Call
from imgstore.stream import RawReader

LOG = logging.getLogger(__name__)

# Not for a server that answers while the body is on its way: Transport sees any answer, and asks for none.
_DROPPED: Final = frozenset({"expect"})
# Bytes of an error, of which the largest that are known have some hundred. A page of a listing, 1,000 keys of
# 1 KiB in percent-encoding, may have 4 MiB.
_REFUSAL_LIMIT: Final = 1 << 20
_PAGE_LIMIT: Final = 8 << 20
# A page has some 26,000 tags: two for each of 13 elements of 1,000 objects. Each costs a parser 200 bytes.
_TAG_LIMIT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to a request: its head, and what botocore read in its document."""

    reply: Reply
    document: Mapping[str, Any]


@dataclass(slots=True)
class _Errand:
    """One request, from the thread that makes it to the handler that botocore calls in the same thread."""

    operation: str
    call: Call
    pinned: bool
    streams: bool = False
    patience: float | None = None
    keys: Keys | None = None
    stale: bool = False
    reply: Reply | None = None
    opened: tuple[Exchange, Watch] | None = None


class Piece(io.RawIOBase):
    """A body in the caller's memory, which botocore passes on and never reads."""

    def __init__(self, view: memoryview) -> None:
        self.view = view

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return len(self.view) if whence == io.SEEK_END else offset

    def tell(self) -> int:
        return 0


class Wire:
    """The client of one store, one for each process, made at its first request. Callable from any thread."""

    def __init__(
        self, place: Place, transport: Transport, clock: Clock, credentials: Credentials | None
    ) -> None:
        self._place = place
        self._transport = transport
        self._clock = clock
        self._given = credentials
        self._clients: dict[int, Client] = {}
        self._errands = threading.local()
        self._making: dict[int, threading.Lock] = {}

    def ask(
        self,
        operation: str,
        call: Call,
        *,
        pinned: bool = False,
        patience: float | None = None,
        **arguments: Any,
    ) -> Answer:
        """Makes one request and gives its answer; a `memoryview` as Body is sent from where it is.

        `pinned` as in `Transport.send`; `patience` is the seconds from the last byte sent to the reply.

        Raises: the error that `refusals` has for the reply; as `Transport.send`.
        """
        answer, _ = self._ask(_Errand(operation, call, pinned, patience=patience), arguments)
        return answer

    def open(self, call: Call, *, pinned: bool, **arguments: Any) -> tuple[Answer, Exchange, Watch]:
        """Makes a GetObject whose body is still to be read, by `Transport.stream`; the caller ends it."""
        answer, opened = self._ask(_Errand("GetObject", call, pinned, streams=True), arguments)
        if opened is None:
            raise answer.reply.bad(f"status {answer.reply.status}, which answers no question that was asked")
        return answer, *opened

    def stream(self, exchange: Exchange, limit: int | None, watch: Watch) -> RawReader:
        """Gives the body of what `open` gave, as `Transport.stream` does."""
        return self._transport.stream(exchange, limit, watch)

    def region(self) -> str | None:
        """Gives the region that requests are signed for, wherever botocore found it."""
        return self._client().region

    def address(self) -> str:
        """Gives the URL of the service, wherever botocore found it."""
        return self._client().endpoint_url

    def keys(self) -> Keys:
        """Gives the credentials as they are now. Raises: as `Wire.ask`."""
        return self._client().credentials.current()

    def close(self) -> None:
        self._transport.close()

    def _ask(
        self, errand: _Errand, arguments: dict[str, Any]
    ) -> tuple[Answer, tuple[Exchange, Watch] | None]:
        client = self._client()
        if isinstance(body := arguments.get("Body"), memoryview):
            arguments["Body"] = Piece(body)
            arguments["ContentLength"] = body.nbytes
        try:
            return self._once(client, errand, arguments)
        except StoreError as exc:
            # Another program may have renewed the keys since: once more, if there are others by now.
            if not errand.stale or errand.keys is None:
                raise
            watch = self._transport.watch(errand.call)
            if not client.credentials.renewed(errand.keys, watch.pause):
                raise
            LOG.debug("the credentials were renewed after: %s", exc)
            return self._once(client, errand, arguments)

    def _once(
        self, client: Client, errand: _Errand, arguments: dict[str, Any]
    ) -> tuple[Answer, tuple[Exchange, Watch] | None]:
        from botocore.exceptions import ClientError

        self._errands.now = errand
        try:
            document = client.operations[errand.operation](**arguments)
        except ClientError as exc:
            raise self._refused(errand, exc.response) from None
        except BaseException:
            if errand.opened is not None:
                errand.opened[0].drop()
            raise
        finally:
            self._errands.now = None
        if errand.reply is None:
            raise ConfigError("botocore made no request; this version of it cannot be used")
        return Answer(errand.reply, document), errand.opened

    def _refused(self, errand: _Errand, response: Mapping[str, Any]) -> StoreError:
        code = str(response.get("Error", {}).get("Code", ""))
        reply = errand.reply or Reply(1, 0)
        if not code.isalnum() and not code.startswith("KMS."):
            code = ""
        if code.isdigit():  # botocore puts the status there where a reply has no document
            code = ""
        # a reply to HEAD has no code: keys that expired look like those that may not
        errand.stale = code in STALE or reply.status == 401 or (not code and reply.status in {400, 403})
        return refused(reply, code, now=self._clock.time())

    def _client(self) -> Client:
        pid = os.getpid()
        client = self._clients.get(pid)
        if client is None:
            # a lock for each process: one that a fork left locked belongs to the parent
            with self._making.setdefault(pid, threading.Lock()):
                client = self._clients.get(pid) or Client(self._place, self._given, self._carry, self._note)
                self._clients = {pid: client}
        return client

    def _note(self, keys: Keys) -> None:
        errand = getattr(self._errands, "now", None)
        if errand is not None and errand.keys is None:
            errand.keys = keys

    def _carry(self, event: str, request: Any) -> Any:
        """Sends what botocore prepared, and gives the response in its own form.

        After some refusals botocore asks for the bucket's region in between: that is not the errand's reply.
        """
        errand: _Errand = self._errands.now
        headers = {
            name: value.decode("latin-1") if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
            if name.lower() not in _DROPPED
        }
        body = request.body
        if isinstance(body, Piece):
            body = body.view
        elif isinstance(body, str):
            body = body.encode()
        elif body is None and request.method in {"PUT", "POST"}:
            body = b""
        watch = self._transport.watch(errand.call)
        exchange = self._transport.send(
            request.method,
            request.url,
            headers,
            watch=watch,
            body=body,
            pinned=errand.pinned,
            reply_timeout=errand.patience,
        )
        reply = exchange.reply
        own = event.rpartition(".")[2] == errand.operation
        if own:
            errand.reply = reply
        if own and errand.streams and reply.status in {200, 206}:
            errand.opened = exchange, watch
            return response(request.url, reply, b"")
        limit = _PAGE_LIMIT if reply.status < 300 else _REFUSAL_LIMIT
        content = self._transport.read(exchange, watch, limit=limit)
        if reply.status >= 300 or errand.operation != "GetObject":
            _check_plain(reply, content)
        return response(request.url, reply, content)


def _check_plain(reply: Reply, content: bytes) -> None:
    """Refuses what is far from any of S3's documents before botocore makes a tree of it.

    That is more markup than a page has, and a document type: without one there are no entities. Whatever the
    encoding that expat takes, the letters of it stand there in ASCII, with or without zeros between them. In
    what S3 sends, `<` is markup and nothing else.

    Raises: BadReplyError.
    """
    if b"<!DOCTYPE" in content.replace(b"\0", b""):
        raise reply.bad("a document with a document type, which none of S3's has")
    if content.count(b"<") > _TAG_LIMIT:
        raise reply.bad(f"a document with more than {_TAG_LIMIT} tags")
