"""What refusals of Swift, and the exceptions of its client libraries, mean: one table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from imgstore.backends._http.failures import failure
from imgstore.backends._http.status import refusal
from imgstore.backends._http_range import Reply
from imgstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BadReplyError,
    ConfigError,
    ConnectionLostError,
    DigestMismatchError,
    ImgstoreError,
    NoSpaceError,
    PermanentError,
    PermissionDeniedError,
    StoreError,
    ThrottledError,
    TimedOutError,
    TlsError,
    UnavailableError,
    VersionChangedError,
)
from imgstore.store import Store

# What Swift means by a status where it differs from a web server's.
_STATUSES: Final[dict[int, tuple[type[StoreError], str]]] = {
    411: (BadReplyError, "missed the length of what was sent"),
    412: (AlreadyExistsError, "has an image of that name"),
    413: (NoSpaceError, "takes no more: a quota is used up, or one object may not be that large"),
    422: (BadReplyError, "received other bytes than were sent"),
    498: (ThrottledError, "asks for fewer requests"),
    507: (NoSpaceError, "has no room left"),
}

# By name, for both libraries are imported at first use only. The first name found in the type's ancestry.
_FOREIGN: Final[dict[str, tuple[type[ImgstoreError], str]]] = {
    "Unauthorized": (AuthenticationError, "Keystone does not accept the credentials"),
    "Forbidden": (PermissionDeniedError, "Keystone refuses this user"),
    "EmptyCatalog": (ConfigError, "Keystone gave a catalog without services; name a project"),
    "EndpointNotFound": (
        ConfigError,
        "Keystone's catalog has no such service; correct region, interface or service_type, or set endpoint",
    ),
    "AuthorizationFailure": (ConfigError, "the options do not make a login to Keystone"),
    "SSLError": (TlsError, "no TLS connection with Keystone"),
    "ConnectTimeout": (TimedOutError, "Keystone took too long"),
    "ConnectionError": (ConnectionLostError, "Keystone could not be reached"),
    "InvalidResponse": (BadReplyError, "Keystone's reply makes no sense"),
    "NotFound": (ConfigError, "there is no Keystone v3 at auth_url; it is http://HOST:5000/v3 as a rule"),
    "TooManyRequests": (ThrottledError, "Keystone asks for fewer requests"),
    "HttpServerError": (UnavailableError, "Keystone cannot serve now"),
    "RequestTimeout": (UnavailableError, "Keystone gave up waiting for the request"),
    "HttpError": (PermanentError, "Keystone refuses the request"),
    "ClientException": (PermanentError, "unexpected error of keystoneauth1 or python-swiftclient"),
}


class RefusedError(Exception):
    """A reply whose status is no success, for whoever asked to judge."""

    def __init__(self, reply: Reply, body: bytes = b"") -> None:
        super().__init__(f"status {reply.status}")
        self.reply = reply
        self.body = body

    @property
    def status(self) -> int:
        return self.reply.status


def translate(exc: Exception) -> ImgstoreError:
    """Gives the error that `exc` means; a Retry-After that is a date counts by the server's own clock."""
    if isinstance(exc, ImgstoreError):
        return exc
    if isinstance(exc, RefusedError):
        return _refused(exc.reply)
    for base in type(exc).__mro__:
        if (
            base.__module__.partition(".")[0] in {"keystoneauth1", "swiftclient"}
            and base.__name__ in _FOREIGN
        ):
            return _foreign(exc, *_FOREIGN[base.__name__])
    return failure(exc)


def _refused(reply: Reply) -> StoreError:
    if reply.status in _STATUSES:
        kind, reason = _STATUSES[reply.status]
        return kind(f"the server {reason} (status {reply.status})", request_id=reply.request_id)
    return refusal(reply, None, now=0.0)


def _foreign(exc: Any, kind: type[ImgstoreError], said: str) -> ImgstoreError:
    """Never the library's own words: they quote URLs, and what the service answered."""
    status = getattr(exc, "http_status", None)
    text = f"{said} (status {status})" if isinstance(status, int) and status else said
    return kind(text, request_id=getattr(exc, "request_id", None))


def changed(reply: Reply | None = None) -> VersionChangedError:
    """Gives the error for an image that is another by now."""
    return VersionChangedError(
        "the store holds another version of the image", request_id=None if reply is None else reply.request_id
    )


def damaged_part(reply: Reply) -> DigestMismatchError:
    """Gives the error for bytes whose digest the server did not confirm, though it took them."""
    return DigestMismatchError(
        "the server stored other bytes than were sent: its ETag differs", request_id=reply.request_id
    )


@contextlib.contextmanager
def typed(owner: Store, key: str) -> Iterator[None]:
    """Raises what goes wrong in the block as an error of this library that names `key` and the store."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001  # translated, not swallowed
        fail(owner, key, exc)


def fail(owner: Store, key: str, exc: Exception) -> NoReturn:
    """Raises `exc` as `typed` does."""
    error = owner._translated(exc, key)
    raise error from error.__cause__
