"""The operations that real code makes on a file system, written down for the model of the disk."""

from __future__ import annotations

import copy
import itertools
import os
import stat
import threading
from pathlib import Path
from typing import Any

from tests.faults.simdisk import Chmod, Disk, Enter, Found, Move, Op, Remove, Resize, State, Sync, Write
from tests.faults.system_calls import Calls

# What changes nothing on a disk.
_HARMLESS = {
    "access", "close", "dup", "flock", "fstat", "fstatvfs", "get_terminal_size", "getcwd", "isatty",
    "listdir", "lseek", "lstat", "pread", "preadv", "read", "readlink", "scandir", "sched_getaffinity",
    "stat", "statvfs", "utime",
}  # fmt: skip
_FICLONE = 0x40049409  # <linux/fs.h>


class Recorder:
    """Writes down what is done below `root` while it is entered, and holds at the end that this is all.

    `log` is what was done to the `disk` that was there before, all of it durable. Files right in `root` are
    the test's own and not looked at; `noted` is how long the log was when the test noted an upload's token.
    The `without`-th sync, from 1, is neither made nor written down, when the log was `dropped` long.
    """

    def __init__(self, root: Path, *, without: int | None = None) -> None:
        self.root = root
        self.log: list[Op] = []
        self.synced: list[str] = []
        self.noted: int | None = None
        self.dropped = 0
        self._without = without
        self._disk = Disk()
        self._nodes = {os.stat(root).st_ino: 0}
        self._numbers = itertools.count(1)
        self._calls = Calls(self._watch)
        self._own = threading.local()
        for path in _below(root):
            folder = self._nodes[os.stat(path.parent).st_ino]
            data = b"" if path.is_dir() else path.read_bytes()
            self._disk.entries[folder][path.name] = self._new(os.lstat(path), data)

    def disk(self) -> Disk:
        """Gives the disk as it was before."""
        return copy.deepcopy(self._disk)

    def __enter__(self) -> Recorder:
        self._calls.__enter__()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._calls.__exit__()
        if kind is None:
            disk = self.disk()
            for op in self.log:
                disk.do(op)
            whole, there = disk.whole(), held(self.root)
            unseen = sorted(name for name in {*whole, *there} if whole.get(name) != there.get(name))
            assert not unseen, f"done and not written down: {unseen}"

    def _watch(self, name: str, call: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if name in _HARMLESS or getattr(self._own, "looking", False):
            return call()
        self._own.looking = True
        try:
            return getattr(self, f"_{name}")(call, *args, **options)
        finally:
            self._own.looking = False

    def _new(self, found: os.stat_result, data: bytes = b"") -> int:
        node = next(self._numbers)
        self._nodes[found.st_ino] = node  # of a file that is gone the number may be used again
        if stat.S_ISDIR(found.st_mode):
            self._disk.add_folder(node)
        else:
            self._disk.add_file(node, stat.S_IMODE(found.st_mode), data)
        return node

    def _node(self, file: int) -> int | None:
        return self._nodes.get(os.fstat(file).st_ino)

    def _place(self, path: str, at: int | None) -> tuple[int, str] | None:
        """Gives the folder, if it is one that is watched, and the name in it."""
        folder, name = os.path.split(os.fspath(path))
        node = self._nodes.get(os.stat(folder or ".", dir_fd=at).st_ino)
        return None if node is None else (node, name)

    def _open(
        self, call: Any, path: Any, flags: Any = "r", *_: Any, dir_fd: int | None = None, **__: Any
    ) -> Any:
        if isinstance(flags, str):  # Python's own open: the test's notes, /proc, a log that is read
            return call()
        fresh = bool(flags & os.O_CREAT) and not _exists(path, dir_fd)
        file = call()
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            self._new(os.fstat(file))
        elif fresh and (place := self._place(path, dir_fd)):
            self.log.append(Enter(*place, self._new(os.fstat(file))))
        return file

    def _mkdir(self, call: Any, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        call()
        if place := self._place(path, dir_fd):
            found = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
            self.log.append(Enter(*place, self._new(found)))

    def _unlink(self, call: Any, path: str, *, dir_fd: int | None = None) -> None:
        place = self._place(path, dir_fd)
        call()
        if place:
            self.log.append(Remove(*place))

    _rmdir = _unlink

    def _link(
        self,
        call: Any,
        old: str,
        new: str,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        node = self._nodes.get(os.stat(old, dir_fd=src_dir_fd, follow_symlinks=follow_symlinks).st_ino)
        call()
        place = self._place(new, dst_dir_fd)
        if place and node:
            self.log.append(Enter(*place, node))

    def _rename(
        self, call: Any, old: str, new: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        node = self._nodes.get(os.stat(old, dir_fd=src_dir_fd, follow_symlinks=False).st_ino)
        source, target = self._place(old, src_dir_fd), self._place(new, dst_dir_fd)
        call()
        if node is None:
            self.noted = len(self.log)
        elif source and target:
            self.log.append(Move(*source, *target, node))

    def _write(self, call: Any, file: int, data: Any) -> int:
        return self._written(file, os.lseek(file, 0, os.SEEK_CUR), data, call())

    def _pwrite(self, call: Any, file: int, data: Any, offset: int) -> int:
        return self._written(file, offset, data, call())

    def _written(self, file: int, offset: int, data: Any, count: int) -> int:
        node = self._node(file)
        if node is not None and count:
            self.log.append(Write(node, offset, bytes(data[:count])))
        return count

    def _copy_file_range(self, call: Any, source: int, target: int, count: int, offset_src: int) -> int:
        offset = os.lseek(target, 0, os.SEEK_CUR)
        done: int = call()
        return self._written(target, offset, os.pread(source, done, offset_src), done)

    def _ioctl(self, call: Any, file: int, request: int, argument: Any = 0, *_: Any) -> Any:
        result = call()
        if request == _FICLONE:
            data = os.pread(argument, os.fstat(argument).st_size, 0)
            self._written(file, 0, data, len(data))
        return result

    def _ftruncate(self, call: Any, file: int, size: int) -> None:
        call()
        self.log.append(Resize(self._nodes[os.fstat(file).st_ino], size))

    def _fchmod(self, call: Any, file: int, mode: int) -> None:
        call()
        found = os.fstat(file)
        if not stat.S_ISDIR(found.st_mode):  # who may look into a folder is no matter of what is in it
            self.log.append(Chmod(self._nodes[found.st_ino], mode))

    def _fsync(self, call: Any, file: int) -> None:
        self._sync("fsync", call, file)

    def _fdatasync(self, call: Any, file: int) -> None:
        self._sync("fdatasync", call, file)

    def _sync(self, name: str, call: Any, file: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file"
        self.synced.append(f"{name} of a {kind}")
        node = self._node(file)
        if len(self.synced) == self._without:
            self.dropped = len(self.log)
            return
        call()
        if node is not None:
            self.log.append(Sync(node, name == "fdatasync"))


Recorder._replace = Recorder._rename  # type: ignore[attr-defined]


def held(root: Path) -> State:
    """Gives what stands below `root`, but for files right in it."""
    return {
        str(path.relative_to(root)): None
        if path.is_dir()
        else Found(path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        for path in _below(root)
    }


def lay(state: State, root: Path) -> None:
    """Makes files and folders of a state of the disk."""
    for name in sorted(state):
        path, found = root / name, state[name]
        if found is None:
            path.mkdir(parents=True)
        else:
            path.write_bytes(found.data)
            path.chmod(found.mode)


def _below(root: Path) -> list[Path]:
    return [each for each in sorted(root.rglob("*")) if each.parent != root or each.is_dir()]


def _exists(path: Any, at: int | None) -> bool:
    try:
        os.stat(path, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
