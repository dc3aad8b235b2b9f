"""A store of files below one folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from oslo_config import cfg

from imgstore.errors import (
    ImgstoreError,
    NotFoundError,
    OperationCancelledError,
    RangeNotSatisfiableError,
    StorageIOError,
    UnsafeLocationError,
    VersionChangedError,
)
from imgstore.model import ByteRange, Call, ObjectInfo, Version
from imgstore.publish import file_error
from imgstore.store import Store, unknown
from imgstore.stream import Opened

# One read of the medium: far below a second even on a slow one, so that a cancelled read ends in time.
_RECEIVE = 8 << 20

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A FIFO would wait for a writer without O_NONBLOCK; a terminal would become ours without O_NOCTTY.
_IMAGE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class FilesystemStore(Store):
    """Regular files below `data_dir`, which may itself be a link; no link is followed below it.

    A key is the path below it. Its version is the file's inode, size and times: a file that is replaced by a
    rename is read to its end as it was, one that is written to in place ends in VersionChangedError, at the
    latest with its last bytes.
    """

    OPTIONS: ClassVar[list[cfg.Opt]] = [
        cfg.StrOpt(
            "data_dir",
            required=True,
            help="The folder that holds the images. Keys are paths below it; links below it are not "
            "followed, and only regular files are images. It may be a link itself.",
        ),
    ]

    def __init__(self, *, data_dir: str | os.PathLike[str]) -> None:
        self._data_dir = os.fspath(data_dir)

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        reader = _FileReader(self._walk(key), key)
        try:
            info = reader.info
            if isinstance(version, str) and info.version != version:
                raise VersionChangedError(f"{key!r} is not the version that was asked for any more")
            if start > reader.size or start == reader.size > 0:
                raise RangeNotSatisfiableError(
                    f"offset {start} lies behind the end of {key!r} ({reader.size} bytes)"
                )
            served = ByteRange(start, reader.size if stop is None else min(stop, reader.size))
            reader.begin(served)
        except BaseException:
            reader.close()
            raise
        return Opened(reader, info, served)

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        reader = _FileReader(self._walk(key), key)
        reader.close()
        return reader.info

    def translate(self, exc: Exception) -> ImgstoreError:
        if isinstance(exc, ImgstoreError):
            return exc
        if isinstance(exc, OSError):
            return file_error(exc, "cannot read the image")
        return unknown(exc)

    def _walk(self, key: str) -> int:
        """Opens the file of `key`: folder after folder, none of them a link, each found in the last."""
        *folders, name = key.split("/")
        try:
            at = os.open(self._data_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise file_error(exc, f"cannot open the data directory {self._data_dir}") from exc
        try:
            for folder in folders:
                with _named(folder, at, key):
                    below = os.open(folder, _FOLDER, dir_fd=at)
                os.close(at)
                at = below
            with _named(name, at, key):
                # Looked at first, since merely opening a device can do something (a tape rewinds).
                _check_regular(os.stat(name, dir_fd=at, follow_symlinks=False), key)
                return os.open(name, _IMAGE, dir_fd=at)
        finally:
            os.close(at)


class _FileReader:
    """A position in one open file."""

    def __init__(self, descriptor: int, key: str) -> None:
        """Takes `descriptor` over, also when it raises."""
        self._descriptor = descriptor
        self._key = key
        self._at = self._stop = 0
        self._aborted = False
        try:
            self._found = os.fstat(descriptor)
            _check_regular(self._found, key)
            self.size = self._found.st_size
            # /proc and its like call every file empty.
            if self.size == 0 and os.pread(descriptor, 1, 0):
                self._check_unchanged()
                raise UnsafeLocationError(f"{key!r} holds more than its size tells; it is no plain file")
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> ObjectInfo:
        return ObjectInfo(self._key, self.size, _version(self._found), self._found.st_mtime)

    def begin(self, served: ByteRange) -> None:
        """Sets what is read."""
        self._at = served.start
        self._stop = self.size if served.stop is None else served.stop

    def readinto(self, buffer: memoryview, /) -> int:
        if self._aborted:
            raise OperationCancelledError(f"reading {self._key!r} was cancelled")
        wanted = min(len(buffer), self._stop - self._at, _RECEIVE)
        if not wanted:
            return 0
        count = os.preadv(self._descriptor, [buffer[:wanted]], self._at)
        self._at += count
        # Before the last bytes are handed out, and before a short file is blamed on the medium.
        if self._at == self._stop or not count:
            self._check_unchanged()
        if not count:
            raise StorageIOError(
                f"{self._key!r} ended at {self._at}, before its size of {self.size} bytes", offset=self._at
            )
        return count

    def abort(self) -> None:
        self._aborted = True

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _check_unchanged(self) -> None:
        now, then = os.fstat(self._descriptor), self._found
        # A removed or replaced name changes the count of links and with it the ctime, but not the bytes.
        unlinked = now.st_nlink < then.st_nlink and now.st_mtime_ns == then.st_mtime_ns
        if now.st_size != self.size or (_version(now) != _version(then) and not unlinked):
            raise VersionChangedError(f"{self._key!r} was written to while it was being read")


def _version(found: os.stat_result) -> str:
    return f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"


def _check_regular(found: os.stat_result, key: str) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    if stat.S_ISDIR(found.st_mode):
        # As in a store without folders: what is only the beginning of keys is no key.
        raise NotFoundError(f"{key!r} is a folder, not an image")
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a block device",
        stat.S_IFCHR: "a device",
    }
    kind = kinds.get(stat.S_IFMT(found.st_mode), "no file")
    raise UnsafeLocationError(f"{key!r} is {kind}; an image is a regular file", key=key)


@contextmanager
def _named(name: str, folder: int, key: str) -> Iterator[None]:
    """Tells a link in the way, which the kernel reports as ENOTDIR or ELOOP, from what is not there."""
    try:
        yield
    except ImgstoreError:
        raise
    except FileNotFoundError as exc:
        raise NotFoundError(f"there is no {key!r}") from exc
    except NotADirectoryError as exc:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise UnsafeLocationError(f"{key!r} leads through the symbolic link {name!r}", key=key) from exc
        raise NotFoundError(f"there is no {key!r}: {name!r} is no folder") from exc
    except OSError as exc:
        raise file_error(exc, f"cannot read {key!r}") from exc
