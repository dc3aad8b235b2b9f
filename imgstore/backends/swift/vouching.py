"""Whether a static large object is still made of the segments that its ETag was computed from."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from imgstore.backends._http_range import Reply
from imgstore.backends.swift.failures import changed
from imgstore.backends.swift.layout import read_segment, segments_of, stem
from imgstore.backends.swift.publish import upload_of
from imgstore.backends.swift.service import Service
from imgstore.backends.swift.static import manifest
from imgstore.backends.swift.versions import etag_of
from imgstore.clock import Clock
from imgstore.model import Call, ObjectInfo

# Seconds for which an answer counts: a parallel read opens many streams in that time, and asks once.
_GOOD: Final = 2.0
_KNOWN: Final = 64  # versions that are remembered


class Vouching:
    """Compares the segments with the ETag where the service does not, as radosgw: it serves what is there.

    Only those of an image that this driver stored: which others have, radosgw does not tell. Callable from
    any thread.
    """

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._compared: bool | None = None  # whether the service does so itself; None until it was asked
        self._good: OrderedDict[tuple[str, str], float] = OrderedDict()

    def check(self, container: str, info: ObjectInfo, reply: Reply, call: Call) -> None:
        """Returns if the image that `reply` is about is made of its own segments, as far as that can be told.

        Where a segment is missing, the body breaks off there. Raises: VersionChangedError, RefusedError.
        """
        upload, slot = upload_of(reply), (info.key, info.version or "")
        if self._compared or upload is None or self._clock.now() < self._good.get(slot, 0.0):
            return
        if self._compared is None:
            # who tells what a manifest names compares it as well
            self._compared = manifest(self._service, container, info.key, call) is not None
            if self._compared:
                return
        self._compare(container, info, reply, stem(info.key, upload), call)
        self._good[slot] = self._clock.now() + _GOOD
        while len(self._good) > _KNOWN:
            self._good.popitem(last=False)

    def _compare(self, container: str, info: ObjectInfo, reply: Reply, prefix: str, call: Call) -> None:
        service, place = self._service, segments_of(container)
        held: dict[int, tuple[int, int, str]] = {}
        for entry in service.objects(place, call=call, prefix=prefix, missing_ok=True):
            found = read_segment(str(entry["name"]).removeprefix(prefix))
            if found is None or found[0] in held:
                return  # a part that was put twice: which of them it is made of, nobody tells
            held[found[0]] = found[1], int(entry.get("bytes") or 0), str(entry.get("hash"))
        at = 0
        for number in range(len(held)):
            if number not in held:
                return
            offset, size, _ = held[number]
            if offset != at:
                raise changed(reply)
            at += size
        told = "".join(held[number][2] for number in sorted(held))
        same = hashlib.md5(told.encode(), usedforsecurity=False).hexdigest() == etag_of(reply)
        if at >= (info.size or 0) and not same:
            raise changed(reply)
