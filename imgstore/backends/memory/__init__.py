"""The memory driver: images in this process, for tests and for embedding."""

from __future__ import annotations

from imgstore.backends.memory.store import MemoryStore

__all__ = ["MemoryStore"]
