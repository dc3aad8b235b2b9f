"""Puts and deletes of whole images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from imgstore.backends._intake import Cutter, Digests, Intake
from imgstore.backends.swift.failures import changed, fail, typed
from imgstore.backends.swift.joining import conclude, discard, is_final, publish_parts
from imgstore.backends.swift.parts import SizeOf, limits_of, plan
from imgstore.backends.swift.records import Record, fresh_id
from imgstore.backends.swift.remains import Remains, replaced
from imgstore.backends.swift.sending import Sending
from imgstore.buffer import paged
from imgstore.errors import (
    DeadlineExceededError,
    NotFoundError,
    OperationCancelledError,
)
from imgstore.model import NO_CALL, Call, ObjectInfo
from imgstore.store import Source

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore


class SwiftWriter:
    """Stores an image of at most `segment_size` bytes by one PUT, a larger one by segments and a manifest.

    Memory: (max_concurrency + 1) segments, or one where max_concurrency is 1. Each is of `segment_size`
    bytes, or the image's size divided by the number of segments in a manifest (1,000) where that is more.
    Those of an image whose size is not known grow, up to 16 `segment_size`, and fewer of them are on their
    way: at least one, while another is filled.

    A large image has a record while it is stored, as an upload has: what a killed process leaves, `reap`
    finds by it. The same holds for a large image that is being deleted.

    A delete of one version looks at the object and then removes it: what another writer puts there between
    these two requests is removed in its place.
    """

    def __init__(self, owner: SwiftStore, *, segment_size: int, max_concurrency: int) -> None:
        self._owner = owner
        self._segment_size = segment_size
        self._concurrency = max_concurrency

    def put(
        self,
        key: str,
        source: Source,
        size: int | None = None,
        *,
        overwrite: bool = False,
        digests: Mapping[str, str] | None = None,
        call: Call = NO_CALL,
    ) -> ObjectInfo:
        owner = self._owner
        owner._admit(key, call)
        intake = Intake(source, size, Digests(digests), owner.clock, call)
        record = Record(fresh_id(), key, size, overwrite=overwrite, started=owner.clock.time())
        try:
            if not overwrite:
                owner.publisher.check_free(key, call)
            limits = limits_of(owner.service.capabilities(call=call))
            size_of = plan(size, self._segment_size, limits)
            cutter, memory = Cutter(intake.pieces), paged(size_of(0, 0))
            count = cutter.fill(memory)
            if cutter.ended:
                return self._put_whole(record, memory[:count], call)
            return self._put_segments(record, cutter, memory, size_of, call)
        except Exception as exc:
            if exc is intake.failure:
                raise
            fail(owner, key, exc)

    def delete(self, key: str, *, version: str | None = None, call: Call = NO_CALL) -> None:
        owner = self._owner
        owner._admit(key, call)
        with typed(owner, key):
            reply = owner.publisher.found(key, call)
            if reply is None:
                raise NotFoundError(f"there is no {key!r}")
            if version is not None and owner.reader.described(key, reply, call).version != version:
                raise changed(reply)
            remains = Remains(owner, key, reply, call)
            container = owner.layout.place(key)
            if remains.noted:
                remains.note(call)
                owner.service.delete(container, key, call=call)
                remains.remove(call)
            else:
                # Swift's own order: asked again after a failure, it finds what is left by the manifest.
                remains.remove(call)
                owner.service.delete(container, key, call=call)
            owner.placing.remove_own(container, call)

    def _put_whole(self, record: Record, data: memoryview, call: Call) -> ObjectInfo:
        remains = replaced(self._owner, record.key, call) if record.overwrite else None
        published = self._owner.publisher.publish(
            record.key,
            data,
            upload=record.upload,
            size=data.nbytes,
            etag=hashlib.md5(data, usedforsecurity=False).hexdigest(),
            overwrite=record.overwrite,
            call=call,
        )
        if remains is not None:
            remains.sweep(call)
        return published.info

    def _put_segments(
        self, record: Record, cutter: Cutter, memory: memoryview, size_of: SizeOf, call: Call
    ) -> ObjectInfo:
        """Stores an image of which `cutter` filled `memory` with the first segment."""
        owner = self._owner
        owner.records.begin(record, call)
        sending = Sending(owner, record, self._concurrency, len(memory), call)
        try:
            sending.run(cutter, memory, size_of)
            # Looked at last: another put may have replaced the image while all that was sent.
            remains = replaced(owner, record.key, call) if record.overwrite else None
        except (OperationCancelledError, DeadlineExceededError):
            raise  # there is no time to clean up: the record tells `reap` of the segments
        except Exception as exc:
            answered = sending.is_answered(exc)
            discard(owner, record, sending.parts, ended=answered)  # else `reap` looks again
            raise
        parts = sending.parts
        try:
            published = publish_parts(owner, record, parts, call)
        except Exception as exc:
            # Where it may be published its segments must stay; the record tells `reap` to look.
            if is_final(owner.translate(exc)):
                discard(owner, record, parts)
            raise
        conclude(owner, record, parts, published, call)
        if remains is not None:
            remains.sweep(call)
        return published.info
