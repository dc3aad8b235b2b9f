"""The images below the data directories, in order."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from imgstore.backends.filesystem import walk
from imgstore.backends.filesystem.directories import DataDirectory, Directories
from imgstore.backends.filesystem.failures import typed
from imgstore.backends.filesystem.names import is_listed
from imgstore.backends.filesystem.stamp import unsettled, version_of
from imgstore.errors import NotFoundError, PermissionDeniedError, UnsafeLocationError
from imgstore.model import KEY_LIMIT, NO_CALL, Call, ObjectInfo
from imgstore.store import Store

LOG = logging.getLogger(__name__)

# What mkfs makes at the top of each ext file system, and only root may read.
_RESCUED: Final = b"lost+found/"
_CHECKED: Final = 256  # entries between two looks at the call: well below a second on any disk


class FilesystemLister:
    """Lists files without opening them; one that was written to just now is given without a version.

    Memory: the names in one folder, and in those that lead to it. What comes or goes during a listing may be
    in it or not. A name that is no UTF-8 can be no key: it is passed over with a warning.
    """

    def __init__(self, owner: Store, directories: Directories) -> None:
        self._owner = owner
        self._directories = directories

    def list(self, prefix: str = "", *, call: Call = NO_CALL) -> Iterator[ObjectInfo]:
        self._owner._admit(None, call)
        return self._merged(prefix, call)

    def _merged(self, prefix: str, call: Call) -> Iterator[ObjectInfo]:
        *folders, start = prefix.split("/")
        if not _may_begin_keys(prefix, folders):
            return
        last = None
        with typed(self._owner, prefix), contextlib.ExitStack() as stack:
            listings = [
                stack.enter_context(
                    contextlib.closing(_Listing(folders, start, self._owner, call).infos(place))
                )
                for place in self._directories.ordered
            ]
            for info in heapq.merge(*listings, key=lambda info: info.key.encode()):
                if info.key != last:  # of a key in two directories, the first is what readers see
                    yield info
                last = info.key


def _may_begin_keys(prefix: str, folders: Sequence[str]) -> bool:
    try:
        prefix.encode()
    except UnicodeEncodeError:
        return False
    listed = all(is_listed(folder, top=not at) for at, folder in enumerate(folders))
    return listed and "\0" not in prefix and not {"", ".", ".."} & set(folders)


@dataclass(slots=True)
class _Folder:
    """A folder that is being listed: the path of its files, and the names still to come."""

    descriptor: int
    path: bytes
    names: Iterator[bytes]


class _Listing:
    """The walk through one data directory, for the keys below `folders` that go on with `start`."""

    def __init__(self, folders: Sequence[str], start: str, owner: Store, call: Call) -> None:
        self._folders = folders
        self._start = start.encode()
        self._owner = owner
        self._call = call
        self._warned = False

    def infos(self, place: DataDirectory) -> Generator[ObjectInfo, None, None]:
        """Gives the images in `place`, in the order of their keys' bytes."""
        open_folders: list[_Folder] = []
        try:
            if first := self._first(place):
                open_folders.append(first)
            for count in itertools.count():
                if not open_folders:
                    return
                if count % _CHECKED == 0:
                    self._call.check(self._owner.clock)
                folder = open_folders[-1]
                name = next(folder.names, None)
                if name is None:
                    os.close(open_folders.pop().descriptor)
                elif name.endswith(b"/"):
                    open_folders.extend(self._below(folder, name))
                elif info := self._info(folder, name):
                    yield info
        finally:
            for folder in open_folders:
                os.close(folder.descriptor)

    def _first(self, place: DataDirectory) -> _Folder | None:
        path = "".join(f"{folder}/" for folder in self._folders).encode()
        try:
            with place.opened() as root:
                descriptor = walk.open_folder(root, self._folders, path.decode())
        except (NotFoundError, UnsafeLocationError):
            return None  # where no folder is, or a link, there are no keys
        return self._opened(descriptor, path, self._start)

    def _below(self, folder: _Folder, name: bytes) -> list[_Folder]:
        if len(folder.path) + len(name) >= KEY_LIMIT:
            return []  # nothing there can have a key, and each folder on the way takes a descriptor
        try:
            descriptor = walk.open_folder(folder.descriptor, [os.fsdecode(name[:-1])], os.fsdecode(name))
        except (NotFoundError, UnsafeLocationError):
            return []  # gone, or another thing, since its name was read
        except PermissionDeniedError:
            if folder.path + name == _RESCUED:
                return []
            raise
        return [self._opened(descriptor, folder.path + name, b"")]

    def _opened(self, descriptor: int, path: bytes, start: bytes) -> _Folder:
        try:
            names = [name for name in self._names(descriptor, top=not path) if name.startswith(start)]
        except BaseException:
            os.close(descriptor)
            raise
        # With the slash that follows a folder's name in keys, the order of names is that of whole keys.
        names.sort()
        return _Folder(descriptor, path, iter(names))

    def _names(self, descriptor: int, *, top: bool) -> Iterator[bytes]:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if not is_listed(entry.name, top=top):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield os.fsencode(entry.name) + b"/"
                elif entry.is_file(follow_symlinks=False):
                    yield os.fsencode(entry.name)

    def _info(self, folder: _Folder, name: bytes) -> ObjectInfo | None:
        try:
            key = (folder.path + name).decode()
        except UnicodeDecodeError:
            self._warn(folder.path + name)
            return None
        if len(folder.path) + len(name) > KEY_LIMIT:
            return None
        try:
            found = os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        version = None if unsettled(found) else version_of(found)
        return ObjectInfo(key, found.st_size, version, found.st_mtime)

    def _warn(self, path: bytes) -> None:
        if not self._warned:
            LOG.warning("store %r: %r and the like are no UTF-8, and not listed", self._owner.store_id, path)
        self._warned = True
