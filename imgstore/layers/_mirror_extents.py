"""The holes of an image that a manifest proves: whichever leg serves, zeros need not be read."""

from __future__ import annotations

from collections.abc import Iterator

from imgstore.errors import RangeNotSatisfiableError, VersionChangedError
from imgstore.layers._verified_facets import proven_zeros
from imgstore.manifest import Manifest
from imgstore.model import NO_CALL, ByteRange, Call, Extent
from imgstore.store import Store


class ProvenExtents:
    """Tells as zeros the chunks whose digests are those of zeros. No leg is asked for a map of its own."""

    def __init__(self, mirror: Store, manifest: Manifest) -> None:
        self._mirror = mirror
        self._manifest = manifest

    def extents(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        version: str | None = None,
        call: Call = NO_CALL,
    ) -> Iterator[Extent]:
        held = self._mirror.stat(key, call=call)
        if version not in {None, held.version}:
            raise VersionChangedError("the legs hold another version of the image", key=key)
        size = self._manifest.size
        if start > size or start == size > 0:
            raise RangeNotSatisfiableError(f"offset {start} lies behind the end ({size} bytes)", key=key)
        end = size if stop is None else min(stop, size)
        return proven_zeros(Extent(ByteRange(start, end), "zero"), self._manifest)
