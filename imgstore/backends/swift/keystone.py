"""Logins by Keystone's third version: keystoneauth1 asks and reads, over our own connections."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, cast

from keystoneauth1.identity import v3
from keystoneauth1.session import Session as IdentitySession
from requests import PreparedRequest, Response, Session
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from imgstore.backends._http.transport import Transport
from imgstore.backends.swift.access import Access
from imgstore.errors import ConfigError
from imgstore.model import Call


class WatchedAdapter(BaseAdapter):
    """Sends the requests of one login on our transport: deadline, cancellation and TLS options count."""

    def __init__(self, transport: Transport, call: Call) -> None:
        super().__init__()
        self._transport = transport
        self._call = call

    def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
        transport = self._transport
        watch = transport.watch(self._call)
        told = request.body or b""
        body = told.encode() if isinstance(told, str) else cast("bytes", told)
        headers = {name: str(value) for name, value in request.headers.items()}
        exchange = transport.send(
            str(request.method), str(request.url), headers, watch=watch, body=body or None
        )
        response = Response()
        response._content = transport.read(exchange, watch)
        response.status_code = exchange.reply.status
        response.headers = CaseInsensitiveDict(exchange.reply.fields)
        response.url = str(request.url)
        response.request = request
        response.encoding = "utf-8"
        return response

    def close(self) -> None:
        """Does nothing: the connections are the store's."""


def login(
    transport: Transport,
    call: Call,
    *,
    wanted: Mapping[str, str | None],
    endpoint: str | None,
    **options: Any,
) -> Access:
    """Logs in and gives the account's URL and the token.

    `options` are those of keystoneauth1's plug-in: an application credential where they hold one, else a
    password. `wanted` says which of the catalog's endpoints is the account's; `endpoint` goes before it.

    Raises: those of the transport and of keystoneauth1.
    """
    kind = v3.ApplicationCredential if "application_credential_secret" in options else v3.Password
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about options that Keystone may lack; it says so itself
        plugin = kind(**options)
    with Session() as session:
        session.trust_env = False  # the transport has the say about proxies; nobody reads ~/.netrc
        for scheme in ("http://", "https://"):
            session.mount(scheme, WatchedAdapter(transport, call))
        found = plugin.get_access(IdentitySession(session=session, redirect=False))
    url = endpoint or found.service_catalog.url_for(**wanted)
    if not url or not found.auth_token:
        raise ConfigError("Keystone's catalog names no URL of the object store; set endpoint")
    expires = found.expires
    return Access(url.rstrip("/"), found.auth_token, None if expires is None else expires.timestamp())
