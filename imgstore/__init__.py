"""Pluggable storage backends for disk and VM images: exactly the right bytes, or a typed error."""

from __future__ import annotations

from imgstore.errors import ImgstoreError
from imgstore.model import ANY, ByteRange, Call, CancelToken, Event, Extent, ObjectInfo, StoreRef
from imgstore.store import Store
from imgstore.stream import ByteStream, Opened, RawReader

__all__ = [
    "ANY",
    "ByteRange",
    "ByteStream",
    "Call",
    "CancelToken",
    "Event",
    "Extent",
    "ImgstoreError",
    "ObjectInfo",
    "Opened",
    "RawReader",
    "Store",
    "StoreRef",
]
