"""Which stores a configuration enables, and which of them is meant where none is named."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from oslo_config import cfg

from imgstore.config.drivers import nearest
from imgstore.config.options import MAIN
from imgstore.errors import ConfigError

# Fit for a section, for NAME:KEY on a command line, and for the label of a metric.
_STORE_ID: Final = re.compile(r"[a-z0-9_][a-z0-9_-]{0,63}")
# [store_defaults] is no store's section; http:KEY is more likely a URL that was typed wrong.
_RESERVED: Final = frozenset({"defaults", "http", "https"})


def enabled_stores(conf: cfg.ConfigOpts) -> dict[str, str]:
    """Gives the driver of each store by the store's name.

    Raises: ConfigError for what is no NAME:DRIVER, and for a name given twice.
    """
    found: dict[str, str] = {}
    for entry in conf[MAIN].enabled_stores:
        store_id, colon, driver = (part.strip() for part in entry.partition(":"))
        if not colon or not driver:
            raise ConfigError(f"enabled_stores in [{MAIN}] has {entry!r}; NAME:DRIVER would do")
        if not _STORE_ID.fullmatch(store_id):
            raise ConfigError(
                f"enabled_stores in [{MAIN}]: {store_id!r} is no name for a store; it takes 1 to 64"
                " characters of a-z, 0-9, _ and -, and does not begin with a hyphen"
            )
        if store_id in _RESERVED:
            raise ConfigError(
                f"enabled_stores in [{MAIN}]: no store can be named {store_id!r}, which means something else;"
                f" {store_id}_store would do"
            )
        if store_id in found:
            raise ConfigError(f"enabled_stores in [{MAIN}] names {store_id!r} twice; one name is one store")
        found[store_id] = driver
    return found


def default_store(conf: cfg.ConfigOpts, enabled: Collection[str]) -> str | None:
    """Gives the name of the default store; None where there are several and none is chosen.

    Raises: ConfigError for one that is not enabled.
    """
    named: str | None = conf[MAIN].default_store
    if named is None:
        return next(iter(enabled)) if len(enabled) == 1 else None
    if named not in enabled:
        raise ConfigError(
            f"default_store in [{MAIN}] is {named!r}, which is not enabled{nearest(named, enabled)};"
            f" there are: {', '.join(enabled)}"
        )
    return named
