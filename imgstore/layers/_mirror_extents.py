"""The holes of an image that a manifest proves: whichever leg serves, zeros need not be read."""

from __future__ import annotations

from collections.abc import Iterator

from imgstore.errors import NotFoundError, RangeNotSatisfiableError, VersionChangedError
from imgstore.layers._verified_facets import has_zeros, proven_zeros
from imgstore.manifest import Manifest
from imgstore.model import NO_CALL, ByteRange, Call, Extent
from imgstore.store import Store


class ProvenExtents:
    """Tells as zeros the chunks whose digests are those of zeros. No leg is asked for that."""

    def __init__(self, mirror: Store, key: str, manifest: Manifest) -> None:
        self._mirror = mirror
        self._key = key
        self._manifest = manifest

    @staticmethod
    def of(mirror: Store, key: str | None, manifest: Manifest | None) -> ProvenExtents | None:
        """Gives them for the one image of a mirror, None where nothing is proven, or no zeros are."""
        if key is None or manifest is None or not has_zeros(manifest):
            return None
        return ProvenExtents(mirror, key, manifest)

    def extents(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        version: str | None = None,
        call: Call = NO_CALL,
    ) -> Iterator[Extent]:
        self._mirror._admit(key, call)
        if key != self._key:
            raise NotFoundError(f"the mirror has the one image {self._key!r}, not {key!r}", key=key)
        if version is not None and version != self._manifest.pin:
            raise VersionChangedError("the image that the manifest proves has another version", key=key)
        size = self._manifest.size
        if start > size or start == size > 0:
            raise RangeNotSatisfiableError(f"offset {start} lies behind the end ({size} bytes)", key=key)
        end = size if stop is None else min(stop, size)
        return proven_zeros(Extent(ByteRange(start, end), "zero"), self._manifest)
