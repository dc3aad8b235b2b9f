"""Where a file holds data, and where it has holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator


def data_in(file: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Gives the stretches of [start, stop) that are no holes. Raises: OSError."""
    while start < stop:
        try:
            begin = os.lseek(file, start, os.SEEK_DATA)
        except OSError as exc:
            if exc.errno != errno.ENXIO:  # nothing but a hole is left
                raise
            return
        if begin >= stop:
            return
        end = os.lseek(file, begin, os.SEEK_HOLE)
        yield begin, min(end, stop)
        start = end
