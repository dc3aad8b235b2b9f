"""Puts and deletes of whole images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from imgstore.backends.memory._images import Images, check_digests
from imgstore.errors import SourceChangedError, UnsupportedError
from imgstore.model import NO_CALL, Call, ObjectInfo
from imgstore.store import Source

RECEIVE = 1 << 20  # one read of a source: large enough that a call costs nothing beside the copy


class MemoryWriter:
    """Stores what a source gives.

    Deadline and cancellation are looked at after each read of the source; one that waits for ever is not cut
    short.
    """

    def __init__(self, images: Images) -> None:
        self._images = images

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
        owner = self._images.owner
        owner._admit(key, call)
        given = dict(digests or {})
        for name in given:
            hashlib.new(name, usedforsecurity=False)  # an unknown name is refused before anything is read
        if not overwrite:
            self._images.check_free(key)
        self._images.check_room(key, size or 0)
        data = self._receive(key, source, size, call)
        check_digests(data, given, key=key, store=owner.store_id)
        return self._images.publish(key, bytes(data), overwrite=overwrite, digests=given)

    def delete(self, key: str, *, version: str | None = None, call: Call = NO_CALL) -> None:
        self._images.owner._admit(key, call)
        self._images.remove(key, version)

    def _receive(self, key: str, source: Source, size: int | None, call: Call) -> bytearray:
        owner = self._images.owner
        data = bytearray()
        while True:
            piece: Any = source.read(RECEIVE)  # a source of somebody else's may give anything
            call.check(owner.clock, key=key, store=owner.store_id)
            if piece is None:
                raise UnsupportedError(
                    "the source gave None instead of waiting; open it as blocking",
                    key=key,
                    store=owner.store_id,
                )
            if not piece:
                break
            data += piece
            self._images.check_room(key, len(data))
            if size is not None and len(data) > size:
                break
        if size is not None and len(data) != size:
            gave = f"more than {size}" if len(data) > size else f"{len(data)}"
            raise SourceChangedError(
                f"the source gave {gave} bytes where {size} were promised", key=key, store=owner.store_id
            )
        return data
