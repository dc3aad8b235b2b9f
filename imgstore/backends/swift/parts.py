"""An image cut into segments: how large they are, and how many there may be."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from imgstore.errors import UnsupportedError

# What Swift allows where /info does not say otherwise; radosgw's own limits are no lower.
MAX_SEGMENTS: Final = 1000
MAX_SIZE: Final = 5 << 30
# The size of a segment by its number, from 0 on, and by the bytes before it.
SizeOf = Callable[[int, int], int]

_STEPS: Final = 5  # how often the segments of an image of unknown size double, at equal distances


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service allows: segments in a manifest, bytes of all but the last, bytes of an object."""

    segments: int = MAX_SEGMENTS
    min_size: int = 1
    max_size: int = MAX_SIZE


def limits_of(told: Mapping[str, Any]) -> Limits:
    """Reads the limits from what the service tells of itself (/info); Swift's defaults stand for the rest."""

    def number(section: str, name: str, default: int) -> int:
        found = told.get(section)
        value = found.get(name) if isinstance(found, dict) else None
        return value if isinstance(value, int) and value > 0 else default

    return Limits(
        number("slo", "max_manifest_segments", MAX_SEGMENTS),
        number("slo", "min_segment_size", 1),
        number("swift", "max_file_size", MAX_SIZE),
    )


def plan(size: int | None, wanted: int, limits: Limits) -> SizeOf:
    """Gives the size of each segment: legal ones for any image.

    Of a known size they are `wanted` bytes, or as many as a manifest full of them needs. Of an unknown size
    they begin with `wanted` bytes and double at each fifth of a manifest, up to 16 times that; what follows
    a full manifest is then refused by an UnsupportedError.

    Raises: UnsupportedError for an image that no manifest can name.
    """
    least, most = limits.min_size, limits.max_size
    if size is None:
        return functools.partial(_growing, max(wanted, least), limits)
    needed = -(-size // limits.segments)
    if needed > most:
        raise UnsupportedError(
            f"an image of {size} bytes is too large: the service joins {limits.segments} segments"
            f" of {most} bytes"
        )
    # no more memory than a small image needs
    each = min(max(wanted, least, needed), most, max(size, 1))
    return lambda _number, _offset: each


def _growing(first: int, limits: Limits, number: int, _: int) -> int:
    if number == limits.segments:
        raise UnsupportedError(
            f"the image has more than the {number} segments that the service joins; give its size"
        )
    step = max(limits.segments // _STEPS, 1)
    return min(first << min(number // step, _STEPS - 1), limits.max_size)
