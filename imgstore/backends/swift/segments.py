"""The segments of one upload: put, told, joined into an image, dropped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imgstore.backends.swift.failures import RefusedError
from imgstore.backends.swift.layout import read_segment, segment_name, segments_of, stem
from imgstore.backends.swift.records import Record
from imgstore.backends.swift.versions import etag_of
from imgstore.model import Call, Part

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore


class Segments:
    """The segments of one upload. Callable from any thread.

    The tag of a part is the segment's ETag and the nonce of its name: no two puts write to one name, so that
    one that comes late, from a process that was taken for dead, never changes what was published.
    """

    def __init__(self, owner: SwiftStore, record: Record) -> None:
        self._owner = owner
        self._container = segments_of(owner.layout.place(record.key))
        self._stem = stem(record.key, record.upload)

    def put(self, number: int, offset: int, data: memoryview, call: Call) -> Part:
        """Stores a segment; the server compares its digest, and its reply is compared with it again.

        Raises: BadReplyError where they differ, so that it is sent again; RefusedError.
        """
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        name = segment_name(number, offset)
        reply = self._owner.placing.put(self._container, self._stem + name, data, call=call, etag=etag)
        if etag_of(reply) != etag:
            self._owner.service.remove(self._container, self._stem + name, call=call)
            raise reply.bad("another ETag than that of the bytes that were sent")
        return Part(number, offset, len(data), f"{etag}-{name.rpartition('-')[2]}")

    def adopt(
        self, number: int, offset: int, size: int, etag: str, *, source: tuple[str, str], call: Call
    ) -> Part:
        """Copies a segment of another image inside the service. Raises: BadReplyError, RefusedError."""
        name = segment_name(number, offset)
        target = self._container, self._stem + name
        self._owner.service.copy(source, target, call=call)
        reply = self._owner.service.head(*target, call=call)
        if etag_of(reply) != etag or reply.single("content-length") != str(size):
            raise reply.bad("a copy of a segment that is not the segment")
        return Part(number, offset, size, f"{etag}-{name.rpartition('-')[2]}")

    def held(self, call: Call) -> list[Part]:
        """Gives the parts that the store lists, by number; of one that was put twice the one put last.

        A listing may lag by a few seconds behind what was put. Raises: RefusedError.
        """
        last: dict[int, tuple[str, Part]] = {}
        for entry in self._listed(call):
            part = _part(str(entry["name"]).removeprefix(self._stem), entry)
            if part is None:
                continue
            when = str(
                entry.get("last_modified", "")
            )  # ISO 8601 in UTC: its letters are in the order of time
            if part.number not in last or last[part.number][0] <= when:
                last[part.number] = when, part
        return [last[number][1] for number in sorted(last)]

    def is_held(self, part: Part, call: Call) -> bool:
        """Asks for one segment, past any listing. Raises: RefusedError."""
        try:
            reply = self._owner.service.head(self._container, self._stem + named(part), call=call)
        except RefusedError as exc:
            if exc.status != 404:
                raise
            return False
        return etag_of(reply) == etag(part) and reply.single("content-length") == str(part.size)

    def manifest(self, parts: Sequence[Part]) -> bytes:
        """Gives the manifest that joins `parts`, which Swift holds against each segment's ETag and size."""
        return json.dumps(
            [
                {
                    "path": f"/{self._container}/{self._stem}{named(part)}",
                    "etag": etag(part),
                    "size_bytes": part.size,
                }
                for part in parts
            ]
        ).encode()

    def path(self, part: Part) -> tuple[str, str]:
        """Gives container and name of a segment."""
        return self._container, self._stem + named(part)

    def drop(self, call: Call, *, keep: Collection[tuple[str, str]] = (), known: Iterable[Part] = ()) -> None:
        """Removes the segments that are listed or `known`, but those to `keep`. Raises: RefusedError."""
        names = {str(entry["name"]) for entry in self._listed(call)}
        for name in sorted(names | {self.path(part)[1] for part in known}):
            if (self._container, name) not in keep:
                self._owner.service.remove(self._container, name, call=call)

    def _listed(self, call: Call) -> Iterator[Mapping[str, Any]]:
        service = self._owner.service
        return service.objects(self._container, call=call, prefix=self._stem, missing_ok=True)


def named(part: Part) -> str:
    """Gives the name of a part's segment below its stem."""
    return f"{part.number:08}-{part.offset}-{part.tag.rpartition('-')[2]}"


def etag(part: Part) -> str:
    """Gives the ETag of a part's segment."""
    return part.tag.partition("-")[0]


def joined_etag(parts: Sequence[Part]) -> str:
    """Gives the ETag of the object that joins `parts`: the MD5 of their ETags."""
    return hashlib.md5("".join(map(etag, parts)).encode(), usedforsecurity=False).hexdigest()


def _part(name: str, entry: Mapping[str, Any]) -> Part | None:
    found, size, digest = read_segment(name), entry.get("bytes"), entry.get("hash")
    if found is None or not isinstance(size, int) or not isinstance(digest, str):
        return None
    return Part(*found, size, f"{digest}-{name.rpartition('-')[2]}")
