"""One stream into digests: what a manifest is made of."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from imgstore.errors import TruncatedError
from imgstore.hashing import Hasher
from imgstore.manifest import ALGORITHMS, ChunkDigests, Manifest, SourceUrl, chunk_size_for
from imgstore.stream import ByteStream
from imgstore.transfer.progress import Report
from imgstore.transfer.sparse import SparseStream


def digest(
    stream: ByteStream | SparseStream,
    *,
    report: Report,
    algorithm: str = "sha256",
    chunk_size: int | None = None,
    whole: Collection[str] = ("sha256",),
    version: str | None = None,
    sources: Sequence[SourceUrl] = (),
) -> Manifest:
    """Reads all of `stream` and gives its manifest: a digest of each chunk, and those of the `whole`.

    `chunk_size` is by default that of `chunk_size_for`. `version` is that of the image, where the manifest is
    to name it: it holds in its own store only. Holes are hashed without being read. Memory and threads: those
    of `Hasher`.

    Raises: TruncatedError where the stream ends early; as `ByteStream`; ConfigError for an unknown algorithm.
    """
    report.total = stream.range.size
    chunk_size = chunk_size or chunk_size_for(stream.range.size, algorithm)
    with Hasher(whole, chunk=(algorithm, chunk_size)) as hasher:
        pump(stream, hasher, report)
        found = hasher.finish()
    if found.size != stream.range.size:
        raise TruncatedError(f"{found.size} bytes were read of {stream.range.size}", offset=found.size)
    report.digests.update(found.whole)
    return Manifest(
        found.size,
        chunk_size,
        algorithm,
        ChunkDigests(found.chunks, ALGORITHMS[algorithm]),
        found.whole,
        key=stream.info.key,
        version=version,
        sources=tuple(sources),
    )


def pump(stream: ByteStream | SparseStream, hasher: Hasher, report: Report) -> None:
    """Has all of `stream` hashed. Raises: as `ByteStream`."""
    pass_hole = stream.hole if isinstance(stream, SparseStream) else lambda: 0
    while True:
        if count := pass_hole():
            hasher.skip(count)
        else:
            count = stream.readinto(hasher.buffer())
            if not count:
                return
            hasher.filled(count)
        report.delivered(count)
