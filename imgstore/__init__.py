"""Pluggable storage backends for disk and VM images: exactly the right bytes, or a typed error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgstore.errors import ImgstoreError
from imgstore.model import ANY, ByteRange, Call, CancelToken, Event, Extent, ObjectInfo, StoreRef
from imgstore.store import Store
from imgstore.stream import ByteStream, Opened, RawReader

if TYPE_CHECKING:
    from imgstore.config import Stores, list_opts, open_stores, register_opts
    from imgstore.files import RangeFile, open_image

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
    "RangeFile",
    "RawReader",
    "Store",
    "StoreRef",
    "Stores",
    "list_opts",
    "open_image",
    "open_stores",
    "register_opts",
]

# Imported when they are asked for: configuration brings oslo.config, which not every program needs.
_LATE = {
    "RangeFile": "imgstore.files",
    "Stores": "imgstore.config",
    "list_opts": "imgstore.config",
    "open_image": "imgstore.files",
    "open_stores": "imgstore.config",
    "register_opts": "imgstore.config",
}


def _late(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_LATE[name]), name)
    return value


if not TYPE_CHECKING:
    __getattr__ = _late  # unseen by type checkers, for which every misspelt name would exist else


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
