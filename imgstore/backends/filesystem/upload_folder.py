"""The folder of one upload: its log, which is also its lock, and the file that becomes the image."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from imgstore import records
from imgstore.backends._zeros import runs
from imgstore.backends.filesystem import upload_log, walk
from imgstore.backends.filesystem.directories import DataDirectory, Directories
from imgstore.backends.filesystem.extents import extents_of
from imgstore.backends.filesystem.locks import locked
from imgstore.backends.filesystem.names import OWN, split
from imgstore.backends.filesystem.upload_log import Replays, UploadState
from imgstore.clock import Clock
from imgstore.errors import NotFoundError, StorageIOError, StoreError, UploadLostError
from imgstore.model import Call, Part
from imgstore.publish import sync_folder

UPLOADS: Final = (OWN, "uploads")
DATA: Final = "data"
_LOG: Final = "log"
_TOKEN: Final = re.compile(r"[0-9a-f]{32}")  # of nothing else is a path made
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OLD: Final = _LOOK | os.O_RDWR
_STEP: Final = 8 << 20  # one write: far below a second, so that a cancelled part ends in time


@dataclass(frozen=True, slots=True)
class UploadFolder:
    """An upload, open and, unless it is only looked at, locked against every other process and thread."""

    token: str
    place: DataDirectory
    folder: int
    log: int
    state: UploadState

    def open_data(self) -> int:
        """Opens the file that becomes the image. Raises: UploadLostError where it did, or was dropped."""
        try:
            file = os.open(DATA, _OLD, dir_fd=self.folder)
        except FileNotFoundError:
            raise lost() from None
        try:
            if os.fstat(file).st_nlink != 1:  # killed between the two: it has the name of the image already
                raise lost()
        except BaseException:
            os.close(file)
            raise
        return file

    def found(self) -> os.stat_result | None:
        """Gives what stands under the key, None where nothing does. Raises: as `walk.look`."""
        with self.place.opened() as root:
            try:
                return walk.look(root, *split(self.state.key), self.state.key)
            except NotFoundError:
                return None

    def is_image(self, found: os.stat_result) -> bool:
        """Tells whether `found` is the file of this upload, which then is published."""
        return self.state.published == upload_log.mark(found)

    def put(self, part: Part, data: memoryview, *, thin: bool, check: Callable[[], None]) -> None:
        """Puts `data` in its place and makes it durable, then the record of it.

        Parts that it overlaps are held no more from before the first byte is written: bytes of two parts are
        never taken for one.
        """
        file = self.open_data()
        try:
            if destroyed := self.state.overlapping(part):
                records.append(self.log, upload_log.dropped(destroyed))
            for at in range(0, len(data), _STEP):
                check()
                _write_piece(file, data[at : at + _STEP], part.offset + at, thin=thin)
            os.fdatasync(file)
        finally:
            os.close(file)  # where that fails, the part was not written (NFS), and gets no record
        records.append(self.log, upload_log.held(part))

    def cut(self, file: int, size: int) -> None:
        """Lets the file end at `size`; parts behind that are held no more from before they are cut off."""
        if beyond := [number for number, each in self.state.parts.items() if each.offset + each.size > size]:
            records.append(self.log, upload_log.dropped(beyond))
        os.ftruncate(file, size)

    def drop(self) -> None:
        """Removes the upload. Killed in between, it is still there to be dropped."""
        _unlink(self.folder)
        with self.place.opened() as root:
            walk.prune(root, [*UPLOADS, self.token], len(UPLOADS))


def create(place: DataDirectory, token: str, state: UploadState) -> None:
    """Makes the folder of an upload, durably. Where it fails, nothing stays."""
    with place.opened(make=True) as root, walk.held(root, [*UPLOADS, token], token) as folder:
        try:
            # What is not published yet is for nobody else to read, whatever the umask leaves.
            os.fchmod(folder, 0o700)
            os.close(os.open(DATA, _NEW, 0o600, dir_fd=folder))
            log = os.open(_LOG, _NEW, 0o600, dir_fd=folder)
            try:
                records.append(log, upload_log.begun(state))
            finally:
                os.close(log)
            sync_folder(folder)
        except BaseException:
            with contextlib.suppress(OSError):
                _unlink(folder)
            raise


@contextlib.contextmanager
def opened(
    directories: Directories, token: str, replays: Replays, clock: Clock, call: Call
) -> Iterator[UploadFolder]:
    """Gives the upload, locked for as long as the block runs.

    Raises: UploadLostError for a token of no upload, StorageIOError; what `call` raises.
    """
    place, folder = _find(directories, token)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, folder)
        log = stack.enter_context(_log(folder, _OLD))
        stack.enter_context(locked(log, f"an upload in {place.path}", clock, call))
        yield UploadFolder(token, place, folder, log, replays.replay(log))


def look(directories: Directories, token: str) -> UploadState:
    """Gives what is known of the upload, without waiting for whoever works on it. Raises: as `opened`."""
    _, folder = _find(directories, token)
    try:
        with _log(folder) as log:
            return upload_log.replay(log)
    finally:
        os.close(folder)


def forget(place: DataDirectory, token: str) -> None:
    """Removes what nobody works on any more: an upload that is done, or one that never quite began."""
    with place.opened() as root, contextlib.ExitStack() as stack:
        folder = walk.open_folder(root, [*UPLOADS, token], token)
        stack.callback(os.close, folder)
        with contextlib.suppress(UploadLostError), _log(folder) as log:
            if upload_log.replay(log).done is None:
                return
        _unlink(folder)
        walk.prune(root, [*UPLOADS, token], len(UPLOADS))


def tokens(place: DataDirectory) -> list[tuple[str, float]]:
    """Gives the uploads in `place`, and when each was last changed (POSIX seconds)."""
    try:
        with place.opened() as root:
            folder = walk.open_folder(root, UPLOADS, OWN)
    except NotFoundError:
        return []
    try:
        found = []
        for name in os.listdir(folder):
            # One that was just dropped is none.
            with contextlib.suppress(FileNotFoundError):
                found.append((name, os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime))
        return [(name, changed) for name, changed in found if _TOKEN.fullmatch(name)]
    finally:
        os.close(folder)


def lost() -> UploadLostError:
    """Gives the error for an upload that is not there."""
    return UploadLostError("there is no such upload; it was completed, aborted or never begun")


def _find(directories: Directories, token: str) -> tuple[DataDirectory, int]:
    failure: StoreError = lost()
    for place in directories.ordered if _TOKEN.fullmatch(token) else ():
        try:
            with place.opened() as root:
                return place, walk.open_folder(root, [*UPLOADS, token], token)
        except NotFoundError:
            pass
        except StorageIOError as exc:
            failure = exc
    raise failure


def _unlink(folder: int) -> None:
    # The log last: as long as it is there, the rest can be found and dropped.
    for name in (DATA, _LOG):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


@contextlib.contextmanager
def _log(folder: int, flags: int = _LOOK) -> Iterator[int]:
    try:
        log = os.open(_LOG, flags, dir_fd=folder)
    except FileNotFoundError:
        raise lost() from None
    try:
        yield log
    finally:
        os.close(log)


def _write_piece(file: int, piece: memoryview, offset: int, *, thin: bool) -> None:
    if not thin:
        _write_at(file, piece, offset)
        return
    for zero, start, stop in runs(bytes(piece), offset):
        # What a part that is replaced left there is written over, also with zeros.
        if not zero or any(each.kind == "data" for each in extents_of(file, offset + start, offset + stop)):
            _write_at(file, piece[start:stop], offset + start)


def _write_at(file: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        count = os.pwrite(file, data[done:], offset + done)
        if not count:
            raise StorageIOError("the file system takes no byte and gives no reason")
        done += count
