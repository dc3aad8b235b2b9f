"""The log of one upload: what was begun, which parts are held, what became of it.

One line a record: the CRC-32 of its JSON in hexadecimal, a space, the JSON. A line is believed only whole, so
that a record torn by a crash is one that was never made. Whoever appends holds the lock of the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imgstore.errors import StorageIOError, UploadLostError
from imgstore.model import ObjectInfo, Part


@dataclass(slots=True)
class UploadState:
    """What the records of a log amount to.

    `published` is what tells the image's file from any other, from just before it gets its name on; `done` is
    what `complete` answered.
    """

    key: str
    size: int | None
    digests: Mapping[str, str]
    overwrite: bool
    started: float
    parts: dict[int, Part] = field(default_factory=dict)
    published: list[int] | None = None
    done: Mapping[str, Any] | None = None

    def overlapping(self, part: Part) -> list[int]:
        """Gives the numbers of the held parts that writing `part` destroys or replaces."""
        return [
            number
            for number, each in self.parts.items()
            if number == part.number
            or (each.offset < part.offset + part.size and part.offset < each.offset + each.size)
        ]


def begun(state: UploadState) -> dict[str, Any]:
    """Gives the first record of a log."""
    return {
        "begun": [state.key, state.size, dict(state.digests), state.overwrite, state.started],
    }


def held(part: Part) -> dict[str, Any]:
    """Gives the record of a part whose bytes are on the disk."""
    return {"part": [part.number, part.offset, part.size, part.tag]}


def dropped(numbers: Iterable[int]) -> dict[str, Any]:
    """Gives the record of parts that are held no more."""
    return {"dropped": list(numbers)}


def announce(log: int, found: os.stat_result) -> list[int]:
    """Notes the file that is about to get the image's name, and gives its mark. Raises: as `append`."""
    append(log, {"published": mark(found)})
    return mark(found)


def mark(found: os.stat_result) -> list[int]:
    """Gives what tells a file from any other, whatever names it has."""
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def conclude(log: int, info: ObjectInfo) -> Mapping[str, Any]:
    """Notes the answer of `complete`, and gives it as the log will. Raises: as `append`."""
    told = {
        "key": info.key,
        "size": info.size,
        "version": info.version,
        "modified": info.modified,
        "digests": dict(info.digests),
    }
    append(log, {"done": told})
    return told


def append(log: int, record: Mapping[str, Any]) -> None:
    """Adds a record to the open file `log`; it is durable when this returns, and not there when this raises.

    Raises: OSError, StorageIOError for a write that takes only a part.
    """
    text = json.dumps(record, separators=(",", ":")).encode()
    size = os.fstat(log).st_size
    line = b"%s%s\n" % (_checksum(text), text)
    if size and os.pread(log, 1, size - 1) != b"\n":
        line = b"\n" + line  # ends what a crash has torn
    try:
        if os.pwrite(log, line, size) != len(line):
            raise StorageIOError("the file system took only a part of a record")
        os.fdatasync(log)
    except BaseException:
        with contextlib.suppress(OSError):
            os.ftruncate(log, size)  # a record that may not last must not be read, either
        raise


def replay(log: int) -> UploadState:
    """Reads the open file `log`. Raises: UploadLostError for one that has no beginning, OSError."""
    state: UploadState | None = None
    for record in _records(log):
        if "begun" in record:
            state = UploadState(*record["begun"])
        elif state is None:
            break
        elif "part" in record:
            part = Part(*record["part"])
            state.parts[part.number] = part
        elif "dropped" in record:
            for number in record["dropped"]:
                state.parts.pop(number, None)
        elif "published" in record:
            state.published = record["published"]
        elif "done" in record:
            state.done = record["done"]
    if state is None:
        raise UploadLostError("there is no such upload; it never began")
    return state


def _records(log: int) -> list[dict[str, Any]]:
    with open(log, "rb", buffering=1 << 16, closefd=False) as file:
        file.seek(0)
        whole = [line[9:] for line in file if line[:9] == _checksum(line[9:-1])]
    return json.loads(b"[%s]" % b",".join(whole))  # type: ignore[no-any-return]  # at once: ten times as fast


def _checksum(text: bytes) -> bytes:
    return b"%08x " % zlib.crc32(text)
