"""The ways in which a store or a path changes: what is killed, cut off, starved, and what must hold after."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imgstore.backends.filesystem import FilesystemStore
from imgstore.backends.filesystem.names import OWN
from imgstore.cli import main
from imgstore.clock import SYSTEM, Clock, SystemClock, Wakeable
from imgstore.errors import AlreadyExistsError, NotFoundError, UploadLostError
from imgstore.model import Part
from tests.faults.halves import broken_off_once

OLD = b"the image before" * 300
# Three writes, none of them at the edge of a block, and four blocks of zeros in the middle.
NEW = b"the new image!" * 500 + bytes(16384) + b"and its end." * 101
OTHER = b"an image that nobody touches" * 100
PIECE = 8000
PART = 13000

EXISTS = 10  # the exit status of a refusal to replace


class Hasty(SystemClock):
    """A clock that never waits: a version given too early harms nobody where only this test writes."""

    def sleep(self, seconds: float, wake: Wakeable | None = None) -> None:
        pass


class Pieces:
    """A source that gives at most `PIECE` bytes at once."""

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)

    def read(self, size: int) -> bytes:
        piece, self._left = self._left[: min(size, PIECE)], self._left[min(size, PIECE) :]
        return bytes(piece)


@dataclass(frozen=True)
class Way:
    """One change of the image `key`, from `old` to `new`; None where there is none.

    `act` makes it below a folder that `lay` made, `sweep` removes what it keeps on purpose. `folders` are the
    data directories; with `absent` they are not there yet. `named`: the file system has no O_TMPFILE;
    `unlinked`: nor hard links.
    """

    act: Callable[[Way, Path], Any]
    old: bytes | None = None
    new: bytes | None = NEW
    key: str = "disk.img"
    folders: tuple[str, ...] = ("a",)
    absent: bool = False
    named: bool = False
    unlinked: bool = False
    sweep: Callable[[Way, Path], None] = lambda way, root: None
    options: Mapping[str, Any] = field(default_factory=dict)
    clock: Clock = SYSTEM

    @property
    def hasty(self) -> Way:
        """The same without waits."""
        return replace(self, clock=Hasty())

    def store(self, root: Path) -> FilesystemStore:
        # What is free changes all the time: without priorities either directory might get the image.
        places = [f"{root / each}:{-number}" for number, each in enumerate(self.folders)]
        store = FilesystemStore(data_dirs=places, **self.options)
        store.clock = self.clock
        return store

    def lay(self, root: Path) -> None:
        """Makes the folders, the image that is to change, one that is not, and a file to copy from."""
        root.mkdir()
        (root / "source.img").write_bytes(NEW)
        if self.absent:
            return
        for each in self.folders:
            (root / each).mkdir()
            (root / each / "other.img").write_bytes(OTHER)
        if self.old is not None:
            path = root / self.folders[0] / self.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.old)
            path.chmod(0o640)  # another than the umask leaves: whoever replaces it has to keep it

    def run(self, root: Path) -> None:
        """Makes the change, on the file system that this way is about."""
        with _without(tmpfile=self.named, link=self.unlinked):
            self.act(self, root)

    def held(self, root: Path) -> bytes | None:
        """Gives the image as the driver reads it, which must be what stands in the one folder that has it."""
        found = [
            (root / each / self.key).read_bytes()
            for each in self.folders
            if (root / each / self.key).is_file()
        ]
        assert len(found) <= 1, f"{len(found)} images have one name"
        with self.hasty.store(root) as store:
            try:
                with store.get(self.key) as stream:
                    held = stream.read()
            except NotFoundError:
                held = None
        assert found == ([] if held is None else [held])
        return held

    def judge(self, root: Path, *, returned: bool) -> bytes | None:
        """Holds that the name has the old image or the new one, whole, and gives it; no other is touched."""
        held = self.held(root)
        assert held == self.new or (held == self.old and not returned), f"holds {_shown(held)}"
        for each in () if self.absent else self.folders:
            assert (root / each / "other.img").read_bytes() == OTHER
        return held

    def rerun(self, root: Path) -> None:
        """Makes the change again after a crash: it succeeds, or is refused since it was made already.

        Folders without images are no leftovers that a delete looks for when there is no image: they go with
        the next image of that name.
        """
        done = self.held(root) == self.new != self.old
        try:
            self.hasty.run(root)
        except AlreadyExistsError:
            assert done, "refused although it was not done"
        except NotFoundError:
            assert done, "refused although it was not done"
            if "/" in self.key:
                put(self, root)
                self.hasty.run(root)
        self.judge(root, returned=True)


def is_note(args: tuple[Any, ...]) -> bool:
    """Tells whether a call is the test's own, about the token that `upload` keeps."""
    return bool(args) and str(args[0]).endswith(("/token", "/token.new"))


def tree(root: Path) -> list[str]:
    """Gives the paths of all that is below `root`, hidden or not.

    But for the lock that stays in one of several data directories, with its folder where that has nothing
    else: it is in the one with the lowest inode number, whichever that is.
    """
    found = {str(each.relative_to(root)) for each in root.rglob("*")}
    for lock in [each for each in found if each.endswith(f"{OWN}/lock")]:
        found.remove(lock)
        folder = lock.removesuffix("/lock")
        if not any(each.startswith(f"{folder}/") for each in found):
            found.remove(folder)
    return sorted(found)


def _shown(held: bytes | None) -> str:
    return "nothing" if held is None else f"{len(held)} bytes: {held[:40]!r}..."


@contextlib.contextmanager
def _without(*, tmpfile: bool, link: bool) -> Iterator[None]:
    """Refuses what the file system has not, as the kernel does."""
    real_open, real_link = os.open, os.link

    def refusing_open(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if tmpfile and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real_open(path, flags, *args, **options)

    def refusing_link(*args: Any, **options: Any) -> None:
        if link:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        real_link(*args, **options)

    os.open, os.link = refusing_open, refusing_link
    try:
        yield
    finally:
        os.open, os.link = real_open, real_link


def put(way: Way, root: Path) -> None:
    with way.store(root) as store:
        store.writer.put(way.key, Pieces(NEW), len(NEW), overwrite=way.old is not None)


def delete(way: Way, root: Path) -> None:
    with way.store(root) as store:
        store.writer.delete(way.key)


def copy(way: Way, root: Path) -> None:
    with way.store(root) as store:
        store.copier.copy("other.img", way.key, overwrite=way.old is not None)


def cp(way: Way, root: Path) -> None:
    """The command, onto a path."""
    force = ["--force"] if way.old is not None else []
    target = root / way.folders[0] / way.key
    status = main(["cp", "--no-progress", *force, str(root / "source.img"), str(target)])
    if status == EXISTS:
        raise AlreadyExistsError
    assert status == 0, f"imgstore cp ended with {status}"


def download(way: Way, root: Path) -> None:
    """Broken off once, and gone on with."""
    target = root / way.folders[0] / way.key
    broken_off_once(NEW, target, overwrite=way.old is not None)


def upload(way: Way, root: Path) -> None:
    """In parts, by a process that goes on with the token that it noted, as one does after a crash."""
    note, fresh = root / "token", root / "token.new"
    with way.store(root) as store:
        if not note.exists():
            fresh.write_text(store.uploader.begin(way.key, len(NEW), overwrite=way.old is not None))
            fresh.replace(note)
        token = note.read_text()
        with contextlib.suppress(UploadLostError):  # it was completed: the answer is asked for again
            held = {each.number for each in store.uploader.parts(token)}
            for number, at in enumerate(range(0, len(NEW), PART)):
                if number not in held:
                    store.uploader.put_part(token, number, at, memoryview(NEW)[at : at + PART])
        store.uploader.complete(token, _held(store, token))


def _held(store: FilesystemStore, token: str) -> Sequence[Part]:
    try:
        return store.uploader.parts(token)
    except UploadLostError:
        return []


def sweep(way: Way, root: Path) -> None:
    """Removes what is kept of uploads on purpose: the token, what was begun, and answers, which are aged."""
    for name in ("token", "token.new"):
        (root / name).unlink(missing_ok=True)
    with way.store(root) as store:
        for each in store.uploader.uploads():
            store.uploader.abort(each.token)
        for each in (root / way.folders[0] / ".imgstore/uploads").glob("*"):
            os.utime(each, (0, 0))
        store.uploader.abort(store.uploader.begin("swept.img", 1))


TWO = ("a", "b")

WAYS = {
    "put": Way(put),
    "put, overwriting": Way(put, old=OLD),
    "put, no O_TMPFILE": Way(put, named=True),
    "put, neither O_TMPFILE nor links": Way(put, named=True, unlinked=True),
    "put, nested": Way(put, key="deep/er/disk.img"),
    "put, thin": Way(put, options={"thin": True}),
    "put, two directories": Way(put, folders=TWO),
    "put, overwriting in two directories": Way(put, old=OLD, folders=TWO),
    "put, directory made": Way(put, folders=("new/images",), absent=True, options={"create_data_dir": True}),
    "delete": Way(delete, old=OLD, new=None),
    "delete, nested": Way(delete, old=OLD, new=None, key="deep/er/disk.img"),
    "delete, two directories": Way(delete, old=OLD, new=None, folders=TWO),
    "copy": Way(copy, new=OTHER),
    "copy, overwriting": Way(copy, old=OLD, new=OTHER),
    "upload": Way(upload, sweep=sweep, options={"file_mode": "0640"}),
    "upload, overwriting, nested": Way(upload, old=OLD, key="deep/er/disk.img", sweep=sweep),
    "upload, two directories": Way(upload, folders=TWO, sweep=sweep, options={"file_mode": "0640"}),
    "cp": Way(cp),
    "cp --force": Way(cp, old=OLD),
    "cp, no O_TMPFILE": Way(cp, named=True),
    "download": Way(download),
    "download, overwriting": Way(download, old=OLD),
    "download, no links": Way(download, unlinked=True),
}
