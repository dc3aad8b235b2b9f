"""How a new image comes to its place: shared by all that write."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from imgstore.backends.filesystem import walk
from imgstore.backends.filesystem.directories import DataDirectory, Directories
from imgstore.backends.filesystem.names import split
from imgstore.backends.filesystem.stamp import settle, version_of
from imgstore.errors import AlreadyExistsError, ImgstoreError, UnsupportedError
from imgstore.model import Call, ObjectInfo
from imgstore.publish import PendingFile, reap
from imgstore.store import Store


@dataclass(frozen=True, slots=True)
class Placing:
    """Places the images of `owner` in its directories; `mode` is that of their files, None the umask's."""

    owner: Store
    directories: Directories
    mode: int | None

    def choose(
        self,
        key: str,
        size: int | None,
        *,
        overwrite: bool,
        near: DataDirectory | None = None,
        sparse: bool = False,
    ) -> DataDirectory:
        """Gives the directory that `key` goes to; an image that is replaced stays where it is.

        Raises: AlreadyExistsError; as `Directories.choose`.
        """
        holders = self.directories.holders(key)
        if holders and not overwrite:
            _reap(key, holders[0])
            raise AlreadyExistsError("there is an image of that name; overwrite replaces it")
        if holders:
            self.directories.check()  # now, not when all of the source is read
            return holders[0]
        return self.directories.choose(size, near=near, sparse=sparse)

    @contextlib.contextmanager
    def pending(
        self, key: str, place: DataDirectory, *, overwrite: bool, call: Call, read_back: bool = False
    ) -> Iterator[PendingImage]:
        """Gives the pending image for `key` in `place`; what the block does not publish is gone after it.

        `read_back` is that of `PendingFile`.
        """
        with (
            folder_for(key, place) as (folder, name),
            PendingFile(
                name, overwrite=overwrite, mode=self.mode, dir_fd=folder, read_back=read_back
            ) as file,
        ):
            yield PendingImage(self, key, place, file, call)

    def info(self, key: str, found: os.stat_result, digests: Mapping[str, str], call: Call) -> ObjectInfo:
        """Describes an image that was just published, without a version where `call` cannot wait for it."""
        version = version_of(found) if settle(found, self.owner.clock, call) else None
        return ObjectInfo(key, found.st_size, version, found.st_mtime, digests)


@dataclass(frozen=True, slots=True)
class PendingImage:
    """An image that has its place and no name yet; its bytes go into `file`."""

    placing: Placing
    key: str
    place: DataDirectory
    file: PendingFile
    call: Call

    def publish(self, size: int, digests: Mapping[str, str]) -> ObjectInfo:
        """Publishes what was written, if that is `size` bytes. Raises: as `claimed` and the file."""
        placing = self.placing
        if len(placing.directories.ordered) > 1:
            self.file.sync()  # before the lock is taken, which all writers share
        with placing.directories.claimed(
            self.key, self.place, overwrite=self.file.overwrite, clock=placing.owner.clock, call=self.call
        ):
            found = self.file.publish(size)
        return placing.info(self.key, found, digests, self.call)


@contextlib.contextmanager
def folder_for(key: str, place: DataDirectory) -> Iterator[tuple[int, str]]:
    """Gives the folder in `place` that a file for `key` goes to, made and kept, and the file's name.

    Raises: UnsupportedError where the name is that of a folder with images; as `walk.held`.
    """
    folders, name = split(key)
    with place.opened(make=True) as root, walk.held(root, folders, key) as folder:
        if _is_folder(name, folder):
            # A put that was killed may have left it, and more below; what is in use is not removed.
            walk.prune_tree(root, [*folders, name])
            if _is_folder(name, folder):
                raise UnsupportedError(
                    f"{name!r} is a folder that holds images or other files, or is about to, and a file "
                    "system keeps no image of that name beside it; choose another key"
                )
        yield folder, name


def _reap(key: str, place: DataDirectory) -> None:
    """Removes what killed puts left of `key`, also one that was killed right after it had published."""
    folders, name = split(key)
    with contextlib.suppress(OSError, ImgstoreError), place.opened() as root:
        folder = walk.open_folder(root, folders, key)
        try:
            reap(folder, name)
        finally:
            os.close(folder)


def _is_folder(name: str, folder: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
