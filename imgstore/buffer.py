"""Memory to receive into."""

from __future__ import annotations

import contextlib
from typing import Final

_HUGE: Final = 2 << 20  # a huge page of x86 and of most others


def paged(size: int) -> memoryview:
    """Gives `size` zeroed bytes, at least one, from the start of a page of memory on, for this process alone.

    They go with the last view of them. malloc puts a large block 16 bytes behind the start of a page, and to
    just there some AMD processors copy several times as slowly as elsewhere
    (https://lunnova.dev/articles/ryzen-slow-short-rep-mov/). 256 MiB from the page cache in pieces of 1 MiB:
    0.28 s to 16 bytes behind the start of a page, 0.10 s to the start, 0.09 s to 32 or 64 behind it.

    Large memory is of huge pages where the system has them: what is touched of it comes in steps of 2 MiB
    then. 256 MiB into fresh memory of 16 MiB each: 0.28 s of processor in small pages, 0.15 s in huge ones.
    """
    import mmap  # a module of its own in C, for those who read

    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE:
        with contextlib.suppress(AttributeError, OSError):  # no system, or no kernel, that has them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)
