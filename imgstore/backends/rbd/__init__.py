"""Images in Ceph, as RBD images with a protected snapshot."""

from __future__ import annotations

from imgstore.backends.rbd.driver import RbdStore

__all__ = ["RbdStore"]
