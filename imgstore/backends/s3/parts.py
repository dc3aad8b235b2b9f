"""Uploads in parts, as S3 has them: begun, sent, joined, dropped, and what the bucket holds of each."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from imgstore.backends.s3.listing import PARTS, UPLOADS, pages
from imgstore.backends.s3.objects import MARKER, Objects, cleaning, fresh_marker, made
from imgstore.backends.s3.pending import Pending
from imgstore.backends.s3.planning import placed
from imgstore.backends.s3.records import Record, Records
from imgstore.backends.s3.wire import Answer
from imgstore.errors import (
    AlreadyExistsError,
    ConflictError,
    DeadlineExceededError,
    ImgstoreError,
    NotFoundError,
    OperationCancelledError,
    PermanentError,
    ThrottledError,
    TransientError,
    UploadLostError,
    VersionChangedError,
)
from imgstore.model import Call, ObjectInfo, Part

# Seconds after which a record without an upload is what a kill left, and not one that is being begun.
_BEGINNING: Final = 3600.0
# Seconds by which the times of a record and of its upload may differ: S3 tells both in whole ones.
_SKEW: Final = 2.0


@dataclass(frozen=True, slots=True)
class Held:
    """A part as the service holds it, and the checksum that it wants to be told again, if it has one."""

    part: Part
    checksum: str | None = None

    def told(self) -> dict[str, Any]:
        """Gives the part in the form that CompleteMultipartUpload takes."""
        told: dict[str, Any] = {"PartNumber": self.part.number + 1, "ETag": f'"{self.part.tag}"'}
        if self.checksum is not None:
            told["ChecksumCRC32"] = self.checksum
        return told


class Parts:
    """The uploads of one store. Callable from many threads."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._records = Records(objects)

    def begin(
        self, key: str, size: int | None, *, digests: Mapping[str, str], overwrite: bool, call: Call
    ) -> Pending:
        """Begins an upload. Raises: as `Wire.ask`; what was begun then is dropped, or reaped later."""
        objects, marker = self._objects, fresh_marker()
        pending = Pending(objects.bucket.name, key, "", marker, size, overwrite, digests)
        self._records.write(pending, call)
        try:
            answer = objects.ask(
                "CreateMultipartUpload",
                call,
                Key=objects.bucket.object_key(key),
                **made(objects.traits, {MARKER: marker}),
                **objects.integrity.algorithm,
            )
        except (OperationCancelledError, DeadlineExceededError):
            raise  # the service may have begun it, and only the record tells of it
        except (PermanentError, ThrottledError):
            self._records.forget(pending, cleaning(call))
            raise
        upload_id = answer.document.get("UploadId")
        if not upload_id:
            raise answer.reply.bad("no upload ID")
        pending = replace(pending, upload_id=str(upload_id))
        try:
            self._records.write(pending, call)
        except BaseException:
            with contextlib.suppress(ImgstoreError):
                self.drop(pending, cleaning(call))
            raise
        return pending

    def send(self, pending: Pending, number: int, offset: int, data: memoryview, call: Call) -> Held:
        """Stores one part, and proves that the service holds just these bytes.

        Raises: UploadLostError; BadReplyError where other bytes were stored, to be sent again; as `Wire.ask`.
        """
        objects = self._objects
        stamps = objects.integrity.of_part(data)
        with _lost():
            answer = objects.ask(
                "UploadPart",
                call,
                pinned=True,
                **self._named(pending),
                PartNumber=number + 1,
                Body=data,
                **stamps,
            )
        objects.integrity.check(answer.reply, data, stamps)
        tag = _tag(answer.reply.single("etag"))
        if not tag:
            raise answer.reply.bad("a part without an ETag")
        checksum = answer.document.get("ChecksumCRC32") if stamps else None
        return Held(Part(number, offset, data.nbytes, tag), checksum)

    def copy(self, pending: Pending, part: Part, source: Mapping[str, Any], call: Call) -> Held:
        """Makes `part` of the same bytes of the object that `source` names, as CopyObject takes it.

        Raises: as `send`.
        """
        arguments = {**source, **self._named(pending)}
        answer = self._objects.ask(
            "UploadPartCopy",
            call,
            patience=self._objects.traits.finish_timeout,
            PartNumber=part.number + 1,
            CopySourceRange=f"bytes={part.offset}-{part.offset + part.size - 1}",
            **arguments,
        )
        result = answer.document.get("CopyPartResult", {})
        if not (tag := _tag(result.get("ETag"))):
            raise answer.reply.bad("a part without an ETag")
        return Held(replace(part, tag=tag), result.get("ChecksumCRC32"))

    def held(self, pending: Pending, call: Call) -> dict[int, Held]:
        """Gives the parts that the service holds and that have their place, by number.

        Raises: UploadLostError.
        """
        told = {int(each["PartNumber"]) - 1: each for each in self._listed(pending, call)}
        known = {number: (int(each["Size"]), _tag(each.get("ETag"))) for number, each in told.items()}
        return {
            part.number: Held(part, told[part.number].get("ChecksumCRC32"))
            for part in placed(known, pending.size)
        }

    def join(self, pending: Pending, parts: Sequence[Held], call: Call) -> ObjectInfo:
        """Makes the image of `parts`; whatever becomes of the reply, the object itself says how it went.

        Raises: ConflictError, UploadLostError; as `Wire.ask`.
        """
        objects = self._objects
        size = sum(each.part.size for each in parts)
        try:
            with _lost():
                objects.ask(
                    "CompleteMultipartUpload",
                    call,
                    patience=objects.traits.finish_timeout,
                    **self._named(pending),
                    MultipartUpload={"Parts": [each.told() for each in parts]},
                    **objects.condition(overwrite=pending.overwrite),
                )
        except (TransientError, VersionChangedError, UploadLostError) as exc:
            with _conflict():
                objects.settled(pending.key, pending.marker, exc, overwrite=pending.overwrite, call=call)
        info = objects.published(pending.key, pending.marker, size, overwrite=pending.overwrite, call=call)
        self._records.forget(pending, call)
        return info

    def put_empty(self, pending: Pending, call: Call) -> ObjectInfo:
        """Makes an image without a byte: S3 joins no parts to one, so it is stored by a request of its own.

        Raises: as `join`.
        """
        with _conflict():
            info = self._objects.put(
                pending.key,
                memoryview(b""),
                overwrite=pending.overwrite,
                call=call,
                marker=pending.marker,
            )
        self.drop(pending, call)
        return info

    def made(self, pending: Pending, call: Call) -> ObjectInfo | None:
        """Gives the image if this upload made it, None where it may still do so.

        Raises: ConflictError where somebody else's is in its place, and none was to be replaced.
        """
        found = self._objects.look(pending.key, call)
        if found is not None and found.marker == pending.marker:
            self._records.forget(pending, call)  # whoever made it may have been ended before that
            return found.info
        if found is not None and not pending.overwrite:
            raise ConflictError(f"somebody else stored an image under {pending.key!r} first")
        return None

    def drop(self, pending: Pending, call: Call) -> None:
        """Drops the upload, its parts and its record; what is gone already is no error."""
        if pending.upload_id:
            with contextlib.suppress(UploadLostError), _lost():
                self._objects.ask("AbortMultipartUpload", call, **self._named(pending))
        self._records.forget(pending, call)

    def recorded(self, now: float, call: Call) -> Iterator[tuple[Pending, float]]:
        """Gives the uploads of this store that are pending, each with the time that it began.

        Records of uploads that have ended, which a kill left, are removed.
        """
        records = self._records.all(call)
        if not records:
            return
        begun = self._begun(call)  # after the records: what was recorded by then is in it
        known = {each.pending.upload_id for each in records}
        for record in records:
            found = _matching(record, known, begun, self._objects.bucket.object_key(record.pending.key))
            for upload_id in found:
                yield replace(record.pending, upload_id=upload_id), record.written
            if not found and record.written < now - _BEGINNING:
                self._records.remove(record.name, call)

    def _begun(self, call: Call) -> dict[str, tuple[str, float]]:
        """Gives object's key and time of all pending uploads of the bucket, by their ID."""
        ask = functools.partial(self._objects.ask, call=call)
        return {
            str(each["UploadId"]): (str(each["Key"]), each["Initiated"].timestamp())
            for _, page in pages(ask, UPLOADS, Prefix=self._objects.bucket.prefix)
            for each in page
        }

    def _listed(self, pending: Pending, call: Call) -> Iterator[Mapping[str, Any]]:
        def ask(operation: str, **arguments: Any) -> Answer:
            with _lost():
                return self._objects.ask(operation, call, pinned=True, **arguments)

        for _, page in pages(ask, PARTS, **self._named(pending)):
            yield from page

    def _named(self, pending: Pending) -> dict[str, Any]:
        return {"Key": self._objects.bucket.object_key(pending.key), "UploadId": pending.upload_id}


def _matching(
    record: Record, known: set[str], begun: Mapping[str, tuple[str, float]], name: str
) -> list[str]:
    """Gives the IDs of the pending uploads that `record` is of.

    One that was written before there was an ID, since when a reply was lost or a process killed, is of the
    uploads to the same object that no other record is of, and that began just then.
    """
    upload_id = record.pending.upload_id
    if upload_id:
        return [upload_id] if upload_id in begun else []
    return [
        each
        for each, (key, began) in begun.items()
        if key == name and each not in known and -_SKEW < began - record.written < _BEGINNING
    ]


def _tag(etag: object) -> str:
    return str(etag or "").strip('"')


@contextlib.contextmanager
def _lost() -> Iterator[None]:
    """Takes a missing object for a missing upload: radosgw says NoSuchKey where S3 says NoSuchUpload."""
    try:
        yield
    except NotFoundError as exc:
        raise UploadLostError("the service no longer knows the upload", request_id=exc.request_id) from exc


@contextlib.contextmanager
def _conflict() -> Iterator[None]:
    try:
        yield
    except AlreadyExistsError as exc:
        raise ConflictError(exc.message) from exc
