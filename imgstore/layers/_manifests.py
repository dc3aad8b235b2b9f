"""Manifests that are kept in a store: under the key of the image and `.meta4`."""

from __future__ import annotations

import contextlib
import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from imgstore.errors import ManifestError, NotFoundError, UnsafeLocationError, UnsupportedError
from imgstore.manifest import LIMIT, Manifest
from imgstore.manifest.metalink import read_metalink, write_metalink
from imgstore.model import MANIFEST_SUFFIX, Call, check_key
from imgstore.store import Store, Writer

SUFFIX: Final = MANIFEST_SUFFIX
# The manifest of 1 TiB in chunks of 4 MiB takes 8 MiB.
REMEMBERED: Final = 4


class Readable(Protocol):
    """What a manifest is read from."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Kept:
    """A manifest, and the version of the file that it was read from."""

    manifest: Manifest
    version: str | None


class StoredManifests:
    """The manifests of the images of one store, kept in that store or in another.

    The last four are remembered. One that names the version of its image is believed until the image has
    another; one that does not is asked for again at each use, by a stat. Callable from many threads. Memory:
    four manifests, of 32 bytes a chunk each.
    """

    def __init__(self, store: Store, read: Callable[[Readable], Manifest] = read_metalink) -> None:
        """Takes the store they are in, which stays the caller's to close, and what parses one."""
        self._store = store
        self._read = read
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def find(self, key: str, call: Call) -> Manifest | None:
        """Gives the manifest of the image `key`, None without one.

        Raises: ManifestError for what is no manifest; as `Store.get`.
        """
        name = name_of(key)
        if name is None:
            return None
        kept = self._remembered(key)
        if kept is not None and (kept.manifest.version is not None or self._is_current(name, kept, call)):
            return kept.manifest
        try:
            with self._store.get(name, call=call) as stream:
                kept = _Kept(self._read(stream), stream.info.version)
        except NotFoundError:
            self.forget(key)
            return None
        with self._lock:
            self._kept[key] = kept
            self._kept.move_to_end(key)
            while len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
        return kept.manifest

    def forget(self, key: str) -> bool:
        """Drops what is remembered of `key`; tells whether that was anything."""
        with self._lock:
            return self._kept.pop(key, None) is not None

    def check(self, key: str) -> None:
        """Returns where an image `key` could have a manifest; nobody is asked.

        Raises: UnsafeLocationError for a key that is too long, UnsupportedError where the store is only read.
        """
        self._place(key)

    def keep(self, key: str, manifest: Manifest, call: Call) -> None:
        """Stores the manifest of `key`, in the place of one that is there.

        Raises: ManifestError for one that is too large to be read; as `check`, `Writer.put`. Memory: twice
        the manifest as a file.
        """
        writer, name = self._place(key)
        file = io.BytesIO()
        write_metalink(manifest, file)
        size = file.tell()
        if size > LIMIT:  # an image of 3 TiB whose size nobody told beforehand
            raise ManifestError(
                f"the manifest of {key!r} would have {size} bytes, and is not read above {LIMIT}"
            )
        file.seek(0)
        self.forget(key)
        writer.put(name, file, size, overwrite=True, call=call)

    def remove(self, key: str, call: Call) -> None:
        """Removes the manifest of `key`, if there is one. Raises: as `Writer.delete`."""
        self.forget(key)
        name = name_of(key)
        if name is not None and self._store.writer is not None:
            with contextlib.suppress(NotFoundError):
                self._store.writer.delete(name, call=call)

    def _place(self, key: str) -> tuple[Writer, str]:
        name = name_of(key)
        if name is None:
            raise UnsafeLocationError(
                f"the key is too long for a manifest, which has it with {SUFFIX!r} at its end", key=key
            )
        if self._store.writer is None:
            raise UnsupportedError(
                "the store of the manifests is only read", key=name, store=self._store.store_id
            )
        return self._store.writer, name

    def _remembered(self, key: str) -> _Kept | None:
        with self._lock:
            return self._kept.get(key)

    def _is_current(self, name: str, kept: _Kept, call: Call) -> bool:
        try:
            return kept.version is not None and self._store.stat(name, call=call).version == kept.version
        except NotFoundError:
            return False


class OneManifest:
    """The manifest of an image, given by who reads it."""

    def __init__(self, manifest: Manifest) -> None:
        """Takes it; the version that it may name is that of the store it was made in, and does not count."""
        self._manifest = replace(manifest, version=None)

    def find(self, _key: str, _call: Call) -> Manifest:
        return self._manifest

    def forget(self, _key: str) -> bool:
        return False

    def check(self, key: str) -> None:
        """It stays what it is."""

    def keep(self, key: str, manifest: Manifest, call: Call) -> None:
        """It stays what it is."""

    def remove(self, key: str, call: Call) -> None:
        """It is the caller's."""


def name_of(key: str) -> str | None:
    """Gives the key that the manifest of `key` has; None where it would be too long for one."""
    try:
        return check_key(key + SUFFIX)
    except UnsafeLocationError:
        return None
