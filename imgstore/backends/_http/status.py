"""What a refusal means: the table of statuses, and how long the server wants to be left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from imgstore.backends._http_range import Reply, http_date
from imgstore.errors import (
    AuthenticationError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    StoreError,
    ThrottledError,
    TransientError,
    UnavailableError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.model import Version

# "Not today": whatever is longer says the same, and nobody may be told to sleep for 10**9 seconds.
RETRY_AFTER_LIMIT: Final = 86400.0

REFUSALS: Final[Mapping[int, tuple[type[StoreError], str]]] = {
    400: (PermanentError, "finds the request malformed"),
    401: (AuthenticationError, "does not accept the credentials, or wants some"),
    402: (PermissionDeniedError, "wants to be paid first"),
    403: (PermissionDeniedError, "refuses this caller"),
    404: (NotFoundError, "has no such image"),
    405: (UnsupportedError, "does not allow this method"),
    407: (AuthenticationError, "stands behind a proxy that wants other credentials"),
    408: (UnavailableError, "gave up waiting for the request"),
    409: (UnavailableError, "reports a conflict"),
    410: (NotFoundError, "no longer has this image"),
    421: (UnavailableError, "was reached over the wrong connection"),
    425: (UnavailableError, "calls the request too early"),
    429: (ThrottledError, "asks for fewer requests"),
    451: (PermissionDeniedError, "must not give this image away"),
    501: (UnsupportedError, "does not know this method"),
    505: (UnsupportedError, "does not speak HTTP/1.1"),
    509: (ThrottledError, "has used up its bandwidth"),
}

_CALLER: Final = (PermanentError, "refuses the request")
_SERVER: Final = (UnavailableError, "cannot serve now")


def refusal(reply: Reply, version: Version, *, now: float) -> StoreError:
    """Gives the error for a status that is no success; `now`, in POSIX seconds, dates a Retry-After."""
    status = reply.status
    if status == 412 and isinstance(version, str):
        return VersionChangedError(
            "the server no longer holds that version of the image", request_id=reply.request_id
        )
    if status < 400 or status == 412:
        return reply.bad(f"status {status}, which answers no question that was asked")
    kind, reason = REFUSALS.get(status, _SERVER if status >= 500 else _CALLER)
    error = kind(f"the server {reason} (status {status})", request_id=reply.request_id)
    if isinstance(error, TransientError):
        error.retry_after = retry_after(reply, now=now)
    return error


def retry_after(reply: Reply, *, now: float) -> float | None:
    """Gives the seconds to wait by Retry-After (RFC 9110 §10.2.3), None without a legible one.

    A date is measured by the server's own clock where it tells the time, else from `now` (POSIX seconds).
    """
    value = reply.single("retry-after")
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return RETRY_AFTER_LIMIT if len(value) > 9 else min(float(value), RETRY_AFTER_LIMIT)
    then = http_date(value)
    if then is None:
        return None
    here = http_date(reply.single("date"))
    return min(max(then - (now if here is None else here), 0.0), RETRY_AFTER_LIMIT)
