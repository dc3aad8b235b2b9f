"""Downloads of small images in small parts, from a place that can break off: what is killed and cut off."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from imgstore.errors import ConnectionLostError, RangeNotSatisfiableError
from imgstore.model import ByteRange, ObjectInfo
from imgstore.publish import partial, settler
from imgstore.store import Store, unknown
from imgstore.stream import Opened
from imgstore.transfer import download as module
from imgstore.transfer.download import Origin, download
from imgstore.transfer.progress import Report

PART = 8192
SETTLED = 2  # parts between two syncs


class Source(Store):
    """A place with one image, of one version, that breaks off `most` bytes into each stream."""

    def __init__(
        self,
        data: bytes,
        most: int | None = None,
        version: str | None = '"v1"',
        digests: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.store_id = "web"
        self.digests = digests or {}
        self.data = data
        self.most = most
        self.version = version
        self.asked: list[tuple[int, str | None]] = []
        self.served = 0

    def stat(self, key, *, call=None):
        return ObjectInfo(key, len(self.data), self.version, digests=self.digests)

    def _open(self, key, start, stop, version, call):
        self.asked.append((start, version))
        if start >= len(self.data):
            raise RangeNotSatisfiableError("the image ends before that")
        stop = len(self.data) if stop is None else min(stop, len(self.data))
        return Opened(_Raw(self, start, stop), self.stat(key), ByteRange(start, stop))

    translate = staticmethod(unknown)


class _Raw:
    def __init__(self, source: Source, start: int, stop: int) -> None:
        self._source = source
        self._body = io.BytesIO(source.data[start:stop])

    def readinto(self, view: memoryview) -> int:
        most = self._source.most
        left = len(view) if most is None else min(len(view), most - self._body.tell())
        if left <= 0:
            raise ConnectionLostError("the connection is gone")
        count = self._body.readinto(view[: min(left, 5000)])  # no piece ends where a part does
        self._source.served += count
        return count

    def abort(self) -> None:
        """No read waits."""

    def close(self) -> None:
        """Nothing is open."""


@contextlib.contextmanager
def small_parts(*, part: int = PART) -> Iterator[None]:
    """Has small images journalled, in small parts; synced by who writes, at the same places each time."""
    with (
        mock.patch.object(module, "LEAST", 1),
        mock.patch.object(partial, "PART_SIZE", part),
        mock.patch.object(settler, "_BYTES", SETTLED * part),
        mock.patch.object(settler, "_SECONDS", 1e6),
        mock.patch.object(settler.Settler, "_start", lambda self: setattr(self, "_is_alone", True)),
    ):
        yield


def fetch(source: Source, target: Path, **options) -> Report:
    """Downloads it; gives the report."""
    report = Report()
    origin = Origin(store=source, key="disk.img", place="http://host/disk.img")
    download(origin, target, report=report, **options)
    return report


def broken_off_once(data: bytes, target: Path, *, overwrite: bool) -> None:
    """Downloads in two goes: the first is broken off behind the first sync, the second goes on."""
    with small_parts():
        for most in (SETTLED * PART + PART // 2, None):
            with contextlib.suppress(ConnectionLostError):
                fetch(Source(data, most), target, overwrite=overwrite)
                return
