"""Zeros on the way to the disk."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

# What file systems allocate by; smaller holes would save nothing.
BLOCK: Final = 4096
# Compared at once: small enough for the processor's second cache, so that only the image comes from memory.
_STEP: Final = 1 << 16
_ZEROS: Final = bytes(_STEP)


def runs(piece: memoryview, offset: int) -> Iterator[tuple[bool, memoryview]]:
    """Gives `piece`, which stands at `offset` of an image, as stretches in turn of zeros (True) and data.

    Blocks begin at multiples of 4 KiB of the image; one that `piece` holds in part is judged by that part.
    Measured on 1 MiB pieces: 35 GB/s of zeros, 14 GB/s of random data; a core copies memory at some 10.
    """
    begin = at = 0
    kind = False
    while at < len(piece):
        stop = min(at + _STEP - (offset + at) % _STEP, len(piece))
        if not _ZEROS.startswith(piece[at:stop]):
            stop = min(at + BLOCK - (offset + at) % BLOCK, len(piece))
        zero = _ZEROS.startswith(piece[at:stop])
        if zero is not kind and at > begin:
            yield kind, piece[begin:at]
            begin = at
        kind = zero
        at = stop
    if at > begin:
        yield kind, piece[begin:at]
