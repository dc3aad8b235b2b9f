"""What foreign exceptions mean, and that none brings a URL along."""

from __future__ import annotations

import errno
import http.client
import pickle
import socket
import ssl

import pytest
import urllib3.exceptions as foreign

from imgstore.backends.http import HttpStore
from imgstore.errors import (
    BadReplyError,
    ConfigError,
    ConnectionLostError,
    ImgstoreError,
    NotFoundError,
    PermanentError,
    StorageIOError,
    TimedOutError,
    TlsError,
    TransientError,
    TruncatedError,
)
from tests import canary


def tls(reason, kind=ssl.SSLError):
    error = kind(1, f"[SSL: {reason}] something (_ssl.c:1)")
    error.reason = reason
    return error


def certificate():
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "certificate has expired"
    return error


URL = f"/?sig={canary.PRESIGNED_QUERY}"

TABLE = [
    (certificate(), TlsError),
    (tls("WRONG_VERSION_NUMBER"), ConnectionLostError),
    (tls("DECRYPTION_FAILED_OR_BAD_RECORD_MAC"), ConnectionLostError),
    (tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), TlsError),
    (tls("TLSV1_ALERT_UNKNOWN_CA"), TlsError),
    (tls("TLSV1_ALERT_ACCESS_DENIED"), TlsError),
    (ssl.SSLEOFError(8, "EOF occurred"), ConnectionLostError),
    (ssl.SSLZeroReturnError(6, "closed"), ConnectionLostError),
    (ssl.SSLSyscallError(5, "x"), ConnectionLostError),
    (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), ConnectionLostError),
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), ConnectionLostError),
    (TimeoutError("timed out"), TimedOutError),
    (ConnectionResetError(errno.ECONNRESET, "reset"), ConnectionLostError),
    (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), ConnectionLostError),
    (BrokenPipeError(errno.EPIPE, "pipe"), ConnectionLostError),
    (OSError(errno.ENETUNREACH, "unreachable"), ConnectionLostError),
    (OSError(errno.EHOSTUNREACH, "no route"), ConnectionLostError),
    (OSError(errno.ENETDOWN, "down"), ConnectionLostError),
    (OSError(errno.EADDRNOTAVAIL, "no ports left"), ConnectionLostError),
    (OSError(errno.EMFILE, "Too many open files"), StorageIOError),
    (OSError(errno.ENFILE, "Too many open files in system"), StorageIOError),
    (OSError(errno.ENOMEM, "no memory"), StorageIOError),
    (OSError(errno.EBADF, "bad descriptor"), PermanentError),
    (http.client.RemoteDisconnected("closed"), ConnectionLostError),
    (http.client.IncompleteRead(b"x", 5), TruncatedError),
    (http.client.BadStatusLine(URL), BadReplyError),
    (http.client.LineTooLong("header line"), BadReplyError),
    (http.client.InvalidURL(URL), ConfigError),
    (foreign.SSLError(URL), TlsError),
    (foreign.ReadTimeoutError(None, URL, URL), TimedOutError),
    (foreign.ConnectTimeoutError(URL), TimedOutError),
    (foreign.IncompleteRead(1, 2), TruncatedError),
    (foreign.ProtocolError(URL), ConnectionLostError),
    (foreign.ProxyError(URL, OSError()), ConnectionLostError),
    (foreign.InvalidHeader(URL), BadReplyError),
    (foreign.LocationParseError(URL), PermanentError),
    (foreign.MaxRetryError(None, URL), PermanentError),
    (RuntimeError("bug"), PermanentError),
    (AttributeError("bug"), PermanentError),
]


@pytest.mark.parametrize(
    "exc,kind", TABLE, ids=[f"{n}-{type(exc).__name__}" for n, (exc, _) in enumerate(TABLE)]
)
def test_the_table(exc, kind):
    error = HttpStore(url="http://h/").translate(exc)
    assert type(error) is kind
    cause = error.__cause__
    assert cause is None or cause is exc
    assert not canary.found(f"{error!r} {error} {cause!r} {cause}")
    assert isinstance(pickle.loads(pickle.dumps(error)), kind)


def test_an_error_of_ours_stays_as_it_is():
    error = NotFoundError("gone")
    assert HttpStore(url="http://h/").translate(error) is error


def test_the_words_of_the_system_are_told():
    translate = HttpStore(url="http://h/").translate
    assert str(translate(certificate())) == "the server could not prove its identity: certificate has expired"
    assert str(translate(ConnectionResetError(104, "Connection reset by peer"))).endswith(
        ": Connection reset by peer"
    )
    assert "certificate required" in str(translate(tls("TLSV13_ALERT_CERTIFICATE_REQUIRED")))
    assert translate(OSError(errno.EMFILE, "Too many open files")).errno == errno.EMFILE


def test_weather_is_told_from_bugs():
    translate = HttpStore(url="http://h/").translate
    weather = {type(exc) for exc, kind in TABLE if issubclass(kind, TransientError)}
    assert RuntimeError not in weather
    assert all(isinstance(translate(exc), ImgstoreError) for exc, _ in TABLE)
    assert isinstance(translate(RuntimeError("bug")).__cause__, RuntimeError)
