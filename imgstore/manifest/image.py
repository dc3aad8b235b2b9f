"""What a manifest says of an image: its size, its digests, and where copies of it are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from imgstore.errors import ManifestError, UnsafeLocationError, redact_url
from imgstore.manifest.digests import ALGORITHMS, ENTRY_LIMIT, ChunkDigests
from imgstore.model import ByteRange, check_key

SIZE_LIMIT: Final = (1 << 63) - 1  # what an offset in a file can say
# A chunk is held in memory until it has matched, by each stream that reads.
CHUNK_LIMIT: Final = 256 << 20
LAST_PRIORITY: Final = 999_999  # RFC 5854 section 4.2.16: 1 is the best of 1 to 999999
SOURCE_LIMIT: Final = 1024  # copies of one image: the largest mirror networks have some hundreds
URL_LIMIT: Final = 8192  # characters; RFC 9110 section 4.1 asks for 8000 at least
VERSION_LIMIT: Final = 1024  # characters; S3 has the longest version ids: 1024 bytes
DIGEST_LIMIT: Final = 64  # whole digests of one image: more than there are algorithms

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_HEX: Final = re.compile(r"(?:[0-9a-f]{2}){4,128}")
# A scheme (RFC 3986 section 3.1) and something behind it: no space, nothing that XML cannot hold.
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\x00-\x20\x7f\ud800-\udfff\ufffe\uffff]+")
_VERSION: Final = re.compile(rf"[^\ud800-\udfff]{{1,{VERSION_LIMIT}}}", re.DOTALL)
_LOCATION: Final = re.compile(r"[a-z]{2}")  # ISO 3166-1 alpha-2


@dataclass(frozen=True, slots=True)
class SourceUrl:
    """Where a copy of the image is. `priority`: 1 is tried first, 999999 last; `location`: a country, `de`.

    The repr shows neither user nor query of the URL: it may be a presigned one.

    Raises: ManifestError for what is no absolute URL, no priority or no country.
    """

    url: str
    priority: int = LAST_PRIORITY
    location: str | None = None

    def __post_init__(self) -> None:
        if not _matches(_URL, self.url) or len(self.url) > URL_LIMIT:
            raise ManifestError(
                f"the location {shortened(redact_url(str(self.url)))} is no URL; one with a scheme, of at "
                f"most {URL_LIMIT} characters, would do"
            )
        _check_int("the priority of a location", self.priority, 1, LAST_PRIORITY)
        if self.location is not None and not _matches(_LOCATION, self.location):
            raise ManifestError(
                f"the country {shortened(self.location)} of a location is none; one as 'de' would do"
            )

    def __repr__(self) -> str:
        return f"SourceUrl({redact_url(self.url)!r}, {self.priority}, {self.location!r})"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the bytes of one image are proven by. Immutable, picklable, usable from any thread.

    `size`: bytes of the image. `chunk_size`: bytes of every chunk but the last one, 1 to 256 MiB.
    `algorithm`: that of the chunks, by its name in `hashlib`: sha256, sha384 or sha512, or for old manifests
    md5 or sha1. `chunks`: a digest for each chunk, in order. `digests`: of the whole image, lower-case
    hexadecimal by algorithm. `key`, `version`: of the image that it was made of, None where that is not
    said. `sources`: where copies are, the best first.

    Who makes one in code has allowed its algorithm; the readers of files have their own list of the allowed.

    Raises: ManifestError where the parts contradict one another or are out of their range: the chunks have to
    make up exactly `size` bytes.
    """

    size: int
    chunk_size: int
    algorithm: str
    chunks: ChunkDigests
    digests: Mapping[str, str] = field(default_factory=dict, hash=False)
    key: str | None = None
    version: str | None = None
    sources: tuple[SourceUrl, ...] = ()

    def __post_init__(self) -> None:
        # Its own copies, in one order: equal manifests have equal parts.
        object.__setattr__(self, "digests", dict(sorted(self.digests.items())))
        object.__setattr__(self, "sources", tuple(sorted(self.sources, key=lambda each: each.priority)))
        _check_int("the size", self.size, 0, SIZE_LIMIT)
        _check_int("the chunk size", self.chunk_size, 1, CHUNK_LIMIT)
        self._check_chunks()
        self._check_digests()
        self._check_origin()
        if len(self.sources) > SOURCE_LIMIT:
            raise ManifestError(f"{len(self.sources)} locations are too many: {SOURCE_LIMIT} would do")

    def chunk_range(self, number: int) -> ByteRange:
        """Gives the bytes of chunk `number`, counted from 0. Raises: IndexError where there is none."""
        if not 0 <= number < len(self.chunks):
            raise IndexError(f"there is no chunk {number}: the image has {len(self.chunks)}")
        start = number * self.chunk_size
        return ByteRange(start, min(start + self.chunk_size, self.size))

    def covering(self, start: int, stop: int) -> range:
        """Gives the numbers of the chunks that have bytes in [start, stop), none for an empty range.

        Raises: ValueError for a range that does not lie in the image.
        """
        if not 0 <= start <= stop <= self.size:
            raise ValueError(f"[{start}, {stop}) does not lie in an image of {self.size} bytes")
        if start == stop:
            return range(0)
        return range(start // self.chunk_size, (stop - 1) // self.chunk_size + 1)

    def matches(self, number: int, data: bytes | bytearray | memoryview) -> bool:
        """Tells whether `data` are the bytes of chunk `number`. Raises: IndexError where there is none."""
        if len(memoryview(data).cast("B")) != self.chunk_range(number).size:
            return False
        # MD5 and SHA-1 guard against accidents here, which also a FIPS build of OpenSSL lets them do.
        return hashlib.new(self.algorithm, data, usedforsecurity=False).digest() == self.chunks[number]

    @property
    def pin(self) -> str:
        """One digest that stands for all others: `sha256:` and 64 hexadecimal digits. Hashed at each use.

        It depends on size, chunk size, algorithm, chunk digests and whole digests; not on key, version,
        sources or the format of a file. What is hashed are lines of ASCII, ended by a line feed each:
        `imgstore-manifest 1`, `size N`, `chunk-size N`, `digest NAME HEX` for each whole digest by name,
        `chunks NAME COUNT`, and behind them the digests of the chunks as they are.
        """
        whole = "".join(f"digest {name} {value}\n" for name, value in self.digests.items())
        head = (
            f"imgstore-manifest 1\nsize {self.size}\nchunk-size {self.chunk_size}\n{whole}"
            f"chunks {self.algorithm} {len(self.chunks)}\n"
        )
        hashed = hashlib.sha256(head.encode("ascii"))
        hashed.update(self.chunks.data)
        return f"sha256:{hashed.hexdigest()}"

    def _check_chunks(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ManifestError(
                f"chunks cannot be proven by {shortened(self.algorithm)}; {', '.join(ALGORITHMS)} would do"
            )
        count = -(-self.size // self.chunk_size)
        if count > ENTRY_LIMIT:
            raise ManifestError(
                f"{count} chunks of {self.chunk_size} bytes are too many; {ENTRY_LIMIT} larger ones would do"
            )
        if len(self.chunks) != count:
            raise ManifestError(
                f"{len(self.chunks)} chunk digests for {self.size} bytes in chunks of {self.chunk_size}; "
                f"{count} would do"
            )
        if self.chunks.width != ALGORITHMS[self.algorithm]:
            raise ManifestError(
                f"chunk digests of {self.chunks.width} bytes are none of {self.algorithm}, which has "
                f"{ALGORITHMS[self.algorithm]}"
            )

    def _check_digests(self) -> None:
        if len(self.digests) > DIGEST_LIMIT:
            raise ManifestError(f"{len(self.digests)} digests of the image are too many")
        for name, value in self.digests.items():
            if not _matches(_NAME, name):
                raise ManifestError(f"{shortened(name)} is no name of a digest; one as in hashlib would do")
            wanted = ALGORITHMS.get(name)
            if not _matches(_HEX, value) or (wanted is not None and len(value) != 2 * wanted):
                digits = f"{2 * wanted} digits" if wanted else "digits"
                raise ManifestError(
                    f"the {name} of the image is {shortened(value)}; lower-case hexadecimal {digits} would do"
                )
        whole = self.digests.get(self.algorithm)
        if whole is not None and len(self.chunks) == 1 and self.chunks[0].hex() != whole:
            raise ManifestError(
                f"the {self.algorithm} of the image is not that of its only chunk: one of them is wrong"
            )

    def _check_origin(self) -> None:
        if self.key is not None:
            try:
                check_key(self.key)
            except UnsafeLocationError as exc:
                raise ManifestError(f"made of an image with an unusable key: {exc}") from exc
        if self.version is not None and not _matches(_VERSION, self.version):
            raise ManifestError(
                f"the version {shortened(self.version)} is none; 1 to {VERSION_LIMIT} characters would do"
            )


def _check_int(what: str, value: Any, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ManifestError(f"{what} is {shortened(value)}; a whole number from {low} to {high} would do")


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def shortened(value: Any) -> str:
    """Gives `value` as a message shows it: one line, of at most 80 characters."""
    shown = repr(value) if not isinstance(value, int) or value.bit_length() < 256 else "a huge number"
    return shown if len(shown) <= 80 else shown[:77] + "..."
