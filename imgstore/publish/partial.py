"""A file written in any order, of which another process can go on with what this one has written.

The half image and its journal stand beside the target (`imgstore.publish.beside`). A part is claimed in the
journal as soon as all of it is written, with its checksum: that outlives a kill. Every 64 MiB, or two
seconds, the half image is synced, behind the back of who writes, and what was claimed before is settled: that
outlives a power loss. The end is that of a pending file: synced, named in one step, folder synced.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final

from imgstore import journal
from imgstore.errors import (
    DigestMismatchError,
    ImgstoreError,
    StorageIOError,
    TruncatedError,
    UnsupportedError,
)
from imgstore.journal import Identity, Journal
from imgstore.model import ByteRange
from imgstore.publish.beside import has_bytes, lock_journal, names_beside, open_part, remove_beside
from imgstore.publish.claims import Claims, checksum_of
from imgstore.publish.failures import typed
from imgstore.publish.holes import data_in
from imgstore.publish.names import has_name, link_or_rename
from imgstore.publish.pending import default_mode, sync_folder, sync_published
from imgstore.publish.target import open_folder, standing, taken, write_all

_CLOSED: Final = -1  # no descriptor
_PIECE: Final = 1 << 20

PART_SIZE: Final = 2 << 20  # the least: some 30 us of journal for each, and what a kill may cost
_PARTS: Final = 1 << 18  # above 512 GiB parts grow: 1.3 MB of memory and 16 MB of journal are enough


class PartialFile:
    """A half image beside its target; a context manager that removes it, unless `keep` was called.

    `earlier` is what the half image that is there already is half of, None where there is none. `begin` goes
    on with it, or begins anew; what was not begun stays as it is. Then `missing` is to be written, by
    `write_at` and `zero` from any threads, each byte once; `publish` gives it its name. Mode 0600 until then;
    and in the end as a `PendingFile`.

    Memory: that of `Journal`. Threads: one, between `begin` and the end.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        resume: bool = True,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        """Without `resume` what is there is not looked at, and goes when something else begins.

        `check` is called for each part that is read back: what it raises ends that, and changes nothing.
        """
        self.path = os.fspath(path)
        self.overwrite = overwrite
        self.published = False
        self.earlier: Identity | None = None
        self._resume = resume
        self._check = check
        self._name = os.path.basename(self.path)
        self._part, self._journal_name = names_beside(self._name)
        self._mode: int | None = None
        self._folder = self._lock = self._file = _CLOSED
        self._journal: Journal | None = None
        self._identity: Identity | None = None
        self._is_begun = False  # and goes, unless it is kept
        self._may_have_bytes = False  # where nothing is claimed, from an earlier process
        self._claims: Claims | None = None

    def __enter__(self) -> PartialFile:
        """Looks at the target and at what is beside it, which is locked.

        Raises: as `PendingFile`; LockedError where another copy to it is running, UnsafeLocationError for a
        journal that others can write to, ManifestError for one of another version of this library.
        """
        try:
            with self._typed("create"):
                self._folder = open_folder(self.path)
                found = standing(self.path, self._folder)
                if found is None or self.overwrite:
                    self._take_lock(create=False)
                    if self._resume and self._lock != _CLOSED:
                        self.earlier = journal.begun(self._lock)
                    if found is not None:
                        self._mode = stat.S_IMODE(found.st_mode) & 0o777
                    return self
                self._tidy(found)
                raise taken(self.path)
        except BaseException:
            self._close()
            raise

    def __exit__(self, *_: object) -> None:
        if self._is_begun:
            self.discard()
        else:
            self._close()

    def begin(self, identity: Identity, *, unit: int = 1, digests: Mapping[str, str] | None = None) -> None:
        """Goes on with what is there, if it is half of `identity`, or else begins anew.

        What is there is held against its claims where it may have changed behind them. A `begin` after
        another one begins anew unless both are of one image. Parts are of 2 MiB, or of more of an image above
        512 GiB, and multiples of `unit`. What begins anew keeps `digests`, of the whole image.

        Raises: UnsupportedError where no half image can be kept: a file system without locks, or a file of
        that name that is not ours, which is left alone; as `PendingFile`.
        """
        if self._identity is not None and identity.continues(self._identity):
            return
        with self._typed("create"):
            self._stop()
            self._identity = None
            self._open()
            part_size = _part_size(identity.size, unit)
            found, goes_on = journal.opened(
                self._lock,
                identity,
                part_size=part_size,
                data=os.fstat(self._file),
                boot=_boot(),
                digests=digests,
            )
            # Before the half image has bytes: without its journal they would be somebody else's.
            sync_folder(self._folder)
            if goes_on:
                found.prove(self._checksums(found), _boot())
            else:
                os.ftruncate(self._file, 0)
            os.ftruncate(self._file, identity.size)
            self._may_have_bytes = goes_on
            self._claims = Claims(self._file, found, self.path)
            self._journal, self._identity, self._is_begun = found, identity, True

    @property
    def part_size(self) -> int:
        """The bytes of a part, which is claimed when all of it is written."""
        return self._begun().part_size

    @property
    def digests(self) -> Mapping[str, str]:
        """What `begin` was told of the whole image's digests, in whichever process it began anew."""
        return self._begun().digests

    def missing(self) -> list[ByteRange]:
        """Gives what is to be written, in order."""
        return self._begun().missing()

    @property
    def held(self) -> int:
        """The bytes that need not be written again, whatever happens to this process."""
        if self._journal is None:
            return 0
        return self._journal.size - sum(each.size or 0 for each in self._journal.missing())

    def write_at(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Writes all of `data` from `offset` on. From any thread; each byte of the image once.

        Raises: NoSpaceError, StorageIOError...; what was claimed before stays so.
        """
        with self._typed("write"), memoryview(data).cast("B") as view:
            self._write(view, offset)
            self._writer().wrote(view, offset)

    def zero(self, offset: int, count: int) -> None:
        """Makes `count` bytes from `offset` on zeros: a hole, but where an earlier process has written.

        From any thread; as `write_at`.
        """
        with self._typed("write"):
            if self._may_have_bytes:
                for start, stop in data_in(self._file, offset, offset + count):
                    self._write_zeros(start, stop)
            self._writer().zeroed(offset, offset + count)

    def stretches(self) -> Iterator[tuple[int, bool]]:
        """Gives where each stretch ends and whether it is a hole. Raises: StorageIOError."""
        at, size = 0, self._begun().size
        with self._typed("read"):
            for start, stop in data_in(self._file, 0, size):
                if start > at:
                    yield start, True
                yield stop, False
                at = stop
        if at < size:
            yield size, True

    def readinto(self, buffer: memoryview, offset: int) -> int:
        """Fills the front of `buffer` with what is at `offset`. Raises: StorageIOError, also for nothing."""
        with self._typed("read"):
            count = os.preadv(self._file, [buffer], offset)
        if not count:
            raise StorageIOError(f"cannot read {self.path}: somebody has cut off {self._part}")
        return count

    def publish(self, *, read_back: bool = False) -> os.stat_result:
        """Makes the image durable and gives it its name, if all of it is written.

        With `read_back` each part is read from the disk first, and held against its checksum.

        Raises: as `PendingFile.publish`; TruncatedError where something is missing.
        """
        with self._typed("publish"):
            self._writer().finish()
            if missing := self.missing():
                raise TruncatedError(f"cannot publish {self.path}: {missing[0]} is missing")
            os.fchmod(self._file, default_mode() if self._mode is None else self._mode)
            os.fsync(self._file)
            if read_back:
                self._read_back()
            found = self._give_name()
        sync_published(self._folder, self.path)
        with self._typed("tidy up behind"):
            self._remove()
        self._close()
        return found

    def keep(self) -> int:
        """Lets go of what is written, for another process to go on with; gives the bytes of it.

        What holds nothing is removed, what was not begun is left alone. Idempotent.
        """
        if not self._is_begun:
            self._close()
            return 0
        held = self.held
        if held and not self.published:
            self._close()
        else:
            self.discard()
        return held

    def discard(self) -> None:
        """Removes the half image and its journal, begun or not, unless they were kept. Idempotent."""
        try:
            self._stop()
            if self._lock != _CLOSED:
                with self._typed("tidy up behind"):
                    self._remove()
        finally:
            self._close()

    def _begun(self) -> Journal:
        if self._journal is None:
            raise ValueError("nothing has begun")
        return self._journal

    def _writer(self) -> Claims:
        if self._claims is None:
            raise ValueError("nothing has begun")
        return self._claims

    def _checksums(self, found: Journal) -> Callable[[ByteRange], int]:
        def checksum(part: ByteRange) -> int:
            self._check()
            return checksum_of(self._file, part, found.checksum())

        return checksum

    def _take_lock(self, *, create: bool) -> None:
        found = lock_journal(self._folder, self._journal_name, self.path, create=create)
        self._lock = _CLOSED if found is None else found

    def _open(self) -> None:
        """Opens the half image and the journal."""
        if self._lock == _CLOSED:
            self._take_lock(create=False)  # another copy may have been begun and ended since the first look
        if self._lock == _CLOSED:
            self._begin_journal()
        if self._file == _CLOSED:
            self._file = open_part(self._folder, self._part, self.path)

    def _begin_journal(self) -> None:
        """Makes the journal. Without one, a half image with bytes is somebody else's."""
        self._check_part_is_free()  # or a kill would leave a journal beside it that calls it ours
        self._take_lock(create=True)
        self._is_begun = not os.fstat(self._lock).st_size
        if self._is_begun:
            try:
                self._check_part_is_free()
            except UnsupportedError:
                self._is_begun = False
                os.unlink(self._journal_name, dir_fd=self._folder)
                self._let_go("_lock")
                raise

    def _check_part_is_free(self) -> None:
        if has_bytes(self._folder, self._part):
            raise UnsupportedError(f"{self._part} is there already, and no journal says what it is")

    def _tidy(self, target: os.stat_result) -> None:
        """Removes what a kill between the name and the end has left."""
        with contextlib.suppress(ImgstoreError, OSError):  # the target is there: that is what matters
            self._take_lock(create=False)
            if self._lock == _CLOSED:
                return
            with contextlib.suppress(FileNotFoundError):
                part = os.stat(self._part, dir_fd=self._folder, follow_symlinks=False)
                if not os.path.samestat(part, target):
                    return
            self._remove()

    def _write(self, view: memoryview, offset: int) -> None:
        write_all(view, lambda left, done: os.pwrite(self._file, left, offset + done), self.path)

    def _write_zeros(self, start: int, stop: int) -> None:
        with memoryview(bytes(min(_PIECE, stop - start))) as zeros:
            for at in range(start, stop, _PIECE):
                self._write(zeros[: stop - at], at)

    def _read_back(self) -> None:
        # What was written back is dropped from memory (posix_fadvise(2)), so that the disk is what answers.
        os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
        begun = self._begun()
        if begun.differing(self._checksums(begun)):
            raise DigestMismatchError(
                f"cannot publish {self.path}: the disk gives back other bytes than were written"
            )

    def _give_name(self) -> os.stat_result:
        found = os.fstat(self._file)
        held, size = found.st_size, self._begun().size
        named = os.stat(self._part, dir_fd=self._folder, follow_symlinks=False)
        if held != size or not os.path.samestat(found, named):
            raise StorageIOError(f"cannot publish {self.path}: somebody has changed {self._part}")
        # The descriptor is gone even when close fails, and that means a failed write (NFS: a quota).
        file, self._file = self._file, _CLOSED
        os.close(file)
        try:
            if self.overwrite:
                os.rename(self._part, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            else:
                link_or_rename(self._part, self._name, self._folder)
        except KeyboardInterrupt:  # which may come as soon as it has its name
            self.published = has_name(found, self._name, self._folder)
            raise
        self.published = True
        return found

    def _remove(self) -> None:
        remove_beside(self._folder, self._part, self._journal_name)

    def _close(self) -> None:
        with contextlib.ExitStack() as closing:  # all, whatever interrupts one
            for name in ("_folder", "_lock", "_file"):
                closing.callback(self._let_go, name)
            self._stop()

    def _let_go(self, name: str) -> None:
        descriptor = getattr(self, name)
        setattr(self, name, _CLOSED)
        if descriptor != _CLOSED:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _stop(self) -> None:
        if self._claims is not None:
            self._claims.stop()

    def _typed(self, what: str) -> AbstractContextManager[None]:
        return typed(f"cannot {what} {self.path}")


def _part_size(size: int, unit: int) -> int:
    part = PART_SIZE
    while size > part * _PARTS:
        part *= 2
    return -(-part // unit) * unit


def _boot() -> str:
    """Gives what is the same until the next boot (proc_sys_kernel(5)); without it each time is another."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return os.urandom(16).hex()
