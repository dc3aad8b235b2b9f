"""An image held against its manifest, and what is damaged of it rewritten."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from imgstore.errors import DigestMismatchError, StorageIOError, VersionChangedError
from imgstore.hashing import Digests, Hasher
from imgstore.manifest import ALGORITHMS, ChunkDigests, Manifest
from imgstore.model import NO_CALL, ByteRange, Call, ObjectInfo
from imgstore.store import Store
from imgstore.transfer.digest import pump
from imgstore.transfer.progress import Report
from imgstore.transfer.sparse import open_source


@dataclass(frozen=True, slots=True)
class Damage:
    """What was found: how many chunks were looked at, and the numbers of the bad ones, ascending."""

    manifest: Manifest
    checked: int
    chunks: tuple[int, ...]

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
        _check_size(stream.range.size, manifest, key)
        report.total = manifest.size
        with Hasher(chunk=(manifest.algorithm, manifest.chunk_size)) as hasher:
            pump(stream, hasher, report)
            found = hasher.finish().chunks
    return Damage(manifest, len(manifest.chunks), differing(manifest.chunks, found))


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

    Raises: as `verify`. Memory: one chunk.
    """
    info = store.stat(key, call=call)
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
    return Damage(manifest, len(numbers), tuple(bad))


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

    Each is written after it matched, where it stood, and all are synced at the end. What fails leaves the
    chunks before it repaired.

    Raises: DigestMismatchError where the other copy is damaged there, too, naming the chunks, after those
    that could be were repaired; StorageIOError; as `Store.get`. Memory: one chunk.
    """
    manifest = damage.manifest
    report.total = sum(manifest.chunk_range(number).size or 0 for number in damage.chunks)
    info = other.stat(key, call=call)
    left = []
    with open(path, "r+b", buffering=0) as file:
        for number in damage.chunks:
            data = _chunk(other, info, manifest, number, call)
            if not manifest.matches(number, data):
                left.append(number)
                continue
            _write(file.fileno(), data, manifest.chunk_range(number).start)
            report.repaired_chunks += 1
            report.delivered(len(data))
        os.fsync(file.fileno())
    if left:
        raise DigestMismatchError(
            f"{len(left)} chunks are damaged in {key!r} as well", chunks=left, key=key, store=other.store_id
        )


def _chunk(store: Store, info: ObjectInfo, manifest: Manifest, number: int, call: Call) -> bytes:
    whole, key = manifest.chunk_range(number), info.key
    with store.get(key, whole.start, whole.size, version=info.version, call=call) as stream:
        if stream.info.size != manifest.size:
            raise VersionChangedError("the image was replaced while it was read", key=key)
        return stream.read(whole.size or 0)


def _check_size(size: int | None, manifest: Manifest, key: str) -> None:
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
