"""The one way to a path below a data directory: name after name, none of them a link, each found in the last.

Every step starts at the descriptor of the folder before it, so that no race can lead out: a folder that is
exchanged for a link is refused, one that is moved away is gone on from where it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Sequence
from typing import Final

from imgstore.backends.filesystem.locks import released
from imgstore.errors import (
    ImgstoreError,
    LockedError,
    NotFoundError,
    UnsafeLocationError,
    UnsupportedError,
)
from imgstore.model import KEY_LIMIT
from imgstore.publish import file_error, sync_folder

_PASS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO would wait for a writer without O_NONBLOCK; a terminal would become ours without O_NOCTTY.
_IMAGE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_DEPTH: Final = KEY_LIMIT // 2  # of folders that a key can name

# A put whose folder is removed by a delete walks again: each time is a lost race of microseconds.
_TRIES: Final = 200
_PAUSE: Final = 0.005  # seconds; a second in all


def open_image(root: int, folders: Sequence[str], name: str, key: str) -> int:
    """Opens the regular file of `key` for reading.

    Raises: NotFoundError, UnsafeLocationError for a link on the way and for what is no regular file,
    PermissionDeniedError, StorageIOError.
    """
    at = descend(root, folders, key)
    try:
        with _named(name, at, key):
            # Looked at first, since merely opening a device can do something (a tape rewinds).
            check_regular(os.stat(name, dir_fd=at, follow_symlinks=False), key)
            return os.open(name, _IMAGE, dir_fd=at)
    finally:
        os.close(at)


def look(root: int, folders: Sequence[str], name: str, key: str) -> os.stat_result:
    """Gives what stands under `key`, if it is a regular file. Raises: as `open_image`."""
    at = descend(root, folders, key)
    try:
        with _named(name, at, key):
            found = os.stat(name, dir_fd=at, follow_symlinks=False)
        check_regular(found, key)
        return found
    finally:
        os.close(at)


def descend(root: int, folders: Sequence[str], key: str, flags: int = _PASS) -> int:
    """Opens the last of `folders`, to pass through, or with `flags`; the caller closes it."""
    at = root
    steps = [".", *folders]
    for number, step in enumerate(steps, 1):
        try:
            with _named(step, at, key):
                below = os.open(step, flags if number == len(steps) else _PASS, dir_fd=at)
        finally:
            if at != root:
                os.close(at)
        at = below
    return at


def open_folder(root: int, folders: Sequence[str], key: str) -> int:
    """Opens the last of `folders` so that it can be listed, locked and synced. Raises: as `open_image`."""
    return descend(root, folders, key, _FOLDER)


def sync(root: int, folders: Sequence[str], key: str) -> None:
    """Makes the names in the last of `folders` durable. Raises: as `open_image`."""
    folder = open_folder(root, folders, key)
    try:
        sync_folder(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def held(root: int, folders: Sequence[str], key: str) -> Iterator[int]:
    """Gives the last of `folders`, made and durable, and kept from removal until the block ends.

    Where the block fails, folders that were made for it and are still empty are removed.

    Raises: UnsupportedError where an image is in the way, UnsafeLocationError for a link, LockedError where
    the folder is removed again and again, PermissionDeniedError, NoSpaceError, StorageIOError.
    """
    at, present = _made(root, folders, key)
    try:
        try:
            with released(at):
                yield at
        finally:
            os.close(at)
    except BaseException:
        prune(root, folders, present)
        raise


def prune(root: int, folders: Sequence[str], keep: int = 0) -> None:
    """Removes those of `folders` below the first `keep` that are empty and that no put holds."""
    for depth in range(len(folders), keep, -1):
        try:
            _remove(root, folders[:depth])
        except FileNotFoundError:
            continue  # it was never made; the one above it may have been
        except (OSError, ImgstoreError):
            return  # not empty, held, or another's: nothing is lost where it stays


def prune_tree(root: int, folders: Sequence[str]) -> None:
    """Removes the last of `folders` if there is nothing below it but empty folders that no put holds.

    Where there is more, some of the empty folders may be gone.
    """
    left = [list(folders)]
    with contextlib.suppress(OSError, ImgstoreError):
        while left and len(path := left[-1]) <= _DEPTH:
            below = _entries(root, path)
            if not all(below.values()):
                return
            if below:
                left += [[*path, name] for name in below]
            else:
                _remove(root, left.pop())


def _entries(root: int, folders: Sequence[str]) -> dict[str, bool]:
    """Gives the names in the last of `folders`, and whether they are those of folders."""
    at = open_folder(root, folders, "")
    try:
        with os.scandir(at) as entries:
            return {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    finally:
        os.close(at)


def check_regular(found: os.stat_result, key: str) -> None:
    """Raises: UnsafeLocationError for anything but a regular file, NotFoundError for a folder."""
    if stat.S_ISREG(found.st_mode):
        return
    if stat.S_ISDIR(found.st_mode):
        # As in a store without folders: what is only the beginning of keys is no key.
        raise NotFoundError(f"{key!r} is a folder, not an image")
    raise UnsafeLocationError(f"{key!r} is {_kind(found)}; an image is a regular file", key=key)


def _leads_through(found: os.stat_result, name: str, key: str) -> UnsafeLocationError:
    return UnsafeLocationError(f"{key!r} leads through {name!r}, which is {_kind(found)}", key=key)


def _kind(found: os.stat_result) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a block device",
        stat.S_IFCHR: "a device",
    }
    return kinds.get(stat.S_IFMT(found.st_mode), "no file")


def _made(root: int, folders: Sequence[str], key: str) -> tuple[int, int]:
    """Gives the held folder, and how many of `folders` were there before."""
    present = len(folders)
    for _ in range(_TRIES):
        at = os.open(".", _FOLDER, dir_fd=root)
        try:
            for depth, folder in enumerate(folders):
                below, new = _make(at, folder, key)
                present = min(present, depth) if new else present
                os.close(at)
                at = below
            if not folders or _keep(at):
                return at, present
        except FileNotFoundError:
            pass  # a delete removed the folder in which the next was to be made
        except BaseException:
            os.close(at)
            prune(root, folders, present)
            raise
        os.close(at)
        time.sleep(_PAUSE)
    raise LockedError(f"cannot keep a folder for {key!r}: it is removed as often as it is made", key=key)


def _make(parent: int, name: str, key: str) -> tuple[int, bool]:
    """Opens the folder `name`, made if there is none; tells whether it was. Raises: FileNotFoundError too."""
    new = False
    try:
        try:
            os.mkdir(name, dir_fd=parent)
            new = True
        except FileExistsError:
            pass
        below = os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        raise
    except OSError as exc:
        if isinstance(exc, NotADirectoryError):
            _check_in_the_way(parent, name, key)
        _unmake(parent, name, new=new)
        raise file_error(exc, f"cannot make the folder {name!r} of {key!r}") from exc
    try:
        # Also where it stood there: whoever made it may not have come to this yet.
        sync_folder(parent)
    except OSError as exc:
        os.close(below)
        _unmake(parent, name, new=new)
        raise file_error(exc, f"cannot make the folder {name!r} of {key!r} durable") from exc
    return below, new


def _unmake(parent: int, name: str, *, new: bool) -> None:
    if new:
        with contextlib.suppress(OSError):  # another put is in it already, or the disk is past that
            os.rmdir(name, dir_fd=parent)


def _check_in_the_way(parent: int, name: str, key: str) -> None:
    """Raises: FileNotFoundError where nothing is in the way any more."""
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISREG(found.st_mode):
        raise UnsupportedError(
            f"{name!r} is an image, and a file system keeps no {key!r} below one; choose another key"
        )
    if stat.S_ISDIR(found.st_mode):
        raise FileNotFoundError
    raise _leads_through(found, name, key)


def _keep(folder: int) -> bool:
    """Holds `folder` against `prune`, until it is closed; tells whether it is still there to be held."""
    try:
        fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # it is being removed
    except OSError:
        pass  # a file system without locks: `prune` gets none either, and leaves the folder alone
    return os.fstat(folder).st_nlink > 0


def _remove(root: int, folders: Sequence[str]) -> None:
    parent = descend(root, folders[:-1], "")
    try:
        folder = os.open(folders[-1], _FOLDER, dir_fd=parent)
        try:
            with released(folder):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rmdir(folders[-1], dir_fd=parent)
        finally:
            os.close(folder)
    finally:
        os.close(parent)


@contextlib.contextmanager
def _named(name: str, folder: int, key: str) -> Iterator[None]:
    """Tells a link in the way, which the kernel reports as ENOTDIR or ELOOP, from what is not there."""
    try:
        yield
    except ImgstoreError:
        raise
    except FileNotFoundError as exc:
        raise NotFoundError(f"there is no {key!r}") from exc
    except NotADirectoryError as exc:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise _leads_through(found, name, key) from exc
        raise NotFoundError(f"there is no {key!r}: {name!r} is no folder") from exc
    except OSError as exc:
        raise file_error(exc, f"cannot read {key!r}") from exc
