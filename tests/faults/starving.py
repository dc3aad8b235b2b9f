"""Changes of a store in a process that is denied descriptors, memory or room for a file, one step at a time.

Started as a program: the kind of want, a folder, the name of a way, and from where to where, in which steps.
It prints one line for each step: its number, and how it ended. A step that leaves anything wrong is its end.
"""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imgstore.errors import ImgstoreError
from tests.faults.ways import WAYS, tree


@contextmanager
def few_descriptors(number: int) -> Iterator[None]:
    """Leaves `number` descriptors to be opened. (The lowest that are free are the next.)"""
    with _limited(resource.RLIMIT_NOFILE, _lowest_free() + number):
        yield


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Lets no file be larger than `size` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does, but for embedders that undo it
    with _limited(resource.RLIMIT_FSIZE, size):
        yield


@contextmanager
def no_memory(number: int) -> Iterator[None]:
    """Fails the allocation of that number."""
    import _testcapi

    _testcapi.set_nomemory(number, number + 1)
    try:
        yield
    finally:
        _testcapi.remove_mem_hooks()


@contextmanager
def _limited(what: int, limit: int) -> Iterator[None]:
    before = resource.getrlimit(what)
    resource.setrlimit(what, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def _lowest_free() -> int:
    descriptor = os.open("/", os.O_PATH)
    os.close(descriptor)
    return descriptor


WANTS: dict[str, Callable[[int], object]] = {
    "descriptors": few_descriptors,
    "room": small_files,
    "memory": no_memory,
}


def read(way, root):
    """Reads what the way has put, instead of putting it."""
    with way.store(root) as store, store.get("other.img") as stream:
        data = stream.read()
    assert data == (root / "a/other.img").read_bytes(), "read something else"


def starve(want: str, root: Path, name: str, number: int) -> str:
    """Makes a change in want, and gives how it ended, once all is seen to be as it must be."""
    way = WAYS[name.removesuffix(", read")].hasty
    act = read if name.endswith(", read") else lambda way, root: way.run(root)
    shutil.rmtree(root, ignore_errors=True)
    way.lay(root)
    opened, error = sorted(os.listdir("/proc/self/fd")), None
    try:
        with WANTS[want](number):  # type: ignore[attr-defined]
            act(way, root)
    except ImgstoreError as exc:
        error = type(exc).__name__
    except Exception as exc:
        if want != "memory":
            raise
        error = type(exc).__name__  # MemoryError; CPython itself may say SystemError, or what is beside it
    gc.collect()  # what was left in the middle of its end
    # Python itself may lose one where memory is short between the call that opens and the note of it.
    assert want == "memory" or sorted(os.listdir("/proc/self/fd")) == opened, "a descriptor is left open"
    if act is not read:
        held = way.judge(root, returned=error is None)
        left = [each for each in tree(root) if each.endswith(".part")]
        assert held == way.new or not left or want == "descriptors", f"left: {left}"
        way.rerun(root)
        assert not [each for each in tree(root) if each.endswith(".part")]
    return error or "done"


def main(want: str, folder: str, name: str, *steps: str) -> None:
    for rehearsed in (name, f"{name.removesuffix(', read')}, read"):
        starve("room", Path(folder, "rehearsed"), rehearsed, 1 << 30)
    for number in range(*map(int, steps)):
        print(number, flush=True, end=" ")
        print(starve(want, Path(folder, "root"), name, number), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
