"""What a large object leaves when it goes: the segments that are its alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote

from imgstore.backends._http_range import Reply
from imgstore.backends.swift.dynamic import manifest_of
from imgstore.backends.swift.failures import RefusedError
from imgstore.backends.swift.layout import is_own, segments_of, stem
from imgstore.backends.swift.publish import upload_of
from imgstore.backends.swift.static import is_static, manifest
from imgstore.errors import StoreError
from imgstore.model import Call

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore

LOG = logging.getLogger(__name__)


class Remains:
    """The segments of one object, as `container` and name. Belongs to one thread.

    Segments whose names do not say that they belong to the image are left: they may be those of another one,
    whose manifest was copied.
    """

    def __init__(self, owner: SwiftStore) -> None:
        self._owner = owner
        self._found: list[tuple[str, str]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def replaced(self, key: str, call: Call) -> Remains | None:
        """Gives the segments of the object that is under `key`, None without one. Raises: RefusedError."""
        reply = self._owner.publisher.found(key, call)
        return None if reply is None else self.of(key, reply, call)

    def of(self, key: str, reply: Reply, call: Call) -> Remains:
        """Gives the segments of the object that `reply` describes. Raises: RefusedError."""
        container = self._owner.layout.place(key)
        if manifest_of(reply) is not None:
            found = list(self._dynamic(reply, call))
        elif is_static(reply):
            found = list(self._static(container, key, reply, call))
        else:
            return self
        self._found = [each for each in found if is_own(key, container, "/".join(each))]
        if len(self._found) < len(found):
            LOG.warning(
                "%r: %d segments stay, since by their names they are not its alone",
                key,
                len(found) - len(self._found),
            )
        return self

    def sweep(self, call: Call) -> None:
        """Removes the segments, after their image is no more; what cannot be removed now is told."""
        try:
            self.remove(call)
        except (RefusedError, StoreError) as exc:
            LOG.warning("%d segments of an image that is no more may be left: %s", len(self._found), exc)

    def remove(self, call: Call) -> None:
        """Removes the segments. Raises: RefusedError."""
        for container, name in self._found:
            self._owner.service.remove(container, name, call=call)

    def _dynamic(self, reply: Reply, call: Call) -> Iterator[tuple[str, str]]:
        container, _, prefix = unquote(manifest_of(reply) or "").partition("/")
        for entry in self._owner.service.objects(container, call=call, prefix=prefix, missing_ok=True):
            yield container, str(entry["name"])

    def _static(self, container: str, key: str, reply: Reply, call: Call) -> Iterator[tuple[str, str]]:
        pieces = manifest(self._owner.service, container, key, call)
        if pieces is not None:
            yield from (piece.place for piece in pieces)
            return
        upload = upload_of(reply)
        if upload is not None:  # radosgw tells no manifest, but ours are found by their names
            place = segments_of(container)
            for entry in self._owner.service.objects(
                place, call=call, prefix=stem(key, upload), missing_ok=True
            ):
                yield place, str(entry["name"])
