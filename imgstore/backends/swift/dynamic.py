"""Dynamic large objects, read as their list of segments: none missing, each pinned."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote

from imgstore.backends._http_range import Reply, http_date, judge, range_header
from imgstore.backends.swift.failures import RefusedError, changed
from imgstore.backends.swift.service import Service
from imgstore.backends.swift.versions import dynamic_version, tagged
from imgstore.errors import (
    BadReplyError,
    NotFoundError,
    OperationCancelledError,
    RangeNotSatisfiableError,
    UnpinnableError,
)
from imgstore.model import ByteRange, Call, CancelToken, ObjectInfo, Version
from imgstore.stream import Opened, RawReader

_NUMBERED = re.compile(r"(.*?)([0-9]+)", re.DOTALL)
# The swift command's own names: .../MODIFIED/SIZE/SEGMENT_SIZE/NUMBER
_SIZED = re.compile(r".*/[0-9]+\.[0-9]+/([0-9]{1,19})/[0-9]+/[0-9]{8}", re.DOTALL)
# As many segments as SLO manifests have at most, times a hundred: a bound for the memory of the list.
_LIMIT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment: its name, and what the listing tells of it."""

    name: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Dynamic:
    """A dynamic large object as its segments were listed."""

    container: str
    segments: tuple[Segment, ...]
    info: ObjectInfo


def manifest_of(reply: Reply) -> str | None:
    """Gives `CONTAINER/PREFIX` where a reply is about a dynamic large object, else None."""
    return reply.value("x-object-manifest")


def look(service: Service, key: str, reply: Reply, call: Call) -> Dynamic:
    """Lists the segments of the object that `reply` is about; its version is the digest of that list.

    The numbers at the ends of their names must be a row that begins with 0 or 1, for Swift serves a list with
    a gap as a shorter object, without a word. A last segment that is missing shows only in names that tell
    the whole size, as those of the swift command do, or by another version than before.

    Raises: BadReplyError for a gap, which a listing that lags shows as well; UnpinnableError for segments
    whose names have no numbers, so that a gap would not show.
    """
    container, _, prefix = unquote(manifest_of(reply) or "").partition("/")
    segments = tuple(_listed(service, container, prefix, call))
    _check_numbers(segments)
    size = sum(each.size for each in segments)
    sized = _SIZED.fullmatch(segments[0].name)
    if sized and int(sized[1]) != size:
        raise BadReplyError(f"the segments of the image have {size} bytes where their names tell {sized[1]}")
    told = json.dumps([(each.name, each.size, each.etag) for each in segments]).encode()
    version = dynamic_version(hashlib.sha256(told).hexdigest())
    modified = http_date(reply.single("last-modified"))
    return Dynamic(container, segments, ObjectInfo(key, size, version, modified))


def opened(
    service: Service, found: Dynamic, start: int, stop: int | None, *, version: Version, call: Call
) -> Opened:
    """Opens [start, stop) of the segments. Raises: VersionChangedError, RangeNotSatisfiableError."""
    size = found.info.size or 0
    if isinstance(version, str) and version != found.info.version:
        raise changed()
    if start > size or start == size > 0:
        raise RangeNotSatisfiableError(f"offset {start} lies behind the end of the image ({size} bytes)")
    end = size if stop is None else min(stop, size)
    return Opened(Joined(service, found, start, end, call), found.info, ByteRange(start, end))


class Joined:
    """The raw reader over segments: one request each, made when the one before has ended.

    Each is asked for by its ETag, and its reply judged by it.
    """

    def __init__(self, service: Service, found: Dynamic, start: int, stop: int, call: Call) -> None:
        self._service = service
        self._found = found
        # a request for the next segment is called off with the reader
        self._cancel = CancelToken() if call.cancel is None else call.cancel.child()
        self._call = replace(call, cancel=self._cancel)
        self._spans = _spans(found.segments, start, stop)
        self._raw: RawReader | None = None
        self._left = 0
        self._aborted = self._closed = False

    def readinto(self, buffer: memoryview, /) -> int:
        if self._closed:
            raise ValueError("the body is closed")
        while not self._left:
            self._drop()
            if not self._spans:
                return 0
            self._open(*self._spans.pop(0))
        raw = self._raw
        if self._aborted or raw is None:
            raise OperationCancelledError("the operation was cancelled")
        count = raw.readinto(buffer)
        if not count:
            raise BadReplyError("a segment of the image ended before its size")
        self._left -= count
        return count

    def abort(self) -> None:
        self._aborted = True
        self._cancel.cancel()
        raw = self._raw
        if raw is not None:
            raw.abort()

    def close(self) -> None:
        self._closed = True
        self._drop()

    def _drop(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()

    def _open(self, segment: Segment, start: int, stop: int) -> None:
        tag = f'"{segment.etag}"'
        fields = {"Range": range_header(start, stop), "If-Match": tag}
        exchange, watch = self._service.get(
            self._found.container, segment.name, fields, call=self._call, pinned=True
        )
        try:
            reply = tagged(exchange.reply)
            if reply.status == 404:
                raise NotFoundError(
                    f"segment {segment.name!r} of the image is gone", request_id=reply.request_id
                )
            if reply.status == 412:
                raise changed(reply)
            if reply.status not in {200, 206}:
                raise RefusedError(reply)
            served = judge(reply, segment.name, start, stop, tag)
            if served.range.start != start or served.info.size != segment.size:
                raise reply.bad("a segment from another offset or of another size than was asked for")
            self._raw = self._service.transport.stream(exchange, stop - start, watch)
        except BaseException:
            exchange.drop()
            raise
        self._left = stop - start


def _listed(service: Service, container: str, prefix: str, call: Call) -> list[Segment]:
    found: list[Segment] = []
    for entry in service.objects(container, call=call, prefix=prefix, missing_ok=True):
        size, etag = entry.get("bytes"), entry.get("hash")
        if not isinstance(size, int) or not isinstance(etag, str):
            raise BadReplyError("the server's list of segments lacks sizes or hashes")
        found.append(Segment(str(entry["name"]), size, etag))
        if len(found) > _LIMIT:
            raise BadReplyError(f"the image has more than {_LIMIT} segments")
    return found


def _check_numbers(segments: Sequence[Segment]) -> None:
    if not segments:
        raise BadReplyError("the image has no segments; a listing that lags shows none either")
    parts = [_NUMBERED.fullmatch(each.name) for each in segments]
    stems = {part[1] if part else None for part in parts}
    if None in stems or len(stems) > 1:
        raise UnpinnableError(
            "the names of the image's segments do not end in numbers under one prefix, so that a missing one"
            " would not show"
        )
    numbers = [int(part[2]) for part in parts if part]
    first = numbers[0]
    wanted = range(first, first + len(numbers))
    if first > 1 or numbers != list(wanted):
        missing = 0 if first > 1 else next(each for each in wanted if each not in set(numbers))
        raise BadReplyError(
            f"segment {missing} of the image is missing from its list; Swift would serve the rest"
        )


def row(names: Sequence[str], prefix: str) -> list[str]:
    """Gives those of the names that are numbered from 0 or 1 on without a gap, the last first.

    What else begins with the prefix is served with them, but may be another image: beside the segments of
    `disk` from `disk-00001` on, `disk-readme` or `disk-2`. Whoever removes them in this order leaves a row.

    >>> row(["disk-00001", "disk-00002", "disk-2", "disk-20261121", "disk-readme"], "disk-")
    ['disk-00002', 'disk-00001']
    """
    found: dict[int, dict[int, str]] = {}
    for name in names:
        digits = name.removeprefix(prefix).lstrip("-_./")
        if digits.isascii() and digits.isdigit():
            found.setdefault(len(digits), {})[int(digits)] = name
    for width in sorted(found, reverse=True):
        numbered, first = found[width], min(1, *found[width])
        last = next(each for each in itertools.count(first) if each not in numbered)
        if last > first:
            return [numbered[each] for each in reversed(range(first, last))]
    return []


def _spans(segments: Sequence[Segment], start: int, stop: int) -> list[tuple[Segment, int, int]]:
    """Cuts [start, stop) of the whole into ranges of segments."""
    spans = []
    at = 0
    for each in segments:
        begin, end = max(start - at, 0), min(stop - at, each.size)
        if begin < end:
            spans.append((each, begin, end))
        at += each.size
    return spans
