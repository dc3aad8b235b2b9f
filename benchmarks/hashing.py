"""Several digests of one image in one pass, on two cores and from memory, so that only the hashing counts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import images
from benchmarks.harness import Bench, Contender, Cost, library, program
from imgstore.transfer.copy import BUFFER as BLOCK

WHOLE = ("md5", "sha512")  # what Glance keeps of an image
CHUNK = ("sha256", 4 << 20)
AHEAD = 1 / 1.6  # of updating them one after the other
NEAR = 1.15  # the longer of the slowest alone and of all work shared by the cores
_CORES = 2

_TOGETHER = (
    "A file on tmpfs: md5, sha512, and SHA-256 of chunks of 4 MiB. glance_store's way is to update each "
    "digest with each block in the thread that reads."
)
_ONE = "The same file: sha512 alone."
_LIMIT = (
    "Ours over the longer of the slowest digest alone and the processor time of each of the three alone, "
    "summed and shared by two cores; all of the same round."
)


def run(bench: Bench) -> None:
    source = bench.memory / "image"
    images.dense(source, bench.size)
    wanted = _expected(source)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[:_CORES])  # runs inherit it
    try:
        _compare(bench, source, wanted)
        bench.figure("hashing, of its limit", _LIMIT, "x", _of_the_limit(bench, source, wanted), NEAR)
    finally:
        os.sched_setaffinity(0, cores)


def _compare(bench: Bench, source: Path, wanted: dict[str, str]) -> None:
    together = [
        Contender("imgstore.hashing", partial(library, ours, source, wanted)),
        Contender("glance_store's way", partial(library, serial, source, wanted), limit=AHEAD),
    ]
    bench.compare("md5 + sha512 + chunks", _TOGETHER, together)
    one = {"sha512": wanted["sha512"]}
    alone = [
        Contender("imgstore.hashing", partial(library, ours, source, one)),
        Contender("sha512sum", partial(program, ["sha512sum", source])),
        Contender("hashlib", partial(library, serial, source, one)),
    ]
    bench.compare("sha512", _ONE, alone)


def _of_the_limit(bench: Bench, source: Path, wanted: dict[str, str]) -> list[float]:
    ratios = []
    for _ in range(bench.rounds):
        alone: list[Cost] = [library(serial, source, {name: wanted[name]}) for name in wanted]
        slowest = max(cost.wall for cost, name in zip(alone, wanted, strict=True) if name in WHOLE)
        shared = sum(cost.cpu for cost in alone) / _CORES
        ratios.append(library(ours, source, wanted).wall / max(slowest, shared))
    return ratios


def _expected(source: Path) -> dict[str, str]:
    """Gives each digest, and as `chunks` one of all chunks' digests."""
    whole = {name: hashlib.new(name) for name in WHOLE}
    chunks = hashlib.sha256()
    with open(source, "rb") as file:
        while chunk := file.read(CHUNK[1]):
            for each in whole.values():
                each.update(chunk)
            chunks.update(hashlib.new(CHUNK[0], chunk).digest())
    return {name: each.hexdigest() for name, each in whole.items()} | {"chunks": chunks.hexdigest()}


def ours(source: str, wanted: dict[str, str]) -> Callable[[], None]:
    from imgstore.hashing import Hasher

    whole = [name for name in wanted if name != "chunks"]

    def work() -> None:
        with (
            open(source, "rb", buffering=0) as file,
            Hasher(whole, chunk=CHUNK if "chunks" in wanted else None, piece=BLOCK) as hasher,
        ):
            while count := file.readinto(hasher.buffer()):
                hasher.filled(count)
            found = hasher.finish()
        _judge({**found.whole, "chunks": hashlib.sha256(found.chunks).hexdigest()}, wanted)

    return work


def serial(source: str, wanted: dict[str, str]) -> Callable[[], None]:
    whole = {name: hashlib.new(name, usedforsecurity=False) for name in wanted if name != "chunks"}
    chunks = hashlib.sha256()

    def work() -> None:
        buffer = memoryview(bytearray(BLOCK))
        chunk, left = hashlib.new(CHUNK[0]), CHUNK[1]
        with open(source, "rb", buffering=0) as file:
            while count := file.readinto(buffer):  # CHUNK is a number of whole blocks
                for each in whole.values():
                    each.update(buffer[:count])
                if "chunks" in wanted:
                    chunk.update(buffer[:count])
                    left -= count
                    if not left:
                        chunks.update(chunk.digest())
                        chunk, left = hashlib.new(CHUNK[0]), CHUNK[1]
        if left < CHUNK[1]:
            chunks.update(chunk.digest())
        found = {name: each.hexdigest() for name, each in whole.items()}
        _judge({**found, "chunks": chunks.hexdigest()}, wanted)

    return work


def _judge(found: dict[str, str], wanted: dict[str, str]) -> None:
    for name, digest in wanted.items():
        if found[name] != digest:
            raise ValueError(f"{name} is {found[name]}, not {digest}")
