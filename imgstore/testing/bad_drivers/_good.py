"""The drivers and readers that the planted ones are made of: they pass everything on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from imgstore.errors import (
    NotFoundError,
)
from imgstore.model import ByteRange, Call, Version
from imgstore.stream import Opened, RawReader
from imgstore.testing.conformance._place import WatchedStore


class Good(WatchedStore):
    """The driver that every planted one is made of: green in all cases."""

    def body(self, key: str, at: int, label: ByteRange, call: Call) -> Opened:
        """Opens the image at `at`, and says that it serves `label`."""
        opened = super()._open(key, at, None, None, call)
        return Opened(opened.raw, opened.info, label)

    def size(self, key: str) -> int:
        """Gives the size as it is."""
        return self._images.find(key).info.size or 0


class Raw:
    """A raw reader that passes everything on; planted readers change one thing."""

    def __init__(self, inner: RawReader) -> None:
        self.inner = inner

    def readinto(self, buffer: memoryview, /) -> int:
        return self.inner.readinto(buffer)

    def abort(self) -> None:
        self.inner.abort()

    def close(self) -> None:
        self.inner.close()


class Reading(Good):
    """A driver whose fault is in its reader."""

    def reader(self, raw: RawReader, opened: Opened, call: Call) -> RawReader:
        """Gives the faulty reader."""
        raise NotImplementedError

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        opened = super()._open(key, start, stop, version, call)
        return replace(opened, raw=self.reader(opened.raw, opened, call))


class Facet:
    """Passes everything on to the facet of the good driver; planted facets change one thing."""

    def __init__(self, store: Good, inner: Any) -> None:
        self.store = store
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class FacetDriver(Good):
    """A driver whose fault is in one facet."""

    facet: str
    faulty: type[Facet]

    def __init__(self) -> None:
        super().__init__()
        self.hidden: set[str] = set()
        setattr(self, self.facet, self.faulty(self, getattr(self, self.facet)))

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        if key in self.hidden:
            raise NotFoundError("there is no such image")
        return super()._open(key, start, stop, version, call)

    def taken(self, key: str) -> bool:
        """Tells whether there is an image."""
        return any(image.info.key == key for image in self._images.snapshot())
