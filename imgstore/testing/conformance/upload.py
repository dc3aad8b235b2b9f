"""The suite of stores with an uploader."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence

from imgstore.errors import (
    AlreadyExistsError,
    ConflictError,
    DigestMismatchError,
    NotFoundError,
    OperationCancelledError,
    StoreError,
    UnsafeLocationError,
    UploadLostError,
)
from imgstore.model import Call, CancelToken, ObjectInfo, Part
from imgstore.store import Uploader
from imgstore.testing.conformance._base import Background, Suite, expect, fresh_key, marked, pattern, raises


class UploadSuite(Suite):
    """Parts that outlive the process, and one image of them; needs `store`, and a store with an uploader."""

    @property
    def uploader(self) -> Uploader:
        """The facet under test."""
        facet = self.subject.uploader
        assert facet is not None, "the store has no uploader; this suite is for those that have one"
        return facet

    @property
    def part(self) -> int:
        """The size of the parts that the cases put: small, where the store lets them be."""
        return max(self.uploader.limits.min_part, 4099)

    @property
    def size(self) -> int:
        """The size of the cases' images: two parts and a little one."""
        return 2 * self.part + 17

    def put(self, token: str, data: bytes, numbers: Sequence[int] = (0, 1, 2)) -> list[Part]:
        """Puts the parts of `data` in the order of `numbers`."""
        return [
            self.uploader.put_part(
                token, n, n * self.part, memoryview(data)[n * self.part : (n + 1) * self.part]
            )
            for n in numbers
        ]

    def upload(self, key: str, data: bytes, *, overwrite: bool = False) -> ObjectInfo:
        """Uploads `data` without further ado."""
        self.seeded.append(key)
        token = self.uploader.begin(key, len(data), overwrite=overwrite)
        return self.uploader.complete(token, self.put(token, data))

    def absent(self, key: str, what: str) -> None:
        """Fails unless there is no image under `key`."""
        with raises(NotFoundError, f"get after {what}"):
            self.read(key)

    def test_upload(self) -> None:
        key, data = fresh_key(), pattern(self.size)
        self.upload(key, data)
        expect(self.read(key), data, 0, self.size, "get after an upload in three parts")

    def test_complete_tells_the_image(self) -> None:
        key = fresh_key()
        told = self.upload(key, pattern(self.size))
        info = self.subject.stat(key)
        assert (told.key, told.size) == (key, self.size), (
            f"complete tells {told}, not {key!r} of {self.size} bytes"
        )
        assert told.version in (None, info.version), (
            f"complete tells version {told.version!r}, stat {info.version!r}"
        )

    def test_size_not_known_at_the_beginning(self) -> None:
        key, data = fresh_key(), pattern(self.size)
        token = self.uploader.begin(key, None)
        self.uploader.complete(token, self.put(token, data))
        expect(self.read(key), data, 0, self.size, "get after an upload that began without a size")

    def test_empty_image(self) -> None:
        key = fresh_key()
        self.uploader.complete(self.uploader.begin(key, 0), [])
        assert self.subject.stat(key).size == 0, "an upload of no parts is no empty image"

    def test_nothing_is_visible_before_complete(self) -> None:
        key = fresh_key()
        token = self.uploader.begin(key, self.size)
        self.put(token, pattern(self.size))
        self.absent(key, "all parts were put, but not completed")

    def test_parts_in_any_order(self) -> None:
        if self.uploader.limits.ordered:
            return
        key, data = fresh_key(), pattern(self.size)
        token = self.uploader.begin(key, self.size)
        self.uploader.complete(token, self.put(token, data, (2, 0, 1)))
        expect(self.read(key), data, 0, self.size, "parts put in the order 2, 0, 1")

    def test_parts_from_many_threads(self) -> None:
        if self.uploader.limits.ordered:
            return
        key, data = fresh_key(), pattern(self.size)
        token = self.uploader.begin(key, self.size)
        workers = [Background(functools.partial(self.put, token, data, (n,))) for n in range(3)]
        assert all(worker.join(60) for worker in workers), "parts put from three threads do not end"
        self.uploader.complete(token, self.uploader.parts(token))
        expect(self.read(key), data, 0, self.size, "parts put from three threads")

    def test_part_put_again_replaces_it(self) -> None:
        key, data = fresh_key(), marked(self.size, 1)
        token = self.uploader.begin(key, self.size)
        self.put(token, marked(self.size, 0), (0, 1))
        parts = self.put(token, data)
        self.uploader.complete(token, parts)
        expect(self.read(key), data, 0, self.size, "an upload whose parts 0 and 1 were put twice")

    def test_caller_may_reuse_the_buffer(self) -> None:
        key, data = fresh_key(), pattern(self.size)
        token = self.uploader.begin(key, self.size)
        buffer, parts = bytearray(self.part), []
        for number in range(3):
            piece = data[number * self.part : (number + 1) * self.part]
            buffer[: len(piece)] = piece
            with memoryview(buffer)[: len(piece)] as view:
                parts.append(self.uploader.put_part(token, number, number * self.part, view))
        self.uploader.complete(token, parts)
        expect(self.read(key), data, 0, self.size, "parts put from one buffer that is used again")

    def test_parts_tells_what_is_held(self) -> None:
        token = self.uploader.begin(fresh_key(), self.size)
        put = self.put(token, pattern(self.size), (0, 1))
        held = list(self.uploader.parts(token))
        assert held == put, f"of the parts {put} the store tells {held}"

    def test_upload_outlives_the_store(self) -> None:
        key, data = fresh_key(), pattern(self.size)
        token = json.loads(json.dumps(self.uploader.begin(key, self.size)))
        self.put(token, data, (0, 1))
        second = self.store()
        try:
            assert second.uploader is not None
            held = list(second.uploader.parts(token))
            last = second.uploader.put_part(token, 2, 2 * self.part, memoryview(data)[2 * self.part :])
            second.uploader.complete(token, [*held, last])
            expect(self.read(key), data, 0, self.size, "an upload that a second store completes")
        finally:
            second.close()

    def test_complete_is_idempotent(self) -> None:
        key, data = fresh_key(), pattern(self.size)
        token = self.uploader.begin(key, self.size)
        parts = self.put(token, data)
        first = self.uploader.complete(token, parts)
        again = self.uploader.complete(token, parts)
        assert again == first, f"complete gives {first}, and asked again {again}"
        now = self.subject.stat(key).version
        assert now in (first.version, None), (
            f"a second complete makes another image: {first.version!r}, now {now!r}"
        )

    def test_complete_with_parts_missing(self) -> None:
        for numbers in ((0,), (1, 2), (0, 2), ()):
            key = fresh_key()
            token = self.uploader.begin(key, self.size)
            parts = self.put(token, pattern(self.size))
            with raises((StoreError, ValueError), f"complete with only the parts {numbers} of three"):
                self.uploader.complete(token, [parts[n] for n in numbers])
            self.absent(key, f"complete with only the parts {numbers} of three")

    def test_wrong_digest_publishes_nothing(self) -> None:
        key, data = fresh_key(), pattern(self.size)
        wrong = {"sha256": hashlib.sha256(data[1:]).hexdigest()}
        token = self.uploader.begin(key, self.size, digests=wrong)
        parts = self.put(token, data)
        with raises(DigestMismatchError, "complete of an upload with the digest of other bytes"):
            self.uploader.complete(token, parts)
        self.absent(key, "an upload with the digest of other bytes")

    def test_failed_complete_leaves_what_parts_tells(self) -> None:
        key, data = fresh_key(), pattern(self.size)
        digests = {"sha256": hashlib.sha256(data).hexdigest()}
        token = self.uploader.begin(key, None, digests=digests)
        put = self.put(token, data)
        try:
            self.uploader.complete(token, put[:1])
        except DigestMismatchError:
            held = list(self.uploader.parts(token))
        else:
            return  # published in spite of its digest: other cases judge that
        kept = {part.number for part in held}
        again = self.put(token, data, [number for number in range(3) if number not in kept])
        try:
            self.uploader.complete(token, [*held, *again])
        except StoreError as exc:
            raise AssertionError(
                f"parts that are told after a failed complete do not make the image: {exc!r}"
            ) from exc
        expect(self.read(key), data, 0, self.size, "an upload whose first complete left parts out")

    def test_right_digest(self) -> None:
        key, data = fresh_key(), pattern(self.size)
        digests = {"sha256": hashlib.sha256(data).hexdigest()}
        token = self.uploader.begin(key, self.size, digests=digests)
        self.uploader.complete(token, self.put(token, data))
        expect(self.read(key), data, 0, self.size, "an upload with its digest")

    def test_taken_key_is_kept(self) -> None:
        key = fresh_key()
        self.upload(key, marked(self.size, 0))
        with raises((AlreadyExistsError, ConflictError), "an upload to a taken key without overwrite"):
            self.upload(key, marked(self.size, 1))
        expect(self.read(key), marked(self.size, 0), 0, self.size, "the image whose key was taken")

    def test_second_writer_gets_a_conflict(self) -> None:
        key = fresh_key()
        tokens = [self.uploader.begin(key, self.size) for _ in range(2)]
        parts = [self.put(token, marked(self.size, n)) for n, token in enumerate(tokens)]
        self.uploader.complete(tokens[0], parts[0])
        with raises(ConflictError, "complete where another upload of the key was first"):
            self.uploader.complete(tokens[1], parts[1])
        expect(self.read(key), marked(self.size, 0), 0, self.size, "the image of the upload that was first")

    def test_upload_overwrites(self) -> None:
        key = fresh_key()
        self.upload(key, marked(self.size, 0))
        self.upload(key, marked(self.size, 1), overwrite=True)
        expect(self.read(key), marked(self.size, 1), 0, self.size, "an upload with overwrite")

    def test_abort_drops_the_upload(self) -> None:
        key = fresh_key()
        token = self.uploader.begin(key, self.size)
        parts = self.put(token, pattern(self.size))
        self.uploader.abort(token)
        with raises(UploadLostError, "complete of an aborted upload"):
            self.uploader.complete(token, parts)
        self.absent(key, "abort")

    def test_abort_is_idempotent(self) -> None:
        token = self.uploader.begin(fresh_key(), self.size)
        for _ in range(3):
            self.uploader.abort(token)

    def test_abort_after_complete_keeps_the_image(self) -> None:
        key, data = fresh_key(), pattern(self.size)
        token = self.uploader.begin(key, self.size)
        self.uploader.complete(token, self.put(token, data))
        self.uploader.abort(token)
        expect(self.read(key), data, 0, self.size, "an image whose upload was aborted after it was complete")

    def test_uploads_tells_the_pending(self) -> None:
        key = fresh_key()
        token = self.uploader.begin(key, self.size)
        done = self.uploader.begin(fresh_key(), self.size)
        self.uploader.complete(done, self.put(done, pattern(self.size)))
        gone = self.uploader.begin(fresh_key(), self.size)
        self.uploader.abort(gone)
        pending = {each.token: each.key for each in self.uploader.uploads()}
        assert pending.get(token) == key, f"a pending upload of {key!r} is not told: {pending}"
        assert not {done, gone} & set(pending), "an upload that was completed or aborted is told as pending"

    def test_uploads_by_their_age(self) -> None:
        token = self.uploader.begin(fresh_key(), self.size)
        old = {each.token for each in self.uploader.uploads(older_than=3600)}
        assert token not in old, "an upload that just began is told as older than an hour"

    def test_token_that_never_was(self) -> None:
        token = "kit-no-such-upload"  # noqa: S105  # no secret, by the contract
        for what, act in (
            ("put_part", lambda: self.uploader.put_part(token, 0, 0, memoryview(bytes(self.part)))),
            ("parts", lambda: list(self.uploader.parts(token))),
            ("complete", lambda: self.uploader.complete(token, [])),
        ):
            with raises(UploadLostError, f"{what} of an upload that never was"):
                act()

    def test_part_that_the_limits_forbid(self) -> None:
        token = self.uploader.begin(fresh_key(), self.size)
        piece = bytes(self.part)
        for number, offset, data in (
            (-1, 0, piece),
            (self.uploader.limits.max_parts, 0, piece),
            (0, -1, piece),
            (0, 0, b""),
        ):
            what = f"part {number} at offset {offset} of {len(data)} bytes"
            with raises(ValueError, what):
                self.uploader.put_part(token, number, offset, memoryview(data))

    def test_token_shows_no_secret(self) -> None:
        token = self.uploader.begin(fresh_key(), self.size)
        assert isinstance(token, str), f"a token is a string, not {token!r}"
        assert not [each for each in self.secrets() if each in token], "the token of an upload shows a secret"

    def test_begin_with_what_is_no_key(self) -> None:
        with raises(UnsafeLocationError, "begin with '../a', which is no key"):
            self.uploader.begin("../a", 5)

    def test_called_off(self) -> None:
        token = self.uploader.begin(fresh_key(), self.size)
        cancel = CancelToken()
        cancel.cancel()
        call = Call(cancel=cancel)
        piece = memoryview(bytes(self.part))
        for what, act in (
            ("begin", lambda: self.uploader.begin(fresh_key(), 5, call=call)),
            ("put_part", lambda: self.uploader.put_part(token, 0, 0, piece, call=call)),
            ("parts", lambda: list(self.uploader.parts(token, call=call))),
            ("complete", lambda: self.uploader.complete(token, [], call=call)),
        ):
            with raises(OperationCancelledError, f"{what} with a cancelled token"):
                act()

    def test_closed_store_takes_no_parts(self) -> None:
        uploader = self.uploader
        token = uploader.begin(fresh_key(), self.size)
        self.subject.close()
        for what, act in (
            ("begin", lambda: uploader.begin(fresh_key(), 5)),
            ("put_part", lambda: uploader.put_part(token, 0, 0, memoryview(b"x"))),
            ("complete", lambda: uploader.complete(token, [])),
        ):
            with raises(ValueError, f"{what} of a closed store"):
                act()
