"""Puts and deletes of whole images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

from imgstore.backends._intake import Digests, Intake
from imgstore.backends._zeros import runs
from imgstore.backends.filesystem import walk
from imgstore.backends.filesystem.directories import DataDirectory
from imgstore.backends.filesystem.failures import fail, typed
from imgstore.backends.filesystem.names import split
from imgstore.backends.filesystem.placing import Placing
from imgstore.backends.filesystem.stamp import version_of
from imgstore.errors import ImgstoreError, NotFoundError, VersionChangedError
from imgstore.model import NO_CALL, Call, ObjectInfo
from imgstore.publish import PendingFile, reap, sync_folder
from imgstore.store import Source

_LOOK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class FilesystemWriter:
    """Publishes a file when all of it is on the disk, and not before.

    An image stands in folders named by its key, which are made for it and removed with it. So `a` and `a/b`
    cannot both be images: the second is refused with UnsupportedError.

    A cancellation or a deadline ends a put within a read of its source; only the sync at the end, which may
    take as long as the disk has data to write, is not cut short.

    A delete of one version looks at the file and then removes its name: what another process puts there
    between these two steps, some microseconds, is removed in its place.
    """

    def __init__(self, placing: Placing, *, thin: bool, read_back: bool = False) -> None:
        self._placing = placing
        self._thin = thin
        self._read_back = read_back

    def put(
        self,
        key: str,
        source: Source,
        size: int | None = None,
        *,
        overwrite: bool = False,
        digests: Mapping[str, str] | None = None,
        call: Call = NO_CALL,
    ) -> ObjectInfo:
        owner = self._placing.owner
        owner._admit(key, call)
        intake = Intake(source, size, Digests(digests), owner.clock, call)
        try:
            sparse = self._thin or intake.sparse
            place = self._placing.choose(key, size, overwrite=overwrite, sparse=sparse)
            with self._placing.pending(
                key, place, overwrite=overwrite, call=call, read_back=self._read_back
            ) as image:
                _fill(image.file, intake, thin=self._thin)
                return image.publish(image.file.written, intake.digests.expected)
        except (OSError, ImgstoreError) as exc:
            if exc is intake.failure:
                raise
            fail(owner, key, exc)

    def delete(self, key: str, *, version: str | None = None, call: Call = NO_CALL) -> None:
        owner = self._placing.owner
        owner._admit(key, call)
        with typed(owner, key):
            folders, name = split(key)
            holders = self._placing.directories.holders(key)
            if not holders:
                raise NotFoundError(f"there is no {key!r}")
            if len(holders) > 1 and version is not None and _version(holders[0], key) != version:
                raise _changed(key)
            # The one that readers see goes last: a failure on the way leaves them what they had.
            for place in reversed(holders):
                _remove(place, folders, name, key, version if place is holders[0] else None)


def _fill(pending: PendingFile, intake: Intake, *, thin: bool) -> None:
    """Writes all that the source gives; a source's holes stay holes, with `thin` blocks of zeros too.

    Raises: as `Intake.pieces` and `PendingFile.write`.
    """
    for piece in intake.pieces():
        if isinstance(piece, int):
            pending.skip(piece)
        elif not thin:
            pending.write(piece)
        else:
            _write_thin(pending, piece)


def _write_thin(pending: PendingFile, piece: bytes) -> None:
    for zero, start, stop in runs(bytes(piece), pending.written):
        if zero:
            pending.skip(stop - start)
        else:
            with memoryview(piece)[start:stop] as data:
                pending.write(data)


def _changed(key: str) -> VersionChangedError:
    return VersionChangedError(f"{key!r} is not the version that was to be deleted any more")


def _version(place: DataDirectory, key: str) -> str:
    with place.opened() as root:
        return version_of(walk.look(root, *split(key), key))


def _remove(place: DataDirectory, folders: Sequence[str], name: str, key: str, version: str | None) -> None:
    with place.opened() as root:
        folder = walk.open_folder(root, folders, key)
        try:
            file = os.open(
                name, _LOOK, dir_fd=folder
            )  # no other file gets its inode number while this is open
            try:
                found = os.fstat(file)
                walk.check_regular(found, key)
                if not found.st_nlink:
                    raise NotFoundError(f"there is no {key!r}; it was just deleted")
                if version is not None and version_of(found) != version:
                    raise _changed(key)
                os.unlink(name, dir_fd=folder)
            finally:
                os.close(file)
            # Whoever deletes an image wants its room, and what a killed overwrite left may take as much.
            reap(folder, name)
            sync_folder(folder)
        finally:
            os.close(folder)
        walk.prune(root, folders)
