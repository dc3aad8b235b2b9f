"""Which names in a pool are images, and which are the driver's own.

A key is the name of its image, but for '/' and '@', which separate the parts of a name for Ceph's tools,
'%', and control characters, which would break their listings: these are percent-encoded. So images that
Glance or `rbd` named are found under their names, and every key has one name. A key that ends in `.meta4` is
that of a manifest, and no image's.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final
from urllib.parse import quote, unquote

from imgstore.errors import UnsafeLocationError
from imgstore.model import MANIFEST_SUFFIX, check_key

OWN: Final = ".imgstore-"
_DRAFT: Final = f"{OWN}new-"  # being written
_REPLACED: Final = f"{OWN}old-"  # the image of a key whose next one is just taking its name
_GONE: Final = f"{OWN}gone-"  # deleted, its objects still to be removed
_MANIFEST: Final = "imgstore.manifest."
# The name ends that of an object, "rbd_id.NAME", of which OSDs take 2048 bytes (osd_max_object_name_len).
NAME_LIMIT: Final = 2040
_ESCAPED: Final = re.compile(r"[%/@\x00-\x1f\x7f]")


def name_of(key: str) -> str:
    """Gives the name of the image of `key`. Raises: UnsafeLocationError for a key that no image can have."""
    if key.startswith(OWN):
        raise UnsafeLocationError(f"names that begin with {OWN!r} are the driver's own", key=key)
    if subject(key) is not None:
        raise UnsafeLocationError(
            f"a key that ends in {MANIFEST_SUFFIX!r} is that of an image's manifest", key=key
        )
    name = _ESCAPED.sub(lambda found: quote(found[0], safe=""), key)
    size = len(name.encode())
    if size > NAME_LIMIT:
        raise UnsafeLocationError(
            f"the key has {size} bytes as the name of an RBD image; Ceph takes {NAME_LIMIT}", key=key
        )
    return name


def key_of(name: str) -> str | None:
    """Gives the key of the image `name`; None for one that no key leads to."""
    if name.startswith(OWN):
        return None
    try:
        key = check_key(unquote(name, errors="strict"))
        return key if name_of(key) == name else None
    except (UnicodeDecodeError, UnsafeLocationError):
        return None


def subject(key: str) -> str | None:
    """Gives the key of the image whose manifest `key` names; None for the key of an image."""
    found = key.removesuffix(MANIFEST_SUFFIX)
    return None if found in {key, ""} or found.endswith("/") else found


def is_manifest(key: str) -> bool:
    """Whether `key` is that of a manifest. Raises: UnsafeLocationError for one that no image can have."""
    of = subject(key)
    name_of(key if of is None else of)
    return of is not None


def manifest(image_id: str) -> str:
    """Gives the name of the RADOS object that the manifest of an image is."""
    return f"{_MANIFEST}{image_id}"


def draft() -> str:
    """Gives the name of an image that is about to be written: one that nobody has."""
    return f"{_DRAFT}{secrets.token_hex(16)}"


def gone() -> str:
    """Gives the name of an image that is about to be removed: one that nobody has."""
    return f"{_GONE}{secrets.token_hex(16)}"


def replaced(key: str) -> str:
    """Gives the name under which the image of `key` is found while another takes its own."""
    return f"{_REPLACED}{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def is_draft(name: str) -> bool:
    """Whether an image of that name is being written."""
    return name.startswith(_DRAFT)


def is_gone(name: str) -> bool:
    """Whether an image of that name has been deleted."""
    return name.startswith(_GONE)


def is_replaced(name: str) -> bool:
    """Whether an image of that name was its key's until another took its place."""
    return name.startswith(_REPLACED)
