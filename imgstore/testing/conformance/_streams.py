"""Cases: how a stream fills buffers."""

from __future__ import annotations

import functools
import random

from imgstore.testing.conformance._base import (
    BLOCK,
    SIZE,
    Background,
    Suite,
    at_once,
    expect,
    pattern,
    raises,
)

CANARY = 0xA5


class StreamCases(Suite):
    """What `readinto` and its conveniences promise, on one stream and on many."""

    def test_small_buffers(self) -> None:
        data = pattern(SIZE)
        key = self.image(data)
        for size in (1, 2, 3, 7):
            got, buffer = bytearray(), bytearray(size)
            with self.subject.get(key, 1001, 300) as stream:
                while count := stream.readinto(buffer):
                    got += buffer[:count]
            expect(bytes(got), data, 1001, 1301, f"readinto with a buffer of {size} bytes")

    def test_huge_buffer(self) -> None:
        data = pattern(SIZE)
        key = self.image(data)
        buffer = bytearray([CANARY]) * (4 * SIZE)
        filled = 0
        with self.subject.get(key, 5) as stream, memoryview(buffer) as view:
            while count := stream.readinto(view[filled:]):
                filled += count
        expect(bytes(buffer[:filled]), data, 5, SIZE, "readinto with a buffer larger than the range")
        assert set(buffer[filled:]) == {CANARY}, "the buffer was written to behind the end of the range"

    def test_buffer_behind_the_count_is_untouched(self) -> None:
        key = self.image(pattern(SIZE))
        with self.subject.get(key) as stream:
            while True:
                buffer = bytearray([CANARY]) * (2 * BLOCK)
                count = stream.readinto(buffer)
                assert set(buffer[count:]) <= {CANARY}, f"readinto gave {count} and wrote behind that"
                if not count:
                    break

    def test_buffer_is_the_callers_after_the_return(self) -> None:
        key = self.image(pattern(SIZE))
        buffers = []
        with self.subject.get(key) as stream:
            while count := stream.readinto(buffer := bytearray(5000)):
                buffers.append((buffer, bytes(buffer), count))
        for buffer, before, _ in buffers:
            assert buffer == before, "a buffer was written to after the readinto that it was for had returned"

    def test_zero_only_at_the_end_and_again(self) -> None:
        key = self.image(pattern(SIZE))
        with self.subject.get(key, 100, 1000) as stream:
            got, buffer = 0, bytearray(64)
            while count := stream.readinto(buffer):
                got += count
            assert got == 1000, f"readinto gave 0 after {got} of 1000 bytes"
            before = bytes(buffer)
            again = [stream.readinto(buffer) for _ in range(3)]
            assert again == [0, 0, 0], f"after its end the stream gave {again}, not 0 each time"
            assert buffer == before, "readinto at the end wrote to the buffer"

    def test_buffer_that_cannot_be_filled(self) -> None:
        data = pattern(1000)
        key = self.image(data)
        with self.subject.get(key) as stream:
            for buffer in (bytearray(), memoryview(bytes(10))):
                with raises(ValueError, "readinto with an empty or a read-only buffer"):
                    stream.readinto(buffer)
            expect(stream.read(), data, 0, 1000, "a stream that refused a buffer before")

    def test_delivered_counts_the_bytes(self) -> None:
        key = self.image(pattern(SIZE))
        got = 0
        with self.subject.get(key, 10, 20_000) as stream:
            assert stream.delivered == 0, "a stream that was not read has delivered nothing"
            while count := stream.readinto(bytearray(4096)):
                got += count
                assert stream.delivered == got, f"delivered tells {stream.delivered} after {got} bytes"

    def test_read_fills_what_was_asked(self) -> None:
        data = pattern(SIZE)
        key = self.image(data)
        with self.subject.get(key, 3, 100_000) as stream:
            pieces = [stream.read(n) for n in (3, 0, 2, 4095, 70_000, 1 << 30, 1)]
        sizes = [len(piece) for piece in pieces]
        assert sizes == [3, 0, 2, 4095, 70_000, 100_000 - 74_100, 0], f"read(n) gave pieces of {sizes} bytes"
        expect(b"".join(pieces), data, 3, 100_003, "read(n) again and again")

    def test_chunks(self) -> None:
        data = pattern(SIZE)
        key = self.image(data)
        with self.subject.get(key, 11) as stream:
            got = b"".join(bytes(piece) for piece in stream.chunks(10_000))
        expect(got, data, 11, SIZE, "chunks()")

    @at_once(3)
    def test_interleaved_streams(self) -> None:
        data = pattern(SIZE)
        key = self.image(data)
        starts = (5, 1001, 70_001)
        streams = [self.subject.get(key, start, 40_000) for start in starts]
        got = [bytearray() for _ in starts]
        try:
            for _ in range(40):
                for stream, piece in zip(streams, got, strict=True):
                    piece.extend(stream.read(1000))
        finally:
            for stream in streams:
                stream.close()
        for start, piece in zip(starts, got, strict=True):
            expect(bytes(piece), data, start, start + 40_000, "several streams read in turn")

    @at_once(2)
    def test_streams_of_two_images(self) -> None:
        one, two = pattern(SIZE, 1), pattern(SIZE, 2)
        with self.subject.get(self.image(one), 9) as first, self.subject.get(self.image(two), 9) as second:
            got = [(first.read(50_000), second.read(50_000)) for _ in range(5)]
        expect(b"".join(a for a, _ in got), one, 9, SIZE, "the first of two images read in turn")
        expect(b"".join(b for _, b in got), two, 9, SIZE, "the second of two images read in turn")

    def test_parallel_reads(self) -> None:
        data = pattern(SIZE)
        key = self.image(data)

        def work(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(4):
                start = rng.randrange(SIZE // 4) * 2 + 1
                length = rng.randint(2, SIZE // 4)
                with self.subject.get(key, start, length) as stream:
                    got = b"".join(bytes(piece) for piece in stream.chunks(9000))
                expect(got, data, start, start + length, "eight threads reading at once")

        workers = [Background(functools.partial(work, seed)) for seed in range(8)]
        for worker in workers:
            assert worker.join(30), "eight threads reading at once do not end"
        for worker in workers:
            if worker.error is not None:
                raise AssertionError(f"eight threads reading at once: {worker.error}") from worker.error
