"""Uploads in parts: segments that a manifest joins at the end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from imgstore.backends._intake import Digests
from imgstore.backends.swift.failures import typed
from imgstore.backends.swift.joining import join
from imgstore.backends.swift.parts import MAX_SEGMENTS, MAX_SIZE
from imgstore.backends.swift.publish import is_of
from imgstore.backends.swift.records import Record, fresh_id, lost, split
from imgstore.backends.swift.segments import Segments
from imgstore.backends.swift.static import manifest
from imgstore.errors import UploadLostError
from imgstore.model import NO_CALL, Call, ObjectInfo, Part
from imgstore.store import Upload, UploadLimits

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore

# Swift's own limits where nobody changed them. Of segments below 1 MiB it serves only ten at full speed.
LIMITS: Final = UploadLimits(min_part=1, max_part=MAX_SIZE, max_parts=MAX_SEGMENTS, ordered=False)
# Segments that this process put, by upload: what a listing that lags does not show yet.
_Known = dict[str, list[Part]]


class SwiftUploader:
    """Keeps pending uploads in the container of segments, each with a record of what it began with.

    Of two processes that go on with one upload the later one has it: the other gets ConflictError. Parts of
    either are good, and a late one changes no image.

    With digests `complete` reads all segments once more, as Swift knows the MD5 of each only.
    """

    limits: UploadLimits = LIMITS

    def __init__(self, owner: SwiftStore) -> None:
        self._owner = owner
        self._lock = threading.Lock()
        self._known: _Known = {}

    def begin(
        self,
        key: str,
        size: int | None,
        *,
        digests: Mapping[str, str] | None = None,
        overwrite: bool = False,
        call: Call = NO_CALL,
    ) -> str:
        owner = self._owner
        owner._admit(key, call)
        expected = Digests(digests).expected  # an unknown name is refused before anything is sent
        with typed(owner, key):
            if not overwrite:
                owner.publisher.check_free(key, call)
            record = Record(fresh_id(), key, size, expected, overwrite=overwrite, started=owner.clock.time())
            owner.records.begin(record, call)
            return record.token

    def put_part(
        self, token: str, number: int, offset: int, data: memoryview, *, call: Call = NO_CALL
    ) -> Part:
        self._owner._admit(None, call)
        with memoryview(data).cast("B") as view:
            record = self._claimed(token, call)
            self._check_part(record, number, offset, len(view))
            with typed(self._owner, record.key):
                part = Segments(self._owner, record).put(number, offset, view, call)
        self._know(record, part)
        return part

    def parts(self, token: str, *, call: Call = NO_CALL) -> Sequence[Part]:
        self._owner._admit(None, call)
        record = self._claimed(token, call)
        with typed(self._owner, record.key):
            return self._held(record, call)

    def complete(self, token: str, parts: Sequence[Part], *, call: Call = NO_CALL) -> ObjectInfo:
        owner = self._owner
        owner._admit(None, call)
        with typed(owner, ""):
            upload, key = split(token)
        with typed(owner, key):
            try:
                record = owner.records.read(token, call)
            except UploadLostError:
                return self._published(upload, key, call)
            found = owner.publisher.found(key, call)
            if found is not None and is_of(found, upload):
                self._tidy(record, self._named(key, call), call)
            else:
                owner.records.claim(record, call)
                joined = join(owner, record, parts, call)
                kept = {Segments(owner, record).path(part) for part in parts} if joined.own else set()
                self._tidy(record, kept, call)
                if not joined.own:
                    return joined.info
            return self._published(upload, key, call)

    def abort(self, token: str, *, call: Call = NO_CALL) -> None:
        owner = self._owner
        owner._admit(None, call)
        with typed(owner, ""):
            try:
                record = owner.records.read(token, call)
            except UploadLostError:
                return
        with typed(owner, record.key), contextlib.suppress(UploadLostError):
            owner.records.seize(record, call)
            found = owner.publisher.found(record.key, call)
            if found is not None and is_of(found, record.upload):
                self._tidy(record, self._named(record.key, call), call)
                return
            Segments(owner, record).drop(call, known=self._forget(record.upload))
            owner.records.remove(record.upload, record.key, call)
            owner.placing.remove_own(owner.layout.place(record.key), call)

    def uploads(self, older_than: float = 0.0, *, call: Call = NO_CALL) -> Iterator[Upload]:
        owner = self._owner
        owner._admit(None, call)
        latest = owner.clock.time() - older_than

        def pending() -> Iterator[Upload]:
            with typed(owner, ""):
                for record in owner.records.all(call):
                    if record.started <= latest:
                        yield Upload(record.token, record.key, record.started)

        return pending()

    def _claimed(self, token: str, call: Call) -> Record:
        with typed(self._owner, ""):
            record = self._owner.records.known(token) or self._owner.records.read(token, call)
            self._owner.records.claim(record, call)
            return record

    def _held(self, record: Record, call: Call) -> list[Part]:
        """Gives the parts that are listed, and those that this process put and the listing lacks yet."""
        segments = Segments(self._owner, record)
        held = {part.number: part for part in segments.held(call)}
        with self._lock:
            known = {part.number: part for part in self._known.get(record.upload, ())}
        for part in known.values():
            if held.get(part.number) != part and segments.is_held(part, call):
                held[part.number] = part
        return [held[number] for number in sorted(held)]

    def _published(self, upload: str, key: str, call: Call) -> ObjectInfo:
        """Gives the image of an upload whose record is gone. Raises: UploadLostError where there is none."""
        found = self._owner.publisher.found(key, call)
        if found is None or not is_of(found, upload):
            raise lost()
        return self._owner.reader.described(key, found, call)

    def _named(self, key: str, call: Call) -> set[tuple[str, str]] | None:
        """Gives the segments that an image is made of; None where the service keeps that to itself."""
        pieces = manifest(self._owner.service, self._owner.layout.place(key), key, call)
        return None if pieces is None else {piece.place for piece in pieces}

    def _tidy(self, record: Record, kept: set[tuple[str, str]] | None, call: Call) -> None:
        """Removes what is left of an upload that became an image: parts that were put twice, the record.

        All segments stay where nobody can tell which are `kept`.
        """
        known = self._forget(record.upload)
        if kept is not None:
            Segments(self._owner, record).drop(call, keep=kept, known=known)
        self._owner.records.remove(record.upload, record.key, call)

    def _know(self, record: Record, part: Part) -> None:
        with self._lock:
            self._known.setdefault(record.upload, []).append(part)

    def _forget(self, upload: str) -> list[Part]:
        with self._lock:
            return self._known.pop(upload, [])

    def _check_part(self, record: Record, number: int, offset: int, size: int) -> None:
        """Raises: ValueError for a part that the limits forbid."""
        limits = self.limits
        if not 0 <= number < limits.max_parts:
            raise ValueError(f"part {number}: parts are numbered from 0 to {limits.max_parts - 1}")
        stop = offset + size
        if offset < 0 or (record.size is not None and stop > record.size):
            raise ValueError(
                f"part {number}: [{offset}, {stop}) lies outside the image of {record.size} bytes"
            )
        if not limits.min_part <= size <= limits.max_part:
            raise ValueError(
                f"part {number}: {size} bytes; a part has {limits.min_part} to {limits.max_part}"
            )
