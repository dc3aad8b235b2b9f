"""The digests of a manifest: which algorithms may prove a chunk, and one digest a chunk, kept compactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, overload

from imgstore.errors import ManifestError
from imgstore.manifest.bounded import LIMIT

CHUNK_SIZE: Final = 4 << 20  # bytes of a chunk unless asked otherwise: what a bad byte costs
ENTRY_LIMIT: Final = 16 << 20  # chunks of one image: 64 TiB of 4 MiB each; their SHA-256 take 512 MiB

# What a chunk may be proven by, and the bytes of each digest. The order is that of preference where a file
# offers several: the strongest last.
ALGORITHMS: Final = {"md5": 16, "sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
# Two different chunks with one MD5 or SHA-1 can be made on a desk: those prove against accidents alone.
STRONG: Final = frozenset({"sha256", "sha384", "sha512"})

_AROUND_DIGEST: Final = (
    20  # bytes around the digits of a chunk's digest in a Metalink file; a profile has less
)
_AROUND_CHUNKS: Final = 1 << 20  # for all else in the file: much more than digests, key and version take


def most_chunks(algorithm: str) -> int:
    """Gives how many chunks a manifest can have that its reader takes: 786,000 of SHA-256.

    >>> most_chunks("sha256") * CHUNK_SIZE >> 40
    3
    """
    return (LIMIT - _AROUND_CHUNKS) // (2 * ALGORITHMS[algorithm] + _AROUND_DIGEST)


def chunk_size_for(size: int | None, algorithm: str = "sha256") -> int:
    """Gives the bytes of a chunk for an image of `size`: 4 MiB, doubled until its manifest can be read.

    >>> chunk_size_for(4 << 40) >> 20
    8
    """
    chunk = CHUNK_SIZE
    while size is not None and size > chunk * most_chunks(algorithm):
        chunk *= 2
    return chunk


class ChunkDigests(Sequence[bytes]):
    """The digests of all chunks in their order: a sequence of `bytes` over one object of count times width.

    Immutable, picklable, usable from any thread. Memory: `width` bytes a chunk.

    Raises: ManifestError where `data` is no whole number of digests of `width` bytes.

    >>> digests = ChunkDigests(bytes(range(64)), 32)
    >>> len(digests), digests[1][0]
    (2, 32)
    """

    __slots__ = ("data", "width")

    data: bytes
    width: int

    def __init__(self, data: bytes, width: int) -> None:
        if width < 1 or len(data) % width:
            raise ManifestError(f"{len(data)} bytes are no whole number of digests of {width} bytes")
        self.data = bytes(data)
        self.width = width

    def __len__(self) -> int:
        return len(self.data) // self.width

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[bytes, ...]: ...
    def __getitem__(self, index: int | slice) -> bytes | tuple[bytes, ...]:
        numbers = range(len(self))[index]
        if isinstance(numbers, range):
            return tuple(self._digest(number) for number in numbers)
        return self._digest(numbers)

    def __iter__(self) -> Iterator[bytes]:
        return (self._digest(number) for number in range(len(self)))

    def _digest(self, number: int) -> bytes:
        return self.data[number * self.width : (number + 1) * self.width]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChunkDigests):
            return NotImplemented
        return self.width == other.width and self.data == other.data

    def __hash__(self) -> int:
        return hash((self.width, self.data))

    def __repr__(self) -> str:
        return f"<{len(self)} digests of {self.width} bytes>"
