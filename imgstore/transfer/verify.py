"""An image held against its manifest, and what is damaged of it rewritten."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from imgstore.backends.filesystem.stamp import version_of
from imgstore.errors import (
    DigestMismatchError,
    ImgstoreError,
    StorageIOError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.hashing import Digests, Hasher
from imgstore.manifest import ALGORITHMS, ChunkDigests, Manifest
from imgstore.model import NO_CALL, ByteRange, Call, ObjectInfo
from imgstore.publish import file_error
from imgstore.store import Store
from imgstore.transfer.digest import pump
from imgstore.transfer.progress import Report
from imgstore.transfer.sparse import open_source


@dataclass(frozen=True, slots=True)
class Damage:
    """What was found: how many chunks were looked at, and the numbers of the bad ones, ascending.

    `version` is that of the image they are of, None where its store has none.
    """

    manifest: Manifest
    checked: int
    chunks: tuple[int, ...]
    version: str | None = None

    @property
    def ranges(self) -> Iterator[ByteRange]:
        """The damaged bytes, neighbouring chunks joined."""
        for _, group in itertools.groupby(enumerate(self.chunks), key=lambda each: each[1] - each[0]):
            numbers = [number for _, number in group]
            first, last = (self.manifest.chunk_range(number) for number in (numbers[0], numbers[-1]))
            yield ByteRange(first.start, last.stop)


def verify(store: Store, key: str, manifest: Manifest, *, report: Report, call: Call = NO_CALL) -> Damage:
    """Reads all of the image and gives the chunks that do not match.

    Raises: DigestMismatchError for an image of another size, which has no chunk in its place; as `Store.get`.
    Memory and threads: those of `Hasher`.
    """
    with open_source(store, key, call=call) as stream:
        if stream.range.size is not None:
            _check_size(stream.range.size, manifest, key)
        report.total = manifest.size
        with Hasher(chunk=(manifest.algorithm, manifest.chunk_size)) as hasher:
            pump(stream, hasher, report)
            found = hasher.finish()
    _check_size(found.size, manifest, key)  # of an image without a length, its end tells
    bad = differing(manifest.chunks, found.chunks)
    return Damage(manifest, len(manifest.chunks), bad, stream.info.version)


def differing(wanted: ChunkDigests, found: bytes) -> tuple[int, ...]:
    """Gives the numbers of the chunks whose digest in `found`, one after the other, is not the wanted one."""
    width = wanted.width
    return tuple(
        number
        for number, digest in enumerate(wanted)
        if found[number * width : (number + 1) * width] != digest
    )


def read_back(
    store: Store, info: ObjectInfo, sent: Digests, chunk: tuple[str, int], *, call: Call = NO_CALL
) -> None:
    """Reads all of the image `info` that was stored, and holds its chunks against those that were sent.

    `chunk` is their algorithm and size. Holes are read like all else: whoever asks trusts the store in
    nothing.

    Raises: DigestMismatchError naming the chunks; as `Store.get`. Memory and threads: those of `Hasher`.
    """
    with (
        store.get(info.key, version=info.version, call=call) as stream,
        Hasher(chunk=chunk) as hasher,
    ):
        pump(stream, hasher, Report())
        found = hasher.finish()
    bad = differing(ChunkDigests(sent.chunks, ALGORITHMS[chunk[0]]), found.chunks)
    if bad or found.size != sent.size:
        raise DigestMismatchError(
            f"the store gives back {found.size} bytes of the {sent.size} that were sent, and {len(bad)} "
            f"chunks of {chunk[1]} bytes are damaged",
            chunks=bad,
            key=info.key,
        )


def sample(
    store: Store,
    key: str,
    manifest: Manifest,
    count: int,
    *,
    report: Report,
    call: Call = NO_CALL,
    draw: Callable[[range, int], Sequence[int]] = random.sample,
) -> Damage:
    """Reads `count` chunks drawn at random, all of them where there are no more, and gives the bad ones.

    Raises: as `verify`; UnsupportedError where the store tells no length. Memory: one chunk.
    """
    info = store.stat(key, call=call)
    if info.size is None:
        raise UnsupportedError(
            "the store tells no length of the image: only all of it can be verified",
            key=key,
            store=store.store_id,
        )
    _check_size(info.size, manifest, key)
    total = len(manifest.chunks)
    numbers = sorted(draw(range(total), min(count, total)))
    report.total = sum(manifest.chunk_range(number).size or 0 for number in numbers)
    bad = []
    for number in numbers:
        data = _chunk(store, info, manifest, number, call)
        if not manifest.matches(number, data):
            bad.append(number)
        report.delivered(len(data))
    return Damage(manifest, len(numbers), tuple(bad), info.version)


def repair(
    path: str | os.PathLike[str],
    damage: Damage,
    other: Store,
    key: str,
    *,
    report: Report,
    call: Call = NO_CALL,
) -> None:
    """Rewrites the damaged chunks of the file `path`, and nothing else, with those of another copy.

    The file is the one that `damage` was found in, by way of a filesystem store. Each chunk is written after
    it matched, where it stood, and all are synced at the end. What fails leaves those before it repaired.

    Raises: VersionChangedError where the file was replaced or written to since, and nothing was written;
    DigestMismatchError where the other copy is damaged there, too, naming the chunks, after those that could
    be were repaired; NoSpaceError, PermissionDeniedError, StorageIOError...; as `Store.get`. Memory: one
    chunk.
    """
    manifest = damage.manifest
    report.total = sum(manifest.chunk_range(number).size or 0 for number in damage.chunks)
    info = other.stat(key, call=call)
    left = []
    with _opened(path, damage) as file:
        for number in damage.chunks:
            data = _chunk(other, info, manifest, number, call)
            if not manifest.matches(number, data):
                left.append(number)
                continue
            _write(file, data, manifest.chunk_range(number).start)
            report.repaired_chunks += 1
            report.delivered(len(data))
    if left:
        raise DigestMismatchError(
            f"{len(left)} chunks are damaged in {key!r} as well", chunks=left, key=key, store=other.store_id
        )


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], damage: Damage) -> Iterator[int]:
    """Gives a descriptor of the damaged file to be written to; what was written is synced in the end."""
    try:
        with open(path, "r+b", buffering=0) as file:
            if version_of(os.fstat(file.fileno())) != damage.version:
                raise VersionChangedError(
                    f"{os.fspath(path)} was replaced or written to meanwhile; nothing was repaired"
                )
            try:
                yield file.fileno()
            finally:
                os.fsync(file.fileno())
    except ImgstoreError:
        raise
    except OSError as exc:
        raise file_error(exc, f"cannot repair {os.fspath(path)}") from exc


def _chunk(store: Store, info: ObjectInfo, manifest: Manifest, number: int, call: Call) -> bytes:
    whole, key = manifest.chunk_range(number), info.key
    with store.get(key, whole.start, whole.size, version=info.version, call=call) as stream:
        if stream.info.size != manifest.size:
            raise VersionChangedError("the image was replaced while it was read", key=key)
        return stream.read(whole.size or 0)


def _check_size(size: int, manifest: Manifest, key: str) -> None:
    if size != manifest.size:
        raise DigestMismatchError(
            f"{key!r} has {size} bytes, its manifest {manifest.size}: it is another image, or cut off",
            key=key,
        )


def _write(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, at)
        if not count:
            raise StorageIOError(f"no byte could be written at {at}", offset=at)
        view, at = view[count:], at + count
