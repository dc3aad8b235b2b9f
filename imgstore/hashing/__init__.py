"""Digests of an image in one pass: any set over the whole of it, and one for each chunk, beside the I/O."""

from imgstore.hashing.algorithms import ALGORITHMS, Hash, digest_size, new
from imgstore.hashing.hasher import Digests, Hasher

__all__ = ["ALGORITHMS", "Digests", "Hash", "Hasher", "digest_size", "new"]
