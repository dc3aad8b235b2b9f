"""Uploads in parts that outlive a process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from imgstore.backends._intake import Digests
from imgstore.backends.s3.failures import typed
from imgstore.backends.s3.objects import Objects, cleaning
from imgstore.backends.s3.parts import Parts
from imgstore.backends.s3.pending import Pending
from imgstore.backends.s3.planning import LIMITS, check_image, check_part, check_row
from imgstore.backends.s3.proof import Proof, Proofs
from imgstore.errors import (
    DigestMismatchError,
    SourceChangedError,
    TransientError,
    UnavailableError,
    UploadLostError,
)
from imgstore.model import NO_CALL, Call, ObjectInfo, Part
from imgstore.store import Upload, UploadLimits

if TYPE_CHECKING:
    from imgstore.backends.s3.driver import S3Store


class S3Uploader:
    """S3's own multipart uploads; a small object below `.imgstore/uploads/` says which are the store's.

    Parts are numbered without a gap, each begins where the one before it ends, and all are put before
    `complete` is asked. `parts` gives a part behind a gap only if all parts have one size: S3 itself does not
    know where a part belongs.

    `complete` may be asked again by any process: each object tells in its metadata which upload made it.

    Digests are computed while parts are put, as long as this process puts them in order, or nearly so. Of
    other uploads the image is read once when it is complete; one with another digest is removed then; it
    may have been seen before that, and what it replaced is gone.
    """

    limits: UploadLimits = LIMITS

    def __init__(self, owner: S3Store, objects: Objects) -> None:
        self._owner = owner
        self._objects = objects
        self._parts = Parts(objects)
        self._proofs = Proofs()

    def begin(
        self,
        key: str,
        size: int | None,
        *,
        digests: Mapping[str, str] | None = None,
        overwrite: bool = False,
        call: Call = NO_CALL,
    ) -> str:
        self._owner._admit(key, call)
        expected = Digests(digests).expected  # an unknown name is refused before anything is sent
        with typed(self._owner, key):
            check_image(size)
            if not overwrite:
                self._objects.check_free(key, call)
            pending = self._parts.begin(key, size, digests=expected, overwrite=overwrite, call=call)
        self._proofs.begin(pending)
        return pending.token

    def put_part(
        self, token: str, number: int, offset: int, data: memoryview, *, call: Call = NO_CALL
    ) -> Part:
        with self._pending(token, call) as pending, memoryview(data).cast("B") as view:
            check_part(Part(number, offset, view.nbytes, ""), pending.size)
            proof = self._proofs.find(pending)
            hashed = proof.add(number, offset, view)
            part = self._parts.send(pending, number, offset, view, call).part
            if not hashed:  # its turn may have come while it was sent
                proof.add(number, offset, view)
            proof.stored(part)
            return part

    def parts(self, token: str, *, call: Call = NO_CALL) -> Sequence[Part]:
        with self._pending(token, call) as pending:
            held = self._parts.held(pending, call)
            return [held[number].part for number in sorted(held)]

    def complete(self, token: str, parts: Sequence[Part], *, call: Call = NO_CALL) -> ObjectInfo:
        with self._pending(token, call) as pending:
            proof = self._proofs.find(pending)
            info = self._parts.made(pending, call)
            if info is None:
                ordered = sorted(parts, key=lambda part: part.number)
                _check_whole(ordered, pending.size)
                proof.judge(ordered)
                info = self._join(pending, ordered, proof, call)
            if not proof.proven:
                self._read_back(pending, info, call)
                proof.proven = True
            return info

    def abort(self, token: str, *, call: Call = NO_CALL) -> None:
        with contextlib.suppress(UploadLostError), self._pending(token, call) as pending:
            self._parts.drop(pending, call)
            self._proofs.forget(pending)

    def uploads(self, older_than: float = 0.0, *, call: Call = NO_CALL) -> Iterator[Upload]:
        self._owner._admit(None, call)
        now = self._owner.clock.time()
        with typed(self._owner, ""):
            for pending, started in self._parts.recorded(now, call):
                if started <= now - older_than or not older_than:
                    yield Upload(pending.token, pending.key, started)

    def _join(self, pending: Pending, parts: Sequence[Part], proof: Proof, call: Call) -> ObjectInfo:
        try:
            held = self._parts.held(pending, call)
        except UploadLostError as exc:
            if not proof.joined:
                raise
            raise UnavailableError("the service does not show the image yet that it made") from exc
        for part in parts:
            if part.number not in held or held[part.number].part != part:
                raise UploadLostError(f"the service does not hold part {part.number} as given")
        if not parts:
            return self._parts.put_empty(pending, call)
        try:
            return self._parts.join(pending, [held[part.number] for part in parts], call)
        except TransientError:
            proof.joined = True  # it may have been: the service will say
            raise

    def _read_back(self, pending: Pending, info: ObjectInfo, call: Call) -> None:
        digests = Digests(pending.digests)
        with self._owner.get(pending.key, version=info.version, call=call) as stream:
            for piece in stream.chunks():
                digests.update(piece)
        try:
            digests.check()
        except DigestMismatchError:
            self._owner.writer.delete(pending.key, version=info.version, call=cleaning(call))
            raise

    @contextlib.contextmanager
    def _pending(self, token: str, call: Call) -> Iterator[Pending]:
        self._owner._admit(None, call)
        with typed(self._owner, ""):
            pending = Pending.of(token, self._objects.bucket.name)
        with typed(self._owner, pending.key):
            yield pending


def _check_whole(parts: Sequence[Part], size: int | None) -> None:
    """Returns if `parts` are all of an image of `size` bytes. Raises: SourceChangedError, ValueError."""
    given = sum(part.size for part in parts)
    if size is not None and given != size:
        raise SourceChangedError(f"the parts hold {given} bytes where {size} were promised")
    check_row(parts)
