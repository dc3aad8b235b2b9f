"""Memory to receive into."""

from __future__ import annotations


def paged(size: int) -> memoryview:
    """Gives `size` zeroed bytes, at least one, from the start of a page of memory on, for this process alone.

    They go with the last view of them. malloc puts a large block 16 bytes behind the start of a page, and to
    just there some AMD processors copy several times as slowly as elsewhere
    (https://lunnova.dev/articles/ryzen-slow-short-rep-mov/). 256 MiB from the page cache in pieces of 1 MiB:
    0.28 s to 16 bytes behind the start of a page, 0.10 s to the start, 0.09 s to 32 or 64 behind it.
    """
    import mmap  # a module of its own in C, for those who read

    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
