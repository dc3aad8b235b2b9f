"""The data directories of a store: where an image is, and where a new one goes."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from imgstore.backends.filesystem import walk
from imgstore.backends.filesystem.locks import locked
from imgstore.backends.filesystem.names import OWN, split
from imgstore.clock import Clock
from imgstore.errors import (
    AlreadyExistsError,
    ConfigError,
    ConflictError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    StorageIOError,
    StoreError,
)
from imgstore.model import Call
from imgstore.publish import file_error

_ROOT: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC  # the data directory itself may be a link
_LOCK: Final = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
# What says nothing of the other directories.
_PASSED_OVER: Final = (NotFoundError, StorageIOError, PermissionDeniedError)


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """One folder of images; with `create` the first image makes it where there is none."""

    path: str
    priority: int = 0
    create: bool = False

    @contextlib.contextmanager
    def opened(self, *, make: bool = False) -> Iterator[int]:
        """Gives its descriptor for as long as the block runs; with `make`, also where it is yet to be made.

        Raises: StorageIOError where it is not there, which is no news of any image; NotFoundError where it is
        to be made by the first image; PermissionDeniedError.
        """
        try:
            root = self._open_or_make() if make and self.create else os.open(self.path, _ROOT)
        except (FileNotFoundError, NotADirectoryError) as exc:
            if self.create and isinstance(exc, FileNotFoundError):
                raise NotFoundError(f"no image was stored in {self.path} yet") from exc
            raise StorageIOError(
                f"the data directory {self.path} is not there; mount or create it, or correct the option",
                errno=errno.ENOENT,
            ) from exc
        except OSError as exc:
            raise file_error(exc, f"cannot open the data directory {self.path}") from exc
        try:
            yield root
        finally:
            os.close(root)

    def holds(self, key: str) -> bool:
        """Tells whether an image is stored under `key` here. Raises: as `walk.look`."""
        try:
            with self.opened() as root:
                walk.look(root, *split(key), key)
        except NotFoundError:
            return False
        return True

    def free(self) -> tuple[int, int]:
        """Gives the file system's device number and the bytes free on it to this user.

        Where it is yet to be made, those of the folder that it will be made in.
        """
        try:
            with self.opened() as root:
                try:
                    found = os.fstatvfs(root)
                    return os.fstat(root).st_dev, found.f_bavail * found.f_frsize
                except OSError as exc:
                    raise file_error(exc, f"cannot ask for the room left in {self.path}") from exc
        except NotFoundError:
            return DataDirectory(os.path.dirname(os.path.abspath(self.path)), create=True).free()

    def _open_or_make(self) -> int:
        parent, name = os.path.split(os.path.abspath(self.path))
        try:
            root = os.open(self.path, _ROOT)
        except FileNotFoundError:
            with DataDirectory(parent, create=True).opened(make=not os.path.lexists(parent)) as at:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=at)
                walk.sync(at, [], name)
            return os.open(self.path, _ROOT)
        # Whoever made it may not have come to this yet; where we may not, it is none of ours to make durable.
        with contextlib.suppress(PermissionDeniedError), DataDirectory(parent).opened() as at:
            walk.sync(at, [], name)
        return root


class Directories:
    """The data directories in the order in which they are read: by priority, highest first, then as given."""

    def __init__(self, directories: Sequence[DataDirectory]) -> None:
        """Takes at least one directory."""
        self.ordered = sorted(directories, key=lambda each: -each.priority)

    def find(self, key: str) -> tuple[DataDirectory, int]:
        """Opens the file of `key`, and gives the directory it is in. The caller closes the file.

        A directory that fails is passed over where another one has the image.

        Raises: as `walk.open_image`; rather than NotFoundError the failure of a directory that may have it.
        """
        folders, name = split(key)
        failure: StoreError = NotFoundError(f"there is no {key!r}")
        for each in self.ordered:
            try:
                with each.opened() as root:
                    return each, walk.open_image(root, folders, name, key)
            except _PASSED_OVER as exc:
                failure = exc if isinstance(failure, NotFoundError) else failure
        raise failure

    def holders(self, key: str) -> list[DataDirectory]:
        """Gives the directories with an image under `key`; more than one only where somebody copied files.

        Raises: ConfigError where two directories are one; the failure of a directory, where no other has the
        image.
        """
        self._check_distinct()
        found: list[DataDirectory] = []
        failure: StoreError | None = None
        for each in self.ordered:
            try:
                found += [each] if each.holds(key) else []
            except _PASSED_OVER as exc:
                failure = failure or exc
        if failure is not None and not found:
            raise failure
        return found

    def choose(
        self, size: int | None, *, near: DataDirectory | None = None, sparse: bool = False
    ) -> DataDirectory:
        """Gives the directory for an image of `size` bytes, None where that is not known.

        `near` if it has the room; else of those with the highest priority among all that have it the one with
        most. An image that is `sparse` may need less than its size: one that fits nowhere is tried all the
        same.

        Raises: NoSpaceError; StorageIOError where a directory is not there.
        """
        rooms = {each: each.free()[1] for each in self.ordered}
        need = 1 if size is None else size
        fitting = [each for each in self.ordered if rooms[each] >= need]
        if near in fitting:
            return near
        if fitting:
            highest = [each for each in fitting if each.priority == fitting[0].priority]
            return max(highest, key=rooms.__getitem__)
        roomiest = max(self.ordered, key=rooms.__getitem__)
        if sparse and rooms[roomiest]:
            return roomiest
        raise NoSpaceError(f"{need} bytes have no room; {rooms[roomiest]} are free in {roomiest.path}")

    @contextlib.contextmanager
    def claimed(
        self, key: str, place: DataDirectory, *, overwrite: bool, clock: Clock, call: Call
    ) -> Iterator[None]:
        """Runs the block that publishes `key` in `place`; no other directory gets or has that key meanwhile.

        Of several directories one would not know of a name that is just being given in another: they share a
        lock. One alone needs none, for giving a name is one step there.

        Raises: AlreadyExistsError, with `overwrite` ConflictError, where another directory has the key;
        what `call` raises where it ends the wait.
        """
        with contextlib.ExitStack() as stack:
            if len(self.ordered) > 1:
                stack.enter_context(self._locked(clock, call))
            for other in self.ordered:
                if other is not place and other.holds(key):
                    if overwrite:
                        raise ConflictError(f"another writer put {key!r} into {other.path} meanwhile")
                    raise AlreadyExistsError(f"there is {key!r} in {other.path} already")
            yield

    def check(self) -> None:
        """Raises: what a directory that is not there, or cannot be opened, would say to `claimed`."""
        for each in self.ordered:
            with contextlib.suppress(NotFoundError), each.opened():  # one that is yet to be made
                pass

    def _check_distinct(self) -> None:
        seen: dict[tuple[int, int], DataDirectory] = {}
        for each in self.ordered if len(self.ordered) > 1 else ():
            with contextlib.suppress(*_PASSED_OVER), each.opened() as root:
                first = seen.setdefault(_identity(root), each)
                if first is not each:
                    raise ConfigError(
                        f"the data directories {first.path} and {each.path} are one folder; name it once"
                    )

    @contextlib.contextmanager
    def _locked(self, clock: Clock, call: Call) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            # All are made first: the lock is in the same one for those who spell or order them otherwise.
            roots = [stack.enter_context(each.opened(make=True)) for each in self.ordered]
            own = stack.enter_context(walk.held(min(roots, key=_identity), [OWN], OWN))
            lock = _open_lock(own)
            stack.callback(os.close, lock)
            stack.enter_context(locked(lock, "the lock of the data directories", clock, call))
            yield


def _open_lock(folder: int) -> int:
    try:
        return os.open("lock", _LOCK | os.O_RDWR, 0o666, dir_fd=folder)
    except PermissionError:
        # Made by another user. To read is enough for a lock, but on NFS (flock(2)).
        return os.open("lock", _LOCK | os.O_RDONLY, 0o666, dir_fd=folder)


def _identity(folder: int) -> tuple[int, int]:
    found = os.fstat(folder)
    return found.st_dev, found.st_ino
