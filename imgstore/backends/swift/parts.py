"""A source cut into segments: how large they are, and how many may be in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from imgstore.backends._intake import Cutter, Room
from imgstore.buffer import paged
from imgstore.errors import UnsupportedError

# What Swift allows where /info does not say otherwise; radosgw's own limits are no lower.
MAX_SEGMENTS: Final = 1000
MAX_SIZE: Final = 5 << 30
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


def plan(size: int | None, wanted: int, limits: Limits) -> Callable[[int], int]:
    """Gives the size of each segment, by its number from 0 on: legal ones for any image.

    Of a known size they are `wanted` bytes, or as many as a manifest full of them needs. Of an unknown size
    they begin with `wanted` bytes and double at each fifth of a manifest, up to 16 times that.

    Raises: UnsupportedError for an image that no manifest can name.
    """
    least, most = limits.min_size, limits.max_size
    if size is None:
        step = max(limits.segments // _STEPS, 1)
        return lambda number: min(max(wanted, least) << min(number // step, _STEPS - 1), most)
    needed = -(-size // limits.segments)
    if needed > most:
        raise UnsupportedError(
            f"an image of {size} bytes is too large: the service joins {limits.segments} segments"
            f" of {most} bytes"
        )
    # no more memory than a small image needs
    each = min(max(wanted, least, needed), most, max(size, 1))
    return lambda _: each


class Filling:
    """Gives what an intake gives as segments, each in memory of its own."""

    def __init__(
        self, pieces: Callable[[Room], Iterator[bytes | memoryview | int]], size_of: Callable[[int], int]
    ) -> None:
        """Takes `Intake.pieces`."""
        self._cutter = Cutter(pieces)
        self._size_of = size_of
        self._number = 0
        self._first: memoryview | None = None

    @property
    def ended(self) -> bool:
        """Whether the last segment was given, and the source judged."""
        return self._cutter.ended

    def whole(self) -> memoryview | None:
        """Gives all of the source if that is one segment; else None, and `next` begins with the first.

        Raises: as the pieces.
        """
        segment = self.next()
        if self.ended:
            return segment
        self._first = segment
        return None

    def next(self) -> memoryview:
        """Gives the next segment, a short one only at the end of the source: empty where nothing is left.

        Raises: as the pieces.
        """
        first, self._first = self._first, None
        if first is not None:
            return first
        memory = paged(self._size_of(self._number))
        self._number += 1
        return memory[: self._cutter.fill(memory)]
