"""Uploads in parts."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from imgstore.backends.memory._images import Images, check_digests
from imgstore.errors import SourceChangedError, UploadLostError
from imgstore.model import NO_CALL, Call, ObjectInfo, Part
from imgstore.store import Upload, UploadLimits


@dataclass(slots=True)
class _Pending:
    key: str
    size: int | None
    digests: dict[str, str]
    overwrite: bool
    started: float
    parts: dict[int, tuple[Part, bytes]] = field(default_factory=dict)

    @property
    def held(self) -> int:
        return sum(part.size for part, _ in self.parts.values())


class MemoryUploader:
    """Keeps parts until they are completed or aborted.

    An image remembers the upload that made it, so that `complete` gives the same answer again for as long as
    that image is there.
    """

    def __init__(self, images: Images, limits: UploadLimits) -> None:
        self.limits = limits
        self._images = images
        self._lock = threading.Lock()
        self._pending: dict[str, _Pending] = {}

    def begin(
        self,
        key: str,
        size: int | None,
        *,
        digests: Mapping[str, str] | None = None,
        overwrite: bool = False,
        call: Call = NO_CALL,
    ) -> str:
        owner = self._images.owner
        owner._admit(key, call)
        given = dict(digests or {})
        for name in given:
            hashlib.new(name, usedforsecurity=False)  # an unknown name is refused before anything is sent
        if not overwrite:
            self._images.check_free(key)
        self._images.check_room(key, size or 0)
        token = uuid.uuid4().hex
        with self._lock:
            self._pending[token] = _Pending(key, size, given, overwrite, owner.clock.time())
        return token

    def put_part(
        self, token: str, number: int, offset: int, data: memoryview, *, call: Call = NO_CALL
    ) -> Part:
        self._images.owner._admit(None, call)
        kept = bytes(data)
        part = Part(number, offset, len(kept), uuid.uuid4().hex)
        with self._lock:
            upload = self._find(token)
            self._check_part(upload, part)
            old = upload.parts.get(number)
            self._images.reserve(upload.key, part.size - (old[0].size if old else 0))
            upload.parts[number] = (part, kept)
        return part

    def parts(self, token: str, *, call: Call = NO_CALL) -> Sequence[Part]:
        self._images.owner._admit(None, call)
        with self._lock:
            return _by_number(self._find(token))

    def complete(self, token: str, parts: Sequence[Part], *, call: Call = NO_CALL) -> ObjectInfo:
        self._images.owner._admit(None, call)
        # The lock makes two completes of one token one: the second finds what the first published.
        with self._lock:
            if token not in self._pending:
                for image in self._images.snapshot():
                    if image.upload == token:
                        return image.info
            upload = self._find(token)
            data = self._joined(upload, parts)
            check_digests(data, upload.digests, key=upload.key, store=self._images.owner.store_id)
            info = self._images.publish(
                upload.key,
                data,
                overwrite=upload.overwrite,
                digests=upload.digests,
                upload=token,
                reserved=upload.held,
            )
            del self._pending[token]
        return info

    def abort(self, token: str, *, call: Call = NO_CALL) -> None:
        self._images.owner._admit(None, call)
        with self._lock:
            upload = self._pending.pop(token, None)
            if upload is not None:
                self._images.reserve(upload.key, -upload.held)

    def uploads(self, older_than: float = 0.0, *, call: Call = NO_CALL) -> Iterator[Upload]:
        self._images.owner._admit(None, call)
        latest = self._images.owner.clock.time() - older_than
        with self._lock:
            found = [Upload(token, each.key, each.started) for token, each in self._pending.items()]
        return iter([each for each in found if each.started <= latest])

    def _find(self, token: str) -> _Pending:
        upload = self._pending.get(token)
        if upload is None:
            raise UploadLostError(
                "there is no such upload; it was completed, aborted or never begun",
                store=self._images.owner.store_id,
            )
        return upload

    def _check_part(self, upload: _Pending, part: Part) -> None:
        number, stop, limits = part.number, part.offset + part.size, self.limits
        if not 0 <= number < limits.max_parts:
            raise ValueError(f"part {number}: parts are numbered from 0 to {limits.max_parts - 1}")
        if part.offset < 0 or (upload.size is not None and stop > upload.size):
            raise ValueError(
                f"part {number}: [{part.offset}, {stop}) lies outside the image of {upload.size} bytes"
            )
        # Whether a small part is the last one shows here only where the size is known, else on completion.
        small = upload.size not in (None, stop) and part.size < limits.min_part
        if small or not 1 <= part.size <= limits.max_part:
            raise ValueError(
                f"part {number}: {part.size} bytes; a part has {limits.min_part} to {limits.max_part}"
            )
        if limits.ordered and number > len(upload.parts):
            raise ValueError(f"part {number}: the store takes parts in order, next is {len(upload.parts)}")

    def _joined(self, upload: _Pending, parts: Sequence[Part]) -> bytes:
        at = 0
        pieces: list[bytes] = []
        for part in sorted(parts, key=lambda part: part.offset):
            held = upload.parts.get(part.number)
            if held is None or held[0] != part:
                raise UploadLostError(
                    f"the store does not hold part {part.number} as given",
                    key=upload.key,
                    store=self._images.owner.store_id,
                )
            if part.offset != at:
                raise ValueError(f"part {part.number} begins at {part.offset}, not at {at}")
            at += part.size
            if part.size < self.limits.min_part and len(pieces) < len(parts) - 1:
                raise ValueError(f"part {part.number}: {part.size} bytes; only the last may be so small")
            pieces.append(held[1])
        if upload.size is not None and at != upload.size:
            raise SourceChangedError(
                f"the parts hold {at} bytes where {upload.size} were promised",
                key=upload.key,
                store=self._images.owner.store_id,
            )
        return b"".join(pieces)


def _by_number(upload: _Pending) -> list[Part]:
    return [upload.parts[number][0] for number in sorted(upload.parts)]
