"""Manifests: what the bytes of an image are proven by, chunk for chunk, and where copies of it are."""

from __future__ import annotations

from imgstore.manifest.digests import ALGORITHMS, ENTRY_LIMIT, STRONG, ChunkDigests
from imgstore.manifest.image import CHUNK_LIMIT, Manifest, SourceUrl

__all__ = [
    "ALGORITHMS",
    "CHUNK_LIMIT",
    "ENTRY_LIMIT",
    "STRONG",
    "ChunkDigests",
    "Manifest",
    "SourceUrl",
]
