"""The errors of imgstore: one hierarchy, picklable, free of secrets.

Every failure of a store is a `StoreError`, which is an `OSError` with `errno` set. `TransientError` may go
away by itself and is what the resume layer acts on; `PermanentError` is final. What a driver does not know
becomes a `PermanentError` with its cause, so that a bug never looks like weather.

Messages are written by this project and name what was wrong and, where something would help, what. They carry
no credential, token, header or query string: URLs go through `redact_url` first.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

_FIELDS = ("key", "store", "offset", "attempts", "request_id", "retryable", "resumable")


def redact_url(url: str) -> str:
    """Gives `url` without what may be secret in it: user, password, query and fragment.

    A query is replaced by `?...`, so that one sees that there was one. What cannot be parsed gives `<url>`,
    and so does a place where a password may have been cut in two: an `@` in the path, a port that is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "<url>"
    if "@" in parts.path or port == 0:
        return "<url>"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", "")) + ("?..." if parts.query else "")


class ImgstoreError(Exception):
    """The root of every error that this library raises on purpose.

    Fields, each None where it does not apply: `key` and `store` (which image of which store), `offset` (bytes
    of the image that were delivered exactly, counted from its start), `attempts` (requests made for this
    call), `request_id` (the provider's own, for a support case).

    `retryable` says that the same call may succeed if it is made again unchanged; `resumable` that what was
    delivered up to `offset` is good, and that a later call may go on from there.
    """

    retryable: bool = False
    resumable: bool = False
    held: float = 0.0  # seconds that this call waited on our own side, for a permit, before it failed

    def __init__(
        self,
        message: str = "",
        *,
        key: str | None = None,
        store: str | None = None,
        offset: int | None = None,
        attempts: int | None = None,
        request_id: str | None = None,
        retryable: bool | None = None,
        resumable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.key = key
        self.store = store
        self.offset = offset
        self.attempts = attempts
        self.request_id = request_id
        if retryable is not None:
            self.retryable = retryable
        if resumable is not None:
            self.resumable = resumable

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        told = [repr(self.message)]
        told += [f"{name}={getattr(self, name)!r}" for name in _FIELDS[:5] if getattr(self, name) is not None]
        return f"{type(self).__name__}({', '.join(told)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.message, dict(self.__dict__), _picklable(self.__cause__))


def _restore(
    cls: type[ImgstoreError], message: str, state: dict[str, Any], cause: BaseException | None
) -> ImgstoreError:
    error = cls(message)
    for name, value in state.items():
        setattr(error, name, value)
    error.__cause__ = cause
    return error


def _picklable(cause: BaseException | None) -> BaseException | None:
    """Gives a cause that any process can unpickle.

    An exception of another library may need that library, hold a socket, or have a constructor that pickle
    cannot call; such a one is replaced by an `Exception` that says its type and its text.
    """
    if cause is None or isinstance(cause, ImgstoreError):
        return cause
    plain = type(cause).__module__ == "builtins" and not vars(
        cause
    )  # a library may have hung its reply on it
    if plain and all(isinstance(arg, (str, int, bytes)) for arg in cause.args):
        return cause
    return Exception(f"{type(cause).__name__}: {cause}")


class ConfigError(ImgstoreError, ValueError):
    """The configuration or an argument makes no sense; the message names it and what would do."""


class UnsafeLocationError(ImgstoreError, ValueError):
    """A key, path, URL or redirect leads where this caller must not be led; nothing was requested there."""


class ManifestError(ImgstoreError, ValueError):
    """A manifest or journal is malformed, too large, of an unknown version, or made of another image."""


class StoreError(ImgstoreError, OSError):
    """An operation on a store failed. `errno` is set to the nearest POSIX code."""

    code: ClassVar[int] = errno.EIO

    def __init__(self, message: str = "", *, errno: int | None = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.errno = self.code if errno is None else errno
        self.strerror = message

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, (cls, message, state, cause) = super().__reduce__()[:2]
        return rebuild, (cls, message, {**state, "errno": self.errno, "strerror": self.strerror}, cause)


class TransientError(StoreError):
    """The failure may go away by itself; another try from the same offset is sensible.

    `retry_after` is the store's own word on when, in seconds from the reply, or None.
    """

    code = errno.EAGAIN
    retryable = True
    resumable = True

    def __init__(self, message: str = "", *, retry_after: float | None = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.retry_after = retry_after


class ConnectionLostError(TransientError, ConnectionError):
    """The connection could not be made, was refused, or broke."""

    code = errno.ECONNRESET


class TimedOutError(TransientError, TimeoutError):
    """A name lookup, a connect, a reply or one receive took longer than it may."""

    code = errno.ETIMEDOUT


class StalledError(TransientError, TimeoutError):
    """Bytes came, but fewer over the stall window than the floor asks for."""

    code = errno.ETIMEDOUT


class ThrottledError(TransientError):
    """The store asks for fewer requests (429, SlowDown)."""


class UnavailableError(TransientError):
    """The store cannot serve at the moment (5xx and their kin)."""


class TruncatedError(TransientError):
    """The body ended before the range did, or ended without a proof that it was complete.

    `unprovable` says that the store's way of sending it could never prove an end: where the size is not known
    from elsewhere, another try cannot end better.
    """

    code = errno.EIO
    unprovable: bool = False


class BadReplyError(TransientError):
    """The reply contradicts the request or itself; none of its bytes were delivered."""

    code = errno.EPROTO


class PermanentError(StoreError):
    """Another try of the same call would fail the same way."""


class NotFoundError(PermanentError, FileNotFoundError):
    """There is no such image. With `offset` > 0 it vanished while it was being read."""

    code = errno.ENOENT


class AlreadyExistsError(PermanentError, FileExistsError):
    """The name is taken, and overwriting was not asked for."""

    code = errno.EEXIST


class PermissionDeniedError(PermanentError, PermissionError):
    """The store knows who is asking and refuses."""

    code = errno.EACCES


class AuthenticationError(PermanentError):
    """The store does not accept the credentials, or wants some."""

    code = errno.EACCES


class TlsError(PermanentError):
    """The peer could not prove its identity, or does not speak TLS; never retried insecurely."""

    code = errno.EPROTO


class RangeNotSatisfiableError(PermanentError):
    """The offset lies behind the end of the image."""

    code = errno.EINVAL


class VersionChangedError(PermanentError):
    """The image is no longer the one that was asked for or that the read began with; nothing was mixed."""

    code = errno.ESTALE


class UnpinnableError(PermanentError):
    """The store has nothing to tell one version from another, and proving the bytes would cost too much."""

    code = errno.ENOTSUP


class DigestMismatchError(PermanentError):
    """The bytes are not those that the digest was made of. `chunks` numbers the bad ones where known."""

    code = errno.EBADMSG

    def __init__(self, message: str = "", *, chunks: Sequence[int] = (), **fields: Any) -> None:
        super().__init__(message, **fields)
        self.chunks = tuple(chunks)


class ProtocolViolationError(PermanentError):
    """The store breaks its protocol each time it is asked."""

    code = errno.EPROTO


class NoSpaceError(PermanentError):
    """The medium or the quota is full. What was stored before is untouched."""

    code = errno.ENOSPC
    resumable = True


class StorageIOError(PermanentError):
    """The medium failed (EIO, a failed fsync, a resource limit): `errno` says how."""

    code = errno.EIO


class InUseError(PermanentError):
    """Somebody else uses the image, and the store refuses the change while that is so."""

    code = errno.EBUSY


class LockedError(PermanentError):
    """Another process owns the journal or the lock."""

    code = errno.EBUSY


class SourceChangedError(PermanentError):
    """The source of an upload is no longer what the upload began with."""

    code = errno.ESTALE


class UploadLostError(PermanentError):
    """The store no longer knows the upload (expired or reaped)."""

    code = errno.ENOENT


class ConflictError(PermanentError):
    """Another writer got there first; its image is intact."""

    code = errno.EEXIST


class UnsupportedError(PermanentError):
    """This store cannot do that for this image; the message names what is missing."""

    code = errno.ENOTSUP


class RetriesExhaustedError(PermanentError):
    """Too many tries in a row brought no progress. `__cause__` is the last failure."""

    code = errno.EIO
    retryable = True
    resumable = True


class DeadlineExceededError(PermanentError):
    """The caller's deadline passed. `__cause__` is the last failure, if there was one."""

    code = errno.ETIMEDOUT
    resumable = True


class OperationCancelledError(PermanentError):
    """The caller called it off."""

    code = errno.ECANCELED
    resumable = True
