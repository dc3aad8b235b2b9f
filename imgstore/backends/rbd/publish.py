"""How an image gets its name, and how it loses it.

Ceph renames an image in steps, of which the first makes the new name, and fails where there is one. So a name
is given to one image only, and a reader finds there nothing or all of it. To replace an image takes two
renames: the old one first gets a name that readers of its key also look for (`names.replaced`), so that at
every moment, also where the process is killed, they find the old image or the new one.

All functions block; each may be killed at any point and called again.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from imgstore.backends.rbd import draft, names
from imgstore.backends.rbd.bindings import Image
from imgstore.backends.rbd.connection import Connection
from imgstore.backends.rbd.failures import is_foreign
from imgstore.backends.rbd.pins import snapshot
from imgstore.errors import (
    AlreadyExistsError,
    ConflictError,
    InUseError,
    LockedError,
    NotFoundError,
    UnpinnableError,
    VersionChangedError,
)

LOG = logging.getLogger(__name__)

# Seconds: naming takes 0.1; a process that was killed at it holds up others of this name for so long.
_LOCK_SECONDS: Final = 15
_LOCK_PAUSE: Final = 0.03


def check(connection: Connection, key: str, *, overwrite: bool) -> None:
    """Returns where an image may be stored under `key`, as things are now.

    Raises: AlreadyExistsError without `overwrite` where there is one; InUseError where it has clones.
    """
    for name in (names.name_of(key), names.replaced(key)):
        if id_at(connection, name) is None:
            continue
        with suppress(connection.bindings.rbd.ImageNotFound), _open(connection, name) as image:
            if not overwrite:
                raise AlreadyExistsError(f"there is an image {key!r}")
            _check_clones(connection, image, key)


def publish(connection: Connection, image_id: str, name: str, key: str, *, overwrite: bool) -> None:
    """Gives the complete image, which is called `name` now, the name of `key`.

    Raises: ConflictError without `overwrite` where another has it; InUseError where what is to be replaced
    has clones; UploadLostError for an image that was removed as one that came to nothing.
    """
    target, aside = names.name_of(key), names.replaced(key)
    left: list[str | None] = []
    with _naming(connection, key):
        holder = _holder(connection, target)
        if holder == image_id:
            _complete_rename(connection, name, target, image_id)
        else:
            taken = holder is not None or _holder(connection, aside) is not None
            if taken and not overwrite:
                raise ConflictError(f"another writer stored an image {key!r} first")
            if id_at(connection, name) != image_id:
                raise draft.lost()
            if holder is not None:
                left.append(_set_aside(connection, key))
            connection.rbd.rename(connection.pool, name, target)
        if overwrite:
            left.append(_taken(connection, aside))
    for each in left:
        _remove(connection, each)


def delete(connection: Connection, key: str, version: str | None) -> None:
    """Removes the image of `key`: first its name, then its snapshot and its objects.

    Raises: NotFoundError, VersionChangedError; UnpinnableError for what is no image of ours; InUseError for
    one that is open elsewhere, has other snapshots, or has clones and may not go to the trash.
    """
    with _naming(connection, key):
        own = (names.name_of(key), names.replaced(key))
        name = next((each for each in own if _holder(connection, each) is not None), None)
        if name is None:
            raise NotFoundError(f"there is no image {key!r}")
        with _open(connection, name) as image:
            _check_deletable(connection, image, version)
            _check_clones(connection, image, key)
        # One that was set aside goes first: alone, it would be the key's image again.
        left = [_taken(connection, each) for each in reversed(own)]
    for gone in left:
        _remove(connection, gone)


def withdraw(connection: Connection, image_id: str, name: str, key: str) -> None:
    """Removes the image that is called `name` and was to become that of `key`.

    It loses its name first, so that no writer who is about to publish it publishes what is being removed.

    Raises: InUseError where a process has it open, or was killed some seconds ago.
    """
    with _naming(connection, key):
        if id_at(connection, name) != image_id:
            return  # it has been published since
        with _open(connection, name) as image:
            _check_closed(image)
        target = names.name_of(key)
        if id_at(connection, target) == image_id:  # of a rename that was cut short
            connection.pool.remove_object(f"rbd_id.{target}")
        left = _taken(connection, name)
    if left is not None:
        draft.remove(connection, left)


def id_at(connection: Connection, name: str) -> str | None:
    """Gives the id of the image of that name, None where there is none."""
    try:
        # Its length in four bytes, then itself; to open the image for it takes some five times as long.
        data = connection.pool.read(f"rbd_id.{name}")
    except connection.bindings.rados.ObjectNotFound:
        return None
    return data[4 : 4 + int.from_bytes(data[:4], "little")].decode()


def _holder(connection: Connection, name: str) -> str | None:
    """As `id_at`; but a name that leads nowhere any more goes.

    A rename that was cut short leaves its image a second name, of which whoever removes that image knows
    nothing. In the directory it never stands; there one is that `rbd create` is just making.
    """
    found = id_at(connection, name)
    if found is None:
        return None
    try:
        connection.close(connection.open(name))
    except connection.bindings.rbd.ImageNotFound:
        if name in connection.rbd.list(connection.pool):
            return found
        with suppress(connection.bindings.rados.ObjectNotFound):
            connection.pool.remove_object(f"rbd_id.{name}")
        return None
    return found


@contextmanager
def _naming(connection: Connection, key: str) -> Iterator[None]:
    """Lets one at a time give and take the name of `key`, by a lock on the object of all names.

    `rbd_rename` looks for the new name and then makes it: two at once would both succeed.

    Raises: LockedError where others have the lock all the time.
    """
    pool, cookie = connection.pool, secrets.token_hex(8)
    # A lock leaves its name on the object for good: there are 64, and not one for each key.
    lock = f"imgstore.naming.{zlib.crc32(key.encode()) % 64}"
    limit = time.monotonic() + max(connection.settings.op_timeout, 2 * _LOCK_SECONDS)
    while True:
        try:
            pool.lock_exclusive("rbd_directory", lock, cookie, "imgstore gives a name", _LOCK_SECONDS)
            break
        except connection.bindings.rados.ObjectBusy as exc:
            if time.monotonic() > limit:
                raise LockedError(
                    "another process has been giving this name to an image all the time"
                ) from exc
            time.sleep(random.uniform(0.5, 1.5) * _LOCK_PAUSE)
    try:
        yield
    finally:
        with suppress(connection.bindings.rados.Error):  # it ends by itself
            pool.unlock("rbd_directory", lock, cookie)


def _complete_rename(connection: Connection, name: str, target: str, image_id: str) -> None:
    """Completes a rename that was cut short: `target` leads to the image, but the directory may not say so.

    The object `rbd_id.NAME` holds the id of the image NAME; the directory has the reverse as well. A rename
    makes the new object, changes the directory, and removes the old object.
    """
    image = connection.open(image_id=image_id)
    try:
        listed = image.get_name()  # of one that is open by its id, by the directory
    finally:
        connection.close(image)
    if listed != target:
        connection.pool.remove_object(f"rbd_id.{target}")
        connection.rbd.rename(connection.pool, name, target)
    elif name != target and id_at(connection, name) == image_id:
        connection.pool.remove_object(f"rbd_id.{name}")


def _set_aside(connection: Connection, key: str) -> str | None:
    """Gives the image of `key` the name under which readers find it until the next one has its own.

    Gives the name that an image has now which somebody had set aside and not removed, if there is one.

    Raises: InUseError for one that has clones, unless it may go to the trash then.
    """
    target, aside = names.name_of(key), names.replaced(key)
    with _open(connection, target) as image:
        _check_clones(connection, image, key)
        image.metadata_set(draft.KEY, key)
    left = _taken(connection, aside)  # by one that was killed
    connection.rbd.rename(connection.pool, target, aside)
    return left


def _taken(connection: Connection, name: str) -> str | None:
    """Takes an image's name from it for good, and gives the one it has now; None where there is none."""
    if _holder(connection, name) is None:
        return None
    left = names.gone()
    connection.rbd.rename(connection.pool, name, left)
    return left


def _remove(connection: Connection, left: str | None) -> None:
    """Removes an image that has lost its name; one that has clones goes to the trash.

    That it has no name any more is what was asked for. What cannot be removed now, as somebody has it open or
    the cluster is not well, is told by `uploads` and left to `abort`.
    """
    if left is None:
        return
    try:
        with _open(connection, left) as image:
            clones, image_id = _has_clones(connection, image), image.id()
        if clones:
            draft.drop_manifest(connection, image_id)
            connection.rbd.trash_move(connection.pool, left, 0)
        else:
            draft.remove(connection, left)
    except Exception as exc:
        if not is_foreign(exc):
            raise
        LOG.warning("the image %r, which no key leads to, stays in the pool for now: %s", left, exc)


def _check_deletable(connection: Connection, image: Image, version: str | None) -> None:
    settings = connection.settings
    snap = snapshot(image, settings.snapshot)
    if snap is None or (settings.require_protected and not image.is_protected_snap(settings.snapshot)):
        raise UnpinnableError(
            f"the image has no protected snapshot {settings.snapshot!r}, and so is none of this store's"
        )
    if version is not None and f"{image.id()}-{snap['id']}" != version:
        raise VersionChangedError("the image is not the version that was to be deleted any more")
    others = [str(each["name"]) for each in image.list_snaps() if each["name"] != settings.snapshot]
    if others:
        raise InUseError(f"the image has other snapshots: {', '.join(others[:5])}")
    _check_closed(image)


def _check_closed(image: Image) -> None:
    if len(list(image.watchers_list())) > 1:  # one is ours
        raise InUseError(
            "another process has the image open, or was killed in the last osd_client_watch_timeout (30 s)"
        )


def _has_clones(connection: Connection, image: Image) -> bool:
    if snapshot(image, connection.settings.snapshot) is None:
        return False
    image.set_snap(connection.settings.snapshot)
    try:
        return bool(list(image.list_children()))
    finally:
        image.set_snap(None)


def _check_clones(connection: Connection, image: Image, key: str) -> None:
    if not connection.settings.trash_in_use and _has_clones(connection, image):
        raise InUseError(f"the image {key!r} has clones; flatten or remove them, or set trash_in_use")


@contextmanager
def _open(connection: Connection, name: str) -> Iterator[Image]:
    image = connection.open(name, writable=True)
    try:
        yield image
    finally:
        connection.close(image)
