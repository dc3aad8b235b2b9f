"""What copies that were killed or given up have left in a folder, for whoever wants the room back."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from imgstore import journal
from imgstore.errors import ImgstoreError, ManifestError
from imgstore.publish.beside import JOURNAL, PART, lock_journal, remove_beside
from imgstore.publish.failures import file_error
from imgstore.publish.names import is_pending, reap_one
from imgstore.publish.target import open_folder

_SKIP: Final = (ImgstoreError, OSError)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A half image whose owner is gone.

    `path` is that of its data, `held` the bytes it takes on the disk, `since` when it was last written to
    (POSIX seconds).
    """

    path: str
    held: int
    since: float

    def remove(self) -> bool:
        """Removes it; tells whether it was there still, and nobody's.

        Raises: PermissionDeniedError, StorageIOError...
        """
        name = os.path.basename(self.path)
        folder = -1
        try:
            folder = open_folder(self.path)
            if is_pending(name):
                return reap_one(folder, name)
            return _remove_half(folder, name)
        except OSError as exc:
            raise file_error(exc, f"cannot remove {self.path}") from exc
        finally:
            if folder >= 0:
                os.close(folder)


def leftovers(folder: str | os.PathLike[str], older_than: float = 0.0) -> Iterator[Leftover]:
    """Gives the half images in `folder` to which nobody has written for `older_than` seconds, as they come.

    One whose copy is running is left out, however long it waits; so is what is another user's, or does not
    look like a half image of this library inside as well as by its name. Some 50 us for each one found.

    Raises: ConfigError for what is no folder, PermissionDeniedError.
    """
    path = os.fspath(folder)
    descriptor = open_folder(os.path.join(path, "any"))
    try:
        limit = time.time() - older_than
        with os.scandir(path) as entries:
            for entry in entries:
                found = _leftover(descriptor, path, entry.name)
                if found is not None and found.since <= limit:
                    yield found
    except OSError as exc:
        raise file_error(exc, f"cannot look into {path}") from exc
    finally:
        os.close(descriptor)


def _leftover(folder: int, path: str, name: str) -> Leftover | None:
    with contextlib.suppress(*_SKIP):
        if is_pending(name):
            if reap_one(folder, name, only_look=True):
                return _found(folder, path, name, os.stat(name, dir_fd=folder, follow_symlinks=False))
        elif name.endswith(JOURNAL):
            with _locked(folder, name) as is_ours:
                if is_ours:
                    written = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    return _found(folder, path, name.removesuffix(JOURNAL) + PART, written)
    return None


def _found(folder: int, path: str, part: str, written: os.stat_result) -> Leftover:
    held = written.st_blocks * 512
    with contextlib.suppress(FileNotFoundError):
        data = os.stat(part, dir_fd=folder, follow_symlinks=False)
        # Of a published image the second name holds nothing.
        held += data.st_blocks * 512 if data.st_nlink == 1 and data.st_ino != written.st_ino else 0
    return Leftover(os.path.join(path, part), held, written.st_mtime)


@contextlib.contextmanager
def _locked(folder: int, name: str) -> Iterator[bool]:
    """Holds the journal while it is looked at; tells whether it is one, or was to become one."""
    file = lock_journal(folder, name, name, create=False)
    if file is None:
        yield False
        return
    try:
        yield os.fstat(file).st_size == 0 or _is_journal(file)
    finally:
        os.close(file)


def _is_journal(file: int) -> bool:
    try:
        return journal.begun(file) is not None
    except ManifestError:  # of another version of this library
        return True


def _remove_half(folder: int, part: str) -> bool:
    name = part.removesuffix(PART) + JOURNAL
    try:
        with _locked(folder, name) as is_ours:
            if is_ours:
                remove_beside(folder, part, name)
            return is_ours
    except ImgstoreError:  # somebody goes on with it
        return False
