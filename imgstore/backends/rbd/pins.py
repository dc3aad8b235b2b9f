"""Images that are open at their snapshot, and the proof that what was read of one is of that snapshot.

librbd reads a snapshot that was removed, or an image that is gone, as zeros, without an error (librbd 16: a
read-only image has no watch and hears of nothing). So nothing that was read counts before the image's header,
asked after it came, still knows the snapshot. Whoever removes a snapshot takes it out of the header first and
has its objects trimmed after that, so a header that knows it proves all that was read before.
"""

from __future__ import annotations

import errno
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from math import inf
from typing import Any, Final

from imgstore.backends.rbd import names
from imgstore.backends.rbd.bindings import Completion, Image
from imgstore.backends.rbd.connection import Connection
from imgstore.backends.rbd.failures import FENCED, by_number, number_of
from imgstore.backends.rbd.waiting import Wait
from imgstore.errors import (
    NotFoundError,
    RangeNotSatisfiableError,
    UnpinnableError,
    VersionChangedError,
)
from imgstore.model import ANY, ByteRange, ObjectInfo, Version

HEAD: Final = (1 << 64) - 2  # CEPH_NOSNAP: the image as it is now
# Images that stay open for the next read of the same version: opening one takes some ten round trips.
_IDLE: Final = 8


@dataclass(frozen=True, slots=True)
class Pinned:
    """An image that is open to be read, at its snapshot or, without a version, as it is."""

    connection: Connection
    image: Image
    image_id: str
    snap_id: int
    info: ObjectInfo

    @property
    def size(self) -> int:
        """The size of the image, or of its snapshot."""
        return self.info.size or 0

    def prove(self, wait: Wait, seconds: float = inf) -> None:
        """Returns where all that was read so far is of this version.

        Raises: VersionChangedError where the snapshot or the image is gone; as `Wait.until`.
        """
        came = threading.Event()
        codes: list[int] = []

        def answered(completion: Completion, _: bytes) -> None:
            codes.append(completion.get_return_value())
            came.set()

        # `get_size` of cls_rbd, by which librbd itself reads a snapshot's size: order, then size
        self.connection.pool.aio_execute(
            f"rbd_header.{self.image_id}",
            "rbd",
            "get_size",
            struct.pack("<Q", self.snap_id),
            oncomplete=answered,
        )
        wait.until(came, seconds)
        if codes[0] == -errno.ENOENT:
            raise VersionChangedError("the snapshot that was being read has been removed")
        if codes[0] < 0:
            self.note(-codes[0])
            raise by_number(-codes[0])

    def note(self, number: int) -> None:
        """Takes notice of an errno: it may say that the connection is of no use any more."""
        if number in FENCED:
            self.connection.retire()


class Pins:
    """The images of one connection that are open at their snapshots. Callable from many threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._idle: OrderedDict[tuple[str, str], Pinned] = OrderedDict()

    def take(self, key: str, version: Version, wait: Wait) -> Pinned:
        """Opens the image of `key`; one that was just used in this version is open already.

        The caller gives it back. Raises: NotFoundError, VersionChangedError, UnpinnableError.
        """
        kept = self._kept(key, version, wait) if isinstance(version, str) else None
        if kept is not None:
            return kept
        connection, settings = self._connection, self._connection.settings
        pinned = connection.run(
            lambda: open_pinned(connection, key),
            wait,
            seconds=settings.op_timeout,
            undo=lambda each: connection.close(each.image),
        )
        try:
            if isinstance(version, str) and pinned.info.version != version:
                raise VersionChangedError("the image is not the version that was asked for any more")
            if pinned.info.version is None and version is not ANY and not settings.allow_unpinned:
                raise UnpinnableError(
                    f"the image has no protected snapshot {settings.snapshot!r}, and so may change while it "
                    f"is read; rbd snap create and rbd snap protect make one"
                )
        except BaseException:
            self.drop(pinned)
            raise
        return pinned

    def _kept(self, key: str, version: str, wait: Wait) -> Pinned | None:
        """Gives the image that is open already, if it is still what it was."""
        with self._lock:
            kept = self._idle.pop((key, version), None)
        if kept is None:
            return None
        try:
            kept.prove(wait, self._connection.settings.op_timeout)
        except VersionChangedError:
            self.drop(kept)
            return None
        except BaseException:
            self.drop(kept)
            raise
        return kept

    def give_back(self, pinned: Pinned) -> None:
        """Keeps the image open for the next read of it, for a while."""
        if pinned.info.version is None:
            self.drop(pinned)
            return
        with self._lock:
            slot = (pinned.info.key, pinned.info.version)
            spare = self._idle.pop(slot, None)
            self._idle[slot] = pinned
            if spare is None and len(self._idle) > _IDLE:
                spare = self._idle.popitem(last=False)[1]
        if spare is not None:
            self.drop(spare)

    def drop(self, pinned: Pinned) -> None:
        """Closes the image, in a thread of its own: that waits for what is under way."""
        self._connection.detach(lambda: self._connection.close(pinned.image))


def open_pinned(connection: Connection, key: str) -> Pinned:
    """Opens the image of `key` at its snapshot, or as it is where it has none. Blocks.

    Raises: NotFoundError; what the bindings raise.
    """
    image, snap_name = _found(connection, key), connection.settings.snapshot
    try:
        image_id = image.id()
        snap = snapshot(image, snap_name)
        if snap is None or (connection.settings.require_protected and not image.is_protected_snap(snap_name)):
            return Pinned(connection, image, image_id, HEAD, ObjectInfo(key, image.size(), None))
        image.set_snap(snap_name)
        version = f"{image_id}-{snap['id']}"
        modified = posix(image.get_snap_timestamp(snap["id"]))
        info = ObjectInfo(key, int(snap["size"]), version, modified)
        return Pinned(connection, image, image_id, int(snap["id"]), info)
    except BaseException:
        connection.close(image)
        raise


def _found(connection: Connection, key: str) -> Image:
    """Opens the image of a key. While another takes its name, it has a name of its own."""
    name = names.name_of(key)
    for each in (name, names.replaced(key), name):
        try:
            return connection.open(each)
        except Exception as exc:
            if number_of(exc) != errno.ENOENT:
                raise
    raise NotFoundError(f"there is no image {name!r} in the pool {connection.settings.pool!r}")


def snapshot(image: Image, name: str) -> Mapping[str, Any] | None:
    """Gives the snapshot of that name, None where there is none. Blocks."""
    snaps: Iterable[Mapping[str, Any]] = image.list_snaps()
    return next((each for each in snaps if each["name"] == name), None)


def clip(info: ObjectInfo, start: int, stop: int | None) -> ByteRange:
    """Gives what is served of [start, stop). Raises: RangeNotSatisfiableError."""
    size = info.size or 0
    if start > size or start == size > 0:
        raise RangeNotSatisfiableError(f"offset {start} lies behind the end of the image ({size} bytes)")
    return ByteRange(start, size if stop is None else max(start, min(stop, size)))


def posix(when: datetime) -> float:
    """Gives a time of librbd's, which are in UTC and do not say so, in POSIX seconds."""
    return when.replace(tzinfo=timezone.utc).timestamp()
