"""One request from its key to the head of its final reply: address, credentials, redirects, renewals."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from imgstore.backends._http.address import Address
from imgstore.backends._http.client import Client, Exchange, Request
from imgstore.backends._http.dial import Resolve, is_literal, look_up
from imgstore.backends._http.proxy import Proxies
from imgstore.backends._http.watch import Watch
from imgstore.backends.http.credentials import Credentials
from imgstore.backends.http.presign import Presigned, UrlCommand
from imgstore.backends.http.redirect import REDIRECTS, RedirectPolicy, Trail
from imgstore.errors import ConnectionLostError, NotFoundError, UnsafeLocationError

LOG = logging.getLogger(__name__)

_PRECONDITIONS: Final = frozenset({"If-Match", "If-Unmodified-Since"})
_ALWAYS: Final = {"User-Agent": "imgstore", "Accept": "*/*", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the images are: below `base`; or, with `only`, that one image at `base` itself."""

    base: Address
    only: str | None = None

    def __str__(self) -> str:
        return str(self.base)

    def address(self, key: str) -> Address:
        """Gives the address of `key`. Raises: NotFoundError."""
        if self.only is None:
            return self.base.below(key)
        if key != self.only:
            raise NotFoundError(f"this store holds one image, {self.only!r}", key=key)
        return self.base


class Requester:
    """Sends the requests of one store in one process. Callable from any thread."""

    def __init__(
        self,
        *,
        client: Client,
        place: Place | UrlCommand,
        credentials: Credentials,
        proxies: Proxies,
        policy: RedirectPolicy,
        resolve: Resolve,
    ) -> None:
        self.client = client
        self._place = place
        self._credentials = credentials
        self._proxies = proxies
        self._policy = policy
        self._resolve = resolve

    def send(self, method: str, key: str, fields: Mapping[str, str], watch: Watch) -> Exchange:
        """Gives the reply to a request for `key`, from wherever redirects lead; each time from the start.

        A 401 or 403 is answered once with what is newer: a URL of another run of the command; a token, a
        password or a header that was renewed in its file.
        """
        address, presigned = self._locate(key, watch, stale=0)
        exchange, sent = self._walk(method, Trail(self._policy, address), fields, watch)
        if exchange.reply.status not in {401, 403}:
            return exchange
        if presigned is not None:
            exchange.drop()
            address, _ = self._locate(key, watch, stale=presigned.generation)
        elif exchange.reply.status == 401 and self._renewed(address, sent):
            exchange.drop()
        else:
            return exchange
        return self._walk(method, Trail(self._policy, address), fields, watch)[0]

    def _locate(self, key: str, watch: Watch, *, stale: int) -> tuple[Address, Presigned | None]:
        if isinstance(self._place, Place):
            return self._place.address(key), None
        presigned = self._place.url(key, watch, stale=stale)
        return presigned.address, presigned

    def _renewed(self, address: Address, sent: Mapping[str, str]) -> bool:
        now = self._credentials.fields(address, home=True)
        return now != sent

    def _walk(
        self, method: str, trail: Trail, fields: Mapping[str, str], watch: Watch
    ) -> tuple[Exchange, Mapping[str, str]]:
        """Follows redirects to the reply that is none; gives it with the credentials that were sent."""
        while True:
            here = trail.here
            own = self._credentials.fields(here, home=trail.home)
            headers = {"Host": here.authority, **_ALWAYS, **own, **fields}
            proxy = self._proxies.choose(here)
            if proxy is not None:
                self._check_behind_proxy(trail, watch)
            pinned = not _PRECONDITIONS.isdisjoint(fields)
            request = Request(method, here, headers, proxy, trail.admit, pinned)
            exchange = self.client.exchange(request, watch)
            reply = exchange.reply
            LOG.debug(
                "%s %s %s: status %d, request id %s",
                method,
                here,
                fields.get("Range", "whole"),
                reply.status,
                reply.request_id,
            )
            if reply.status not in REDIRECTS:
                return exchange, own
            try:
                trail.follow(reply)
            finally:
                exchange.dismiss()

    def _check_behind_proxy(self, trail: Trail, watch: Watch) -> None:
        """Judges what a name stands for, as this machine sees it: behind a proxy the peer can't be asked."""
        admit, host = trail.admit, trail.here.host
        if admit is None:
            return
        if is_literal(host):
            admit(host)
            return
        try:
            infos = look_up(host, trail.here.port, self._resolve, watch)
        except ConnectionLostError as exc:
            raise UnsafeLocationError(
                f"a redirect leads through the proxy to {host}, which cannot be looked up here to see that "
                f"it is no private address; if it is meant, list it in 'redirect_hosts'"
            ) from exc
        for info in infos:
            admit(str(info[4][0]))
