"""Segments become an image: checked, named by a manifest, and what they replace removed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from imgstore.backends._http_range import judge, range_header
from imgstore.backends._intake import Digests
from imgstore.backends.swift.failures import RefusedError
from imgstore.backends.swift.parts import Limits, limits_of
from imgstore.backends.swift.publish import Published
from imgstore.backends.swift.records import Record
from imgstore.backends.swift.remains import replaced
from imgstore.backends.swift.segments import Segments, etag, joined_etag
from imgstore.backends.swift.versions import tagged
from imgstore.errors import (
    AlreadyExistsError,
    BadReplyError,
    ConflictError,
    DeadlineExceededError,
    ImgstoreError,
    OperationCancelledError,
    SourceChangedError,
    TransientError,
    UnsupportedError,
    UploadLostError,
)
from imgstore.model import Call, Part

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore

LOG = logging.getLogger(__name__)

EMPTY_MD5: Final = hashlib.md5(b"", usedforsecurity=False).hexdigest()
MANIFEST_PUT: Final = "multipart-manifest=put"
# What a manifest is answered whose segments are not there, or are others: 400 by Swift, 404 by radosgw.
_UNFIT: Final = frozenset({400, 404, 409, 422})
_BLOCK: Final = 1 << 20
# Seconds for removing the segments of a put that failed; what is left then, `reap` removes.
_CLEANING: Final = 30.0


def join(owner: SwiftStore, record: Record, parts: Sequence[Part], call: Call) -> Published:
    """Publishes `parts` as the image of `record`; the segments of an image that it replaces go.

    Raises: ConflictError where another writer took the key; UploadLostError for a segment that is gone;
    SourceChangedError for parts that are not the whole image; UnsupportedError for what no manifest takes;
    DigestMismatchError. Nothing is published then.
    """
    parts = check_parts(record, parts, limits_of(owner.service.capabilities(call=call)))
    _check_held(Segments(owner, record), parts, call)
    _check_digests(owner, record, parts, call)
    remains = replaced(owner, record.key, call) if record.overwrite else None
    try:
        published = publish_parts(owner, record, parts, call)
    except AlreadyExistsError as exc:
        raise ConflictError("another writer published the image first", request_id=exc.request_id) from None
    if remains is not None:
        remains.sweep(call)
    return published


def publish_parts(owner: SwiftStore, record: Record, parts: Sequence[Part], call: Call) -> Published:
    """Puts the manifest of `parts`, or the empty object of none. Raises: as `Publisher.publish`."""
    segments = Segments(owner, record)
    publish = owner.publisher.publish
    if not parts:
        return publish(
            record.key,
            b"",
            upload=record.upload,
            size=0,
            etag=EMPTY_MD5,
            overwrite=record.overwrite,
            call=call,
        )
    try:
        published = publish(
            record.key,
            segments.manifest(parts),
            upload=record.upload,
            size=sum(part.size for part in parts),
            etag=joined_etag(parts),
            overwrite=record.overwrite,
            call=call,
            query=MANIFEST_PUT,
        )
    except RefusedError as exc:
        if exc.status not in _UNFIT:
            raise
        _check_held(segments, parts, call)
        raise BadReplyError(
            f"the server does not see all segments yet (status {exc.status})", request_id=exc.reply.request_id
        ) from None
    if published.own:
        _check_not_aborted(owner, record, parts)
    return published


def _check_not_aborted(owner: SwiftStore, record: Record, parts: Sequence[Part]) -> None:
    """Returns where nobody has begun to abort the upload that was just published.

    Whoever aborts says so in the record before he looks for the image, and we look at the record after it was
    put: so one of us sees the other. Raises: UploadLostError; the image is withdrawn then.
    """
    call = Call().within(_CLEANING, clock=owner.clock)
    try:
        aborted = owner.records.is_aborted(record, call)
        if aborted is None:  # by whom it was ended has done what he does
            _check_held(Segments(owner, record), parts, call)
    except UploadLostError:
        aborted = True
    except (RefusedError, ImgstoreError) as exc:
        LOG.debug("whether %r was aborted cannot be asked: %s", record.key, exc)
        return
    if aborted:
        owner.publisher.withdraw(record.key, record.upload, call)
        discard(owner, record, parts)
        raise UploadLostError("the upload was aborted as it became an image")


def _check_held(segments: Segments, parts: Sequence[Part], call: Call) -> None:
    """Returns if the segments of all parts are there as they were put. Raises: UploadLostError, RefusedError.

    Swift compares them as it takes a manifest; radosgw 16 looks only whether they are there.
    """
    held = {part.number: part for part in segments.held(call)}
    for part in parts:
        if held.get(part.number) != part and not segments.is_held(part, call):
            raise UploadLostError(f"the store does not hold part {part.number} as given")


def is_final(error: ImgstoreError) -> bool:
    """Whether the request that failed so was not carried out, and will not be."""
    open_ended = (TransientError, OperationCancelledError, DeadlineExceededError)
    return not isinstance(error, open_ended)


def conclude(
    owner: SwiftStore, record: Record, parts: Sequence[Part], published: Published, call: Call
) -> None:
    """Removes the record of an image that is published, and `parts` where it is not made of them.

    Whatever becomes of that, it is no failure.
    """
    if not published.own:
        discard(owner, record, parts)
        return
    try:
        owner.records.remove(record.upload, record.key, call)
    except (RefusedError, ImgstoreError) as exc:
        LOG.debug("the record of %r stays, for reap: %s", record.key, exc)


def discard(owner: SwiftStore, record: Record, parts: Sequence[Part], *, ended: bool = True) -> None:
    """Removes the segments of a put that failed, and its record where no request of it can come late."""
    call = Call().within(_CLEANING, clock=owner.clock)
    try:
        Segments(owner, record).drop(call, known=parts)
        if ended:
            owner.records.remove(record.upload, record.key, call)
    except (RefusedError, ImgstoreError) as exc:
        LOG.warning("segments of %r may be left; reap removes them: %s", record.key, exc)


def check_parts(record: Record, parts: Sequence[Part], limits: Limits) -> list[Part]:
    """Gives the parts in order. Raises: SourceChangedError; UnsupportedError for what no manifest takes."""
    at = 0
    ordered = sorted(parts, key=lambda part: part.offset)
    for part in ordered:
        if part.offset != at:
            raise SourceChangedError(f"the parts do not adjoin: none begins at {at}")
        at += part.size
    if record.size is not None and at != record.size:
        raise SourceChangedError(f"the parts have {at} bytes where {record.size} were promised")
    if len(ordered) > limits.segments:
        raise UnsupportedError(f"{len(ordered)} parts; the service joins {limits.segments}")
    for part in ordered[:-1]:
        if part.size < limits.min_size:
            raise UnsupportedError(
                f"part {part.number}: {part.size} bytes; the service wants {limits.min_size}"
            )
    return ordered


def _check_digests(owner: SwiftStore, record: Record, parts: Sequence[Part], call: Call) -> None:
    """Reads all segments where digests are to be proven. Raises: DigestMismatchError, UploadLostError."""
    digests = Digests(record.digests)
    if not digests.expected:
        return
    segments = Segments(owner, record)
    with memoryview(bytearray(_BLOCK)) as buffer:
        for part in parts:
            _hash(owner, segments.path(part), part, digests, buffer, call)
    digests.check()


def _hash(  # noqa: PLR0917  # private to this module
    owner: SwiftStore, path: tuple[str, str], part: Part, digests: Digests, buffer: memoryview, call: Call
) -> None:
    tag = f'"{etag(part)}"'
    fields = {"Range": range_header(0, part.size), "If-Match": tag}
    exchange, watch = owner.service.get(*path, fields, call=call, pinned=True)
    try:
        reply = tagged(exchange.reply)
        if reply.status in {404, 412}:
            raise UploadLostError(
                f"the store does not hold part {part.number} as given", request_id=reply.request_id
            )
        if reply.status not in {200, 206}:
            raise RefusedError(reply)
        judge(reply, path[1], 0, part.size, tag)
        raw = owner.service.transport.stream(exchange, part.size, watch)
        try:
            while count := raw.readinto(buffer):
                digests.update(buffer[:count])
        finally:
            raw.close()
    finally:
        exchange.drop()
