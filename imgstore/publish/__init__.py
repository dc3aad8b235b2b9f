"""Publishing of a file: under its name it appears whole and durable, or not at all."""

from __future__ import annotations

from imgstore.publish.failures import file_error
from imgstore.publish.names import is_pending, link_or_rename, pending_name, reap
from imgstore.publish.pending import PendingFile, default_mode, sync_folder

__all__ = [
    "PendingFile",
    "default_mode",
    "file_error",
    "is_pending",
    "link_or_rename",
    "pending_name",
    "reap",
    "sync_folder",
]
