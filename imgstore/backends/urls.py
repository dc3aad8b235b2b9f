"""The drivers that URLs lead to, each imported when the first URL of its kind is opened."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from imgstore.errors import ConfigError

if TYPE_CHECKING:
    from imgstore.store import Store

# By scheme. Endpoint and credentials of a service are those that its own tools would use.
SERVICES: Final = {
    "rbd": "imgstore.backends.rbd:RbdStore",
    "s3": "imgstore.backends.s3:S3Store",
    "swift": "imgstore.backends.swift:SwiftStore",
}
WEB: Final = "imgstore.backends.http:HttpStore"

_DRIVERS: Final = {"http": WEB, "https": WEB, **SERVICES}


def at(url: str) -> tuple[Store, str]:
    """Gives the driver that `url` leads to, and the key that its image has there. Nothing is connected to.

    Raises: ConfigError for a scheme that no driver of this package reads, and for what makes no sense to the
    driver.
    """
    scheme = url.partition(":")[0].lower()
    if scheme not in _DRIVERS:
        # what has a wrong scheme may hold a password: it is not repeated
        known = ", ".join(f"{name}://" for name in sorted(_DRIVERS))
        raise ConfigError(f"that is no URL that can be read; one begins with {known}")
    module, _, name = _DRIVERS[scheme].partition(":")
    driver: tuple[Store, str] = getattr(importlib.import_module(module), name).at(url)
    return driver
