"""Which paths below a data directory are images, and which are the driver's own."""

from __future__ import annotations

from typing import Final

from imgstore.errors import UnsafeLocationError
from imgstore.publish import is_pending

OWN: Final = ".imgstore"  # the folder of the driver itself: pending uploads, locks
NAME_LIMIT: Final = 255  # bytes of one name; what Linux file systems take (NAME_MAX in <linux/limits.h>)


def split(key: str) -> tuple[list[str], str]:
    """Gives the folders that lead to the file of `key`, and its name.

    A reserved name is refused also for reading, rather than not found: what is there is no image, and whoever
    asks for it should learn why it is never listed.

    Raises: UnsafeLocationError for a key that the driver uses itself, or that no file can have.
    """
    *folders, name = key.split("/")
    for segment in (*folders, name):
        size = len(segment.encode())
        if size > NAME_LIMIT:
            raise UnsafeLocationError(
                f"a segment of the key has {size} bytes; file systems take {NAME_LIMIT}", key=key
            )
        if is_pending(segment):
            raise UnsafeLocationError(f"{segment!r} names a file that is being written, no image", key=key)
    if (folders or [name])[0] == OWN:
        raise UnsafeLocationError(f"{OWN!r} holds what the driver keeps for itself, no images", key=key)
    return folders, name


def is_listed(name: str, *, top: bool) -> bool:
    """Tells whether `name` may be part of a key; `top`: right below the data directory."""
    return not is_pending(name) and not (top and name == OWN)
