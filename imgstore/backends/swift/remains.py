"""What a large object leaves when it goes: the segments that are its alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote

from imgstore.backends._http_range import Reply
from imgstore.backends.swift import dynamic
from imgstore.backends.swift.dynamic import manifest_of
from imgstore.backends.swift.failures import RefusedError
from imgstore.backends.swift.layout import SEGMENTS, is_own, segments_of, stem
from imgstore.backends.swift.publish import upload_of
from imgstore.backends.swift.records import Record
from imgstore.backends.swift.static import is_static, manifest
from imgstore.errors import StoreError
from imgstore.model import Call

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore

LOG = logging.getLogger(__name__)


class Remains:
    """The segments of one object, as container and name. Belongs to one thread.

    Segments whose names do not say that they belong to the image are left: they may be those of another one,
    whose manifest was copied.

    Those of an image that this driver stored are noted in a record before it goes, so that `reap` removes
    what is left after a failure or a kill.
    """

    def __init__(self, owner: SwiftStore, key: str, reply: Reply, call: Call) -> None:
        """Looks for the segments of the object that `reply` describes. Raises: RefusedError."""
        self._owner = owner
        self._key = key
        self._upload = upload_of(reply)
        container = owner.layout.place(key)
        found: list[tuple[str, str]] = []
        if manifest_of(reply) is not None:
            found = list(self._dynamic(reply, call))
        elif is_static(reply):
            found = list(self._static(container, call))
        self._found = [each for each in found if is_own(key, container, "/".join(each))]
        if stay := len(found) - len(self._found):
            LOG.warning("%r: %d segments stay: by their names they are not its alone", key, stay)

    @property
    def noted(self) -> bool:
        """Whether there are segments, and a record can tell `reap` of them."""
        return bool(self._found) and self._upload is not None

    def note(self, call: Call) -> None:
        """Writes the record, while the image is still there. Raises: RefusedError."""
        if self.noted and self._upload is not None:
            owner = self._owner
            owner.records.begin(Record(self._upload, self._key, started=owner.clock.time()), call)

    def remove(self, call: Call) -> None:
        """Removes the segments, then the record. Raises: RefusedError."""
        for container, name in self._found:
            self._owner.service.remove(container, name, call=call)
        if self.noted and self._upload is not None:
            self._owner.records.remove(self._upload, self._key, call)

    def sweep(self, call: Call) -> None:
        """As `remove`, after the image was replaced: what cannot be removed now is no failure of that."""
        try:
            self.remove(call)
        except (RefusedError, StoreError) as exc:
            LOG.warning("segments that %r no longer needs are left, for reap: %s", self._key, exc)

    def _dynamic(self, reply: Reply, call: Call) -> Iterator[tuple[str, str]]:
        container, _, prefix = unquote(manifest_of(reply) or "").partition("/")
        listed = self._owner.service.objects(container, call=call, prefix=prefix, missing_ok=True)
        names = [str(entry["name"]) for entry in listed]
        if container.endswith(SEGMENTS) and prefix.endswith("/"):
            found = [name for name in names if name.removeprefix(prefix).isdecimal()]
        else:  # among other images, which a gap in the row may end in
            found = dynamic.row(names, prefix)
        if stay := len(names) - len(found):
            LOG.warning("%r: %d objects stay: they are not numbered as its segments are", self._key, stay)
        yield from ((container, name) for name in found)

    def _static(self, container: str, call: Call) -> Iterator[tuple[str, str]]:
        service = self._owner.service
        pieces = manifest(service, container, self._key, call)
        if pieces is not None:
            yield from (piece.place for piece in pieces)
            return
        if self._upload is not None:  # radosgw tells no manifest, but ours are found by their names
            place, prefix = segments_of(container), stem(self._key, self._upload)
            for entry in service.objects(place, call=call, prefix=prefix, missing_ok=True):
                yield place, str(entry["name"])


def replaced(owner: SwiftStore, key: str, call: Call) -> Remains | None:
    """Gives what the object under `key` will leave, noted already; None without one. Raises: RefusedError."""
    reply = owner.publisher.found(key, call)
    if reply is None:
        return None
    remains = Remains(owner, key, reply, call)
    remains.note(call)
    return remains
