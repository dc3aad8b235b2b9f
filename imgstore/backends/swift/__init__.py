"""Images in OpenStack Swift and in radosgw's Swift API."""

from __future__ import annotations

from imgstore.backends.swift.driver import SwiftStore

__all__ = ["SwiftStore"]
