"""Listings of images."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from imgstore.backends._left_out import LeftOut
from imgstore.backends.swift.failures import RefusedError, typed
from imgstore.backends.swift.joining import EMPTY_MD5
from imgstore.errors import NotFoundError, UnsafeLocationError
from imgstore.model import NO_CALL, Call, ObjectInfo, check_key

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore


class SwiftLister:
    """Lists the images of a store, page by page; warns where what is named as no image can be is left out.

    What has the MD5 of no bytes has no size here: it may be the manifest of a dynamic large object, and in
    radosgw that of a static one. Listings of Swift lag behind what was stored and deleted, by less than a
    second as a rule.
    """

    def __init__(self, owner: SwiftStore) -> None:
        self._owner = owner

    def list(self, prefix: str = "", *, call: Call = NO_CALL) -> Iterator[ObjectInfo]:
        owner = self._owner
        owner._admit(None, call)

        def images() -> Iterator[ObjectInfo]:
            with typed(owner, ""):
                yield from self._images(prefix, call)

        return images()

    def _images(self, prefix: str, call: Call) -> Iterator[ObjectInfo]:
        owner = self._owner
        containers = list(owner.layout.containers(owner.service, call))
        if owner.layout.per_image:
            # one image in each; by the names of the containers they come in another order
            keys = sorted(map(owner.layout.key_of, containers), key=str.encode)
            containers = [owner.layout.place(key) for key in keys if key.startswith(prefix)]
            for container in containers:
                yield from self._listed(container, prefix, call)
            return
        listings = [self._listed(container, prefix, call) for container in containers]
        yield from heapq.merge(*listings, key=lambda info: info.key.encode())

    def _listed(self, container: str, prefix: str, call: Call) -> Iterator[ObjectInfo]:
        owner, left_out = self._owner, LeftOut(self._owner.store_id, container)
        try:
            for entry in owner.service.objects(container, call=call, prefix=prefix):
                info = _info(entry)
                if info is not None:
                    yield info
                else:
                    left_out.add(str(entry["name"]), entry.get("bytes"))
            left_out.tell()
        except RefusedError as exc:
            if exc.status != 404 or not owner.layout.single:
                raise
            if not owner.placing.makes_containers:  # else it is made with the first image
                raise NotFoundError(
                    f"there is no container {container!r}; make it, or correct the option 'container'",
                    request_id=exc.reply.request_id,
                ) from None


def _info(entry: Mapping[str, Any]) -> ObjectInfo | None:
    try:
        key = check_key(str(entry["name"]))
    except UnsafeLocationError:
        return None
    size: int | None = entry.get("bytes")
    if not isinstance(size, int) or entry.get("hash") == EMPTY_MD5:
        size = None
    return ObjectInfo(key, size, None, _modified(entry))


def _modified(entry: Mapping[str, Any]) -> float | None:
    with contextlib.suppress(ValueError):
        told = datetime.fromisoformat(str(entry.get("last_modified", "")).removesuffix("Z"))
        return told.replace(tzinfo=timezone.utc).timestamp()
    return None
