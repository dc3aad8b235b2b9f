"""What a file is to be published as: its folder, what has that name already, and writing all of a buffer."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import Final

from imgstore.errors import (
    AlreadyExistsError,
    ConfigError,
    StorageIOError,
    UnsafeLocationError,
    UnsupportedError,
)

# A write that takes no byte (EAGAIN, or 0) is tried again this often in a row, some ten seconds in all.
IDLE_LIMIT: Final = 1000
IDLE_PAUSE: Final = 0.01


def open_folder(path: str, dir_fd: int | None = None) -> int:
    """Opens the folder of `path`, which starts at the folder `dir_fd` where it is relative.

    Raises: ConfigError for what cannot name a file, OSError.
    """
    folder, name = os.path.split(path)
    folder = folder or "."
    if name in {"", ".", ".."} or "\0" in path:
        raise ConfigError(f"{path!r} names no file; add a file name")
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    except FileNotFoundError:
        raise ConfigError(f"there is no folder {folder} to put {name} in; create it first") from None
    except NotADirectoryError:
        raise ConfigError(f"{folder} is not a folder, so {name} cannot be put in it") from None


def standing(path: str, folder: int) -> os.stat_result | None:
    """Tells of the regular file that has the name already, in the open `folder`; None where there is none.

    Raises: ConfigError for a folder, UnsupportedError for a block device, UnsafeLocationError for a link,
    FIFO, socket or device, OSError.
    """
    try:
        found = os.stat(os.path.basename(path), dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path} is a folder; name the file in it")
    if stat.S_ISBLK(found.st_mode):
        raise UnsupportedError(f"{path} is a block device; this version writes to files")
    if stat.S_ISLNK(found.st_mode):
        raise UnsafeLocationError(f"{path} is a symbolic link; name the file it leads to, or remove it")
    if not stat.S_ISREG(found.st_mode):
        raise UnsafeLocationError(f"{path} is a FIFO, socket or device; nothing was written to it")
    return found


def taken(path: str) -> AlreadyExistsError:
    """Gives the refusal to replace what is there."""
    return AlreadyExistsError(f"{path} exists already")


def write_all(view: memoryview, write: Callable[[memoryview, int], int], path: str) -> None:
    """Writes all of `view`: `write` is given what is left and how much is done, and gives the bytes it took.

    Raises: StorageIOError where it takes none for ten seconds; as `write`.
    """
    done = idle = 0
    while done < len(view):
        try:
            count = write(view[done:], done)
        except BlockingIOError:
            count = 0
        done += count
        idle = 0 if count else idle + 1
        if idle == IDLE_LIMIT:
            raise StorageIOError(f"cannot write {path}: the file system takes no byte and gives no reason")
        if idle:
            time.sleep(IDLE_PAUSE)
