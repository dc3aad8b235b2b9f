"""The verify layer: a byte is delivered only out of a chunk that matched its digest."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from imgstore.errors import ManifestError, RangeNotSatisfiableError, VersionChangedError
from imgstore.layers import _verified_facets as facets
from imgstore.layers import _verified_writes as writes
from imgstore.layers._chunk_reader import ChunkReader, StaleError, VerifiedChunk, difference
from imgstore.layers._repairs import Repairs
from imgstore.layers.base import Layer, proof_of
from imgstore.manifest import Manifest
from imgstore.model import ByteRange, Call, Event, Version
from imgstore.store import Store
from imgstore.stream import ByteStream, Opened

LOG = logging.getLogger(__name__)


class Manifests(Protocol):
    """Where the layer gets manifests from. Callable from many threads."""

    def find(self, key: str, call: Call) -> Manifest | None:
        """Gives the manifest of an image, None where there is none.

        Raises: ManifestError for what is no manifest; as `Store.get`.
        """

    def forget(self, key: str) -> bool:
        """Drops what is remembered of `key`; tells whether that was anything, and so `find` worth asking."""

    def check(self, key: str) -> None:
        """Returns where `key` can have a manifest. Raises: as `StoredManifests.check`."""

    def keep(self, key: str, manifest: Manifest, call: Call) -> None:
        """Has `manifest` be that of `key` from now on. Raises: as `StoredManifests.keep`."""

    def remove(self, key: str, call: Call) -> None:
        """Removes the manifest of `key`, if there is one that can go. Raises: as `Writer.delete`."""


class VerifyLayer(Layer):
    """Proves every byte by the digest of its chunk, and fetches a bad chunk again.

    Reads are widened to whole chunks. An image without a manifest is read as it is, unless manifests are
    `required`: then it is ManifestError, as a stale one is. `stat` is the store's own: to look at a manifest
    would take a stream, and who holds the only one may ask. Memory: that of `ChunkReader` a stream, and one
    chunk for the layer, which keeps the last one verified; of a put that makes a manifest, that of `Hasher`.
    """

    def __init__(
        self,
        inner: Store,
        manifests: Manifests,
        *,
        required: bool = False,
        proves: bool = True,
        makes: bool = False,
        hide: str = "",
        spare: bool = False,
        observe: Callable[[Event], None] | None = None,
    ) -> None:
        """Wraps `inner`. A key that ends in `hide` is a manifest and not listed, where there is such an end.

        Without `proves` images are given as the store gives them. With `makes` each image that is stored gets
        a manifest.

        With `spare`, a bad chunk is fetched over a second stream, so that no good byte is sent twice. Where
        streams are limited, readers that each hold one and wait for another would wait for ever.
        `observe` is the store's own, as that of the metrics layer.
        """
        super().__init__(inner)
        self.manifests = manifests
        self.makes = makes
        self._required = required
        self._proves = proves
        self._hide = hide
        self.spare = spare
        self.repairs = Repairs()
        self._observe = observe
        self._kept: VerifiedChunk | None = None
        self._told = ("", "")  # the stale manifest that was warned of last
        self.extents = inner.extents and facets.VerifiedExtents(inner.extents, self._current)
        following = writes.Following(inner, manifests, makes=makes, suffix=hide)
        self.writer = inner.writer and writes.VerifiedWriter(inner.writer, following, self._check_version)
        self.uploader = inner.uploader and writes.VerifiedUploader(inner.uploader, following)
        self.copier = inner.copier and writes.VerifiedCopier(
            inner.copier, following, self._current if required else None
        )
        if hide and inner.lister is not None:
            self.lister = facets.VerifiedLister(inner.lister, hide)

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        opened = self._from_memory(key, start, stop, version)
        stale = ""
        for _ in range(2):  # a manifest that was remembered may be of an image that was replaced since
            manifest = None if opened else self._find(key, call)
            if manifest is None:
                break
            wanted = _clipped(manifest, key, start, stop)
            reader = ChunkReader(self.inner, key, manifest, wanted, version=version, call=call, layer=self)
            try:
                info = reader.begin()
            except BaseException as exc:
                reader.close()
                if not isinstance(exc, StaleError):
                    raise
                stale = str(exc)
                if not self.manifests.forget(key):
                    break
            else:
                return Opened(reader, info, wanted)
        if stale:
            self._give_up(key, stale)
        return opened or super()._open(key, start, stop, version, call)

    def manifest(self, key: str, call: Call) -> Manifest | None:
        """Gives what an image is proven by, None where it is read as it is. Raises: as `Manifests.find`."""
        proves = self._proves and not self._is_manifest(key)
        return self.manifests.find(key, call) if proves else None

    def _pinned(self, stream: ByteStream) -> Store:
        """As that of `Layer`: the manifest stays the one, or none, that `stream` was held against."""
        manifest = proof_of(stream)
        return self.inner if manifest is None else _PinnedStore(self, manifest)

    def keep(self, chunk: VerifiedChunk) -> None:
        """Remembers the chunk that was verified last, for small reads that follow one another."""
        self._kept = chunk

    def emit(self, call: Call, event: Event) -> None:
        """Tells the observers, if there are any."""
        for observe in (call.observe, self._observe):
            if observe is not None:
                observe(event)

    def _is_manifest(self, key: str) -> bool:
        """Whether `key` is that of a manifest, which is proven by its pin."""
        return bool(self._hide) and key.endswith(self._hide)

    def _find(self, key: str, call: Call) -> Manifest | None:
        """Gives the manifest of an image.

        Raises: ManifestError where there must be one and is none; NotFoundError where the image is not there,
        either.
        """
        manifest = self.manifest(key, call)
        if manifest is None and self._required and not self._is_manifest(key):
            self.inner.stat(key, call=call)
            raise ManifestError(f"there is no manifest of {key!r}, and the store's 'verify' requires one")
        return manifest

    def _current(self, key: str, call: Call) -> Manifest | None:
        """As `_find`, for who may read no byte of the image: the manifest is held against it as it is now.

        Raises: as `_find`; ManifestError for a stale one where there must be one.
        """
        stale = None
        for _ in range(2):  # as in `_open`
            manifest = self._find(key, call)
            if manifest is None:
                break
            stale = difference(manifest, self.inner.stat(key, call=call))
            if stale is None:
                return manifest
            if not self.manifests.forget(key):
                break
        if stale is not None:
            self._give_up(key, stale)
        return None

    def _from_memory(self, key: str, start: int, stop: int | None, version: Version) -> Opened | None:
        """Gives a range of the chunk verified last, if a version tells that it is still the same."""
        kept = self._kept
        if kept is None or kept.info.version is None or (kept.info.key, kept.info.version) != (key, version):
            return None
        wanted = _clipped(kept.manifest, key, start, stop)
        return None if (data := kept.part(wanted)) is None else Opened(data, kept.info, wanted)

    def _give_up(self, key: str, stale: str) -> None:
        if self._required:
            raise ManifestError(f"the manifest of {key!r} is of another image: {stale}")
        # Behind each hole of an image it is opened anew.
        level = logging.WARNING if self._told != (key, stale) else logging.DEBUG
        self._told = (key, stale)
        LOG.log(
            level,
            "store %s: %r is read unverified: its manifest is of another image: %s",
            self.store_id,
            key,
            stale,
        )

    def _check_version(self, key: str, version: str | None, call: Call) -> None:
        held = self.inner.stat(key, call=call).version
        if version is not None and version != held:
            raise VersionChangedError("the store holds another version of the image", key=key)


class _PinnedStore(Layer):
    """One image of a store, proven by one manifest."""

    def __init__(self, layer: VerifyLayer, manifest: Manifest) -> None:
        super().__init__(layer.inner)
        self._layer = layer
        self._manifest = manifest

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        wanted = _clipped(self._manifest, key, start, stop)
        reader = ChunkReader(
            self.inner, key, self._manifest, wanted, version=version, call=call, layer=self._layer
        )
        try:
            return Opened(reader, reader.begin(), wanted)
        except BaseException as exc:
            reader.close()
            if isinstance(exc, StaleError):
                raise VersionChangedError(f"the image is not that of its manifest any more: {exc}") from None
            raise


def _clipped(manifest: Manifest, key: str, start: int, stop: int | None) -> ByteRange:
    size = manifest.size
    if start > size or start == size > 0:
        raise RangeNotSatisfiableError(
            f"offset {start} lies behind the end of the image ({size} bytes)", key=key
        )
    return ByteRange(start, size if stop is None else min(stop, size))
