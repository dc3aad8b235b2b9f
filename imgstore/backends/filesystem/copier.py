"""Copies by the kernel, without the bytes passing through this process where it can."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from typing import Final

from imgstore.backends.filesystem.extents import extents_of
from imgstore.backends.filesystem.failures import typed
from imgstore.backends.filesystem.placing import Placing
from imgstore.backends.filesystem.reader import FileReader
from imgstore.errors import StorageIOError
from imgstore.model import NO_CALL, Call, ObjectInfo
from imgstore.publish import PendingFile

_FICLONE: Final = 0x40049409  # <linux/fs.h>
# Of one call of the kernel's: below a second at 100 MB/s, so that a cancelled copy ends in time.
_STEP: Final = 64 << 20
_BUFFER: Final = 1 << 20
# The file systems cannot do this for these two files (ioctl_ficlonerange(2), copy_file_range(2)).
_CANNOT: Final = frozenset(
    {errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EPERM}
)


class FilesystemCopier:
    """Shares the blocks where the file system can (reflink), else copies the data and leaves the holes.

    The copy goes where its source is, if there is room. It is of one version of the source: one that is
    written to meanwhile ends in VersionChangedError, and nothing is published.
    """

    def __init__(self, placing: Placing) -> None:
        self._placing = placing

    def copy(
        self, source_key: str, target_key: str, *, overwrite: bool = False, call: Call = NO_CALL
    ) -> ObjectInfo:
        owner, directories = self._placing.owner, self._placing.directories
        owner._admit(source_key, call)
        owner._admit(target_key, call)
        with contextlib.ExitStack() as stack:
            with typed(owner, source_key):
                near, descriptor = directories.find(source_key)
                source = stack.enter_context(contextlib.closing(FileReader(descriptor, source_key)))
                source.pin(None, owner.clock, call)
            with typed(owner, target_key):
                place = self._placing.choose(
                    target_key, source.size, overwrite=overwrite, near=near, sparse=True
                )
                with self._placing.pending(target_key, place, overwrite=overwrite, call=call) as image:
                    duplicate(source, image.file, lambda _: call.check(owner.clock))
                    return image.publish(source.size, {})

    def copy_out(
        self, key: str, target: PendingFile, *, call: Call = NO_CALL, copied: Callable[[int], None]
    ) -> ObjectInfo:
        """Copies the image into a file that is pending anywhere; publishing it is the caller's.

        `copied` is told the bytes as they get there, every 64 MiB at the latest.

        Raises: as `Store.get`, VersionChangedError among it, and `PendingFile.write`.
        """
        owner = self._placing.owner
        owner._admit(key, call)

        def step(count: int) -> None:
            copied(count)
            call.check(owner.clock)

        with typed(owner, key):
            _, descriptor = self._placing.directories.find(key)
            with contextlib.closing(FileReader(descriptor, key)) as source:
                source.pin(None, owner.clock, call)
                duplicate(source, target, step)
                return source.info


def duplicate(origin: FileReader, target: PendingFile, step: Callable[[int], None]) -> None:
    """Copies a whole file. `step` is told the bytes added, every 64 MiB at the latest, and may end it.

    Raises: StorageIOError where the source ends early, VersionChangedError; OSError; as `PendingFile.write`.
    """
    _duplicate(origin.descriptor, origin.size, target, step)
    origin.check_unchanged()


def _duplicate(source: int, size: int, target: PendingFile, step: Callable[[int], None]) -> None:
    if target.extend(lambda file: size if _clone(source, file) else 0) == size:
        step(size)
        return
    for extent in extents_of(source, 0, size):
        start, stop = extent.range.start, extent.range.start + (extent.range.size or 0)
        if extent.kind == "hole":
            target.skip(stop - start)
            step(stop - start)
            continue
        while start < stop:
            count = _append(source, start, min(stop - start, _STEP), target)
            start += count
            step(count)


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as exc:
        if exc.errno not in _CANNOT:
            raise
        return False
    return True


def _append(source: int, start: int, count: int, target: PendingFile) -> int:
    """Appends up to `count` bytes that stand at `start`; gives their number."""
    copied = target.extend(lambda file: _copy_in_kernel(source, file, count, start))
    if copied:
        return copied
    piece = os.pread(source, min(count, _BUFFER), start)
    if not piece:
        raise StorageIOError(f"the image ended at {start}, before its size")
    target.write(piece)
    return len(piece)


def _copy_in_kernel(source: int, target: int, count: int, start: int) -> int:
    try:
        return os.copy_file_range(source, target, count, offset_src=start)
    except OSError as exc:
        if exc.errno not in _CANNOT:
            raise
        return 0
