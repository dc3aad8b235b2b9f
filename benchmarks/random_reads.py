"""Small pieces from all over a remote image."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from functools import partial

from benchmarks import images
from benchmarks.harness import Bench, BrokenRunError, Contender, library
from benchmarks.nginx import serving

Work = Callable[[], None]
Read = Callable[[int, int], bytes]

# Enough that opening the file is a small part of a run, and few enough for rounds of seconds.
_COUNTS = {4 << 10: 1000, 1 << 20: 200}


def run(bench: Bench) -> None:
    source = bench.memory / "www" / "image"
    source.parent.mkdir()
    images.dense(source, bench.size)
    with serving(source.parent, bench.memory / "nginx") as base:
        url = f"{base}/{source.name}"
        for piece, count in _COUNTS.items():
            places = random.Random(bench.seed).choices(range(0, bench.size - piece, 4 << 10), k=count)
            expected = _digest(source, places, piece)
            contenders = [
                Contender(name, partial(library, each, url, places, piece, expected))
                for name, each in (
                    ("imgstore", imgstore),
                    ("fsspec", fsspec),
                    ("fsspec, no cache", fsspec_uncached),
                    ("smart_open", smart_open),
                )
            ]
            # of a bare request's time: what being a file of one version may cost
            contenders.append(
                Contender("urllib3", partial(library, urllib3, url, places, piece, expected), 1.5)
            )
            about = (
                f"{count} reads of {piece >> 10} KiB at random from nginx, opening included; start-up "
                "and imports are not timed. urllib3 sends bare ranged requests over one connection."
            )
            bench.compare(f"random {piece >> 10} KiB", about, contenders)
    source.unlink()
    source.parent.rmdir()


def imgstore(url: str, places: list[int], piece: int, expected: str) -> Work:
    from imgstore.backends.http import HttpStore
    from imgstore.files import open_image
    from imgstore.stack import build

    def work() -> None:
        driver, key = HttpStore.at(url)
        with build(driver) as store, open_image(store, key) as file:
            _read_all(_from(file), places, piece, expected)

    return work


def fsspec(url: str, places: list[int], piece: int, expected: str, **settings: object) -> Work:
    from fsspec.implementations.http import HTTPFileSystem

    def work() -> None:
        with HTTPFileSystem(skip_instance_cache=True).open(url, **settings) as file:
            _read_all(_from(file), places, piece, expected)

    return work


def fsspec_uncached(url: str, places: list[int], piece: int, expected: str) -> Work:
    return fsspec(url, places, piece, expected, cache_type="none")


def smart_open(url: str, places: list[int], piece: int, expected: str) -> Work:
    from smart_open import open as opened

    def work() -> None:
        with opened(url, "rb", compression="disable") as file:
            _read_all(_from(file), places, piece, expected)

    return work


def urllib3(url: str, places: list[int], piece: int, expected: str) -> Work:
    from urllib3 import PoolManager

    def work() -> None:
        with PoolManager() as pool:

            def read(at: int, size: int) -> bytes:
                return pool.request("GET", url, headers={"Range": f"bytes={at}-{at + size - 1}"}).data

            _read_all(read, places, piece, expected)

    return work


def _from(file) -> Read:
    def read(at: int, size: int) -> bytes:
        file.seek(at)
        return file.read(size)

    return read


def _read_all(read: Read, places: list[int], piece: int, expected: str) -> None:
    """Reads the pieces and compares all of them; hashing costs every contender the same."""
    digest = hashlib.sha256()
    for at in places:
        digest.update(read(at, piece))
    if digest.hexdigest() != expected:
        raise BrokenRunError("what was read is not what is on the server")


def _digest(source, places: list[int], piece: int) -> str:
    digest = hashlib.sha256()
    with open(source, "rb") as file:
        for at in places:
            file.seek(at)
            digest.update(file.read(piece))
    return digest.hexdigest()
