"""The manifest of an image: a RADOS object in the image's pool, named by its id.

The key of the manifest is that of the image and `.meta4`, as in any store; but no image is made for it, and
none is listed. The object follows the image: it goes where its image is removed, and an image that takes the
place of another, which has another id, begins without one. All functions that take no `Wait` block.
"""

from __future__ import annotations

import secrets
from typing import Final

from imgstore.backends._intake import Intake
from imgstore.backends.rbd import names
from imgstore.backends.rbd.connection import Connection
from imgstore.backends.rbd.draft import drop_manifest
from imgstore.backends.rbd.publish import id_at
from imgstore.backends.rbd.waiting import Wait
from imgstore.errors import (
    AlreadyExistsError,
    NotFoundError,
    UnavailableError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.model import ANY, ObjectInfo, Version

# OSDs take 90 MB in one write (osd_max_write_size), and whoever reads manifests stops here as well.
LIMIT: Final = 64 << 20
_VERSION: Final = "imgstore.version"  # an attribute of the object, written with it in one step
# Reads of one that is just being replaced, each time again.
_TRIES: Final = 5


class HeldReader:
    """The bytes of a manifest as a raw reader: few, and read at once."""

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)

    def readinto(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def abort(self) -> None:
        """Nothing is waited for."""

    def close(self) -> None:
        self._left = memoryview(b"")


def read(connection: Connection, key: str, version: Version, wait: Wait) -> tuple[ObjectInfo, bytes]:
    """Gives the manifest `key` as it is now. Raises: NotFoundError, VersionChangedError."""
    info, data = connection.run(lambda: _read(connection, key), wait, seconds=connection.settings.op_timeout)
    if version is not None and version is not ANY and version != info.version:
        raise VersionChangedError("the manifest is not the version that was asked for any more")
    return info, data


def store(connection: Connection, key: str, intake: Intake, *, overwrite: bool, wait: Wait) -> ObjectInfo:
    """Stores what `intake` gives as the manifest `key`, whole or not at all.

    Raises: NotFoundError where its image is not there; AlreadyExistsError without `overwrite`;
    UnsupportedError above 64 MiB; as `Intake.pieces`.
    """
    data = bytearray()
    for piece in intake.pieces():
        if len(data) + (piece if isinstance(piece, int) else len(piece)) > LIMIT:
            raise UnsupportedError(
                f"a manifest of more than {LIMIT} bytes is not stored; larger chunks would do"
            )
        data += bytes(piece)
    info = connection.run(lambda: _write(connection, key, bytes(data), overwrite=overwrite), wait)
    return ObjectInfo(key, info.size, info.version, None, intake.digests.expected)


def remove(connection: Connection, key: str, version: str | None) -> None:
    """Removes the manifest `key`. Raises: NotFoundError, VersionChangedError."""
    image_id = _image_id(connection, key)
    if version is not None and _version(connection, image_id) != version:
        raise VersionChangedError("the manifest is not the version that was to be deleted any more")
    try:
        connection.pool.remove_object(names.manifest(image_id))
    except connection.bindings.rados.ObjectNotFound:
        raise _missing() from None


def _read(connection: Connection, key: str) -> tuple[ObjectInfo, bytes]:
    image_id = _image_id(connection, key)
    try:
        for _ in range(_TRIES):
            version = _version(connection, image_id)
            size, _ = connection.pool.stat(names.manifest(image_id))
            data = connection.pool.read(names.manifest(image_id), max(size, 1))
            if version == _version(connection, image_id):
                return ObjectInfo(key, len(data), version), data
    except connection.bindings.rados.ObjectNotFound:
        raise _missing() from None
    raise UnavailableError("the manifest is being replaced all the time")


def _write(connection: Connection, key: str, data: bytes, *, overwrite: bool) -> ObjectInfo:
    rados = connection.bindings.rados
    image_id, mark = _image_id(connection, key), secrets.token_hex(8)
    with rados.WriteOpCtx() as change:
        change.new(rados.LIBRADOS_CREATE_IDEMPOTENT if overwrite else rados.LIBRADOS_CREATE_EXCLUSIVE)
        change.write_full(data)
        change.set_xattr(_VERSION, mark.encode())
        try:
            connection.pool.operate_write_op(change, names.manifest(image_id))
        except rados.ObjectExists:
            raise AlreadyExistsError("the image has a manifest") from None
    try:
        there = _image_id(connection, key) == image_id
    except NotFoundError:
        there = False
    if not there:
        drop_manifest(connection, image_id)  # whoever removed the image may have looked for it before
        raise NotFoundError("the image of the manifest was removed, or replaced, just now")
    return ObjectInfo(key, len(data), f"{image_id}-{mark}")


def _image_id(connection: Connection, key: str) -> str:
    subject = names.subject(key) or key
    for name in (names.name_of(subject), names.replaced(subject)):
        image_id = id_at(connection, name)
        if image_id is not None:
            return image_id
    raise NotFoundError(f"there is no image {subject!r} of which {key!r} could be the manifest")


def _version(connection: Connection, image_id: str) -> str | None:
    """Gives the version of an image's manifest. Raises: what the bindings raise; none is ObjectNotFound."""
    try:
        return f"{image_id}-{connection.pool.get_xattr(names.manifest(image_id), _VERSION).decode()}"
    except connection.bindings.rados.NoData:
        return None  # not written by us


def _missing() -> NotFoundError:
    return NotFoundError("the image has no manifest")
