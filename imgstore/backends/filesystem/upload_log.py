"""The log of one upload: what was begun, which parts are held, what became of it.

Its records are those of `imgstore.records`. Whoever appends holds the lock of the file.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from imgstore import records
from imgstore.errors import UploadLostError
from imgstore.model import ObjectInfo, Part

_KEPT: Final = 8  # uploads: some 3 MB each, where they have all the parts they may have


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
    """Notes the file that is about to get the image's name, and gives its mark.

    Raises: as `records.append`.
    """
    records.append(log, {"published": mark(found)})
    return mark(found)


def mark(found: os.stat_result) -> list[int]:
    """Gives what tells a file from any other, whatever names it has."""
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def conclude(log: int, info: ObjectInfo) -> Mapping[str, Any]:
    """Notes the answer of `complete`, and gives it as the log will. Raises: as `records.append`."""
    told = {
        "key": info.key,
        "size": info.size,
        "version": info.version,
        "modified": info.modified,
        "digests": dict(info.digests),
    }
    records.append(log, {"done": told})
    return told


def replay(log: int) -> UploadState:
    """Reads the open file `log`. Raises: UploadLostError for one that has no beginning, OSError."""
    return _read_on(log, None).state


class Replays:
    """Replays logs, and of those read last only what was added since: each part is a record of its own.

    Memory: the parts of eight uploads. Whoever replays a log holds its lock, and changes no state but by
    records. Callable from many threads.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], _Replayed] = OrderedDict()

    def replay(self, log: int) -> UploadState:
        """As the function `replay`."""
        found = os.fstat(log)
        name = found.st_dev, found.st_ino
        known = self._kept.pop(name, None)
        if known is not None and not known.begins(log):
            known = None
        read = self._kept[name] = _read_on(log, known)
        with contextlib.suppress(KeyError):  # other threads make room, too
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return read.state


@dataclass(frozen=True, slots=True)
class _Replayed:
    """The state after the line `last`, which ends at `stop`."""

    state: UploadState
    stop: int
    last: bytes

    def begins(self, log: int) -> bool:
        """Tells whether `log` is what was read, perhaps with more behind it; part tags are random."""
        return os.pread(log, len(self.last), self.stop - len(self.last)) == self.last


def _read_on(log: int, known: _Replayed | None) -> _Replayed:
    stop = known.stop if known else 0
    with open(log, "rb", buffering=1 << 16, closefd=False) as file:
        file.seek(stop)
        lines = file.readlines()
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()  # torn: whoever appends next ends it
    state = known.state if known else None
    for record in _records(lines):
        if "begun" in record:
            state = UploadState(*record["begun"])
        elif state is None:
            break
        else:
            _apply(record, state)
    if state is None:
        raise UploadLostError("there is no such upload; it never began")
    last = lines[-1] if lines or not known else known.last
    return _Replayed(state, stop + sum(map(len, lines)), last)


def _apply(record: Mapping[str, Any], state: UploadState) -> None:
    if "part" in record:
        part = Part(*record["part"])
        state.parts[part.number] = part
    elif "dropped" in record:
        for number in record["dropped"]:
            state.parts.pop(number, None)
    elif "published" in record:
        state.published = record["published"]
    elif "done" in record:
        state.done = record["done"]


def _records(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    whole = b",".join(records.texts(lines))
    return json.loads(b"[%s]" % whole)  # type: ignore[no-any-return]  # at once: ten times as fast
