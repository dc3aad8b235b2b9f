"""What the exceptions of sockets, TLS, http.client and urllib3 mean: one table."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from typing import Final

import urllib3.exceptions as foreign

from imgstore.errors import (
    BadReplyError,
    ConfigError,
    ConnectionLostError,
    ImgstoreError,
    PermanentError,
    StorageIOError,
    TimedOutError,
    TlsError,
    TruncatedError,
)
from imgstore.store import unknown

# How a peer says in mid-stream that it does not accept our certificate (TLS 1.3 says so after the handshake).
_CREDENTIALS: Final = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")
# Limits of this process or machine: another try changes nothing, and the name of the limit helps.
_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NETWORK: Final = frozenset(
    {
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.EHOSTDOWN,
        errno.EADDRNOTAVAIL,
        errno.EPROTO,
        errno.ENOTCONN,
        errno.EIO,
    }
)

# The first row that fits counts. Rows of foreign libraries stand for code paths that are not used here;
# should one come through, it means what its name says.
_TABLE: Final[tuple[tuple[type[Exception], type[ImgstoreError], str], ...]] = (
    (ssl.SSLCertVerificationError, TlsError, "the server could not prove its identity"),
    (ssl.SSLError, ConnectionLostError, "the TLS connection broke"),
    (socket.gaierror, ConnectionLostError, "the server's name could not be looked up"),
    (TimeoutError, TimedOutError, "the server took too long"),
    (ConnectionError, ConnectionLostError, "the connection broke"),
    (http.client.IncompleteRead, TruncatedError, "the connection ended before the body did"),
    (http.client.InvalidURL, ConfigError, "the URL cannot be sent"),
    (http.client.HTTPException, BadReplyError, "the server's reply is not HTTP"),
    (foreign.SSLError, TlsError, "no TLS connection with the server"),
    (foreign.TimeoutError, TimedOutError, "the server took too long"),
    (foreign.IncompleteRead, TruncatedError, "the connection ended before the body did"),
    (foreign.NewConnectionError, ConnectionLostError, "the server could not be reached"),
    (foreign.ProxyError, ConnectionLostError, "the proxy could not be reached"),
    (foreign.InvalidHeader, BadReplyError, "the server sent a malformed header"),
    (foreign.InvalidChunkLength, BadReplyError, "the server sent a chunk without a valid size"),
    (foreign.ProtocolError, ConnectionLostError, "the connection broke"),
    (foreign.HTTPError, PermanentError, "unexpected error of urllib3"),  # may quote a URL: no cause
)


def failure(exc: Exception) -> ImgstoreError:
    """Gives the error that `exc` means, with a cause that holds no URL and no header.

    What is not in the table is a PermanentError: a bug must not look like weather.
    """
    if isinstance(exc, ImgstoreError):
        return exc
    for kind, meaning, text in _TABLE:
        if isinstance(exc, kind):
            error = _refused(exc) or meaning(_told(text, exc))
            break
    else:
        if not isinstance(exc, OSError):
            return unknown(exc)
        error = _by_number(exc)
    error.__cause__ = exc if isinstance(exc, OSError) else None
    return error


def _refused(exc: Exception) -> TlsError | None:
    reason = (getattr(exc, "reason", None) or "") if isinstance(exc, ssl.SSLError) else ""
    if isinstance(exc, ssl.SSLCertVerificationError) or not any(each in reason for each in _CREDENTIALS):
        return None
    return TlsError(f"the server refuses our certificate, or wants one: {_plain(reason)}")


def _by_number(exc: OSError) -> ImgstoreError:
    if exc.errno in _RESOURCES:
        return StorageIOError(f"no connection can be made: {exc.strerror}", errno=exc.errno)
    if exc.errno in _NETWORK:
        return ConnectionLostError(f"the connection broke: {exc.strerror}")
    return unknown(exc)


def _told(text: str, exc: Exception) -> str:
    """Adds what the system says; never the words of a library, which may quote a URL or a header."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        told = getattr(exc, "verify_message", None)
        return f"{text}: {told}" if told else text
    if isinstance(exc, ssl.SSLError):
        told = getattr(exc, "reason", None)
        return f"{text}: {_plain(told)}" if told else text
    if isinstance(exc, OSError) and not isinstance(exc, http.client.HTTPException) and exc.strerror:
        return f"{text}: {exc.strerror}"
    return text


def _plain(reason: str) -> str:
    return reason.replace("_", " ").lower()
