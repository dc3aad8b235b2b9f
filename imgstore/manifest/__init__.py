"""Manifests: what the bytes of an image are proven by, chunk for chunk, and where copies of it are."""

from __future__ import annotations

from imgstore.manifest.bounded import LIMIT
from imgstore.manifest.digests import (
    ALGORITHMS,
    CHUNK_SIZE,
    ENTRY_LIMIT,
    STRONG,
    ChunkDigests,
    chunk_size_for,
    most_chunks,
)
from imgstore.manifest.image import CHUNK_LIMIT, Manifest, SourceUrl
from imgstore.manifest.metalink import read_metalink, write_metalink
from imgstore.manifest.profile import read_profile
from imgstore.manifest.profile_text import write_profile
from imgstore.manifest.reading import read

__all__ = [
    "ALGORITHMS",
    "CHUNK_LIMIT",
    "CHUNK_SIZE",
    "ENTRY_LIMIT",
    "LIMIT",
    "STRONG",
    "ChunkDigests",
    "Manifest",
    "SourceUrl",
    "chunk_size_for",
    "most_chunks",
    "read",
    "read_metalink",
    "read_profile",
    "write_metalink",
    "write_profile",
]
