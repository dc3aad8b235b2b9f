"""Cases: what a put promises."""

from __future__ import annotations

import functools
import hashlib
import io
import threading
import time
from collections.abc import Callable

from imgstore.clock import SYSTEM
from imgstore.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    DigestMismatchError,
    NotFoundError,
    OperationCancelledError,
    SourceChangedError,
    UnsafeLocationError,
)
from imgstore.model import Call, CancelToken, ObjectInfo
from imgstore.store import Writer
from imgstore.testing.conformance._base import (
    SIZE,
    Background,
    Suite,
    expect,
    fresh_key,
    marked,
    pattern,
    raises,
)

LARGE = (9 << 20) + 17  # above the part size of the usual object stores


class Trickle:
    """A source that gives `step` bytes a read at most, calls `before` ahead of each, and is watched."""

    def __init__(self, data: bytes, step: int = 40_000, before: Callable[[int], None] | None = None) -> None:
        self._data = io.BytesIO(data)
        self._step = step
        self._before = before
        self.reads = 0
        self.touched: list[str] = []

    def read(self, size: int, /) -> bytes:
        self.reads += 1
        if self._before is not None:
            self._before(self.reads)
        return self._data.read(min(size, self._step) if size > 0 else self._step)

    def close(self) -> None:
        self.touched.append("close")

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self.touched.append("seek")
        return self._data.seek(offset, whence)


class PutCases(Suite):
    """A put is whole and proven, or it was not."""

    @property
    def writer(self) -> Writer:
        """The facet under test."""
        facet = self.subject.writer
        assert facet is not None, "the store has no writer; this suite is for those that have one"
        return facet

    def put(self, key: str, data: bytes, *, overwrite: bool = False) -> ObjectInfo:
        """Puts `data` without further ado."""
        self.seeded.append(key)
        return self.writer.put(key, io.BytesIO(data), overwrite=overwrite)

    def absent(self, key: str, what: str) -> None:
        """Fails unless there is no image under `key`."""
        with raises(NotFoundError, f"get after {what}"):
            self.read(key)

    def test_put_and_get(self) -> None:
        key, data = fresh_key(), pattern(SIZE)
        self.put(key, data)
        expect(self.read(key), data, 0, SIZE, "get after put")

    def test_put_with_its_size(self) -> None:
        key, data = fresh_key(), pattern(SIZE)
        self.writer.put(key, io.BytesIO(data), SIZE)
        expect(self.read(key), data, 0, SIZE, "get after a put with a size")

    def test_put_tells_the_image(self) -> None:
        key = fresh_key()
        told = self.put(key, pattern(SIZE))
        info = self.subject.stat(key)
        assert (told.key, told.size) == (key, SIZE), f"put of {SIZE} bytes under {key!r} tells {told}"
        assert told.version in (None, info.version), (
            f"put tells version {told.version!r}, stat {info.version!r}"
        )

    def test_put_of_an_empty_image(self) -> None:
        for size in (None, 0):
            key = fresh_key()
            self.writer.put(key, io.BytesIO(b""), size)
            assert self.subject.stat(key).size == 0, f"an empty source put with size={size} is no empty image"

    def test_put_of_a_large_image(self) -> None:
        key, data = fresh_key(), pattern(LARGE)
        self.put(key, data)
        expect(self.read(key), data, 0, LARGE, "get after a large put")

    def test_short_reads_are_no_end(self) -> None:
        key, data = fresh_key(), pattern(5000)
        self.writer.put(key, Trickle(data, 7))
        expect(self.read(key), data, 0, 5000, "a source that gives a few bytes a read")

    def test_source_is_neither_closed_nor_seeked(self) -> None:
        source = Trickle(pattern(SIZE))
        self.writer.put(fresh_key(), source, SIZE)
        assert not source.touched, f"put called {source.touched} of its source"

    def test_put_refuses_a_taken_key(self) -> None:
        key = fresh_key()
        self.put(key, marked(SIZE, 0))
        with raises(AlreadyExistsError, "put under a taken key without overwrite"):
            self.put(key, marked(SIZE, 1))
        expect(self.read(key), marked(SIZE, 0), 0, SIZE, "the image whose key was taken")

    def test_put_overwrites(self) -> None:
        key = fresh_key()
        old = self.put(key, marked(SIZE, 0))
        new = self.put(key, marked(SIZE, 1), overwrite=True)
        expect(self.read(key), marked(SIZE, 1), 0, SIZE, "put with overwrite")
        assert new.version is None or new.version != old.version, (
            "an image that replaced another has its version"
        )

    def test_readers_see_nothing_of_an_unfinished_put(self) -> None:
        key = fresh_key()

        def look(reads: int) -> None:
            if reads > 1:
                self.absent(key, "the first bytes of a put only")

        self.writer.put(key, Trickle(pattern(SIZE), before=look), SIZE)

    def test_readers_see_the_old_until_the_new_is_whole(self) -> None:
        key = fresh_key()
        self.put(key, marked(SIZE, 0))

        def look(_: int) -> None:
            expect(self.read(key), marked(SIZE, 0), 0, SIZE, "get during a put that overwrites")

        self.writer.put(key, Trickle(marked(SIZE, 1), before=look), overwrite=True)

    def test_source_of_another_size_publishes_nothing(self) -> None:
        for size in (SIZE - 1, SIZE + 1, 0, 2 * SIZE):
            key = fresh_key()
            with raises(SourceChangedError, f"put of {SIZE} bytes with size={size}"):
                self.writer.put(key, io.BytesIO(pattern(SIZE)), size)
            self.absent(key, f"a put of {SIZE} bytes with size={size}")

    def test_right_digests(self) -> None:
        key, data = fresh_key(), pattern(SIZE)
        digests = {name: hashlib.new(name, data).hexdigest() for name in ("sha256", "md5")}
        info = self.writer.put(key, io.BytesIO(data), digests=digests)
        expect(self.read(key), data, 0, SIZE, "get after a put with its digests")
        assert set(info.digests.items()) <= set(digests.items()), (
            f"put tells digests that were not given: {info}"
        )

    def test_wrong_digest_publishes_nothing(self) -> None:
        key, data = fresh_key(), pattern(SIZE)
        wrong = {"sha256": hashlib.sha256(data[1:]).hexdigest()}
        with raises(DigestMismatchError, "put with the digest of other bytes"):
            self.writer.put(key, io.BytesIO(data), digests=wrong)
        self.absent(key, "a put with the digest of other bytes")

    def test_failed_overwrite_keeps_the_old(self) -> None:
        key = fresh_key()
        old = self.put(key, marked(SIZE, 0))
        with raises(SourceChangedError, "put with another size"):
            self.writer.put(key, io.BytesIO(marked(SIZE, 1)), SIZE + 1, overwrite=True)
        expect(self.read(key), marked(SIZE, 0), 0, SIZE, "the image that a failed put was to overwrite")
        assert self.subject.stat(key).version in (old.version, None), "a failed put changes the version"

    def test_what_the_source_raises_is_raised(self) -> None:
        key = fresh_key()
        failure = RuntimeError("the source's own")

        def fail(reads: int) -> None:
            if reads == 3:
                raise failure

        with raises(RuntimeError, "put from a source that raises") as caught:
            self.writer.put(key, Trickle(pattern(SIZE), before=fail))
        assert caught.error is failure, f"the source's exception comes out as {caught.error!r}, not unchanged"
        self.absent(key, "a put whose source failed")

    def test_failed_put_leaves_nothing(self) -> None:
        folder = fresh_key("")
        before = self._held(folder)
        with raises(SourceChangedError, "put with another size"):
            self.writer.put(folder + "image", Trickle(pattern(SIZE)), SIZE + 1)
        after = self._held(folder)
        assert after == before, (
            f"(images, uploads, room) were {before}, and are {after} after a put that failed"
        )

    def test_cancellation_during_a_put(self) -> None:
        key, token = fresh_key(), CancelToken()

        def cancel(reads: int) -> None:
            if reads == 3:
                token.cancel()

        with raises(OperationCancelledError, "put cancelled while its source is read"):
            self.writer.put(key, Trickle(pattern(SIZE), before=cancel), call=Call(cancel=token))
        self.absent(key, "a put that was cancelled")

    def test_deadline_during_a_put(self) -> None:
        key = fresh_key()
        source = Trickle(pattern(SIZE), before=lambda reads: time.sleep(0.03 * (reads == 3)))
        with raises(DeadlineExceededError, "put whose source outlives the deadline"):
            self.writer.put(key, source, call=Call().within(0.02, clock=SYSTEM))
        self.absent(key, "a put that ran into its deadline")

    def test_cancelled_call_reads_no_source(self) -> None:
        token = CancelToken()
        token.cancel()
        for call, kind in (
            (Call(cancel=token), OperationCancelledError),
            (Call(deadline=1.0), DeadlineExceededError),
        ):
            source = Trickle(b"x")
            with raises(kind, "put that was called off before it began"):
                self.writer.put(fresh_key(), source, call=call)
            assert not source.reads, "put that was called off before it began reads its source"

    def test_put_under_what_is_no_key(self) -> None:
        for key in ("", "/a", "a/../b", "a\0b"):
            with raises(UnsafeLocationError, f"put under {key!r}, which is no key"):
                self.put(key, b"x")

    def test_one_of_many_puts_wins(self) -> None:
        key = fresh_key()
        barrier = threading.Barrier(4, timeout=10)

        def meet(reads: int) -> None:
            if reads == 1:
                barrier.wait()

        def put(seed: int) -> None:
            self.writer.put(key, Trickle(pattern(SIZE, seed), before=meet))

        workers = [Background(functools.partial(put, seed)) for seed in range(4)]
        assert all(worker.join(30) for worker in workers), "four puts of one key do not end"
        won = [seed for seed, worker in enumerate(workers) if worker.error is None]
        lost = [worker.error for worker in workers if worker.error is not None]
        assert len(won) == 1, f"of four puts of one key {len(won)} succeed, and one should"
        assert all(isinstance(error, AlreadyExistsError) for error in lost), f"the losers get {lost}"
        expect(self.read(key), pattern(SIZE, won[0]), 0, SIZE, "the image of the put that won")

    def _held(self, folder: str) -> tuple[list[str], int, int | None]:
        store = self.subject
        images = [] if store.lister is None else [info.key for info in store.lister.list(folder)]
        uploads = [] if store.uploader is None else list(store.uploader.uploads())
        return images, len(uploads), None if store.space is None or not self.alone else store.space.free()
