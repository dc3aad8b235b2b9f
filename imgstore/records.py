"""Records in a file that only grows: each one whole and durable, or never made.

A line is a record: the CRC-32 of its JSON in hexadecimal, a space, the JSON. It is believed only whole, so
that one that a crash has torn, or a disk has changed, was never made. Whoever appends holds a lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from imgstore.errors import StorageIOError


def line(record: Any) -> bytes:
    """Gives the line of `record`, which JSON can say."""
    text = json.dumps(record, separators=(",", ":")).encode()
    return b"%s%s\n" % (_checksum(text), text)


def texts(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Gives the JSON of the lines that are whole, in their order."""
    return (each[9:] for each in lines if each[:9] == _checksum(each[9:-1]))


def append(file: int, record: Any, *, durable: bool = True) -> None:
    """Adds a record to the open file; it is durable when this returns, and not there when this raises.

    Without `durable` it outlives the process, but perhaps not the machine, until one is added that is.

    Raises: OSError, StorageIOError for a file system that takes only a part and gives no reason.
    """
    size = os.fstat(file).st_size
    added = line(record)
    if size and os.pread(file, 1, size - 1) != b"\n":
        added = b"\n" + added  # ends what a crash has torn
    try:
        done = 0
        while done < len(added):  # a full disk takes a part of it, and says why when it is to take the rest
            count = os.pwrite(file, added[done:], size + done)
            if not count:
                raise StorageIOError("the file system took only a part of a record")
            done += count
        if durable:
            os.fdatasync(file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.ftruncate(file, size)  # a record that may not last must not be read, either
        raise


def _checksum(text: bytes) -> bytes:
    return b"%08x " % zlib.crc32(text)
