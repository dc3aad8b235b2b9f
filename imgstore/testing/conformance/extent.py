"""The suite of stores that tell extents."""

from __future__ import annotations

from imgstore.errors import (
    DeadlineExceededError,
    NotFoundError,
    OperationCancelledError,
    RangeNotSatisfiableError,
    UnsafeLocationError,
    VersionChangedError,
)
from imgstore.model import Call, CancelToken, Extent
from imgstore.testing.conformance._base import BLOCK, Suite, fresh_key, needs, pattern, raises

# Data and zeros in turn, large and small, with edges on no block, ending in a few zeros.
SPARSE = b"".join(
    (
        pattern(BLOCK),
        bytes(4 * BLOCK),
        pattern(5000),
        bytes(4096 * 3),
        pattern(17),
        bytes(BLOCK),
        pattern(9),
        bytes(9),
    )
)
SIZE = len(SPARSE)


class ExtentSuite(Suite):
    """Every byte in one extent, and no data lost; needs `store` and `seed`, and a store with extents."""

    def extents(
        self,
        key: str,
        start: int = 0,
        stop: int | None = None,
        version: str | None = None,
        call: Call | None = None,
    ) -> list[Extent]:
        """Gives the extents of a range."""
        facet = self.subject.extents
        assert facet is not None, "the store has no extents; this suite is for those that have them"
        return list(facet.extents(key, start=start, stop=stop, version=version, call=call or Call()))

    def covers(self, found: list[Extent], start: int, stop: int) -> None:
        """Fails unless `found` adjoin and cover [start, stop) exactly."""
        at = start
        for each in found:
            assert each.range.start == at, f"of [{start}, {stop}): {each} follows an extent that ends at {at}"
            assert each.range.stop is not None, f"of [{start}, {stop}): {each} has no end"
            assert each.range.stop > at, f"of [{start}, {stop}): {each} is empty"
            at = each.range.stop
        assert at == stop, f"the extents of [{start}, {stop}) end at {at}"

    def test_extents_cover_the_image(self) -> None:
        for data in (SPARSE, pattern(1), pattern(BLOCK), bytes(BLOCK + 1)):
            self.covers(self.extents(self.image(data)), 0, len(data))

    def test_extents_cover_a_range(self) -> None:
        key = self.image(SPARSE)
        edges = (1, 4095, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 7, SIZE - 1)
        for start in edges:
            for stop in edges:
                if start < stop:
                    self.covers(self.extents(key, start, stop), start, stop)
            self.covers(self.extents(key, start), start, SIZE)

    def test_zeros_and_holes_read_as_zeros(self) -> None:
        for each in self.extents(self.image(SPARSE)):
            if each.kind != "data":
                lost = SPARSE[each.range.start : each.range.stop].strip(b"\0")
                assert not lost, f"{each} is told to be all zeros and holds {len(lost)} bytes of data"

    def test_kinds(self) -> None:
        kinds = {each.kind for each in self.extents(self.image(SPARSE))}
        assert kinds <= {"data", "zero", "hole"}, f"extents are data, zero or hole, not {kinds}"

    def test_empty_image_has_no_extents(self) -> None:
        assert self.extents(self.image(b"")) == [], "an empty image has an extent"

    def test_empty_range_has_no_extents(self) -> None:
        assert self.extents(self.image(SPARSE), 5, 5) == [], "an empty range has an extent"

    def test_extents_behind_the_end(self) -> None:
        key = self.image(SPARSE)
        for start in (SIZE, SIZE + 1, 1 << 40):
            with raises(RangeNotSatisfiableError, f"extents(start={start}) of an image of {SIZE} bytes"):
                self.extents(key, start)

    def test_extents_of_a_missing_key(self) -> None:
        with raises(NotFoundError, "extents of a key without an image"):
            self.extents(fresh_key())

    def test_extents_of_what_is_no_key(self) -> None:
        with raises(UnsafeLocationError, "extents of '../a', which is no key"):
            self.extents("../a")

    def test_extents_of_the_version(self) -> None:
        key = self.image(SPARSE)
        self.covers(self.extents(key, version=self.subject.stat(key).version), 0, SIZE)

    @needs("replace")
    def test_extents_of_another_version(self) -> None:
        key = self.image(SPARSE)
        version = self.subject.stat(key).version
        self.replace(key, pattern(5000))
        try:
            found = self.extents(key, version=version or "kit-no-such-version")
        except VersionChangedError:
            return
        self.covers(found, 0, SIZE)

    def test_extents_called_off(self) -> None:
        key, token = self.image(SPARSE), CancelToken()
        token.cancel()
        with raises(OperationCancelledError, "extents with a cancelled token"):
            self.extents(key, call=Call(cancel=token))
        with raises(DeadlineExceededError, "extents with a deadline in the past"):
            self.extents(key, call=Call(deadline=1.0))

    def test_closed_store_tells_no_extents(self) -> None:
        key = self.image(SPARSE)
        self.extents(key)
        self.subject.close()
        with raises(ValueError, "extents of a closed store"):
            self.extents(key)
