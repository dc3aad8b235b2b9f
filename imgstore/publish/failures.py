"""What the failure of a file operation means."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from typing import Final

from imgstore.errors import (
    AlreadyExistsError,
    ImgstoreError,
    InUseError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    StorageIOError,
    StoreError,
    TimedOutError,
    UnsafeLocationError,
)

_ERRORS: Final[Mapping[int | None, type[StoreError]]] = {
    errno.ENOSPC: NoSpaceError,
    errno.EDQUOT: NoSpaceError,
    errno.EFBIG: NoSpaceError,  # larger than the file system, or a limit of the process, allows a file to be
    errno.EACCES: PermissionDeniedError,
    errno.EPERM: PermissionDeniedError,
    errno.EROFS: PermissionDeniedError,
    errno.ENOENT: NotFoundError,
    errno.ENOTDIR: NotFoundError,
    errno.EEXIST: AlreadyExistsError,
    errno.EBUSY: InUseError,
    errno.ETXTBSY: InUseError,
    errno.ETIMEDOUT: TimedOutError,  # a network file system mounted soft
}
_UNSAFE: Final = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.ENAMETOOLONG})


def file_error(exc: OSError, what: str) -> ImgstoreError:
    """Gives the typed error of a failed file operation; `what` is the sentence it begins with."""
    message = f"{what}: {os.strerror(exc.errno) if exc.errno else type(exc).__name__}"
    if exc.errno in _UNSAFE:
        return UnsafeLocationError(message)
    return _ERRORS.get(exc.errno, StorageIOError)(message, errno=exc.errno)


@contextlib.contextmanager
def typed(what: str) -> Iterator[None]:
    """Gives a failed file operation its type; `what` is the sentence that its message begins with."""
    try:
        yield
    except ImgstoreError:
        raise
    except OSError as exc:
        raise file_error(exc, what) from exc
