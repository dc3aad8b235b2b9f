"""Manifests for tests: given, or made of what a store holds at the moment."""

from __future__ import annotations

import hashlib

from imgstore.errors import NotFoundError
from imgstore.manifest import ChunkDigests, Manifest


def manifest_of(data, chunk_size, *, algorithm="sha256", **fields):
    """The manifest of an image of these bytes."""
    digests = [
        hashlib.new(algorithm, data[at : at + chunk_size]).digest() for at in range(0, len(data), chunk_size)
    ]
    chunks = ChunkDigests(b"".join(digests), hashlib.new(algorithm).digest_size)
    return Manifest(len(data), chunk_size, algorithm, chunks, **fields)


class Given:
    """Manifests by key."""

    def __init__(self, manifests):
        self.manifests = manifests

    def find(self, key, call):
        return self.manifests.get(key)

    def forget(self, key):
        return False

    def check(self, key):
        """Any key can have one."""

    def keep(self, key, manifest, call):
        self.manifests[key] = manifest

    def remove(self, key, call):
        self.manifests.pop(key, None)


class Made:
    """Manifests of whatever a memory store holds."""

    def __init__(self, store, chunk_size):
        self.store, self.chunk_size = store, chunk_size

    def find(self, key, call):
        try:
            image = self.store._images.find(key)
        except NotFoundError:
            return None
        return manifest_of(image.data, self.chunk_size)

    def forget(self, key):
        return False

    def check(self, key):
        """Any key has one."""

    def keep(self, key, manifest, call):
        """Nothing is kept."""

    def remove(self, key, call):
        """Nothing is kept."""
