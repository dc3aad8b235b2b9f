"""Between files of one disk, and into and out of a store of files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import images
from benchmarks.harness import Bench, BrokenRunError, Contender, fsync, library, program
from benchmarks.programs import IMGSTORE
from imgstore.transfer.copy import BUFFER as BLOCK

Work = Callable[[], None]


def run(bench: Bench) -> None:
    source, target = bench.disk / "image", bench.disk / "copy"
    expected = images.dense(source, bench.size)
    copying = [
        Contender("imgstore cp", partial(program, [*IMGSTORE, "cp", "--no-progress", source, target])),
        Contender(
            "cp && sync", partial(program, ["sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", source, target])
        ),
    ]
    remove = partial(target.unlink, missing_ok=True)
    bench.compare("cp", _COPYING, copying, prepare=remove, check=partial(_check, target, expected))
    remove()
    folder = bench.disk / "store"
    stored = folder / "image"
    putting = [
        Contender("imgstore put", partial(library, put, source, folder)),
        Contender("glance_store add", partial(library, glance_add, source, folder)),
    ]
    prepare = partial(_empty, folder)
    bench.compare("put", _PUTTING, putting, prepare=prepare, check=partial(_check, stored, expected))
    getting = [
        Contender("imgstore get", partial(library, get, folder, bench.size)),
        Contender("glance_store get", partial(library, glance_get, folder, bench.size)),
    ]
    bench.compare("get", _GETTING, getting)
    shutil.rmtree(folder)
    source.unlink()


def put(source: str, folder: str) -> Work:
    from imgstore.backends.filesystem import FilesystemStore
    from imgstore.stack import build

    def work() -> None:
        with build(FilesystemStore(data_dir=folder)) as store, open(source, "rb", buffering=0) as file:
            store.writer.put("image", file, os.stat(source).st_size)

    return work


def glance_add(source: str, folder: str) -> Work:
    from benchmarks.glance import opened

    client, conf = opened(BLOCK, folder)

    def work() -> None:
        with open(source, "rb", buffering=0) as file:
            client.add_to_backend(conf, "image", file, os.stat(source).st_size)
        fsync(os.path.join(folder, "image"))

    return work


def get(folder: str, size: int) -> Work:
    from imgstore.backends.filesystem import FilesystemStore
    from imgstore.stack import build

    def work() -> None:
        with build(FilesystemStore(data_dir=folder)) as store, store.get("image") as stream:
            _all(sum(map(len, stream.chunks(BLOCK))), size)

    return work


def glance_get(folder: str, size: int) -> Work:
    from benchmarks.glance import opened

    client, _ = opened(BLOCK, folder)

    def work() -> None:
        chunks, _ = client.get_from_backend(f"file://{folder}/image")
        _all(sum(map(len, chunks)), size)

    return work


def _all(count: int, size: int) -> None:
    if count != size:
        raise BrokenRunError(f"{count} bytes of {size} were read")


def _empty(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()


def _check(target: Path, expected: str) -> None:
    if images.sha256(target) != expected:
        raise BrokenRunError(f"{target.name} is not the image that was copied")


_COPYING = "A path to a path of one disk, the source in the page cache, start to end and synced."
_PUTTING = (
    "A file into the store's folder on the same disk, synced; start-up and imports are not timed. "
    "glance_store does not sync: a sync is added to its time. It always computes two digests, too."
)
_GETTING = "All of an image out of the store, in blocks of 2 MiB, from the page cache to nowhere."
