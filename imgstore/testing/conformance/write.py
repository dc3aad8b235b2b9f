"""The suite of stores with a writer."""

from __future__ import annotations

from imgstore.errors import AlreadyExistsError, NoSpaceError, NotFoundError, VersionChangedError
from imgstore.testing.conformance._base import SIZE, expect, fresh_key, marked, needs, pattern, raises
from imgstore.testing.conformance._puts import PutCases, Trickle


class WriteSuite(PutCases):
    """Puts, deletes and copies; needs the hook `store`, and a store with a writer."""

    def test_delete(self) -> None:
        key = fresh_key()
        self.put(key, pattern(10))
        self.writer.delete(key)
        self.absent(key, "delete")

    def test_delete_of_a_missing_key(self) -> None:
        with raises(NotFoundError, "delete of a key without an image"):
            self.writer.delete(fresh_key())

    def test_delete_of_one_version(self) -> None:
        key = fresh_key()
        self.put(key, pattern(10))
        self.writer.delete(key, version=self.subject.stat(key).version)
        self.absent(key, "delete of its version")

    def test_delete_of_another_version(self) -> None:
        key = fresh_key()
        self.put(key, pattern(10))
        with raises((VersionChangedError, NotFoundError), "delete of a version that never was"):
            self.writer.delete(key, version="kit-no-such-version")
        expect(self.read(key), pattern(10), 0, 10, "an image of which another version was deleted")

    def test_key_is_free_after_delete(self) -> None:
        key = fresh_key()
        self.put(key, marked(SIZE, 0))
        self.writer.delete(key)
        self.put(key, marked(SIZE, 1))
        expect(self.read(key), marked(SIZE, 1), 0, SIZE, "put under a key that was deleted")

    def test_closed_store_refuses_writes(self) -> None:
        writer, key = self.writer, fresh_key()
        self.put(key, b"x")
        self.subject.close()
        for what, act in (
            ("put", lambda: self.put(fresh_key(), b"x")),
            ("delete", lambda: self.writer.delete(key)),
        ):
            with raises(ValueError, f"{what} of a closed store"):
                act()
        assert writer is self.writer, "closing a store takes its writer away; it refuses to work instead"

    @needs("full")
    def test_full_store_takes_nothing(self) -> None:
        key = fresh_key()
        with self.full() as store:
            assert store.writer is not None, "the hook full gives a store without a writer"
            for size in (None, SIZE):
                with raises(NoSpaceError, f"put of {SIZE} bytes with size={size} where they have no room"):
                    store.writer.put(key, Trickle(pattern(SIZE)), size)
                with raises(NotFoundError, "stat of an image that had no room"):
                    store.stat(key)

    def test_copy(self) -> None:
        if self.lacks("copier"):
            return
        source, target, data = fresh_key(), fresh_key(), pattern(SIZE)
        self.put(source, data)
        info = self.subject.copier.copy(source, target)  # type: ignore[union-attr]
        assert (info.key, info.size) == (target, SIZE), f"copy of {SIZE} bytes to {target!r} tells {info}"
        self.writer.delete(source)
        expect(self.read(target), data, 0, SIZE, "a copy whose source was deleted")

    def test_copy_refuses_a_taken_key(self) -> None:
        if self.lacks("copier"):
            return
        source, target = fresh_key(), fresh_key()
        self.put(source, marked(SIZE, 1))
        self.put(target, marked(SIZE, 0))
        with raises(AlreadyExistsError, "copy to a taken key without overwrite"):
            self.subject.copier.copy(source, target)  # type: ignore[union-attr]
        expect(self.read(target), marked(SIZE, 0), 0, SIZE, "the image whose key was taken")
        self.subject.copier.copy(source, target, overwrite=True)  # type: ignore[union-attr]
        expect(self.read(target), marked(SIZE, 1), 0, SIZE, "copy with overwrite")

    def test_copy_of_a_missing_key(self) -> None:
        if self.lacks("copier"):
            return
        target = fresh_key()
        with raises(NotFoundError, "copy of a key without an image"):
            self.subject.copier.copy(fresh_key(), target)  # type: ignore[union-attr]
        self.absent(target, "a copy that failed")

    def test_room_is_a_count_of_bytes(self) -> None:
        if self.lacks("space"):
            return
        free = self.subject.space.free()  # type: ignore[union-attr]
        assert free is None or (isinstance(free, int) and free >= 0), f"free() gives {free!r}"
