"""Publishing of a file: under its name it appears whole and durable, or not at all.

The order is what keeps it true through a crash at any point: write, fsync the file, close it, give it its
name in one atomic step, fsync the folder. Any step that fails poisons the file: it is removed, never tried
again, because a kernel that failed to write a page back may call the same page clean the next time it is
asked.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

from imgstore.errors import ImgstoreError, OperationCancelledError, StorageIOError, UnsupportedError
from imgstore.publish.failures import file_error
from imgstore.publish.names import hold, link_or_rename, pending_name, reap
from imgstore.publish.readback import ReadBack
from imgstore.publish.target import open_folder, standing, taken, write_all

LOG = logging.getLogger(__name__)

_CLOSED: Final = -1  # no descriptor

# A file system or kernel without O_TMPFILE says one of these (open(2)).
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


class PendingFile:
    """A file being written that has no name yet; a context manager that leaves all of it or nothing.

    Without `overwrite` the target must not exist, neither on entry nor when it is published; where the file
    system can, the pending file then has no name at all, and even a kill leaves nothing. Otherwise, and with
    `overwrite`, it stands beside the target as `.NAME.<random>.part`, and the target is replaced in one step.
    What a kill leaves of such a one is removed when the next pending file for that name needs one, or is
    refused because the name is taken.
    Mode 0600 while pending; then `mode`, or that of the file it replaces, or what the umask leaves of 0666.

    With `read_back` it is read once more before it gets its name, from the disk and not from memory, and held
    against what was written. Otherwise what was right when it was received counts.

    A relative `path` starts at the folder `dir_fd`, if given. Links in the folder's path are followed; a
    target that is itself a link is refused. Belongs to one thread.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        mode: int | None = None,
        dir_fd: int | None = None,
        read_back: bool = False,
    ) -> None:
        self.path = os.fspath(path)
        self.overwrite = overwrite
        self.written = 0
        self.published = False
        self._mode = mode
        self._dir_fd = dir_fd
        self._proof = ReadBack() if read_back else None
        self._access = os.O_RDWR if read_back else os.O_WRONLY
        self._name = os.path.basename(self.path)
        self._temporary: str | None = None
        self._ends_in_hole = False
        self._folder = self._file = self._handle = _CLOSED
        self._error: ImgstoreError | None = None

    def __enter__(self) -> PendingFile:
        """Checks the target and creates the pending file.

        Raises: ConfigError for what cannot name a file, UnsafeLocationError for a link, FIFO, socket or
        device, UnsupportedError for a block device, AlreadyExistsError; StoreError where the folder refuses.
        """
        try:
            with self._poisoned_by_failure(f"cannot create {self.path}"):
                self._folder = open_folder(self.path, self._dir_fd)
                self._check_target()
                if not self.overwrite:
                    self._create_unnamed()
                if self._file == _CLOSED:
                    reap(self._folder, self._name)
                while self._file == _CLOSED:
                    self._create_named()
        except BaseException:
            self.discard()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends all of `data`. Raises: NoSpaceError, StorageIOError...; the file is then lost."""
        with self._poisoned_by_failure(f"cannot write {self.path}"), memoryview(data).cast("B") as view:
            write_all(view, lambda left, _: os.write(self._file, left), self.path)
            self.written += len(view)
            self._ends_in_hole = False
            if self._proof is not None:
                self._proof.update(view)

    def skip(self, count: int) -> None:
        """Appends `count` zeros as a hole, which takes no room. Raises: as `write`."""
        with self._poisoned_by_failure(f"cannot write {self.path}"):
            os.lseek(self._file, count, os.SEEK_CUR)
            self.written += count
            self._ends_in_hole = True
            if self._proof is not None:
                self._proof.skip(count)

    def extend(self, append: Callable[[int], int]) -> int:
        """Lets `append` write at the end of the file, given its descriptor; it gives the bytes it added.

        For copies inside the kernel, of which nobody here sees the bytes: not with `read_back`.

        Raises: as `write`.
        """
        with self._poisoned_by_failure(f"cannot write {self.path}"):
            if self._proof is not None:
                raise UnsupportedError(f"cannot write {self.path}: what is copied unseen cannot be compared")
            count = append(self._file)
            self.written += count
            self._ends_in_hole = self._ends_in_hole and not count
        return count

    def sync(self) -> None:
        """Makes durable what was written so far, so that little is left for `publish`. Raises: as `write`."""
        with self._poisoned_by_failure(f"cannot write {self.path}"):
            os.fdatasync(self._file)

    def publish(self, size: int | None = None) -> os.stat_result:
        """Makes what was written durable and gives it its name; with `size`, only if that was written.

        Gives what `fstat` tells of the published file.

        Raises: AlreadyExistsError where the name was taken meanwhile; StorageIOError, also where the file
        holds another number of bytes than were written, and DigestMismatchError where it is read back and
        holds others; nothing is published then. Should only the folder's
        own fsync fail, the file is complete under its name, `published` is True, and the error says so.
        """
        with self._poisoned_by_failure(f"cannot publish {self.path}"):
            if self._ends_in_hole:
                os.ftruncate(self._file, self.written)
            os.fchmod(self._file, default_mode() if self._mode is None else self._mode)
            os.fsync(self._file)
            held = os.fstat(self._file).st_size
            wanted = self.written if size is None else size
            if {held, wanted} != {self.written}:
                told = f"of {wanted} bytes {self.written} were written, it holds {held}"
                raise StorageIOError(f"cannot publish {self.path}: {told}")
            if self._proof is not None:
                self._proof.check(self._file, self.path)
            # The descriptor is gone even when close fails, and that means a failed write (NFS: a quota).
            file, self._file = self._file, _CLOSED
            os.close(file)
            self._give_name()
            self.published = True
            found = os.fstat(self._handle)
        sync_published(self._folder, self.path)
        return found

    def discard(self) -> None:
        """Drops what is not published. Idempotent."""
        self._poison(OperationCancelledError(f"{self.path} was given up"))
        # Nothing is lost where a close fails now: what was written was judged before, or is not wanted.
        with contextlib.ExitStack() as closing:
            for name in ("_folder", "_handle", "_file"):
                closing.callback(self._close, name)

    @contextlib.contextmanager
    def _poisoned_by_failure(self, what: str) -> Iterator[None]:
        if self._error is not None:
            raise self._error
        try:
            yield
        except ImgstoreError as exc:
            self._poison(exc)
            raise
        except OSError as exc:
            error = file_error(exc, what)
            self._poison(error)
            raise error from exc
        except BaseException:
            self._poison(OperationCancelledError(f"{what}: interrupted"))
            raise

    def _poison(self, error: ImgstoreError) -> None:
        self._error = self._error or error
        self._drop_temporary()

    def _drop_temporary(self) -> None:
        if self._temporary is None:
            return
        try:
            os.unlink(self._temporary, dir_fd=self._folder)
        except FileNotFoundError:
            pass  # it never came to be, or an interrupt came right after it was renamed
        except OSError as exc:
            if self._stays():
                LOG.warning("%s stays behind beside %s: %s", self._temporary, self.path, exc.strerror)
        self._temporary = None

    def _stays(self) -> bool:
        """Tells whether the pending name is there, as far as can be told; a read-only disk does not say."""
        try:
            os.stat(self._temporary or "", dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def _close(self, name: str) -> None:
        descriptor = getattr(self, name)
        setattr(self, name, _CLOSED)
        if descriptor != _CLOSED:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _check_target(self) -> None:
        found = standing(self.path, self._folder)
        if found is None:
            return
        if not self.overwrite:
            # A kill between the link and the removal of the pending name leaves both.
            reap(self._folder, self._name)
            raise taken(self.path)
        if self._mode is None:
            self._mode = stat.S_IMODE(found.st_mode) & 0o777

    def _create_unnamed(self) -> None:
        """Creates a file without a name; none where that cannot be, or there is no /proc to name it by."""
        flags = os.O_TMPFILE | self._access | os.O_CLOEXEC
        try:
            self._file = os.open(".", flags, 0o600, dir_fd=self._folder)
        except OSError as exc:
            if exc.errno not in _NO_TMPFILE:
                raise
            return
        try:
            # Keeps the file alive after the descriptor that wrote it was closed and judged.
            self._handle = os.open(f"/proc/self/fd/{self._file}", os.O_PATH | os.O_CLOEXEC)
        except OSError:
            file, self._file = self._file, _CLOSED
            os.close(file)

    def _create_named(self) -> None:
        """Creates a file that nobody else has; none where the name that was made up is taken."""
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | self._access | os.O_CLOEXEC
        # Noted first, so that an interrupt right after the open still removes it.
        self._temporary = pending_name(self._name)
        try:
            self._file = os.open(self._temporary, flags, 0o600, dir_fd=self._folder)
        except FileExistsError:
            self._temporary = None  # somebody else's: neither used nor removed
            return
        # The file is not let go with the descriptor that wrote it, which is closed and judged first.
        self._handle = os.dup(self._file)
        if not hold(self._handle, self._temporary, self._folder):
            self._temporary = None
            self._close("_handle")
            self._close("_file")

    def _give_name(self) -> None:
        if self._temporary is None:
            source = f"/proc/self/fd/{self._handle}"
            os.link(source, self._name, dst_dir_fd=self._folder, follow_symlinks=True)
        elif self.overwrite:
            os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            self._temporary = None
        else:
            link_or_rename(self._temporary, self._name, self._folder)
            self._drop_temporary()


def default_mode() -> int:
    """Gives what the umask leaves of 0666.

    It is read from /proc (Linux 4.7), since os.umask would change it for a moment in every thread; without
    /proc the file is its owner's alone.
    """
    try:
        with open("/proc/self/status", "rb") as status:
            umask = next(line for line in status if line.startswith(b"Umask:"))
        return 0o666 & ~int(umask.split()[1], 8)
    except (OSError, StopIteration):
        return 0o600


def sync_published(folder: int, path: str) -> None:
    """Makes the name of the published `path` durable. Raises: the typed error, which says so."""
    try:
        sync_folder(folder)
    except OSError as exc:
        what = f"{path} is complete, but may be lost in a power failure: cannot sync its folder"
        error = file_error(exc, what)
        error.retryable = False  # the file would be found there, and taken for somebody else's
        raise error from exc


def sync_folder(folder: int) -> None:
    """Makes the names in `folder` durable, where its file system can. Raises: OSError."""
    try:
        os.fsync(folder)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        # Some network and FUSE file systems cannot; their names are as durable as they make them.
        _warn_once()


@functools.cache
def _warn_once() -> None:
    LOG.warning(
        "the file system cannot sync folders; a file just published may lose its name in a power loss"
    )
