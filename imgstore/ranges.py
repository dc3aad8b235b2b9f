"""Sets of byte offsets: what has been received, what is still missing. Nothing counts twice."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from imgstore.model import ByteRange


class RangeSet:
    """A set of offsets kept as sorted, disjoint, non-touching ranges. Belongs to one thread.

    Memory: two integers a gap, whatever the size of the image. Adding is O(log n + ranges merged).
    """

    def __init__(self, ranges: Iterable[ByteRange] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for each in ranges:
            self.add(each)

    def add(self, new: ByteRange) -> int:
        """Merges `new` in; gives how many of its bytes were not in the set before.

        Raises: ValueError for a range without an end.
        """
        start, stop = _bounds(new)
        if start == stop:
            return 0
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        held = sum(
            min(stop, self._stops[i]) - max(start, self._starts[i])
            for i in range(first, last)
            if self._stops[i] > start and self._starts[i] < stop
        )
        if first < last:
            merged_start, merged_stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        else:
            merged_start, merged_stop = start, stop
        self._starts[first:last] = [merged_start]
        self._stops[first:last] = [merged_stop]
        return stop - start - held

    def subtract(self, gone: ByteRange) -> None:
        """Takes every offset of `gone` out of the set."""
        start, stop = _bounds(gone)
        kept: list[tuple[int, int]] = []
        first = bisect_right(self._stops, start)
        last = bisect_left(self._starts, stop)
        if start == stop or first >= last:
            return
        if self._starts[first] < start:
            kept.append((self._starts[first], start))
        if self._stops[last - 1] > stop:
            kept.append((stop, self._stops[last - 1]))
        self._starts[first:last] = [low for low, _ in kept]
        self._stops[first:last] = [high for _, high in kept]

    def missing(self, within: ByteRange) -> Iterator[ByteRange]:
        """Gives, in order, the stretches of `within` that are not in the set."""
        at, stop = _bounds(within)
        for index in range(bisect_right(self._stops, at), len(self._starts)):
            if at >= stop or self._starts[index] >= stop:
                break
            if self._starts[index] > at:
                yield ByteRange(at, self._starts[index])
            at = self._stops[index]
        if at < stop:
            yield ByteRange(at, stop)

    def __contains__(self, offset: int) -> bool:
        index = bisect_right(self._starts, offset) - 1
        return index >= 0 and offset < self._stops[index]

    def __iter__(self) -> Iterator[ByteRange]:
        return (ByteRange(start, stop) for start, stop in zip(self._starts, self._stops, strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self._starts == other._starts and self._stops == other._stops

    __hash__ = None  # type: ignore[assignment]  # mutable

    @property
    def size(self) -> int:
        """The number of offsets in the set."""
        return sum(self._stops) - sum(self._starts)

    def __repr__(self) -> str:
        return f"RangeSet([{', '.join(map(str, self))}])"


def _bounds(given: ByteRange) -> tuple[int, int]:
    if given.stop is None:
        raise ValueError("a set holds ranges with a known end only")
    return given.start, given.stop
