"""What a draft holds of an upload, as its metadata tells it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from imgstore.backends.rbd.draft import Draft, Plan
from imgstore.errors import SourceChangedError, UploadLostError
from imgstore.model import Part
from imgstore.store import UploadLimits

# An image has no parts, and so no limits; but its metadata is read whole by whoever goes on.
LIMITS: Final = UploadLimits(
    min_part=1, max_part=1 << 40, max_parts=10_000, ordered=False, thin=True, serial=True
)
_PREFIX: Final = "imgstore.parts."
# Parts told in one of the metadata: 64 take 3 KiB, and 10,000 make 157, each 3 ms to write or remove.
_TOGETHER: Final = 64


class Parts:
    """The parts that are held, by number. One is put down when all of it is on the disks, and not before."""

    def __init__(self, draft: Draft) -> None:
        """Reads what the draft's metadata told when it was locked."""
        self._draft = draft
        self._held: dict[int, Part] = {part.number: part for part in told(draft.meta)}

    def forget(self, lost: Callable[[Part], bool]) -> None:
        """Puts down that the parts that are `lost` are not held any more."""
        gone = [part.number for part in self._held.values() if lost(part)]
        for number in gone:
            del self._held[number]
        for bucket in sorted({number // _TOGETHER for number in gone}):
            self._note(bucket)

    def add(self, part: Part) -> None:
        """Puts down that `part` is held."""
        self._held[part.number] = part
        self._note(part.number // _TOGETHER)

    def covered(self, plan: Plan, given: Sequence[Part]) -> int:
        """Gives the size that the parts `given` cover.

        Raises: UploadLostError for one that is not held as given, ValueError for a gap, SourceChangedError
        for another size than was promised.
        """
        at = 0
        for part in sorted(given, key=lambda part: part.offset):
            if self._held.get(part.number) != part:
                raise UploadLostError(f"the store does not hold part {part.number} as given")
            if part.offset != at:
                raise ValueError(f"part {part.number} begins at {part.offset}, not at {at}")
            at += part.size
        if plan.size is not None and at != plan.size:
            raise SourceChangedError(f"the parts hold {at} bytes where {plan.size} were promised")
        return at

    def _note(self, bucket: int) -> None:
        held = {
            str(part.number): [part.offset, part.size, part.tag]
            for part in self._held.values()
            if part.number // _TOGETHER == bucket
        }
        self._draft.note(f"{_PREFIX}{bucket}", json.dumps(held) if held else None)


def told(meta: dict[str, str]) -> Iterator[Part]:
    """Gives the parts that the metadata of a draft tells."""
    for name, value in meta.items():
        if name.startswith(_PREFIX):
            for number, (offset, size, tag) in json.loads(value).items():
                yield Part(int(number), offset, size, tag)


def check_part(plan: Plan, part: Part) -> None:
    """Raises: ValueError for a part that the limits forbid, or that lies outside the image."""
    stop = part.offset + part.size
    if not 0 <= part.number < LIMITS.max_parts:
        raise ValueError(f"part {part.number}: parts are numbered from 0 to {LIMITS.max_parts - 1}")
    if part.offset < 0 or (plan.size is not None and stop > plan.size):
        raise ValueError(
            f"part {part.number}: [{part.offset}, {stop}) lies outside the image of {plan.size} bytes"
        )
    if not LIMITS.min_part <= part.size <= LIMITS.max_part:
        raise ValueError(f"part {part.number} has {part.size} bytes; a part has at least one")
