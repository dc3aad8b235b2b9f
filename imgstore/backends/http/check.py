"""The way to a web server, step by step: where exactly it ends, and what would help."""

from __future__ import annotations

import errno
import secrets
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Final

from imgstore.backends._http.address import Address
from imgstore.backends._http.connection import Line, make_connection
from imgstore.backends._http.dial import AddressInfo, dial, is_literal, look_up
from imgstore.backends._http.failures import failure
from imgstore.backends._http.proxy import Proxy
from imgstore.backends._http.status import refusal
from imgstore.backends._http.watch import Leash
from imgstore.backends._http_range import Reply, http_date
from imgstore.errors import (
    AuthenticationError,
    ImgstoreError,
    PermanentError,
    PermissionDeniedError,
    TimedOutError,
    TransientError,
)
from imgstore.model import Call
from imgstore.steps import TEST_PREFIX, NotApplicableError, Step

if TYPE_CHECKING:
    from imgstore.backends.http.driver import HttpStore

SKEW_LIMIT: Final = 300.0  # seconds; signatures of requests (SigV4 and its kin) are refused beyond it
_ONE_BYTE: Final = {"Range": "bytes=0-0"}

# By OpenSSL's X509_V_ERR_*, which the ssl module passes on as `verify_code`.
_CERTIFICATES: Final[Mapping[int, str]] = {
    9: "the certificate is not valid yet: set this machine's clock",
    10: "have the server's certificate renewed, if this machine's clock is right",
    18: "the certificate is signed by itself: name it in ca_file, if it is the right one",
    19: "name the authority at the end of the server's chain in ca_file, if it is the right one",
    20: "name the authority that signed the server's certificate in ca_file, or install it",
    21: "the server leaves out a certificate of its chain: have it send the whole, or name it in ca_file",
    62: "use the name that the certificate was made for, or have one made for this name",
    64: "use the name that the certificate was made for, or have one made for this address",
}


class Way:
    """The way to the server of one store. What a step finds, the next goes on with. Belongs to one thread."""

    def __init__(self, store: HttpStore, key: str | None) -> None:
        """Takes the image to ask for; without one it asks for a name that no image has."""
        self._store = store
        self._given = key
        self._key = key or f"{TEST_PREFIX}{secrets.token_hex(8)}"
        self._requester = store._requester()
        self._address: Address | None = None
        self._proxy: Proxy | None = None
        self._infos: Sequence[AddressInfo] = ()
        self._reply: Reply | None = None

    def steps(self) -> list[Step]:
        """Gives the steps in order."""
        return [
            self._step("name lookup", self._look_up, _about_names),
            self._step("connect", self._connect, _about_connecting),
            self._step("TLS", self._shake, _about_tls),
            self._step("request", self._ask, _about_requests),
            self._step("clock", self._compare_clocks, _about_clocks, vital=False),
            self._step("authentication", self._log_in, self._about_credentials),
        ]

    def _step(
        self,
        name: str,
        run: Callable[[Call], str],
        advise: Callable[[ImgstoreError], str],
        *,
        vital: bool = True,
    ) -> Step:
        def translated(call: Call) -> str:
            with _translating():
                return run(call)

        return Step(name, translated, advise, vital)

    def _look_up(self, call: Call) -> str:
        watch = self._store._watch(call)
        if self._given is None and not self._store.endpoint:
            raise NotApplicableError("the url_command gives a URL for an image: name one, as STORE:KEY")
        address, _ = self._requester._locate(self._key, watch, stale=0)
        self._address, self._proxy = address, self._requester._proxies.choose(address)
        server = self._server
        self._infos = look_up(server.host, server.port, self._store.resolve, watch)
        found = ", ".join(dict.fromkeys(str(info[4][0]) for info in self._infos))
        via = "the proxy " if self._proxy is not None else ""
        return f"{via}{found} needs none" if is_literal(server.host) else f"{via}{server.host} is {found}"

    def _connect(self, call: Call) -> str:
        server = self._server
        leash = Leash(self._store._watch(call))
        sock = dial(
            server.host,
            server.port,
            resolve=lambda *_: self._infos,
            leash=leash,
            connect_timeout=self._store._connect_timeout,
            admit=None,
            role="" if self._proxy is None else "the proxy ",
        )
        with sock:
            return f"{sock.getpeername()[0]} answers on port {server.port}"

    def _shake(self, call: Call) -> str:
        address, server = self._located, self._server
        if "https" not in {address.scheme, server.scheme}:
            raise NotApplicableError("plain http: whoever is on the way can read and change everything")
        leash = Leash(self._store._watch(call))
        line = Line(leash, lambda *_: self._infos, self._store._connect_timeout, None)
        connection = make_connection(address, self._proxy, self._requester.client._tls_context, line)
        try:
            connection.connect()
            return _told(connection.sock)
        finally:
            connection.close()

    def _ask(self, call: Call) -> str:
        exchange = self._requester.send("GET", self._key, _ONE_BYTE, self._store._watch(call))
        exchange.drop()
        self._reply = reply = exchange.reply
        if isinstance(error := self._refusal(reply), TransientError):
            raise error
        return f"the server speaks HTTP/1.{reply.minor} and answers with status {reply.status}"

    def _compare_clocks(self, _: Call) -> str:
        reply = self._answer
        there = http_date(reply.single("date"))
        if there is None or reply.values("age"):
            raise NotApplicableError("the reply does not tell the server's time, or came from a cache")
        ahead = self._store.clock.time() - there
        if abs(ahead) > SKEW_LIMIT:
            side = "ahead of" if ahead > 0 else "behind"
            raise PermanentError(f"the clock here is {abs(ahead):.0f} seconds {side} the server's")
        # A Date has whole seconds, and the reply has been on its way.
        return f"within {max(abs(ahead), 2):.0f} seconds of the server's"

    def _log_in(self, _: Call) -> str:
        error = self._refusal(self._answer)
        if isinstance(error, (AuthenticationError, PermissionDeniedError)):
            raise error
        if self._requester._credentials.fields(self._located, home=True):
            return "the server takes the credentials"
        return "the server asks for none"

    def _refusal(self, reply: Reply) -> ImgstoreError | None:
        now = self._store.clock.time()
        return refusal(reply, None, now=now) if reply.status >= 400 else None

    def _about_credentials(self, error: ImgstoreError) -> str:
        if isinstance(error, PermissionDeniedError):
            told = "let this user, or this machine, read the images"
            if self._given is None:
                told += "; some servers also refuse what is not there: name an image, as STORE:KEY"
            return told
        if self._proxy is not None and "proxy" in error.message:
            return "give the proxy's user and password in 'proxy'"
        if self._requester._credentials.fields(self._located, home=True):
            return "correct the user, password, token or header in the store's section, or renew it"
        return "give username and password, a token or a header in the store's section"

    @property
    def _located(self) -> Address:
        if self._address is None:
            raise NotApplicableError("no address is known")
        return self._address

    @property
    def _server(self) -> Address:
        return self._located if self._proxy is None else self._proxy.address

    @property
    def _answer(self) -> Reply:
        if self._reply is None:
            raise NotApplicableError("there was no reply")
        return self._reply


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (ImgstoreError, NotApplicableError):
        raise
    except Exception as exc:  # noqa: BLE001  # translated, not swallowed
        error = failure(exc)
        raise error from error.__cause__


def _told(sock: object) -> str:
    if not isinstance(sock, ssl.SSLSocket):
        return "agreed with the proxy"
    certificate = sock.getpeercert()
    version = (sock.version() or "TLS").replace("v", " ")
    if not certificate:
        return f"{version}, but nobody looks who the server is: verify_tls is off"
    until = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), timezone.utc)
    return f"{version}, with a certificate that is valid until {until:%Y-%m-%d}"


def _about_names(error: ImgstoreError) -> str:
    if isinstance(error, TimedOutError):
        return "see whether the name servers in /etc/resolv.conf can be reached"
    if isinstance(error, TransientError):
        return "correct the host in the store's section, or see why the name servers do not know it"
    return "run the url_command by hand with the key to see what it prints"


def _about_connecting(error: ImgstoreError) -> str:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED:
        return "start the server, or correct the port: the machine is there, and nothing listens"
    return "see whether the server runs, and whether a firewall or a missing route is in the way"


def _about_tls(error: ImgstoreError) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _CERTIFICATES.get(cause.verify_code, "have the server's certificate corrected")
    if "our certificate" in error.message:
        return "give a client_cert, with its client_key, that the server knows"
    return "see whether this port speaks TLS, and a version that both sides know"


def _about_requests(error: ImgstoreError) -> str:
    if isinstance(error, TransientError):
        return "try again later, or look into the server's log"
    return "see whether the URL in the store's section leads to a web server with images"


def _about_clocks(_: ImgstoreError) -> str:
    return "set the clocks by NTP: certificates and signed requests are judged by them"
