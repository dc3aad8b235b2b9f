"""Planted faults of listers and of extents."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from imgstore.errors import (
    NotFoundError,
)
from imgstore.model import NO_CALL, ByteRange, Call, Extent, ObjectInfo
from imgstore.testing.bad_drivers._good import Facet


class _List(Facet):
    """A lister that is faulty."""

    def good(self, prefix: str, call: Call) -> list[ObjectInfo]:
        return list(self.inner.list(prefix, call=call))


class Unsorted(_List):
    """Images come in another order."""

    def list(self, prefix: str = "", *, call: Call = NO_CALL) -> Iterator[ObjectInfo]:
        return reversed(self.good(prefix, call))


class OnePage(_List):
    """The second page is never asked for."""

    def list(self, prefix: str = "", *, call: Call = NO_CALL) -> Iterator[ObjectInfo]:
        return iter(self.good(prefix, call)[:50])


class PrefixIsAPattern(_List):
    """A prefix is taken for a pattern."""

    def list(self, prefix: str = "", *, call: Call = NO_CALL) -> Iterator[ObjectInfo]:
        return (info for info in self.good("", call) if fnmatch.fnmatchcase(info.key, prefix + "*"))


class ForeignVersions(_List):
    """Versions are listed in another spelling than get takes."""

    def list(self, prefix: str = "", *, call: Call = NO_CALL) -> Iterator[ObjectInfo]:
        return (replace(info, version=f'"{info.version}"') for info in self.good(prefix, call))


class _Extents(Facet):
    """Extents that are faulty."""

    def good(self, key: str, **options: Any) -> list[Extent]:
        return list(self.inner.extents(key, **options))


class FromTheBlock(_Extents):
    """Extents of a range begin at the block it begins in."""

    def extents(
        self, key: str, *, start: int = 0, stop: int | None = None, **options: Any
    ) -> Iterator[Extent]:
        found = self.good(key, start=start, stop=stop, **options)
        if stop is None and found:
            found[0] = replace(found[0], range=ByteRange(start - start % 4096, found[0].range.stop))
        return iter(found)


class TailIsZero(_Extents):
    """A last block that is not whole is told to be zeros."""

    def extents(self, key: str, **options: Any) -> Iterator[Extent]:
        found = self.good(key, **options)
        if len(found) > 5:
            found[-1] = replace(found[-1], kind="zero")
        return iter(found)


class GapForAHole(_Extents):
    """A hole is left out."""

    def extents(self, key: str, **options: Any) -> Iterator[Extent]:
        found = self.good(key, **options)
        if options.get("stop") is None and not options.get("start") and len(found) == 1:
            found = [each for each in found if each.kind == "data"]
        return iter(found)


class MissingHasNone(_Extents):
    """A missing image has no extents."""

    def extents(self, key: str, **options: Any) -> Iterator[Extent]:
        try:
            return iter(self.good(key, **options))
        except NotFoundError:
            return iter(())


class OfAnyVersion(_Extents):
    """The version is not looked at."""

    def extents(self, key: str, *, version: str | None = None, **options: Any) -> Iterator[Extent]:
        return iter(self.good(key, **options))
