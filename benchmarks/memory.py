"""Peak memory does not grow with the image."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import downloads, images
from benchmarks.harness import Bench, BrokenRunError, Cost, library
from benchmarks.nginx import serving
from imgstore.transfer.copy import BUFFER as BLOCK

_SMALL, _HUGE = 64 << 20, 1 << 40
_PEAK, _GROWTH = 64.0, 8.0  # MiB


def run(bench: Bench) -> None:
    disk, target = bench.disk, bench.disk / "copy"
    small, huge = disk / "small", disk / "huge"
    images.dense(small, _SMALL)
    expected = images.sparse(huge, _HUGE, _SMALL, seed=bench.seed)

    def copied(source) -> Cost:
        target.unlink(missing_ok=True)
        return library(copy, source, target)

    pairs = [(copied(small), copied(huge)) for _ in range(bench.rounds)]
    if images.content(target) != expected:
        raise BrokenRunError("the copy of the huge image is another image")
    about = "of a copy from disk to disk of 64 MiB, and of 1 TiB of which 64 MiB are data and the rest hole"
    _tell(bench, "file", about, pairs)
    for each in (small, huge, target):
        each.unlink()
    _over_http(bench)


def _over_http(bench: Bench) -> None:
    root = bench.memory / "www"
    root.mkdir()
    small, large, target = root / "small", root / "large", bench.memory / "copy"
    images.dense(small, _SMALL)
    images.dense(large, bench.size)

    def fetched(url: str) -> Cost:
        target.unlink(missing_ok=True)
        return library(downloads.imgstore, url, target, BLOCK)

    with serving(root, bench.memory / "nginx") as base:
        pairs = [(fetched(f"{base}/small"), fetched(f"{base}/large")) for _ in range(bench.rounds)]
    about = f"of a copy from nginx of 64 MiB, and of {bench.size >> 20} MiB, every byte of it received"
    _tell(bench, "http", about, pairs)
    for each in (small, large, target):
        each.unlink()
    root.rmdir()


def copy(source: str, target: str) -> Callable[[], None]:
    import os

    from imgstore.backends.filesystem import FilesystemStore
    from imgstore.publish import PendingFile
    from imgstore.stack import build
    from imgstore.transfer.copy import copy as pump
    from imgstore.transfer.progress import Report
    from imgstore.transfer.sparse import open_source

    def work() -> None:
        folder, name = os.path.split(source)
        with (
            build(FilesystemStore(data_dir=folder)) as store,
            PendingFile(target) as file,
            open_source(store, name) as stream,
        ):
            pump(stream, file, report=Report())

    return work


def _tell(bench: Bench, kind: str, about: str, pairs: list[tuple[Cost, Cost]]) -> None:
    growth = [(large.peak - small.peak) / (1 << 20) for small, large in pairs]
    bench.figure(f"{kind}: growth of the peak", f"The difference {about}.", "MiB", growth, _GROWTH)
    peaks = [large.peak / (1 << 20) for _, large in pairs]
    bench.figure(f"{kind}: peak", f"Resident memory {about}; the larger of the two.", "MiB", peaks, _PEAK)
