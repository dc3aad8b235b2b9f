"""What a memory store holds, under its one lock."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from imgstore.errors import (
    AlreadyExistsError,
    ConflictError,
    DigestMismatchError,
    NoSpaceError,
    NotFoundError,
    VersionChangedError,
)
from imgstore.model import ObjectInfo, Version
from imgstore.store import Store


@dataclass(frozen=True, slots=True)
class Image:
    """The bytes of one version. `upload` is the token of the upload that published it, None for a put."""

    data: bytes
    info: ObjectInfo
    upload: str | None = None


class Images:
    """The images of `owner` by key, and the room they may take. Callable from many threads.

    The lock is held for a look-up or an exchange, never while a source is read or bytes are copied.
    """

    def __init__(self, owner: Store, capacity: int | None) -> None:
        self.owner = owner
        self.capacity = capacity
        self._lock = threading.Lock()
        self._images: dict[str, Image] = {}
        self._used = 0

    def find(self, key: str, version: Version = None) -> Image:
        """Gives the image under `key`. Raises: NotFoundError, VersionChangedError."""
        with self._lock:
            return self._find(key, version)

    def snapshot(self) -> list[Image]:
        """Gives every image as it is now."""
        with self._lock:
            return list(self._images.values())

    def check_free(self, key: str) -> None:
        """Raises: AlreadyExistsError where `key` is taken."""
        with self._lock:
            if key in self._images:
                raise self._taken(key)

    def publish(
        self,
        key: str,
        data: bytes,
        *,
        overwrite: bool,
        digests: Mapping[str, str],
        upload: str | None = None,
        reserved: int = 0,
    ) -> ObjectInfo:
        """Puts `data` under `key` with a fresh version; `reserved` of its bytes have their room already.

        The room of an image that it replaces is free only afterwards, as on a disk.
        Raises: AlreadyExistsError, for an upload ConflictError; NoSpaceError. Nothing is changed then.
        """
        info = ObjectInfo(key, len(data), uuid.uuid4().hex, self.owner.clock.time(), dict(digests))
        with self._lock:
            old = self._images.get(key)
            if old is not None and not overwrite:
                raise self._taken(key) if upload is None else self._conflict(key)
            self._take(key, len(data) - reserved)
            self._images[key] = Image(data, info, upload)
            self._used -= 0 if old is None else len(old.data)
        return info

    def remove(self, key: str, version: Version) -> None:
        """Raises: as `find`."""
        with self._lock:
            self._used -= len(self._find(key, version).data)
            del self._images[key]

    def reserve(self, key: str, count: int) -> None:
        """Takes room for `count` bytes; a negative count gives it back. Raises: NoSpaceError."""
        with self._lock:
            self._take(key, count)

    def check_room(self, key: str, count: int) -> None:
        """Raises: NoSpaceError where `count` bytes have no room."""
        room = self.room()
        if room is not None and count > room:
            raise self._full(key, count, room)

    def room(self) -> int | None:
        """Gives the bytes that are free, None without a capacity."""
        return None if self.capacity is None else self.capacity - self._used

    def _find(self, key: str, version: Version) -> Image:
        image = self._images.get(key)
        if image is None:
            raise NotFoundError("there is no such image", key=key, store=self.owner.store_id)
        if isinstance(version, str) and version != image.info.version:
            raise VersionChangedError(
                "the store holds another version of the image", key=key, store=self.owner.store_id
            )
        return image

    def _take(self, key: str, count: int) -> None:
        if self.capacity is not None and count > self.capacity - self._used:
            raise self._full(key, count, self.capacity - self._used)
        self._used += count

    def _full(self, key: str, count: int, room: int) -> NoSpaceError:
        return NoSpaceError(
            f"{count} bytes have no room; {room} are free", key=key, store=self.owner.store_id
        )

    def _taken(self, key: str) -> AlreadyExistsError:
        return AlreadyExistsError(
            "there is an image of that name; overwrite replaces it", key=key, store=self.owner.store_id
        )

    def _conflict(self, key: str) -> ConflictError:
        return ConflictError("another writer published the image first", key=key, store=self.owner.store_id)


def check_digests(
    data: bytes | bytearray, digests: Mapping[str, str], *, key: str | None, store: str
) -> None:
    """Raises: DigestMismatchError naming the algorithm; ValueError for one that `hashlib` does not know."""
    for name, expected in digests.items():
        if hashlib.new(name, data, usedforsecurity=False).hexdigest() != expected:
            raise DigestMismatchError(f"the bytes have another {name} digest", key=key, store=store)
