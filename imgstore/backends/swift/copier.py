"""Copies inside the service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgstore.backends._http_range import Reply, content_length
from imgstore.backends.swift import dynamic
from imgstore.backends.swift.failures import changed, typed
from imgstore.backends.swift.joining import check_parts, conclude, discard, is_final, publish_parts
from imgstore.backends.swift.parts import limits_of
from imgstore.backends.swift.publish import upload_of
from imgstore.backends.swift.records import Record, fresh_id
from imgstore.backends.swift.remains import replaced
from imgstore.backends.swift.segments import Segments
from imgstore.backends.swift.static import is_static, manifest
from imgstore.backends.swift.versions import etag_of
from imgstore.errors import NotFoundError, UnsupportedError
from imgstore.model import NO_CALL, Call, ObjectInfo, Part

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore

# A segment to copy: where it is, its size and ETag.
_Piece = tuple[tuple[str, str], int, str]


class SwiftCopier:
    """Copies images without their bytes passing through this process, each segment by one COPY.

    The copy has segments of its own, so that either image can be deleted. A plain image becomes a large one
    of a single segment: the copy is compared with its source before it gets its name.
    """

    def __init__(self, owner: SwiftStore) -> None:
        self._owner = owner

    def copy(
        self, source_key: str, target_key: str, *, overwrite: bool = False, call: Call = NO_CALL
    ) -> ObjectInfo:
        owner = self._owner
        owner._admit(source_key, call)
        owner._admit(target_key, call)
        with typed(owner, source_key):
            reply = owner.publisher.found(source_key, call)
            if reply is None:
                raise NotFoundError(f"there is no {source_key!r}")
            pieces = list(self._pieces(source_key, reply, call))
        with typed(owner, target_key):
            if not overwrite:
                owner.publisher.check_free(target_key, call)
            record = Record(fresh_id(), target_key, overwrite=overwrite, started=owner.clock.time())
            owner.records.begin(record, call)
            return self._copied(record, pieces, call)

    def _copied(self, record: Record, pieces: list[_Piece], call: Call) -> ObjectInfo:
        owner = self._owner
        segments = Segments(owner, record)
        parts: list[Part] = []
        try:
            at = 0
            for number, (place, size, etag) in enumerate(pieces):
                parts.append(segments.adopt(number, at, size, etag, source=place, call=call))
                at += size
            parts = check_parts(record, parts, limits_of(owner.service.capabilities(call=call)))
            remains = replaced(owner, record.key, call) if record.overwrite else None
            published = publish_parts(owner, record, parts, call)
        except Exception as exc:
            # After a request without an answer all stays, for `reap`.
            if is_final(owner.translate(exc)):
                discard(owner, record, parts)
            raise
        if remains is not None:
            remains.sweep(call)
        conclude(owner, record, parts, published, call)
        return published.info

    def _pieces(self, key: str, reply: Reply, call: Call) -> Iterator[_Piece]:
        """Gives what the image is made of. Raises: UnsupportedError; BadReplyError for one with a gap."""
        owner = self._owner
        container = owner.layout.place(key)
        if dynamic.manifest_of(reply) is not None:
            found = dynamic.look(owner.service, key, reply, call)
            yield from (((found.container, each.name), each.size, each.etag) for each in found.segments)
        elif is_static(reply):
            yield from self._static(container, key, reply, call)
        elif size := content_length(reply):
            yield (container, key), size, etag_of(reply)

    def _static(self, container: str, key: str, reply: Reply, call: Call) -> Iterator[_Piece]:
        owner = self._owner
        pieces = manifest(owner.service, container, key, call)
        if pieces is None:
            upload = upload_of(reply)
            if upload is None:
                raise UnsupportedError(
                    "the service does not tell the segments of this image, which a copy needs"
                )
            parts = Segments(owner, Record(upload, key)).held(call)
            if sum(part.size for part in parts) != content_length(reply):
                raise changed(reply)
            yield from (
                (Segments(owner, Record(upload, key)).path(part), part.size, part.tag.partition("-")[0])
                for part in parts
            )
            return
        if not all(piece.whole for piece in pieces):
            raise UnsupportedError("the image is made of ranges of segments, which are not copied")
        yield from ((piece.place, piece.size, piece.etag) for piece in pieces)
