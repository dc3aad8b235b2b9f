"""Images as files: the driver for local and mounted file systems."""

from __future__ import annotations

from imgstore.backends.filesystem.driver import FilesystemStore

__all__ = ["FilesystemStore"]
