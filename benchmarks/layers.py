"""What the layers add to one readinto over the memory store."""

from __future__ import annotations

import io
from collections.abc import Callable

from benchmarks.harness import Bench, library

LIMIT = 5.0  # microseconds: a tenth of what one receive of 128 KiB costs the kernel
_READS, _PIECE = 50_000, 64


def run(bench: Bench) -> None:
    bare, layered, watched = [], [], []
    for _ in range(bench.rounds):
        bare.append(library(reads, "bare").cpu)
        layered.append(library(reads, "layered").cpu)
        watched.append(library(reads, "observed").cpu)
    added = [(after - before) / _READS * 1e6 for before, after in zip(bare, layered, strict=True)]
    bench.figure(
        "layers", "CPU time added to a readinto of 64 bytes by metrics and resume.", "us", added, LIMIT
    )
    told = [(after - before) / _READS * 1e6 for before, after in zip(bare, watched, strict=True)]
    bench.figure("layers, observed", "The same with an observer that is told each receive.", "us", told, None)


def reads(how: str) -> Callable[[], None]:
    from imgstore.backends.memory import MemoryStore
    from imgstore.stack import build

    store = MemoryStore()
    store.writer.put("image", io.BytesIO(bytes(_READS * _PIECE)))
    if how != "bare":
        store = build(store, observe=(lambda event: None) if how == "observed" else None)
    stream = store.get("image")
    buffer = memoryview(bytearray(_PIECE))

    def work() -> None:
        while stream.readinto(buffer):
            pass

    return work
