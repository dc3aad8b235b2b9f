"""Planted faults of writers."""

from __future__ import annotations

import io
from typing import Any

from imgstore.errors import (
    AlreadyExistsError,
    NotFoundError,
    SourceChangedError,
)
from imgstore.model import NO_CALL, Call, ObjectInfo
from imgstore.store import Source
from imgstore.testing.bad_drivers._good import Facet, FacetDriver


class _Put(Facet):
    """A writer whose put is faulty. `good` puts as it should."""

    store: FacetDriver

    def good(self, key: str, source: Source, size: int | None = None, **options: Any) -> ObjectInfo:
        info: ObjectInfo = self.inner.put(key, source, size, **options)
        return info


class Preallocating(_Put):
    """A put makes the image at its full size and then fills it."""

    def put(self, key: str, source: Source, size: int | None = None, **options: Any) -> ObjectInfo:
        if not size or self.store.taken(key):
            return self.good(key, source, size, **options)
        self.good(key, io.BytesIO(bytes(size)))
        try:
            return self.good(key, source, size, **{**options, "overwrite": True})
        except BaseException:
            self.inner.delete(key)
            raise


class DeletingFirst(_Put):
    """A put that overwrites takes the old image away first."""

    def put(self, key: str, source: Source, size: int | None = None, **options: Any) -> ObjectInfo:
        if options.get("overwrite"):
            self.store.hidden.add(key)
        try:
            return self.good(key, source, size, **options)
        finally:
            self.store.hidden.discard(key)


class DigestsIgnored(_Put):
    """Digests are not looked at."""

    def put(self, key: str, source: Source, size: int | None = None, **options: Any) -> ObjectInfo:
        return self.good(key, source, size, **{**options, "digests": None})


class SurplusIgnored(_Put):
    """A put reads as much as it was promised, and never asks whether there is more."""

    def put(self, key: str, source: Source, size: int | None = None, **options: Any) -> ObjectInfo:
        return self.good(key, source if size is None else _Limited(source, size), size, **options)


class _Limited:
    def __init__(self, source: Source, left: int) -> None:
        self._source = source
        self._left = left

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(min(size, self._left)) if self._left else b""
        self._left -= len(piece)
        return piece


class TakenIgnored(_Put):
    """A put replaces what it finds."""

    def put(self, key: str, source: Source, size: int | None = None, **options: Any) -> ObjectInfo:
        if self.store.taken(key):
            options["overwrite"] = True
        return self.good(key, source, size, **options)


class CheckedTooEarly(_Put):
    """Whether the key is free is asked before the source is read, and not again."""

    def put(self, key: str, source: Source, size: int | None = None, **options: Any) -> ObjectInfo:
        if self.store.taken(key) and not options.get("overwrite"):
            raise AlreadyExistsError("the key is taken", key=key)
        return self.good(key, source, size, **{**options, "overwrite": True})


class SourceClosed(_Put):
    """A put closes its source."""

    def put(self, key: str, source: Source, size: int | None = None, **options: Any) -> ObjectInfo:
        info = self.good(key, source, size, **options)
        source.close()  # type: ignore[attr-defined]
        return info


class ShortReadIsTheEnd(_Put):
    """A source that gives less than a sector is taken to be at its end."""

    def put(self, key: str, source: Source, size: int | None = None, **options: Any) -> ObjectInfo:
        return self.good(key, _Blocks(source), size, **options)


class _Blocks:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._ended = False

    def read(self, size: int, /) -> bytes:
        piece = b"" if self._ended else self._source.read(size)
        self._ended = len(piece) < 512
        return piece


class PartialKept(_Put):
    """What a failing source gave is published as far as it came."""

    def put(self, key: str, source: Source, size: int | None = None, **options: Any) -> ObjectInfo:
        try:
            return self.good(key, source, size, **options)
        except RuntimeError:
            self.good(key, io.BytesIO(b"as far as it came"))
            raise


class TemporaryKept(_Put):
    """What a failed put wrote stays behind under another name."""

    def put(self, key: str, source: Source, size: int | None = None, **options: Any) -> ObjectInfo:
        try:
            return self.good(key, source, size, **options)
        except SourceChangedError:
            self.good(key + ".part", io.BytesIO(b"as far as it came"))
            raise


class Uncancellable(_Put):
    """A put that has begun cannot be called off."""

    def put(
        self, key: str, source: Source, size: int | None = None, *, call: Call = NO_CALL, **options: Any
    ) -> ObjectInfo:
        call.check()
        return self.good(key, source, size, call=Call(call.deadline), **options)


class _Delete(Facet):
    """A writer whose delete is faulty."""


class MissingDeleted(_Delete):
    """Deleting what is not there succeeds."""

    def delete(self, key: str, *, version: str | None = None, call: Call = NO_CALL) -> None:
        try:
            self.inner.delete(key, version=version, call=call)
        except NotFoundError:
            return


class AnyVersionDeleted(_Delete):
    """A delete takes whatever version it finds."""

    def delete(self, key: str, *, version: str | None = None, call: Call = NO_CALL) -> None:
        self.inner.delete(key, call=call)
