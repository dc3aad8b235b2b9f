"""What the verify layer makes of the facets that tell: no manifest is listed, no hole is just believed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Final, Literal

from imgstore.manifest import Manifest
from imgstore.model import NO_CALL, ByteRange, Call, Extent, ObjectInfo
from imgstore.store import Extents, Lister

_ZEROS: Final = bytes(1 << 20)


class VerifiedLister:
    """Lists images only: what is a manifest by its name is none."""

    def __init__(self, inner: Lister, suffix: str) -> None:
        self._inner = inner
        self._suffix = suffix

    def list(self, prefix: str = "", *, call: Call = NO_CALL) -> Iterator[ObjectInfo]:
        return (info for info in self._inner.list(prefix, call=call) if not info.key.endswith(self._suffix))


class VerifiedExtents:
    """Tells as a hole only what the manifest says is zeros; what else the store calls one has to be read."""

    def __init__(self, inner: Extents, find: Callable[[str, Call], Manifest | None]) -> None:
        """Takes what gives the manifest of an image, after it was held against the image as it is.

        Nobody else may do that: what is one hole, or empty, is copied without a byte of it being read.
        """
        self._inner = inner
        self._find = find

    def extents(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        version: str | None = None,
        call: Call = NO_CALL,
    ) -> Iterator[Extent]:
        manifest = self._find(key, call)
        for extent in self._inner.extents(key, start=start, stop=stop, version=version, call=call):
            if manifest is None or extent.kind == "data":
                yield extent
            else:
                yield from proven_zeros(extent, manifest)


def proven_zeros(extent: Extent, manifest: Manifest) -> Iterator[Extent]:
    """Divides a hole into what its chunks prove and what they do not."""
    start, stop = extent.range.start, extent.range.stop or 0
    if stop > manifest.size:
        yield Extent(extent.range, "data")  # replaced just now: the read tells
        return
    numbers = manifest.covering(start, stop)
    for zeros, group in groupby(numbers, key=functools.partial(_is_zeros, manifest)):
        *_, last = group
        end = min(stop, manifest.chunk_range(last).stop or 0)
        kind: Literal["data", "zero", "hole"] = extent.kind if zeros else "data"
        yield Extent(ByteRange(start, end), kind)
        start = end


def has_zeros(manifest: Manifest) -> bool:
    """Tells whether a manifest proves any chunk to be zeros."""
    return any(_is_zeros(manifest, number) for number in range(len(manifest.chunks)))


def _is_zeros(manifest: Manifest, number: int) -> bool:
    size = manifest.chunk_range(number).size or 0
    return manifest.chunks[number] == _digest_of_zeros(manifest.algorithm, size)


@functools.lru_cache(maxsize=16)
def _digest_of_zeros(algorithm: str, size: int) -> bytes:
    found = hashlib.new(algorithm, usedforsecurity=False)
    for at in range(0, size, len(_ZEROS)):
        found.update(_ZEROS[: size - at])
    return found.digest()
