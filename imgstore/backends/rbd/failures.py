"""What the errors of librados and librbd mean."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from typing import Final, NoReturn

from imgstore.errors import (
    AlreadyExistsError,
    ConnectionLostError,
    ImgstoreError,
    InUseError,
    NoSpaceError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    StorageIOError,
    StoreError,
    TimedOutError,
    UnavailableError,
    UnsupportedError,
)
from imgstore.store import Store, unknown

# The client was fenced off ("blocklisted", another broke its lock) or shut down: only a new one can go on.
FENCED: Final = frozenset({errno.ESHUTDOWN, errno.ENOTCONN})

_TABLE: Final[Mapping[int, tuple[type[StoreError], str]]] = {
    errno.ENOENT: (NotFoundError, "there is no such image"),
    errno.EEXIST: (AlreadyExistsError, "there is an image of that name"),
    errno.EPERM: (PermissionDeniedError, "the cluster does not let this user do that"),
    errno.EACCES: (PermissionDeniedError, "the cluster does not let this user do that"),
    errno.EBUSY: (InUseError, "the image is in use"),
    errno.ENOTEMPTY: (InUseError, "the image has snapshots"),
    errno.EROFS: (InUseError, "another process has the image locked"),
    errno.ENOSPC: (NoSpaceError, "the pool is full"),
    errno.EDQUOT: (NoSpaceError, "the pool's quota is used up"),
    errno.EIO: (StorageIOError, "the cluster could not read or write its disks"),
    errno.EOPNOTSUPP: (UnsupportedError, "the cluster or the image cannot do that"),
    errno.ENOSYS: (UnsupportedError, "the cluster or the image cannot do that"),
    errno.ETIMEDOUT: (TimedOutError, "the cluster did not answer in time"),
    errno.EAGAIN: (UnavailableError, "the cluster cannot do that at the moment"),
    errno.EINTR: (UnavailableError, "the operation was interrupted"),
    errno.ESHUTDOWN: (ConnectionLostError, "the cluster has fenced this client off"),
    errno.ENOTCONN: (ConnectionLostError, "the cluster has fenced this client off"),
    errno.ECONNREFUSED: (ConnectionLostError, "the cluster refused the connection"),
    errno.ECONNRESET: (ConnectionLostError, "the connection to the cluster broke"),
    errno.ECONNABORTED: (ConnectionLostError, "the connection to the cluster broke"),
    errno.EPIPE: (ConnectionLostError, "the connection to the cluster broke"),
    errno.EHOSTUNREACH: (ConnectionLostError, "the cluster cannot be reached"),
    errno.ENETUNREACH: (ConnectionLostError, "the cluster cannot be reached"),
}


def number_of(exc: BaseException) -> int:
    """Gives the errno of an exception of the bindings, 0 for any other."""
    return abs(int(getattr(exc, "errno", None) or 0)) if is_foreign(exc) else 0


def is_foreign(exc: BaseException) -> bool:
    """Whether an exception is one of the bindings; some have no errno."""
    return type(exc).__module__ in {"rados", "rbd"}


def failure(exc: Exception) -> ImgstoreError:
    """Gives the error that `exc` means. The bindings are not imported for that.

    What is not in the table is a PermanentError: a bug must not look like weather.
    """
    if isinstance(exc, ImgstoreError):
        return exc
    number = number_of(exc)
    if not number:
        return unknown(exc)
    error = by_number(number)
    error.__cause__ = exc
    return error


def by_number(number: int) -> StoreError:
    """Gives the error that an errno of librados or librbd means."""
    if number not in _TABLE:
        return PermanentError(f"unexpected error of the cluster: {os.strerror(number)}", errno=number)
    kind, text = _TABLE[number]
    return kind(text, errno=number)


@contextlib.contextmanager
def typed(owner: Store, key: str) -> Iterator[None]:
    """Raises what goes wrong in the block as an error of this library that names `key` and the store."""
    try:
        yield
    except Exception as exc:
        if not (isinstance(exc, ImgstoreError) or is_foreign(exc)):
            raise
        fail(owner, key, exc)


def fail(owner: Store, key: str, exc: Exception) -> NoReturn:
    """Raises `exc` as `typed` does."""
    error = owner._translated(exc, key)
    raise error from (error.__cause__ if error is exc else exc)
