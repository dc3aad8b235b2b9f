"""How an image is cut into parts within the limits of S3 (User Guide, "Multipart upload limits")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from imgstore.errors import UnsupportedError
from imgstore.model import Part
from imgstore.store import UploadLimits

MIB: Final = 1 << 20
IMAGE_LIMIT: Final = 5 << 40  # the largest object that every service takes
COPY_LIMIT: Final = 5 << 30  # the largest object that one CopyObject copies
LIMITS: Final = UploadLimits(min_part=5 * MIB, max_part=5 << 30, max_parts=10_000, ordered=False)
# Of an image whose size is not known, each part is at least the 1250th of what went before it. So the parts
# grow by e in 1,250 of them, and 10,000 parts of 5 MiB and more hold 6.5 TiB.
_GROWTH: Final = 1250


def part_size(size: int, least: int) -> int:
    """Gives the size of the parts of an image of `size` bytes: `least`, or what 10,000 of them need.

    In whole MiB, unless `least` is not.

    >>> part_size(1 << 30, 16 << 20) >> 20, part_size(5 << 40, 16 << 20) >> 20
    (16, 525)
    """
    return max(least, _whole(-(-size // LIMITS.max_parts)))


def next_part_size(offset: int, least: int) -> int:
    """Gives the size of the part that begins at `offset` of an image whose size is not known.

    >>> next_part_size(0, 16 << 20) >> 20, next_part_size(1 << 40, 16 << 20) >> 20
    (16, 839)
    """
    return min(max(least, _whole(-(-offset // _GROWTH))), LIMITS.max_part)


def planned(offset: int, size: int | None, least: int) -> int:
    """Gives the size of the part that begins at `offset` of an image of `size` bytes, if that is known."""
    return next_part_size(offset, least) if size is None else part_size(size, least)


def _whole(size: int) -> int:
    return -(-size // MIB) * MIB


def check_image(size: int | None) -> None:
    """Returns if S3 takes an image of `size` bytes, as far as that is known. Raises: UnsupportedError."""
    if size is not None and size > IMAGE_LIMIT:
        raise UnsupportedError(f"an image of {size} bytes is larger than S3 takes: 5 TiB")


def check_part(part: Part, size: int | None) -> None:
    """Returns if S3 takes `part` of an image of `size` bytes.

    Raises: ValueError naming the limit.
    """
    stop = part.offset + part.size
    if not 0 <= part.number < LIMITS.max_parts:
        raise ValueError(f"part {part.number}: parts are numbered from 0 to {LIMITS.max_parts - 1}")
    end = IMAGE_LIMIT if size is None else size
    if part.offset < 0 or stop > end:
        raise ValueError(f"part {part.number}: [{part.offset}, {stop}) lies outside an image of {end} bytes")
    # Whether a small part is the last one shows here only where the size is known, else on completion.
    small = size not in {None, stop} and part.size < LIMITS.min_part
    if small or not 1 <= part.size <= LIMITS.max_part:
        raise ValueError(
            f"part {part.number}: {part.size} bytes; a part has {LIMITS.min_part} to {LIMITS.max_part}, "
            "the last one may have fewer"
        )


def check_row(parts: Sequence[Part]) -> None:
    """Returns if `parts`, in the order of their numbers, make up an image from its start without a gap.

    Raises: ValueError naming the part that is missing, out of place or too small.
    """
    at = 0
    for number, part in enumerate(parts):
        if part.number != number or part.offset != at:
            raise ValueError(
                f"part {part.number} begins at {part.offset}; part {number} was to begin at {at}"
            )
        if part.size < LIMITS.min_part and part is not parts[-1]:
            raise ValueError(f"part {number}: {part.size} bytes; only the last may be so small")
        at += part.size


def placed(held: Mapping[int, tuple[int, str]], size: int | None) -> list[Part]:
    """Gives the parts that S3 holds, of which it knows `number: (bytes, tag)` but not where they belong.

    Those from part 0 on without a gap begin where the one before ends. Behind a gap a part is placed only if
    all parts before it have one size; one that would fit in several places is left out, to be put again.
    """
    parts: list[Part] = []
    at = 0
    sizes = {held[number][0] for number in held if number != max(held)}
    for number in sorted(held):
        count, tag = held[number]
        if number == len(parts) and at is not None:
            offset = at
        elif len(sizes) == 1 and count <= (step := next(iter(sizes))):
            offset = number * step
            if count < step and size not in {None, offset + count}:
                continue
        else:
            continue
        if size is not None and offset + count > size:
            continue
        parts.append(Part(number, offset, count, tag))
        at = offset + count
    return parts
