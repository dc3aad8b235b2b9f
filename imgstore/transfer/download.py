"""One image into one file, so that what is broken off can be gone on with by the next process."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from imgstore.errors import (
    AuthenticationError,
    ImgstoreError,
    NoSpaceError,
    NotFoundError,
    OperationCancelledError,
    PermissionDeniedError,
    RangeNotSatisfiableError,
    TlsError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.hashing import Hasher
from imgstore.journal import Identity
from imgstore.layers.base import difference
from imgstore.model import NO_CALL, ByteRange, Call, ObjectInfo
from imgstore.publish import PendingFile
from imgstore.publish.partial import PartialFile
from imgstore.store import Store
from imgstore.stream import ByteStream
from imgstore.transfer.copy import Digester, copy, pour
from imgstore.transfer.progress import Report
from imgstore.transfer.sparse import SparseStream, open_source

LOG = logging.getLogger(__name__)
Stream = TypeVar("Stream", bound="ByteStream | SparseStream")

# Bytes below which a copy that is killed begins anew: sent again in less than a second on a good line. It is
# also what a power loss may cost of a larger one (imgstore.publish.claims).
LEAST: Final = 64 << 20
# What room, other credentials or a certificate may cure: who comes then finds what was fetched.
_CURABLE: Final = (AuthenticationError, NoSpaceError, PermissionDeniedError, TlsError)
# What is wrong with one place: where a manifest proves the image, another one may have the rest.
_ELSEWHERE: Final = (NotFoundError, VersionChangedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an image is read from: `key` of `store`.

    `place` is the same for the same place at each run, and is kept as a digest only; by default the names of
    the store and of the image. `pin` is that of the manifest by which the store proves every byte, if it
    does, and `chunk_size` what it fetches and proves at once.
    """

    store: Store
    key: str
    place: str = ""
    pin: str | None = None
    chunk_size: int = 1
    call: Call = NO_CALL

    def identity(self, size: int, version: str | None) -> Identity:
        """Gives what an image of this place is to be known by."""
        place = self.place or f"{self.store.store_id}\0{self.key}"
        return Identity(hashlib.sha256(os.fsencode(place)).hexdigest(), size, version, self.pin)

    def open(self, wanted: ByteRange, size: int | None, version: str | None) -> ByteStream | SparseStream:
        """Opens a range, of that version, of an image of `size` bytes. Raises: as `Store.get`."""
        length = None if wanted.stop == size else wanted.size
        return open_source(self.store, self.key, wanted.start, length, version=version, call=self.call)


def download(
    origin: Origin,
    path: str | os.PathLike[str],
    *,
    report: Report,
    overwrite: bool = False,
    resume: bool = True,
    read_back: bool = False,
    digest: bool = False,
    connections: int = 1,
    say: Callable[[str], None] = LOG.info,
) -> ObjectInfo:
    """Copies an image to `path`, where it appears complete and on the disk, or not at all.

    What an earlier download to that path has left of the same image is gone on with: the same version of the
    same place, or, with a pin, what the same manifest has proven. What is left of another one, or of a
    version that is no more, is dropped. An image of 64 MiB and more that can be known again leaves a half
    image and its journal beside `path` when it is broken off by what another run may overcome: a kill, an
    interrupt, the deadline, a network or a server that gives out, no room, credentials that are not accepted.
    `say` hears so, in a sentence; what is final leaves nothing.

    Without `resume` nothing is gone on with, and nothing is left. `read_back` compares what the disk gives
    back before the image gets its name. With `digest`, `report.digests` tells the SHA-256; what the source
    says of the whole image's digests is checked in any case, after a resume by reading the file once more.

    At most so many `connections` fetch a half image at once, as many as help: out of order, each into its
    place. An image whose holes the store knows, and one that leaves no half image, comes over one.

    Raises: as `PartialFile`, `PendingFile` and `Store.get`; VersionChangedError where the image is replaced
    meanwhile; DigestMismatchError where the bytes are not those that the source names. Memory: 2 MiB a
    connection, 10 MiB where digests are computed, and 5 bytes for each part of 2 MiB.
    """
    half = PartialFile(
        path, overwrite=overwrite, resume=resume, check=lambda: origin.call.check(origin.store.clock)
    )
    with half, _kept(half, say, is_proven=origin.pin is not None):
        stream = _first(origin, half, say)
        with closing(stream):
            if resume and _begins(origin, half, stream, say):
                download = _Download(origin, half, stream.info, report, digest=digest)
                download.fill(stream, connections)
                download.publish(read_back=read_back)
                return stream.info
            half.discard()
            with PendingFile(path, overwrite=overwrite, read_back=read_back) as out, _kept(out, say):
                copy(stream, out, report=report, digest=digest)
            return stream.info


@contextmanager
def _kept(
    out: PartialFile | PendingFile, say: Callable[[str], None], *, is_proven: bool = False
) -> Iterator[None]:
    """Around what writes to `out`: keeps what the next run can go on with."""
    try:
        yield
    except BaseException as exc:
        if out.published and isinstance(exc, KeyboardInterrupt):
            raise OperationCancelledError(f"interrupted when {out.path} was complete") from None
        goes_on = _may_go_on(exc) or (is_proven and isinstance(exc, _ELSEWHERE))
        if isinstance(out, PartialFile) and not out.published and goes_on:
            held = out.keep()
            if held:
                say(f"{held} bytes are kept beside {out.path}; the same command goes on from there")
                _mark_resumable(exc)
        raise


def _may_go_on(exc: BaseException) -> bool:
    if isinstance(exc, ImgstoreError):
        return exc.resumable or isinstance(exc, _CURABLE)
    return True  # an interrupt, or a bug of whoever: what was claimed is as good as before


def _mark_resumable(exc: BaseException) -> None:
    if isinstance(exc, ImgstoreError):
        exc.resumable = True


def _first(origin: Origin, half: PartialFile, say: Callable[[str], None]) -> ByteStream | SparseStream:
    """Opens the first stretch that is missing, of what was begun earlier or of all."""
    earlier = half.earlier
    if earlier is None or not origin.identity(earlier.size, earlier.version).continues(earlier):
        return open_source(origin.store, origin.key, call=origin.call)
    half.begin(earlier)
    # Of an image that is there to the last byte, that byte tells whether it is still the same.
    wanted = next(iter(half.missing()), ByteRange(max(earlier.size - 1, 0), earlier.size))
    try:
        return origin.open(wanted, earlier.size, None if origin.pin else earlier.version)
    except (VersionChangedError, RangeNotSatisfiableError):
        say(f"the image has changed since the copy to {half.path} was begun; it begins anew")
        return open_source(origin.store, origin.key, call=origin.call)


def _begins(
    origin: Origin,
    half: PartialFile,
    stream: ByteStream | SparseStream,
    say: Callable[[str], None],
) -> bool:
    """Begins the half image, or goes on with it; tells whether there is to be one."""
    info = stream.info
    identity = origin.identity(info.size or 0, info.version)
    if (info.size or 0) < LEAST or (info.version is None and origin.pin is None):
        return False
    try:
        half.begin(identity, unit=origin.chunk_size, digests=info.digests)
    except UnsupportedError as exc:
        say(f"{exc}; should this copy be broken off, it begins anew")
        return False
    return True


class _Download:
    """A half image being filled, and published."""

    def __init__(
        self, origin: Origin, half: PartialFile, info: ObjectInfo, report: Report, *, digest: bool
    ) -> None:
        self._origin = origin
        self._half = half
        self._info = info if origin.pin else _as_begun(info, half)
        self._report = report
        self._whole = ByteRange(0, info.size)
        self._described = _Whole(self._info, self._whole)
        self._digest = digest
        self._found: dict[str, str] | None = None

    def fill(self, stream: ByteStream | SparseStream, connections: int) -> None:
        """Fetches what is missing; `stream` is open at some stretch of it, or at none."""
        self._fetch_all(stream, connections)
        self._report.settle()

    def _fetch_all(self, stream: ByteStream | SparseStream, connections: int) -> None:
        missing = self._half.missing()
        self._report.total = self._info.size
        self._report.found(self._half.held)
        begins = bool(missing) and stream.range.start == missing[0].start
        if connections > 1 and begins and isinstance(stream, ByteStream):
            self._fetch_abreast(missing, stream, connections)
            return
        if missing == [self._whole]:
            with Digester(self._described, digest=self._digest) as digester:
                self._fetch(self._whole, stream, digester.hasher)
                self._found = dict(digester.found().whole)
            return
        for wanted in missing:
            self._fetch(wanted, stream, Hasher())

    def _fetch_abreast(self, missing: list[ByteRange], stream: ByteStream, connections: int) -> None:
        from imgstore.transfer.abreast import Abreast

        origin = self._origin

        def opened(wanted: ByteRange, call: Call) -> ByteStream:
            version = self._info.version
            stream = origin.store.get(origin.key, wanted.start, wanted.size, version=version, call=call)
            return self._same(stream)

        def write(data: memoryview, offset: int) -> None:
            self._half.write_at(data, offset)
            self._report.delivered(len(data))

        grain = self._half.part_size
        abreast = Abreast(origin.store, opened, write, most=connections, grain=grain, call=origin.call)
        abreast.run(missing, stream)

    def publish(self, *, read_back: bool) -> None:
        """Proves all of it by the digests that are wanted, and publishes it."""
        if self._found is None:
            self._found = self._digests()
        self._half.publish(read_back=read_back)
        self._report.digests.update(self._found)

    def _fetch(self, wanted: ByteRange, stream: ByteStream | SparseStream, hasher: Hasher) -> None:
        sink = _At(self._half, wanted.start)
        if stream.range == wanted and not stream.delivered:
            pour(stream, sink, self._report, hasher)
            return
        stream.close()
        another = self._origin.open(wanted, self._info.size, self._info.version)
        with self._same(another):
            pour(another, sink, self._report, hasher)

    def _same(self, stream: Stream) -> Stream:
        """Gives `stream`, if it is of the image that was begun with. Raises: VersionChangedError."""
        told = (
            None if self._origin.pin else difference(self._info, stream.info)
        )  # a manifest proves each byte
        if told is not None:
            stream.close()
            raise _changed(told)
        return stream

    def _digests(self) -> dict[str, str]:
        """Reads the file: what another process has written was hashed by nobody who could tell."""
        with Digester(self._described, digest=self._digest) as digester:
            if not digester.claimed and not self._digest:
                return {}
            for stop, is_hole in self._half.stretches():
                self._hash(digester.hasher, stop, is_hole=is_hole)
            return dict(digester.found().whole)

    def _hash(self, hasher: Hasher, stop: int, *, is_hole: bool) -> None:
        if is_hole:
            hasher.skip(stop - hasher.size)
        while hasher.size < stop:
            self._origin.call.check(self._origin.store.clock)
            buffer = hasher.buffer()
            count = self._half.readinto(buffer[: stop - hasher.size], hasher.size)
            hasher.filled(count)


def _as_begun(info: ObjectInfo, half: PartialFile) -> ObjectInfo:
    """Gives what the source says now, with the digests that it told when the half image was begun.

    A reply to the middle of an image may leave them out. Raises: VersionChangedError for another digest.
    """
    begun = replace(info, digests=half.digests)
    if (told := difference(begun, info)) is not None:
        raise _changed(told)
    return replace(info, digests={**half.digests, **info.digests})


def _changed(told: str) -> VersionChangedError:
    return VersionChangedError(f"the image was replaced while it was copied: {told}")


@dataclass(frozen=True, slots=True)
class _Whole:
    """All of an image, as `Digester` wants to be told of it."""

    info: ObjectInfo
    range: ByteRange


class _At:
    """A half image as what takes bytes in their order, from `at` on."""

    def __init__(self, half: PartialFile, at: int) -> None:
        self._half = half
        self._at = at

    def write(self, data: memoryview) -> None:
        self._half.write_at(data, self._at)
        self._at += len(data)

    def skip(self, count: int) -> None:
        self._half.zero(self._at, count)
        self._at += count
