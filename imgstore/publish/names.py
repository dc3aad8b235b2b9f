"""The names that pending files have until they are published, and how the final one is given."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import re
import stat
from typing import Any, Final

from imgstore.errors import UnsupportedError

# Of the target's name in the pending one: the whole stays below the 143 bytes that eCryptfs leaves.
_NAME_LIMIT: Final = 96
_PENDING: Final = re.compile(r"\.(.+)\.[0-9a-f]{16}\.part", re.DOTALL)
# A FIFO of that name would wait without O_NONBLOCK.
_LOOK: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Bytes that a folder of some ten thousand entries has: 20 for each on tmpfs, 50 or so on ext4 and XFS.
_LARGE: Final = 512 << 10
_SELDOM: Final = 64
_RENAME_NOREPLACE: Final = 1  # <linux/fs.h>

# A file system without hard links says one of these (link(2)).
_NO_LINK: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
# One whose rename always replaces says one of these (rename(2)).
_NO_EXCLUSIVE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def pending_name(name: str) -> str:
    """Gives a name for the pending file of `name` that nobody can guess: `.NAME.<random>.part`."""
    return f".{stem(name)}.{os.urandom(8).hex()}.part"


def is_pending(name: str, target: str | None = None) -> bool:
    """Tells whether `name` is one that a pending file has; with `target`, a pending file of that name."""
    found = _PENDING.fullmatch(name)
    return found is not None and (target is None or found[1] == stem(target))


def hold(descriptor: int, name: str, folder: int) -> bool:
    """Marks a pending file as alive until its last descriptor is closed; tells whether it has its name still.

    Where the file system has no locks, nothing is marked, and `reap` removes nothing.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits for nobody but a `reap` that is about to remove it
    try:
        named = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), named)


def reap(folder: int, name: str) -> int:
    """Removes the pending files of `name` in `folder` whose writer is gone; gives their number.

    A writer that lives holds a lock, which ends with its process, however that ends. What is not a regular
    file of this user, and what cannot be opened or removed, is left alone.

    A folder of some ten thousand files takes milliseconds to list: there it is done one time of 64, and then
    for every name.
    """
    target: str | None = name
    with contextlib.suppress(OSError):
        if os.fstat(folder).st_size > _LARGE:
            if random.randrange(_SELDOM):
                return 0
            target = None
        return sum(reap_one(folder, each) for each in os.listdir(folder) if is_pending(each, target))
    return 0


def reap_one(folder: int, pending: str, *, only_look: bool = False) -> bool:
    """Removes a pending file, or only looks: tells whether it is this user's, and its writer gone."""
    try:
        descriptor = os.open(pending, _LOOK, dir_fd=folder)
    except OSError:
        return False
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not only_look:
            os.unlink(pending, dir_fd=folder)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def stem(name: str) -> str:
    """Gives as much of `name` as a longer one has room for."""
    while len(os.fsencode(name)) > _NAME_LIMIT:
        name = name[:-1]
    return name


def has_name(found: os.stat_result, name: str, folder: int) -> bool:
    """Tells whether `name` in `folder` is that of the file, as far as can be told."""
    try:
        return os.path.samestat(found, os.stat(name, dir_fd=folder, follow_symlinks=False))
    except OSError:
        return False


def link_or_rename(old: str, new: str, folder: int, source: int | None = None) -> None:
    """Gives a file a name that must be free: by a link, or where there are none by an exclusive rename.

    `old` is in the folder `source` of the same file system, without it in `folder`; a link leaves it there.
    """
    source = folder if source is None else source
    try:
        os.link(old, new, src_dir_fd=source, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as exc:
        if exc.errno not in _NO_LINK:
            raise
        _rename_exclusively(old, new, folder, source)


def _rename_exclusively(old: str, new: str, folder: int, source: int) -> None:
    import ctypes  # rarely needed, and a quarter of what importing this module would take

    rename: Any = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    code = errno.ENOSYS
    if rename is not None:
        if rename(source, os.fsencode(old), folder, os.fsencode(new), _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
    if code in _NO_EXCLUSIVE:
        raise UnsupportedError(
            f"the file system of {new} cannot give a name without replacing what may have it"
        )
    raise OSError(code, os.strerror(code))
