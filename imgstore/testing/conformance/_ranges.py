"""Cases: the bytes of a range, and where it begins and ends."""

from __future__ import annotations

import random

from imgstore.errors import RangeNotSatisfiableError
from imgstore.model import NO_CALL, ByteRange
from imgstore.testing.conformance._base import BLOCK, SIZE, Suite, expect, pattern, raises

LARGE = (1 << 20) + 17  # above the largest of the usual buffers


class RangeCases(Suite):
    """What `get` and the stream of it promise about bytes."""

    def check(self, size: int, ranges: list[tuple[int, int | None]]) -> None:
        """Reads each (offset, length) of an image of `size` bytes."""
        data = pattern(size)
        key = self.image(data)
        for offset, length in ranges:
            stop = size if length is None else min(size, offset + length)
            expect(
                self.read(key, offset, length), data, offset, stop, f"get(offset={offset}, length={length})"
            )

    def test_whole_image(self) -> None:
        self.check(SIZE, [(0, None)])

    def test_whole_image_by_its_size(self) -> None:
        self.check(SIZE, [(0, SIZE)])

    def test_large_image(self) -> None:
        self.check(LARGE, [(0, None)])

    def test_image_sizes_around_blocks(self) -> None:
        for size in (1, 2, 511, 512, 513, 4095, 4096, 4097, BLOCK - 1, BLOCK, BLOCK + 1):
            self.check(size, [(0, None)])

    def test_image_of_zeros(self) -> None:
        data = bytes(SIZE)
        expect(self.read(self.image(data)), data, 0, SIZE, "an image of zeros")

    def test_first_bytes(self) -> None:
        self.check(
            SIZE, [(0, n) for n in (1, 2, 511, 512, 513, 4095, 4096, 4097, BLOCK - 1, BLOCK, BLOCK + 1)]
        )

    def test_last_bytes(self) -> None:
        self.check(SIZE, [(SIZE - n, n) for n in (1, 2, 3, 16, 18)])

    def test_single_bytes(self) -> None:
        self.check(SIZE, [(offset, 1) for offset in (1, 2, 100, 4099, BLOCK + 3, SIZE // 2, SIZE - 2)])

    def test_ranges_around_blocks(self) -> None:
        edges = [block + step for block in (512, 4096, BLOCK, 3 * BLOCK) for step in (-1, 0, 1)]
        self.check(SIZE, [(edge, length) for edge in edges for length in (1, 2, 513)])

    def test_from_an_offset_to_the_end(self) -> None:
        self.check(SIZE, [(n, None) for n in (1, 2, 511, 4097, BLOCK - 1, BLOCK + 1, SIZE - 2, SIZE - 1)])

    def test_length_past_the_end_is_clipped(self) -> None:
        self.check(
            SIZE, [(SIZE - 5, 6), (SIZE - 5, 100), (1, SIZE), (0, SIZE + 1), (0, 2 * SIZE), (7, 1 << 62)]
        )

    def test_random_ranges(self) -> None:
        rng = random.Random(7)
        starts = [rng.randrange(SIZE // 2) * 2 + 1 for _ in range(100)]
        self.check(SIZE, [(start, rng.randint(1, SIZE - start + 9)) for start in starts if start < SIZE - 99])

    def test_offset_at_the_end(self) -> None:
        key = self.image(pattern(SIZE))
        for length in (None, 1):
            with raises(
                RangeNotSatisfiableError, f"get(offset=size, length={length}) of an image with bytes"
            ):
                self.read(key, SIZE, length)

    def test_offset_behind_the_end(self) -> None:
        key = self.image(pattern(SIZE))
        for offset in (SIZE + 1, 2 * SIZE, 1 << 40, 1 << 62):
            with raises(RangeNotSatisfiableError, f"get(offset={offset}) of an image of {SIZE} bytes"):
                self.read(key, offset)

    def test_empty_image(self) -> None:
        key = self.image(b"")
        for length in (None, 1, SIZE):
            with self.subject.get(key, 0, length) as stream:
                assert stream.read() == b"", f"an empty image gave bytes for length={length}"
                assert stream.info.size == 0, f"an empty image has size 0, not {stream.info.size}"

    def test_offset_behind_an_empty_image(self) -> None:
        key = self.image(b"")
        with raises(RangeNotSatisfiableError, "get(offset=1) of an empty image"):
            self.read(key, 1)

    def test_offset_or_length_that_makes_no_sense(self) -> None:
        key = self.image(pattern(100))
        for offset, length in ((-1, None), (-1, 5), (0, 0), (0, -1), (5, -(1 << 40))):
            with raises(ValueError, f"get(offset={offset}, length={length})"):
                self.read(key, offset, length)

    def test_stream_tells_its_range(self) -> None:
        key = self.image(pattern(SIZE))
        for offset, length, stop in (
            (0, None, SIZE),
            (0, 1, 1),
            (9, 91, 100),
            (9, None, SIZE),
            (9, SIZE, SIZE),
        ):
            with self.subject.get(key, offset, length) as stream:
                assert stream.range == ByteRange(offset, stop), (
                    f"get(offset={offset}, length={length}) tells {stream.range}, not [{offset}, {stop})"
                )

    def test_info_of_a_range_is_of_the_image(self) -> None:
        key = self.image(pattern(SIZE))
        for offset, length in ((0, 10), (10, 20), (SIZE - 1, 1)):
            with self.subject.get(key, offset, length) as stream:
                assert stream.info.size == SIZE, (
                    f"the info of a range of {length} bytes tells size {stream.info.size}; "
                    f"it describes the image, which has {SIZE}"
                )

    def test_body_is_what_the_driver_says(self) -> None:
        data = pattern(SIZE)
        key = self.image(data)
        for start, stop in ((0, 10), (5, 1000), (1000, None), (5000, SIZE)):
            opened = self.subject._open(key, start, stop, None, NO_CALL)
            try:
                served, body = opened.range, bytearray()
                buffer = bytearray(BLOCK)
                while count := opened.raw.readinto(memoryview(buffer)):
                    body += buffer[:count]
            finally:
                opened.raw.close()
            end = served.start + len(body) if served.stop is None else served.stop
            expect(
                bytes(body), data, served.start, end, f"_open({start}, {stop}) says that it serves {served}"
            )
