"""Planted faults: other bytes, another image, other words about it."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace

from imgstore.errors import (
    ConnectionLostError,
    ImgstoreError,
    NotFoundError,
    PermanentError,
    RangeNotSatisfiableError,
    UnavailableError,
)
from imgstore.model import ByteRange, Call, ObjectInfo, Version
from imgstore.stream import Opened, RawReader
from imgstore.testing.bad_drivers._good import Good, Raw

SECRET = "planted-credential"  # noqa: S105  # what SecretInError shows


class OffsetTooHigh(Good):
    """One byte too far where a range begins on a block of 64 KiB."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        opened = super()._open(key, start, stop, version, call)
        if stop is not None and start and start % 65536 == 0:
            opened.raw.close()
            return self.body(key, start + 1, opened.range, call)
        return opened


class OffsetTooLow(Good):
    """One byte too early where a range begins with the last byte."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        opened = super()._open(key, start, stop, version, call)
        if stop is not None and start and start == self.size(key) - 1:
            opened.raw.close()
            return self.body(key, start - 1, opened.range, call)
        return opened


class LengthIgnored(Good):
    """The body goes on to the end of the image, behind the range that the driver says it serves."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        opened = super()._open(key, start, stop, version, call)
        opened.raw.close()
        return self.body(key, start, opened.range, call)


class VersionIgnored(Good):
    """Whatever looks like one of its own versions is taken for the present one."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        if isinstance(version, str) and len(version) == 32:
            opened = super()._open(key, start, stop, None, call)
            return replace(opened, info=replace(opened.info, version=version))
        return super()._open(key, start, stop, version, call)


class EarlyEndAsSuccess(Good):
    """A body cut at 1 MiB is passed on as an image of unknown size that ends there."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        if not start and stop is None and self.size(key) > 1 << 20:
            opened = super()._open(key, 0, 1 << 20, version, call)
            return Opened(opened.raw, replace(opened.info, size=None), ByteRange(0, None))
        return super()._open(key, start, stop, version, call)


class WholeImageAtOffset(Good):
    """A range near the end is answered with the whole image, and that is taken for the range."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        opened = super()._open(key, start, stop, version, call)
        if stop is None and start and self.size(key) - start < 4096:
            opened.raw.close()
            return self.body(key, 0, opened.range, call)
        return opened


class SizeOfTheRange(Good):
    """The end of a range is told as the size of the image."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        opened = super()._open(key, start, stop, version, call)
        return replace(opened, info=replace(opened.info, size=opened.range.stop))


class StaleStat(Good):
    """What stat told once it tells for as long as there is an image."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, ObjectInfo] = {}

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        return self._told.setdefault(key, super()._stat(key, call))


class StatOfSectors(Good):
    """Images below a sector are told as a sector."""

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        info = super()._stat(key, call)
        return replace(info, size=512) if 0 < (info.size or 0) < 512 else info


class EtagAsDigest(Good):
    """The version is told as if it were the MD5 digest."""

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        return _with_digest(super()._stat(key, call))

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        opened = super()._open(key, start, stop, version, call)
        return replace(opened, info=_with_digest(opened.info))


def _with_digest(info: ObjectInfo) -> ObjectInfo:
    return replace(info, digests={"md5": hashlib.sha256(str(info.version).encode()).hexdigest()[:32]})


class MixedVersions(Good):
    """Each receive serves whatever image stands under the key by now."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        opened = super()._open(key, start, stop, version, call)
        return replace(opened, raw=_Mixing(opened.raw, self, key, start))


class _Mixing(Raw):
    def __init__(self, inner: RawReader, store: Good, key: str, at: int) -> None:
        super().__init__(inner)
        self._store = store
        self._key = key
        self._at = at

    def readinto(self, buffer: memoryview, /) -> int:
        count = super().readinto(buffer)
        try:
            now = self._store._images.find(self._key).data[self._at : self._at + count]
        except NotFoundError:
            now = b""
        buffer[: len(now)] = now
        self._at += count
        return count


class EmptyImageRefused(Good):
    """An empty image has no byte 0, so the range is refused."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        if self.size(key) == 0:
            raise RangeNotSatisfiableError("the range is not satisfiable")
        return super()._open(key, start, stop, version, call)


class EndIsEmpty(Good):
    """A range that begins at the end of the image is an empty stream."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        if start and start == self.size(key):
            opened = super()._open(key, 0, 1, version, call)
            opened.raw.readinto(memoryview(bytearray(1)))
            return Opened(opened.raw, replace(opened.info, size=None), ByteRange(start, None))
        return super()._open(key, start, stop, version, call)


class KeysStripped(Good):
    """Keys lose the dots and spaces at their end, as some file systems do it."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        return super()._open(key.rstrip(". "), start, stop, version, call)


class MissingIsPermanent(Good):
    """A range of a missing image is an error that does not say so."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        try:
            return super()._open(key, start, stop, version, call)
        except NotFoundError as exc:
            raise (PermanentError("the store answers 404") if start else exc) from None


class SecretInError(Good):
    """An error quotes the request with its credential."""

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        try:
            return super()._stat(key, call)
        except NotFoundError:
            raise NotFoundError(f"HEAD ?token={SECRET} answers 404") from None


class UnpicklableError(Good):
    """An error keeps the reply it stems from."""

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        try:
            return super()._stat(key, call)
        except NotFoundError as exc:
            exc.reply = threading.Lock()  # type: ignore[attr-defined]
            raise


class UnknownIsTransient(Good):
    """A bug looks like weather."""

    def translate(self, exc: Exception) -> ImgstoreError:
        error = super().translate(exc)
        if type(error) is PermanentError and error is not exc:
            error = UnavailableError(str(error))
            error.__cause__ = exc
        return error


class StoreErrorsWrapped(Good):
    """An error of ours comes back as another."""

    def translate(self, exc: Exception) -> ImgstoreError:
        if type(exc) is ConnectionLostError:
            return ConnectionLostError(f"wrapped: {exc}", key=exc.key, offset=exc.offset)
        return super().translate(exc)
