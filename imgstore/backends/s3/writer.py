"""Puts and deletes of whole images."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from imgstore.backends._in_flight import InFlight
from imgstore.backends._intake import Cutter, Digests, Intake
from imgstore.backends.s3.failures import fail, typed
from imgstore.backends.s3.identity import Pin
from imgstore.backends.s3.objects import Objects, cleaning, fresh_marker
from imgstore.backends.s3.parts import Held, Parts
from imgstore.backends.s3.pending import Pending
from imgstore.backends.s3.planning import IMAGE_LIMIT, LIMITS, check_image, planned
from imgstore.backends.s3.refusals import is_foreign
from imgstore.backends.s3.tries import tried
from imgstore.buffer import paged
from imgstore.errors import (
    AlreadyExistsError,
    ConflictError,
    ImgstoreError,
    NotFoundError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.model import NO_CALL, Call, ObjectInfo
from imgstore.store import Source

if TYPE_CHECKING:
    from imgstore.backends.s3.driver import S3Store


class S3Writer:
    """Stores an image by one request if it fits in a part, else in parts, of which nobody sees any before.

    Memory of a put: (max_concurrency + 1) x upload_part_size, or one upload_part_size where max_concurrency
    is 1. The parts of images above 10,000 upload_part_size are larger, and fewer of them are in flight: at
    least one, while another is filled.

    A put looks first whether the key is taken, and has the service look again as it stores the image
    (`If-None-Match: *`). Where the service does not, of two puts at the same moment the last one wins, and
    the first may have been told that it succeeded.

    A delete names the version that it looked at before; where the service does not compare it (AWS does),
    what was put between these two requests is removed in its place. In a bucket that keeps versions a delete
    only marks the image as deleted.
    """

    def __init__(self, owner: S3Store, objects: Objects, *, size: int, workers: int) -> None:
        self._owner = owner
        self._objects = objects
        self._parts = Parts(objects)
        self._size = size
        self._workers = workers

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
        try:
            check_image(size)
            if not overwrite:
                self._objects.check_free(key, call)
            cutter = Cutter(intake.pieces)
            first = planned(0, size, self._size)
            memory = paged(first if size is None else max(1, min(first, size)))
            count = cutter.fill(memory)
            if cutter.ended:
                return self._put_whole(key, memory[:count], overwrite=overwrite, call=call)
            pending = self._parts.begin(key, size, digests={}, overwrite=overwrite, call=call)
            return self._put_parts(pending, cutter, memory, call)
        except Exception as exc:
            if exc is intake.failure or not (isinstance(exc, (OSError, ImgstoreError)) or is_foreign(exc)):
                raise
            fail(owner, key, exc)

    def delete(self, key: str, *, version: str | None = None, call: Call = NO_CALL) -> None:
        self._owner._admit(key, call)
        with typed(self._owner, key):
            wanted = None if version is None else Pin.of(version)
            found = self._objects.look(key, call)
            if found is None:
                raise NotFoundError(f"there is no {key!r}")
            if wanted is not None and not wanted.admits(found.pin):
                raise VersionChangedError(f"{key!r} is not the version that was to be deleted any more")
            self._objects.remove(key, found, call)

    def _put_whole(self, key: str, data: memoryview, *, overwrite: bool, call: Call) -> ObjectInfo:
        marker = fresh_marker()
        with self._objects.unsettled(key, marker, overwrite=overwrite):
            return self._objects.put(key, data, marker=marker, overwrite=overwrite, call=call)

    def _put_parts(self, pending: Pending, cutter: Cutter, memory: memoryview, call: Call) -> ObjectInfo:
        try:
            held = self._send(pending, cutter, memory, call)
            with self._objects.unsettled(pending.key, pending.marker, overwrite=pending.overwrite):
                return self._parts.join(pending, held, call)
        except BaseException as exc:
            with contextlib.suppress(ImgstoreError):  # what stays is found by `uploads`
                self._parts.drop(pending, cleaning(call))
            if isinstance(exc, ConflictError):
                raise AlreadyExistsError(exc.message) from exc
            raise

    def _send(self, pending: Pending, cutter: Cutter, memory: memoryview, call: Call) -> list[Held]:
        """Sends all parts; the first is in `memory`, which it fills."""

        def size_of(number: int, offset: int) -> int:
            if number == LIMITS.max_parts or offset >= IMAGE_LIMIT:
                raise UnsupportedError("the image is larger than S3 takes: 5 TiB")
            return planned(offset, pending.size, self._size)

        send = tried(functools.partial(self._parts.send, pending), self._owner.clock)
        flight = InFlight(send, self._workers, self._size, call)
        with contextlib.closing(flight):
            return flight.run(cutter, memory, size_of)
