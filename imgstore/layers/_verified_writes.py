"""What the verify layer makes of the facets that write: the manifest goes with its image, or comes with it.

The image comes first and its manifest after it; the manifest goes first and its image after it. So what a
crash leaves between the two is an image without a manifest, or with that of the image it took the place of,
which names another version (docs/decisions/0019-uploads.md).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from imgstore.errors import (
    ImgstoreError,
    InUseError,
    LockedError,
    ManifestError,
    PermissionDeniedError,
    UnsupportedError,
)
from imgstore.hashing import Hasher
from imgstore.manifest import ALGORITHMS, ChunkDigests, Manifest, chunk_size_for
from imgstore.model import NO_CALL, Call, ObjectInfo, Part
from imgstore.store import Copier, Source, Store, Upload, Uploader, Writer

LOG = logging.getLogger(__name__)

_ALGORITHM: Final = "sha256"
# Seconds for taking back an image whose manifest could not be stored, though the caller's own may be over.
_TIDY: Final = 10.0
# After these the image is there as it was, and is to have its manifest again.
_REFUSALS: Final = (InUseError, LockedError, PermissionDeniedError, UnsupportedError)


class Kept(Protocol):
    """Manifests that come and go: those of `StoredManifests`."""

    def find(self, key: str, call: Call) -> Manifest | None: ...
    def forget(self, key: str) -> bool: ...
    def check(self, key: str) -> None: ...
    def keep(self, key: str, manifest: Manifest, call: Call) -> None: ...
    def remove(self, key: str, call: Call) -> None: ...


class Following:
    """Has the manifests follow what becomes of the images of a store.

    With `makes` each image that is stored gets one; otherwise what is left of the image before is removed.
    A key that ends in `suffix`, where there is one, is a manifest itself.
    """

    def __init__(self, store: Store, manifests: Kept, *, makes: bool, suffix: str) -> None:
        """Takes the store of the images, which is inside the layer."""
        self.store = store
        self.manifests = manifests
        self._makes = makes
        self._suffix = suffix

    def is_manifest(self, key: str) -> bool:
        """Whether `key` is that of a manifest, which has none; what is remembered of it is dropped."""
        if not self._suffix or not key.endswith(self._suffix):
            return False
        self.manifests.forget(key.removesuffix(self._suffix))
        return True

    def makes(self, key: str) -> bool:
        """Whether the image `key` is to have one. Raises: as `StoredManifests.check`, if it is."""
        if not self._makes or self.is_manifest(key):
            return False
        self.manifests.check(key)
        return True

    def found(self, key: str, call: Call) -> Manifest | None:
        """Gives the manifest of an image, if there is one that can be read. Raises: as `Store.get`."""
        if self.is_manifest(key):
            return None
        try:
            return self.manifests.find(key, call)
        except ManifestError:
            return None

    def removed(self, key: str, call: Call) -> None:
        """Removes the manifest of an image that goes. Raises: as `Writer.delete`."""
        if not self.is_manifest(key):
            self.manifests.remove(key, call)

    def outdated(self, key: str, call: Call) -> None:
        """Removes what is left of the manifest of an image that has just been replaced.

        Who may store and not remove leaves it: it names another version, or its chunks refuse the new image.
        Raises: as `removed`.
        """
        try:
            self.removed(key, call)
        except PermissionDeniedError as exc:
            LOG.warning(
                "store %s: a manifest that %r had before, if there is one, could not be removed: %s",
                self.store.store_id,
                key,
                exc,
            )

    def stored(self, info: ObjectInfo, call: Call) -> ObjectInfo:
        """Follows an image that was stored without its bytes passing here, in one piece and in order.

        Its manifest is made of what the store gives; the digests of that are in what this gives back.

        Raises: as `Store.get`, `StoredManifests.keep`.
        """
        if not self.makes(info.key):
            self.outdated(info.key, call)
            return info
        with (
            self.store.get(info.key, version=info.version, call=call) as stream,
            Making(stream.range.size) as making,
        ):
            while count := stream.readinto(making.hasher.buffer()):
                making.hasher.filled(count)
            manifest = making.manifest(info)
        self.manifests.keep(info.key, manifest, call)
        return replace(info, digests={**info.digests, **manifest.digests})


class VerifiedWriter:
    """Takes the manifest along: it goes before its image does, and after its image was replaced.

    So there may be an image without its manifest after a failure, never a manifest without its image. Where
    the store refuses to delete the image, as it has clones or may not go, the manifest is stored again. A
    manifest that is to be made is of the bytes that the source gave; where it cannot be stored the put fails,
    and its image is taken back, unless it took the place of another.
    """

    def __init__(
        self, inner: Writer, following: Following, check: Callable[[str, str | None, Call], None]
    ) -> None:
        """Takes what raises where an image, in the version that is to be deleted, is not there."""
        self._inner = inner
        self._following = following
        self._check = check

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
        following = self._following
        if not following.makes(key):
            info = self._inner.put(key, source, size, overwrite=overwrite, digests=digests, call=call)
            following.outdated(key, call)
            return info
        with contextlib.closing(_hashed(source, size)) as hashed:
            info = self._inner.put(key, hashed, size, overwrite=overwrite, digests=digests, call=call)
            try:
                following.manifests.keep(key, hashed.making.manifest(info), call)
            except BaseException:
                if not overwrite:
                    self._take_back(info)
                raise
        return info

    def delete(self, key: str, *, version: str | None = None, call: Call = NO_CALL) -> None:
        self._check(key, version, call)
        manifest = self._following.found(key, call)
        self._following.removed(key, call)
        try:
            self._inner.delete(key, version=version, call=call)
        except _REFUSALS:
            if manifest is not None:
                with contextlib.suppress(ImgstoreError):  # the refusal is what the caller hears of
                    self._following.manifests.keep(key, manifest, self._tidy())
            raise

    def _take_back(self, info: ObjectInfo) -> None:
        with contextlib.suppress(ImgstoreError):  # what went wrong before is what the caller hears of
            self._inner.delete(info.key, version=info.version, call=self._tidy())

    def _tidy(self) -> Call:
        return NO_CALL.within(_TIDY, clock=self._following.store.clock)


class VerifiedUploader:
    """Has a manifest made of each image that is complete, by reading it once: its parts came in any order.

    What `complete` gives has the digests of what was read: who knows those of what was sent can compare.
    """

    def __init__(self, inner: Uploader, following: Following) -> None:
        self._inner = inner
        self._following = following
        self.limits = inner.limits

    def begin(
        self,
        key: str,
        size: int | None,
        *,
        digests: Mapping[str, str] | None = None,
        overwrite: bool = False,
        call: Call = NO_CALL,
    ) -> str:
        self._following.makes(key)  # what could have none is refused before a byte of it is sent
        return self._inner.begin(key, size, digests=digests, overwrite=overwrite, call=call)

    def put_part(
        self, token: str, number: int, offset: int, data: memoryview, *, call: Call = NO_CALL
    ) -> Part:
        return self._inner.put_part(token, number, offset, data, call=call)

    def parts(self, token: str, *, call: Call = NO_CALL) -> Sequence[Part]:
        return self._inner.parts(token, call=call)

    def complete(self, token: str, parts: Sequence[Part], *, call: Call = NO_CALL) -> ObjectInfo:
        info = self._inner.complete(token, parts, call=call)
        return self._following.stored(info, call)

    def abort(self, token: str, *, call: Call = NO_CALL) -> None:
        self._inner.abort(token, call=call)

    def uploads(self, older_than: float = 0.0, *, call: Call = NO_CALL) -> Iterator[Upload]:
        return self._inner.uploads(older_than, call=call)


class VerifiedCopier:
    """Gives the copy the manifest of its source, unless that is surely not of what was copied.

    So what the source's manifest refuses, that of the copy does. What could not be read is not copied.
    """

    def __init__(
        self, inner: Copier, following: Following, check: Callable[[str, Call], object] | None
    ) -> None:
        """Takes what raises where the layer would read no byte of an image, if it refuses any."""
        self._inner = inner
        self._following = following
        self._check = check

    def copy(
        self, source_key: str, target_key: str, *, overwrite: bool = False, call: Call = NO_CALL
    ) -> ObjectInfo:
        following = self._following
        following.makes(target_key)
        if self._check is not None:
            self._check(source_key, call)
        manifest = None if following.is_manifest(target_key) else following.found(source_key, call)
        info = self._inner.copy(source_key, target_key, overwrite=overwrite, call=call)
        if manifest is not None and manifest.size == info.size and self._is_of(source_key, manifest, call):
            kept = replace(manifest, key=target_key, version=info.version)
            following.manifests.keep(target_key, kept, call)
            return info
        return following.stored(info, call)

    def _is_of(self, key: str, manifest: Manifest, call: Call) -> bool:
        """Whether the source is still the version that the manifest names, if it names one."""
        if manifest.version is None:
            return True
        try:
            return self._following.store.stat(key, call=call).version == manifest.version
        except ImgstoreError:
            return False


class Making:
    """A manifest being made of an image of `size` bytes, as far as that is known. Ends with `close`."""

    def __init__(self, size: int | None) -> None:
        self._chunk_size = chunk_size_for(size, _ALGORITHM)
        self.hasher = Hasher((_ALGORITHM,), chunk=(_ALGORITHM, self._chunk_size))

    def manifest(self, info: ObjectInfo) -> Manifest:
        """Gives the manifest of the image `info`, all bytes of which `hasher` has taken."""
        found = self.hasher.finish()
        chunks = ChunkDigests(found.chunks, ALGORITHMS[_ALGORITHM])
        return Manifest(
            found.size,
            self._chunk_size,
            _ALGORITHM,
            chunks,
            found.whole,
            key=info.key,
            version=info.version,
        )

    def __enter__(self) -> Making:
        return self

    def __exit__(self, *_: object) -> None:
        self.hasher.close()


class _Hashed:
    """A source whose bytes are hashed as they are read; one that is rewound is hashed anew."""

    def __init__(self, source: Any, size: int | None) -> None:  # whatever it can do besides reading
        self._source = source
        self._size = size
        self.making = Making(size)

    def read(self, size: int, /) -> bytes:
        data: bytes = self._source.read(size)
        if data:
            self.making.hasher.update(data)
        return data

    def seekable(self) -> bool:
        """Tells whether a put that fails may be tried again (the resume layer asks)."""
        seekable = getattr(self._source, "seekable", None)
        return seekable is not None and bool(seekable())

    def tell(self) -> int:
        return int(self._source.tell())

    def seek(self, offset: int, /) -> None:
        """Goes back to where the put began."""
        self._source.seek(offset)
        self.close()
        self.making = Making(self._size)

    def close(self) -> None:
        """Ends the hashing; the source stays open."""
        self.making.hasher.close()


class _HashedSparse(_Hashed):
    """The same of one that knows its holes."""

    def hole(self) -> int:
        count = int(self._source.hole())
        self.making.hasher.skip(max(count, 0))
        return count


def _hashed(source: Source, size: int | None) -> _Hashed:
    return _HashedSparse(source, size) if hasattr(source, "hole") else _Hashed(source, size)
