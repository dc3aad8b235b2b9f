"""Uploads in parts: each is a file that is filled in any order, and then gets its name."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from imgstore import records
from imgstore.backends._intake import RECEIVE, Digests
from imgstore.backends.filesystem import upload_folder, upload_log, walk
from imgstore.backends.filesystem.directories import DataDirectory
from imgstore.backends.filesystem.failures import typed
from imgstore.backends.filesystem.names import split
from imgstore.backends.filesystem.placing import Placing, folder_for
from imgstore.backends.filesystem.upload_folder import DATA, UploadFolder
from imgstore.backends.filesystem.upload_log import UploadState
from imgstore.errors import (
    ConflictError,
    ImgstoreError,
    PermissionDeniedError,
    SourceChangedError,
    UploadLostError,
)
from imgstore.model import NO_CALL, Call, ObjectInfo, Part
from imgstore.publish import default_mode, link_or_rename
from imgstore.store import Upload, UploadLimits

LOG = logging.getLogger(__name__)

# Files have no parts, and so no limits; but each is compared with all that are held: 1 ms of 10,000.
LIMITS: Final = UploadLimits(min_part=1, max_part=1 << 40, max_parts=10_000, ordered=False)
# An answer is kept for whoever asks for it again: a process that was down over a long weekend, say.
_REMEMBERED: Final = 7 * 86400.0


class FilesystemUploader:
    """Keeps pending uploads in the data directory that the image goes to, where a link publishes it.

    A part that `put_part` gave is on the disk, through a power failure. Parts that overlap replace each
    other. One part of an upload is written at a time; others wait.

    `complete` may be killed at any point and asked again, by another process too; for a week it gives the
    answer that it gave first. Only if it was killed just when the image had its name, and the image was
    deleted before it was asked again, it publishes it anew: abort the upload of an image that is deleted.

    Half-begun uploads and old answers are removed by the next `begin`.
    """

    limits: UploadLimits

    def __init__(self, placing: Placing, *, thin: bool) -> None:
        self.limits = replace(LIMITS, thin=thin)
        self._placing = placing
        self._thin = thin
        self._replays = upload_log.Replays()
        self._warned = False

    def begin(
        self,
        key: str,
        size: int | None,
        *,
        digests: Mapping[str, str] | None = None,
        overwrite: bool = False,
        call: Call = NO_CALL,
    ) -> str:
        owner = self._placing.owner
        owner._admit(key, call)
        expected = Digests(digests).expected  # an unknown name is refused before anything is sent
        with typed(owner, key):
            place = self._placing.choose(key, size, overwrite=overwrite, sparse=self._thin)
            self._forget_old(place)
            token = secrets.token_hex(16)
            upload_folder.create(
                place, token, UploadState(key, size, expected, overwrite, owner.clock.time())
            )
            return token

    def put_part(
        self, token: str, number: int, offset: int, data: memoryview, *, call: Call = NO_CALL
    ) -> Part:
        with self._opened(token, call) as upload, memoryview(data).cast("B") as view:
            if upload.state.done is not None:
                raise upload_folder.lost()
            part = Part(number, offset, len(view), secrets.token_hex(8))
            self._check_part(upload.state, part)
            upload.put(part, view, thin=self._thin, check=lambda: call.check(self._placing.owner.clock))
            return part

    def parts(self, token: str, *, call: Call = NO_CALL) -> Sequence[Part]:
        owner = self._placing.owner
        owner._admit(None, call)
        with typed(owner, ""):
            state = upload_folder.look(self._placing.directories, token)
            if state.done is not None:
                raise upload_folder.lost()
            return [state.parts[number] for number in sorted(state.parts)]

    def complete(self, token: str, parts: Sequence[Part], *, call: Call = NO_CALL) -> ObjectInfo:
        with self._opened(token, call) as upload:
            done = upload.state.done
            if done is None:
                found = upload.found()
                if found is None or not upload.is_image(found):  # else it was killed after that
                    self._finish(upload, parts, call)
                done = self._conclude(upload, call)
            return ObjectInfo(**done)

    def abort(self, token: str, *, call: Call = NO_CALL) -> None:
        with contextlib.suppress(UploadLostError), self._opened(token, call) as upload:
            if upload.state.done is None:
                upload.drop()

    def uploads(self, older_than: float = 0.0, *, call: Call = NO_CALL) -> Iterator[Upload]:
        owner = self._placing.owner
        owner._admit(None, call)
        latest = owner.clock.time() - older_than
        found = []
        with typed(owner, ""):
            for place in self._placing.directories.ordered:
                for token, _ in upload_folder.tokens(place):
                    state = self._look_at_any(place, token)
                    if state is not None and state.done is None and state.started <= latest:
                        found.append(Upload(token, state.key, state.started))
        return iter(found)

    @contextlib.contextmanager
    def _opened(self, token: str, call: Call) -> Iterator[UploadFolder]:
        owner = self._placing.owner
        owner._admit(None, call)
        with (
            typed(owner, ""),
            upload_folder.opened(
                self._placing.directories, token, self._replays, owner.clock, call
            ) as upload,
            typed(owner, upload.state.key),
        ):
            yield upload

    def _check_part(self, state: UploadState, part: Part) -> None:
        stop = part.offset + part.size
        if not 0 <= part.number < self.limits.max_parts:
            raise ValueError(f"part {part.number}: parts are numbered from 0 to {self.limits.max_parts - 1}")
        if part.offset < 0 or (state.size is not None and stop > state.size):
            raise ValueError(
                f"part {part.number}: [{part.offset}, {stop}) lies outside the image of {state.size} bytes"
            )
        if not self.limits.min_part <= part.size <= self.limits.max_part:
            raise ValueError(f"part {part.number} has {part.size} bytes; a part has at least one")

    def _finish(self, upload: UploadFolder, parts: Sequence[Part], call: Call) -> None:
        """Makes the file what the image is to be, and gives it its name."""
        state, clock = upload.state, self._placing.owner.clock
        size = _covered(state, parts)
        file = upload.open_data()
        try:
            upload.cut(file, size)
            digests = Digests(state.digests)
            for at in range(0, size if state.digests else 0, RECEIVE):
                call.check(clock)
                digests.update(os.pread(file, RECEIVE, at))
            digests.check()
            self._set_mode(file, upload)
            _sync(file, upload)
            state.published = upload_log.announce(upload.log, os.fstat(file))
        finally:
            os.close(file)
        try:
            with (
                folder_for(state.key, upload.place) as (folder, name),
                self._placing.directories.claimed(
                    state.key, upload.place, overwrite=state.overwrite, clock=clock, call=call
                ),
            ):
                if state.overwrite:
                    os.rename(DATA, name, src_dir_fd=upload.folder, dst_dir_fd=folder)
                else:
                    link_or_rename(DATA, name, folder, upload.folder)
        except FileExistsError as exc:
            raise ConflictError("another writer published the image first") from exc

    def _set_mode(self, file: int, upload: UploadFolder) -> None:
        mode = self._placing.mode
        old = upload.found()  # refuses what is no regular file, which a rename would replace
        if mode is None:
            mode = default_mode() if old is None else old.st_mode & 0o777
        os.fchmod(file, mode)

    def _conclude(self, upload: UploadFolder, call: Call) -> Mapping[str, Any]:
        """Makes the name durable and notes the answer, which it gives."""
        key = upload.state.key
        _check_published(upload)
        with upload.place.opened() as root:
            walk.sync(root, split(key)[0], key)
        # Not before: a power loss might keep the removal and lose the image's name.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(DATA, dir_fd=upload.folder)
        found = _check_published(upload)  # again: the removal has changed its ctime
        info = self._placing.info(key, found, upload.state.digests, call)
        return upload_log.conclude(upload.log, info)

    def _look_at_any(self, place: DataDirectory, token: str) -> UploadState | None:
        try:
            return upload_folder.look(self._placing.directories, token)
        except UploadLostError:
            return None
        except (PermissionError, PermissionDeniedError) as exc:
            self._warn_once(place, exc)
            return None

    def _forget_old(self, place: DataDirectory) -> None:
        oldest = self._placing.owner.clock.time() - _REMEMBERED
        try:
            for token, changed in upload_folder.tokens(place):
                if changed < oldest:
                    self._forget(place, token)
        except (OSError, ImgstoreError) as exc:
            self._warn_once(place, exc)

    def _forget(self, place: DataDirectory, token: str) -> None:
        try:
            upload_folder.forget(place, token)
        except FileNotFoundError:
            pass  # another begin was faster
        except (OSError, ImgstoreError) as exc:  # another user's, say: it hinders no new upload
            self._warn_once(place, exc)

    def _warn_once(self, place: DataDirectory, exc: Exception) -> None:
        if not self._warned:
            told = (self._placing.owner.store_id, place.path, exc)
            LOG.warning("store %r: an upload in %s can be neither told nor removed: %s", *told)
        self._warned = True


def _check_published(upload: UploadFolder) -> os.stat_result:
    found = upload.found()
    if found is None or not upload.is_image(found):
        raise UploadLostError("the image was published, and has been replaced or removed since")
    return found


def _covered(state: UploadState, parts: Sequence[Part]) -> int:
    """Gives the size that `parts` cover. Raises: where they do not, or are not what is held."""
    at = 0
    for part in sorted(parts, key=lambda part: part.offset):
        if state.parts.get(part.number) != part:
            raise UploadLostError(f"the store does not hold part {part.number} as given")
        if part.offset != at:
            raise ValueError(f"part {part.number} begins at {part.offset}, not at {at}")
        at += part.size
    if state.size is not None and at != state.size:
        raise SourceChangedError(f"the parts hold {at} bytes where {state.size} were promised")
    return at


def _sync(file: int, upload: UploadFolder) -> None:
    try:
        os.fsync(file)
    except OSError:
        # Pages that could not be written may be called clean by now: no part is proven any more.
        records.append(upload.log, upload_log.dropped(upload.state.parts))
        raise
