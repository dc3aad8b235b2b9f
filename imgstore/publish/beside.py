"""What stands beside the target of a download: the half image and its journal, and whose they are.

For `disk.img` they are `disk.img.part` and `disk.img.part.journal`. Who works on them holds a lock on the
journal, which ends with the process, however that ends; no other process looks at either file meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Container
from typing import Final

from imgstore.errors import LockedError, UnsafeLocationError, UnsupportedError
from imgstore.publish.names import stem
from imgstore.publish.pending import sync_folder

PART: Final = ".part"
JOURNAL: Final = ".part.journal"
_NAME_LIMIT: Final = 143  # bytes: what eCryptfs leaves of the 255 of others

# A FIFO of that name would wait without O_NONBLOCK.
_OWN: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# A file system without locks says one of these (flock(2)).
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
# Seconds: who looks for leftovers holds a lock for some microseconds.
_LOOKS: Final = (0.01, 0.03, 0.1)


def names_beside(target: str) -> tuple[str, str]:
    """Gives the names of the half image and of the journal of the file name `target`.

    One that would be too long is cut, and ends in a digest of all of it.
    """
    if len(os.fsencode(target + JOURNAL)) > _NAME_LIMIT:
        target = f"{stem(target)}.{hashlib.sha256(os.fsencode(target)).hexdigest()[:20]}"
    return target + PART, target + JOURNAL


def is_beside(name: str, names: Container[str]) -> bool:
    """Tells whether a file is a half image or its journal, in a folder that has those `names`."""
    return name.endswith(JOURNAL) or (name.endswith(PART) and f"{name.removesuffix(PART)}{JOURNAL}" in names)


def lock_journal(folder: int, name: str, path: str, *, create: bool) -> int | None:
    """Opens and locks the journal `name` in `folder`, for the target `path`; None where there is none.

    With `create` it is made. The lock ends with the last descriptor, also that of a child that was forked.

    Raises: LockedError where another process has it, UnsafeLocationError for one that others can write to or
    that is no file of this user, UnsupportedError where the file system has no locks or keeps no file to one
    user, OSError.
    """
    while True:
        try:
            file, is_new = _opened(folder, name, create=create)
        except FileNotFoundError:
            if create:
                raise
            return None
        try:
            _check_kept_to_one(file, path, name, is_new=is_new)
            if _is_locked(file, name, folder, path):
                return file
        except UnsupportedError:
            if not os.fstat(file).st_size:
                os.unlink(name, dir_fd=folder)
            os.close(file)
            raise
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its owner has removed it meanwhile


def open_part(folder: int, name: str, path: str) -> int:
    """Opens the half image `name`, whose journal is locked, and makes it where there is none.

    One that has another name too is a published image: that is left alone, and a new file gets this name.

    Raises: UnsafeLocationError for what is no file of this user, OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        is_own = found.st_uid == os.geteuid()
        if is_own and (stat.S_ISLNK(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1)):
            os.unlink(name, dir_fd=folder)
    file = os.open(name, _OWN | os.O_CREAT, 0o600, dir_fd=folder)
    try:
        _check_own(os.fstat(file), path, name)
    except BaseException:
        os.close(file)
        raise
    return file


def has_bytes(folder: int, name: str) -> bool:
    """Tells whether `name` is there, and anything but an empty file. Raises: OSError."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(found.st_mode) or found.st_size > 0


def remove_beside(folder: int, part: str, name: str) -> None:
    """Removes a half image and then its journal `name`, which is locked. Raises: OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part, dir_fd=folder)
        try:
            # Or else a power loss may leave it without its journal, and then it is nobody's.
            sync_folder(folder)
        except OSError:
            os.unlink(name, dir_fd=folder)
            raise
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _opened(folder: int, name: str, *, create: bool) -> tuple[int, bool]:
    """Opens a file; tells whether it was made. Raises: OSError."""
    making = _OWN | os.O_CREAT if create else _OWN
    if create:
        with contextlib.suppress(FileExistsError):
            return os.open(name, making | os.O_EXCL, 0o600, dir_fd=folder), True
    return os.open(name, making, 0o600, dir_fd=folder), False


def _check_kept_to_one(file: int, path: str, name: str, *, is_new: bool) -> None:
    """As `_check_own`. Raises: UnsupportedError for a new one: the file system can make no other."""
    try:
        _check_own(os.fstat(file), path, name)
    except UnsafeLocationError as exc:
        if is_new:
            raise UnsupportedError(f"the file system of {path} keeps no file to one user") from exc
        raise


def _check_own(found: os.stat_result, path: str, name: str) -> None:
    own = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink <= 1
    if not own or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsafeLocationError(
            f"cannot write {path}: {name} beside it is no file that this user alone can write to; remove it"
        )


def _lock(file: int) -> None:
    for pause in _LOOKS:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(pause)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_locked(file: int, name: str, folder: int, path: str) -> bool:
    """Locks the open file, and tells whether it has its name still."""
    try:
        _lock(file)
    except BlockingIOError:
        raise LockedError(f"another copy to {path} is running; wait for it, or end it") from None
    except OSError as exc:
        if exc.errno not in _NO_LOCKS:
            raise
        raise UnsupportedError(f"the file system of {path} has no locks") from exc
    try:
        named = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        if not os.fstat(file).st_size:  # just made, or made for nothing
            os.unlink(name, dir_fd=folder)
        raise
    return os.path.samestat(os.fstat(file), named)
