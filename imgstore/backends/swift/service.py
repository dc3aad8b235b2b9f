"""Requests to one Swift account: python-swiftclient builds and reads them, our own connections carry them."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlparse

from imgstore.backends._http.client import Exchange
from imgstore.backends._http.transport import Transport
from imgstore.backends._http.watch import Watch
from imgstore.backends._http_range import Reply
from imgstore.backends.swift.access import Access, Tokens
from imgstore.backends.swift.failures import RefusedError
from imgstore.backends.swift.line import Connection, Line, Payload, functions
from imgstore.errors import BadReplyError, ImgstoreError
from imgstore.model import Call

# Entries of one page: names of 1 KiB, each byte six letters of JSON, stay below the transport's 8 MiB.
PAGE: Final = 1000


class Service:
    """The objects and containers of an account. Callable from any thread; nothing is tried twice here.

    The one exception: a request that is refused with 401 is made once more, with a new token. No function of
    swiftclient is ever given a token or a reply's fields, so none is in its log.
    """

    def __init__(self, transport: Transport, tokens: Tokens, user_agent: str, *, work_timeout: float) -> None:
        self.transport = transport
        self._work_timeout = work_timeout
        self._tokens = tokens
        self._agent = user_agent

    def access(self, call: Call) -> Access:
        """Gives the access of this process, which logs in at its first use."""
        return self._tokens.current(call)

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
    ) -> tuple[Exchange, Watch]:
        """Makes one request for `path` (and query) of the account's server; gives the reply's head."""
        access = self._tokens.current(call)
        exchange, watch = self._send(access, method, path, fields, call, body, pinned, reply_timeout)
        if exchange.reply.status == 401:
            exchange.drop()
            access = self._tokens.current(call, refused=access)
            exchange, watch = self._send(access, method, path, fields, call, body, pinned, reply_timeout)
        return exchange, watch

    def _send(  # noqa: PLR0917  # private to this class
        self,
        access: Access,
        method: str,
        path: str,
        fields: Mapping[str, str],
        call: Call,
        body: bytes | bytearray | memoryview | None,
        pinned: bool,  # noqa: FBT001
        reply_timeout: float | None,
    ) -> tuple[Exchange, Watch]:
        watch = self.transport.watch(call)
        if reply_timeout is not None:
            watch.allow(reply_timeout, f"the server did not begin its reply within {reply_timeout:g} seconds")
        parts = urlparse(access.url)
        headers = {**fields, "X-Auth-Token": access.token, "User-Agent": self._agent}
        exchange = self.transport.send(
            method,
            f"{parts.scheme}://{parts.netloc}{path}",
            headers,
            watch=watch,
            body=body,
            pinned=pinned,
            reply_timeout=reply_timeout,
        )
        return exchange, watch

    def get(
        self,
        container: str,
        key: str,
        fields: Mapping[str, str],
        *,
        call: Call,
        query: str = "",
        pinned: bool = False,
    ) -> tuple[Exchange, Watch]:
        """Asks for an object; whatever the status, the exchange is the caller's."""
        path = f"{urlparse(self.access(call).url).path}/{quote(container)}/{quote(key)}"
        return self.send("GET", path + (f"?{query}" if query else ""), fields, call=call, pinned=pinned)

    def document(self, container: str, key: str, *, call: Call, query: str = "") -> tuple[Reply, bytes]:
        """Gives a whole small object. Raises: RefusedError."""
        exchange, watch = self.get(container, key, {}, call=call, query=query)
        body = self.transport.read(exchange, watch)
        if exchange.reply.status != 200:
            raise RefusedError(exchange.reply, body)
        return exchange.reply, body

    def head(self, container: str, key: str, *, call: Call) -> Reply:
        """Describes an object. Raises: RefusedError."""
        return self._ask(functions().head_object, container, key, call=call)

    def put(
        self,
        container: str,
        key: str,
        body: bytes | bytearray | memoryview,
        *,
        call: Call,
        headers: Mapping[str, str] = {},
        query: str | None = None,
        etag: str | None = None,
    ) -> Reply:
        """Stores an object; with `etag`, the body's MD5, the server refuses other bytes.

        Raises: RefusedError.
        """
        view = memoryview(body)
        return self._ask(
            functions().put_object,
            container,
            key,
            Payload(view) if view.nbytes else None,
            call=call,
            pinned=etag is not None,
            reply_timeout=self._work_timeout if query else None,
            content_length=view.nbytes,
            etag=etag,
            content_type="application/octet-stream",
            headers=dict(headers),
            query_string=query,
        )

    def post(self, container: str, key: str, headers: Mapping[str, str], *, call: Call) -> None:
        """Replaces an object's metadata. Raises: RefusedError."""
        self._ask(functions().post_object, container, key, call=call, headers=dict(headers))

    def copy(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        *,
        call: Call,
        headers: Mapping[str, str] = {},
    ) -> Reply:
        """Copies an object inside the service. Raises: RefusedError."""
        return self._ask(
            functions().copy_object,
            *source,
            call=call,
            reply_timeout=self._work_timeout,
            destination="/" + "/".join(target),
            headers={"X-Fresh-Metadata": "true", **headers},
        )

    def delete(self, container: str, key: str, *, call: Call) -> None:
        """Removes an object. Raises: RefusedError."""
        self._ask(functions().delete_object, container, key, call=call)

    def remove(self, container: str, key: str, *, call: Call) -> None:
        """Removes an object that may be gone already. Raises: RefusedError."""
        try:
            self.delete(container, key, call=call)
        except RefusedError as exc:
            if exc.status != 404:
                raise

    def objects(
        self, container: str, *, call: Call, prefix: str = "", missing_ok: bool = False
    ) -> Iterator[Mapping[str, Any]]:
        """Gives a container's listing, entry after entry; with `missing_ok` none of one that is not there.

        Raises: RefusedError, BadReplyError for a listing that does not go on, or lacks names.
        """
        get = functools.partial(self._page, functions().get_container, container, call=call, prefix=prefix)
        try:
            yield from _entries(get)
        except RefusedError as exc:
            if exc.status != 404 or not missing_ok:
                raise

    def containers(self, *, call: Call, prefix: str = "") -> Iterator[str]:
        """Gives the names of the account's containers. Raises: as `objects`."""
        get = functools.partial(self._page, functions().get_account, call=call, prefix=prefix)
        return (str(entry["name"]) for entry in _entries(get))

    def head_container(self, container: str, *, call: Call) -> Reply:
        """Describes a container. Raises: RefusedError."""
        return self._ask(functions().head_container, container, call=call)

    def put_container(self, container: str, headers: Mapping[str, str] = {}, *, call: Call) -> None:
        """Makes a container; one that is there already is left as it is. Raises: RefusedError."""
        self._ask(functions().put_container, container, call=call, headers=dict(headers))

    def delete_container(self, container: str, *, call: Call) -> None:
        """Removes an empty container. Raises: RefusedError."""
        self._ask(functions().delete_container, container, call=call)

    def post_container(self, container: str, headers: Mapping[str, str], *, call: Call) -> None:
        """Changes a container's metadata. Raises: RefusedError."""
        self._ask(functions().post_container, container, call=call, headers=dict(headers))

    def head_account(self, *, call: Call) -> Reply:
        """Describes the account. Raises: RefusedError."""
        return self._ask(functions().head_account, call=call)

    def capabilities(self, *, call: Call) -> Mapping[str, Any]:
        """Gives what the service tells of itself at /info, nothing where it keeps that to itself.

        In front of it there may be somebody else's page, whatever its status.
        """
        root, version, _ = urlparse(self.access(call).url).path.rpartition("/v1")
        exchange, watch = self.send(
            "GET", f"{root if version else ''}/info", {"Connection": "close"}, call=call
        )
        body = self.transport.read(exchange, watch)
        told = None
        if exchange.reply.status == 200:
            with contextlib.suppress(BadReplyError):
                told = parsed(exchange.reply, body)
        return told if isinstance(told, dict) else {}

    def _page(self, function: Callable[..., Any], *args: str, call: Call, **where: str) -> Any:
        connection, line = self._line(call)
        try:
            found = function(*line[:2], *args, limit=PAGE, http_conn=line[2], **where)[1]
        except ImgstoreError:
            raise
        except (ValueError, RecursionError):
            raise connection.answer.reply.bad("a listing that is no JSON") from None
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise connection.answer.reply.bad("a listing that is no list")
        return found

    def _ask(
        self,
        function: Callable[..., Any],
        *args: Any,
        call: Call,
        pinned: bool = False,
        reply_timeout: float | None = None,
        **options: Any,
    ) -> Reply:
        connection, line = self._line(call, pinned=pinned, reply_timeout=reply_timeout)
        function(*line[:2], *args, http_conn=line[2], **options)
        return connection.answer.reply

    def _line(
        self, call: Call, *, pinned: bool = False, reply_timeout: float | None = None
    ) -> tuple[Connection, tuple[str, str, Line]]:
        url = self.access(call).url
        connection = Connection(self, call, pinned=pinned, reply_timeout=reply_timeout)
        return connection, (url, "", (urlparse(url), connection))


def _entries(get: Callable[..., Sequence[Mapping[str, Any]]]) -> Iterator[Mapping[str, Any]]:
    """Gives the entries of all pages. Only an empty one is the last: a service may keep its pages short."""
    marker = ""
    while page := get(marker=marker):
        for entry in page:
            name = entry.get("name")
            if not isinstance(name, str) or name.encode() <= marker.encode():
                raise BadReplyError("the server's listing lacks names, or does not go on")
            marker = name
            yield entry


def parsed(reply: Reply, body: bytes) -> Any:
    """Reads a JSON document. Raises: BadReplyError."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise reply.bad("a document that is no JSON") from None
