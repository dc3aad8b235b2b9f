"""The images that are moved, and the proof that they arrived."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

BLOCK = 1 << 20  # of what is written and hashed here


def dense(path: Path, size: int) -> str:
    """Writes `size` random bytes, which nothing can compress or skip; gives their SHA-256."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for at in range(0, size, BLOCK):
            block = os.urandom(min(BLOCK, size - at))
            digest.update(block)
            file.write(block)
        os.fsync(file.fileno())
    return digest.hexdigest()


def sparse(path: Path, size: int, data: int, *, seed: int) -> str:
    """Writes `data` random bytes in blocks scattered over `size` bytes of hole; gives `content` of it."""
    places = sorted(random.Random(seed).sample(range(size // BLOCK), data // BLOCK))
    with open(path, "wb") as file:
        for place in places:
            file.seek(place * BLOCK)
            file.write(os.urandom(BLOCK))
        file.truncate(size)
        os.fsync(file.fileno())
    return content(path)


def sha256(path: Path) -> str:
    """Gives the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def content(path: Path) -> str:
    """Gives a digest of size and bytes that passes over holes: zeros count for nothing, written or not."""
    digest = hashlib.sha256(str(path.stat().st_size).encode())
    with open(path, "rb") as file:
        for at, stop in extents(file.fileno()):
            file.seek(at)
            # in whole blocks, so that the same bytes in other extents have the same digest
            for place in range(at - at % BLOCK, stop, BLOCK):
                file.seek(place)
                block = file.read(BLOCK)
                if block.strip(b"\0"):
                    digest.update(b"%d:" % place)
                    digest.update(block)
    return digest.hexdigest()


def extents(descriptor: int) -> list[tuple[int, int]]:
    """Gives where a file holds data, as half-open ranges."""
    found: list[tuple[int, int]] = []
    at, size = 0, os.fstat(descriptor).st_size
    while at < size:
        try:
            at = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            break
        stop = os.lseek(descriptor, at, os.SEEK_HOLE)
        found.append((at, stop))
        at = stop
    return found


def allocated(path: Path) -> int:
    """Gives the bytes that a file takes on its medium."""
    return path.stat().st_blocks * 512
