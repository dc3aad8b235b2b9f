"""A manifest on its way out of a file: what was said so far, and what is to be made of it."""

from __future__ import annotations

import io
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from imgstore.errors import ConfigError, ManifestError
from imgstore.manifest.digests import ALGORITHMS, CHUNK_SIZE, ENTRY_LIMIT, ChunkDigests
from imgstore.manifest.image import (
    CHUNK_LIMIT,
    DIGEST_LIMIT,
    SIZE_LIMIT,
    SOURCE_LIMIT,
    Manifest,
    SourceUrl,
    shortened,
)

_NUMBER: Final = re.compile(r"[0-9]{1,19}")  # 2^63 has 19 digits


def allowed_algorithms(allow: Collection[str]) -> frozenset[str]:
    """Gives `allow` as a set. Raises: ConfigError where it has what no chunk can be proven by."""
    unknown = sorted(set(allow) - set(ALGORITHMS))
    if unknown or isinstance(allow, str):
        raise ConfigError(f"chunks cannot be proven by {unknown}; a list of {', '.join(ALGORITHMS)} would do")
    return frozenset(allow)


def number(what: str, text: str) -> int:
    """Gives the whole number that `text` is. Raises: ManifestError for all else, or above 2^63 - 1."""
    if _NUMBER.fullmatch(text) and (value := int(text)) <= SIZE_LIMIT:
        return value
    raise ManifestError(f"{what} is {shortened(text)}; a whole number from 0 to {SIZE_LIMIT} would do")


class ChunkList:
    """Digests of chunks as they are read: a growing buffer of them, and nothing else."""

    def __init__(self, algorithm: str, chunk_size: int) -> None:
        self.algorithm = algorithm
        self.chunk_size = chunk_size
        self._width = ALGORITHMS[algorithm]
        self._buffer = io.BytesIO()
        self._count = 0

    def add(self, text: str) -> None:
        """Adds the next chunk's digest. Raises: ManifestError for what is none, or is one too many."""
        try:
            digest = bytes.fromhex(text)
        except ValueError:
            digest = b""
        if len(digest) != self._width:
            raise ManifestError(
                f"the digest of chunk {self._count} is {shortened(text)}; {2 * self._width} hexadecimal "
                f"digits of {self.algorithm} would do"
            )
        if self._count == ENTRY_LIMIT:
            raise ManifestError(f"more than {ENTRY_LIMIT} chunk digests are not read; larger chunks would do")
        self._count += 1
        self._buffer.write(digest)

    def digests(self) -> ChunkDigests:
        """Gives what was added, without a copy."""
        return ChunkDigests(self._buffer.getvalue(), self._width)


@dataclass
class Draft:
    """What a file said of one image so far."""

    allow: frozenset[str]
    size: int | None = None
    chunks: ChunkList | None = None
    offered: list[str] = field(default_factory=list)  # algorithms of lists of chunks, allowed or not
    digests: dict[str, str] = field(default_factory=dict)
    sources: list[SourceUrl] = field(default_factory=list)
    key: str | None = None
    version: str | None = None
    pin: str | None = None

    def set_size(self, text: str) -> None:
        if self.size is not None:
            raise ManifestError("the size is given twice")
        self.size = number("the size", text)

    def offer(self, algorithm: str, chunk_size: int) -> ChunkList | None:
        """Gives the list for chunk digests of `algorithm`, or None where they are not needed.

        Needed are those of the strongest algorithm that is allowed.
        """
        if algorithm in self.offered:
            raise ManifestError(f"the {algorithm} of the chunks are given twice")
        self.offered.append(algorithm)
        ranks = list(ALGORITHMS)
        if algorithm not in self.allow:
            return None
        if self.chunks is not None and ranks.index(algorithm) < ranks.index(self.chunks.algorithm):
            return None
        self.chunks = ChunkList(algorithm, chunk_size)
        return self.chunks

    def add_digest(self, algorithm: str, value: str) -> None:
        if algorithm in self.digests:
            raise ManifestError(f"the {algorithm} of the image is given twice")
        if len(self.digests) == DIGEST_LIMIT:
            raise ManifestError(f"more than {DIGEST_LIMIT} digests of the image are not read")
        self.digests[algorithm] = value.lower()

    def add_source(self, source: SourceUrl) -> None:
        if len(self.sources) == SOURCE_LIMIT:
            raise ManifestError(f"more than {SOURCE_LIMIT} locations of one image are not read")
        self.sources.append(source)

    def finish(self) -> Manifest:
        """Gives the manifest.

        Raises: ManifestError where something is missing or contradicts the rest, and where the pin that the
        file gives is not that of what was read.
        """
        if self.size is None:
            raise ManifestError("the size of the image is missing")
        chunks = self.chunks or self._whole(self.size)
        manifest = Manifest(
            self.size,
            chunks.chunk_size,
            chunks.algorithm,
            chunks.digests(),
            self.digests,
            self.key,
            self.version,
            tuple(self.sources),
        )
        if self.pin is not None and manifest.pin != self.pin:
            raise ManifestError(
                f"the pin in the file is {shortened(self.pin)}, that of its content is another"
            )
        return manifest

    def _whole(self, size: int) -> ChunkList:
        """Gives the list of one chunk, the image itself: what a file without chunk digests proves."""
        strongest = [name for name in ALGORITHMS if name in self.allow and name in self.digests]
        if size == 0:
            return ChunkList(strongest[-1] if strongest else "sha256", CHUNK_SIZE)
        if not strongest or size > CHUNK_LIMIT:
            found = ", ".join(self.offered) or "none"
            wanted = ", ".join(name for name in ALGORITHMS if name in self.allow) or "an allowed algorithm"
            raise ManifestError(f"chunk digests of {wanted} are missing: there are {found}")
        only = ChunkList(strongest[-1], size)
        only.add(self.digests[only.algorithm])
        return only


def pinned(manifest: Manifest, pin: str | None) -> Manifest:
    """Gives `manifest` back. Raises: ManifestError where it is not the one that `pin` stands for."""
    if pin is not None and manifest.pin != pin.lower():
        raise ManifestError(f"the manifest is another than the pinned one: it has the pin {manifest.pin}")
    return manifest
