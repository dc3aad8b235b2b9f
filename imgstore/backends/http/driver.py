"""The driver for images on web servers, read-only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

from imgstore.backends._http.address import key_of, parse
from imgstore.backends._http.body import Body, Sized, reading
from imgstore.backends._http.client import Client, Exchange, TlsFiles
from imgstore.backends._http.dial import AddressInfo, Resolve, system_resolve
from imgstore.backends._http.failures import failure
from imgstore.backends._http.proxy import Proxies
from imgstore.backends._http.status import refusal
from imgstore.backends._http.watch import Watch
from imgstore.backends._http_range import (
    Reply,
    check_encoding,
    check_version,
    content_length,
    describe,
    framing,
    judge,
    precondition,
    range_header,
    unsatisfied,
)
from imgstore.backends.http.credentials import Headers, credentials
from imgstore.backends.http.options import OPTIONS
from imgstore.backends.http.presign import UrlCommand
from imgstore.backends.http.redirect import RedirectPolicy, read_hosts
from imgstore.backends.http.requester import Place, Requester
from imgstore.errors import BadReplyError, ConfigError, ImgstoreError, RangeNotSatisfiableError
from imgstore.model import ANY, ByteRange, Call, ObjectInfo, Version
from imgstore.secret import Secret, SecretFile
from imgstore.steps import Step
from imgstore.store import Store
from imgstore.stream import Opened

# RFC 9530 §4: digests of the whole image, if the server has them at hand
_DIGESTS: Final = {"Want-Repr-Digest": "sha-256=10, sha-512=5"}
# How servers say that they do not serve HEAD: plainly, or, for a URL that is signed for GET, by refusing it.
_HEAD_REFUSED: Final = frozenset({400, 403, 405, 501})


class HttpStore(Store):
    """Reads images from a web server by ranged GET requests, each reply judged by the rules of RFC 9110.

    Deadline and cancellation end any wait within a second, a name lookup's too. A connection is used again
    only after a body was read to its very end; a stream that is dropped before closes its own. Nothing is
    tried twice here, except once with a credential that was renewed: retrying is the resume layer's.
    """

    OPTIONS = OPTIONS

    # How names become addresses. An embedder, or a test, may set another on an instance.
    resolve: Resolve = staticmethod(system_resolve)

    def __init__(
        self,
        *,
        url: str | None = None,
        url_file: str | None = None,
        username: str | None = None,
        password: Secret | None = None,
        token: Secret | None = None,
        token_file: str | None = None,
        netrc: str | bool | None = None,
        headers: Headers | None = None,
        url_command: str | Sequence[str] | None = None,
        ca_file: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        verify_tls: bool = True,
        proxy: Secret | None = None,
        trust_env: bool = True,
        open_timeout: float = 10.0,
        connect_timeout: float = 5.0,
        receive_timeout: float = 15.0,
        max_redirects: int = 5,
        redirect_hosts: Sequence[str] = (),
        allow_private: bool = False,
    ) -> None:
        """Takes the options; no file is read but `url_file`, and nothing is connected yet.

        Raises: ConfigError naming the option that makes no sense.
        """
        self._place: Place | UrlCommand
        if sum(each is not None for each in (url, url_file, url_command)) != 1:
            raise ConfigError("one of the options 'url', 'url_file' and 'url_command' is needed, and no two")
        option = "the option 'url'"
        if url_file is not None:
            url, option = SecretFile(url_file, "url_file")().strip(), "what is in 'url_file'"
        if url is not None:
            base, user = parse(url, option)
            self._place = Place(base)
            self.endpoint = f"{base.scheme}://{base.authority}"
            if user is not None:
                if username is not None or password is not None:
                    raise ConfigError("a user stands in 'url' and in 'username' or 'password'; give one")
                username, password = user.name, user.password
        self._url_command = url_command
        if url_command is not None:
            self._place = UrlCommand(url_command)
        if client_key is not None and client_cert is None:
            raise ConfigError("the option 'client_key' needs 'client_cert'")
        self._credentials = credentials(
            username=username,
            password=password,
            token=token,
            token_file=token_file,
            netrc=netrc,
            headers=headers,
        )
        self._tls = TlsFiles(ca_file, client_cert, client_key, verify_tls)
        self._proxies = Proxies(proxy, trust_env=trust_env)
        self._policy = RedirectPolicy(max_redirects, read_hosts(redirect_hosts), allow_private)
        self._open_timeout = _positive("open_timeout", open_timeout)
        self._connect_timeout = _positive("connect_timeout", connect_timeout)
        self.receive_timeout = _positive("receive_timeout", receive_timeout)
        if max_redirects < 0:
            raise ConfigError(f"the option 'max_redirects' is {max_redirects}; 0 refuses every redirect")
        self._requesters: dict[int, Requester] = {}

    @classmethod
    def at(cls, url: str, **options: Any) -> tuple[HttpStore, str]:
        """Gives a store that holds the one image at `url`, and its key there.

        The URL is requested as it stands, and its server trusted, as one that the user typed. User and
        password in it become credentials. `options` are those of the constructor.

        Raises: ConfigError.
        """
        address, _ = parse(url, "the URL")
        store = cls(url=url, **options)
        key = key_of(address)
        store._place = Place(address, only=key)
        return store, key

    def translate(self, exc: Exception) -> ImgstoreError:
        return failure(exc)

    @property
    def location(self) -> str:
        """Where the images are, without secrets: a URL, or the program that gives URLs."""
        return str(self._place)

    def steps(self, key: str | None) -> Sequence[Step]:
        """Gives the steps to the server (`imgstore.steps`)."""
        from imgstore.backends.http.check import Way

        return Way(self, key).steps()

    def close(self) -> None:
        super().close()
        requester = self._requesters.get(os.getpid())
        if requester is not None:
            requester.client.close()

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        fields = {"Range": range_header(start, stop), **_DIGESTS}
        if isinstance(version, str):
            fields.update([precondition(version)])
        watch = self._watch(call)
        with _translating():
            exchange = self._requester().send("GET", key, fields, watch)
            try:
                reply = exchange.reply
                if reply.status == 416:
                    return self._unsatisfied(exchange, key, start, version, watch)
                if reply.status not in {200, 206}:
                    raise refusal(reply, version, now=self.clock.time())
                served = judge(reply, key, start, stop, version)
                body = reading(exchange.inlet, framing(reply))
                raw = Body(exchange, body, served.range.size, watch, self.receive_timeout)
                return Opened(raw, served.info, served.range)
            except BaseException:
                exchange.drop()
                raise

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        watch = self._watch(call)
        with _translating():
            # a presigned URL is signed for one method
            info = self._head(key, watch) if self._url_command is None else None
            if info is not None:
                return info
            fields = {"Range": range_header(0, 1), **_DIGESTS}
            exchange = self._requester().send("GET", key, fields, watch)
            try:
                reply = exchange.reply
                if reply.status == 416:
                    return self._unsatisfied(exchange, key, 0, ANY, watch).info
                if reply.status not in {200, 206}:
                    raise refusal(reply, None, now=self.clock.time())
                return judge(reply, key, 0, 1, ANY).info
            finally:
                exchange.drop()

    def _head(self, key: str, watch: Watch, *, refused: bool = False) -> ObjectInfo | None:
        """Describes `key` by HEAD; None where the reply names no size or the method is refused.

        With `refused`, no status is an error.
        """
        exchange = self._requester().send("HEAD", key, _DIGESTS, watch)
        reply = exchange.reply
        exchange.dismiss()
        if reply.status != 200:
            if refused or reply.status < 300 or reply.status in _HEAD_REFUSED:
                return None
            raise refusal(reply, None, now=self.clock.time())
        size = content_length(reply)
        if size is None or reply.values("transfer-encoding") or not _is_identity(reply):
            return None
        return describe(reply, key, size)

    def _unsatisfied(
        self, exchange: Exchange, key: str, start: int, version: Version, watch: Watch
    ) -> Opened:
        """Judges a 416: an empty image read from 0, an offset behind the end, or nonsense."""
        reply = exchange.reply
        size = unsatisfied(reply)
        exchange.dismiss()
        if isinstance(version, str) and (reply.values("etag") or reply.values("last-modified")):
            check_version(reply, version)
        info = describe(reply, key, size)
        if size is None or (size == start == 0 and info.version is None):
            # one question, not ranged; servers leave the validators out of an error reply
            probe = self._head(key, watch, refused=True)
            if probe is not None and size in {None, probe.size}:
                info = probe
        if info.size is None:
            raise reply.bad("a 416 that does not name the image's size")
        if start == info.size == 0:
            return Opened(Body(exchange, Sized(exchange.inlet, 0), 0, watch, 0.0), info, ByteRange(0, 0))
        if start >= info.size:
            raise RangeNotSatisfiableError(
                f"offset {start} lies behind the end of the image ({info.size} bytes)",
                request_id=reply.request_id,
            )
        raise BadReplyError(
            f"the server cannot serve offset {start} of an image of {info.size} bytes",
            request_id=reply.request_id,
        )

    def _watch(self, call: Call) -> Watch:
        watch = Watch(call, self.clock)
        seconds = self._open_timeout
        watch.allow(seconds, f"the server did not begin its reply within {seconds:g} seconds")
        return watch

    def _requester(self) -> Requester:
        """Gives the requester of this process, made at first use: connections do not outlive a fork."""
        pid = os.getpid()
        requester = self._requesters.get(pid)
        if requester is None:
            for other in set(self._requesters) - {pid}:
                self._requesters.pop(other).client.abandon()
            requester = self._requesters.setdefault(pid, self._make_requester())
        return requester

    def _make_requester(self) -> Requester:
        def resolve(host: str, port: int) -> Sequence[AddressInfo]:
            return self.resolve(host, port)

        client = Client(self._tls, resolve=resolve, connect_timeout=self._connect_timeout, clock=self.clock)
        return Requester(
            client=client,
            # with a lock of its own, which no fork can leave locked
            place=self._place if self._url_command is None else UrlCommand(self._url_command),
            credentials=self._credentials,
            proxies=self._proxies,
            policy=self._policy,
            resolve=resolve,
        )


@contextlib.contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except ImgstoreError:
        raise
    except Exception as exc:  # noqa: BLE001  # translated, not swallowed
        error = failure(exc)
        raise error from error.__cause__


def _is_identity(reply: Reply) -> bool:
    try:
        check_encoding(reply)
    except BadReplyError:
        return False
    return True


def _positive(option: str, seconds: float) -> float:
    if not seconds > 0:
        raise ConfigError(f"the option '{option}' is {seconds:g}; it takes seconds above 0")
    return float(seconds)
