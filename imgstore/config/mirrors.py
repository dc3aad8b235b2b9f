"""Mirrors by configuration: stores that are made of other stores of the same configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from oslo_config import cfg

from imgstore.config.drivers import MIRROR, nearest
from imgstore.config.enabled import enabled_stores
from imgstore.config.options import group_of
from imgstore.config.values import register
from imgstore.errors import ConfigError
from imgstore.stack import leg
from imgstore.store import Store

if TYPE_CHECKING:
    from imgstore.layers.mirror import Leg

LEGS: Final = cfg.ListOpt(
    "legs",
    default=[],
    sample_default="disks:1, web:2",
    help="The stores that the mirror reads from, as NAME:PRIORITY, separated by commas. Priority 1 is the "
    "best, and the default; stores of one priority are chosen by how fast they serve. Each is another "
    "enabled store, has the same images under the same keys, and keeps the settings of its own section; a "
    "mirror is none. What one store cannot open is read from the next; a read that has begun goes on "
    "elsewhere only where equal manifests ('verify' in the sections of the stores) or an equal SHA-256 prove "
    "that the bytes are the same.",
)

_LEG: Final = re.compile(r"([^:\s]+)(?:\s*:\s*([1-9][0-9]{0,5}))?")


class MirrorOptions:
    """What `conf` says of one mirror: its legs. Made and read at the start, in one thread."""

    def __init__(self, conf: cfg.ConfigOpts, store_id: str) -> None:
        """Registers the mirror's section with `conf`. Raises: ConfigError for what names no legs."""
        self.store_id = store_id
        self.group = group_of(store_id)
        register(conf, LEGS, self.group)
        self.known = set(conf[self.group])
        self.priorities = _priorities(conf[self.group].legs, self.group)

    def legs(self, stores: Mapping[str, Store], enabled: Mapping[str, str]) -> list[Leg]:
        """Gives the legs out of `stores`, those with a driver, in all their layers.

        Raises: ConfigError for one that is not `enabled` or a mirror, this one or another.
        """
        for name in self.priorities:
            if name not in enabled:
                raise ConfigError(f"legs has {name!r}, which is not enabled{nearest(name, stores)}")
            if name not in stores:
                raise ConfigError(f"legs has {name!r}, which is a mirror; the stores that it joins would do")
        return [leg(stores[name], priority=priority) for name, priority in self.priorities.items()]


def read_from(conf: cfg.ConfigOpts, store_id: str) -> list[str]:
    """Gives the stores that a read from `store_id` goes to: it alone, or the legs of a mirror.

    Raises: ConfigError as `open_stores`, for what would keep that from opening the store.
    """
    if enabled_stores(conf).get(store_id) != MIRROR:
        return [store_id]
    return list(MirrorOptions(conf, store_id).priorities)


def _priorities(entries: list[str], group: str) -> dict[str, int]:
    if not entries:
        raise ConfigError(f"the option 'legs' is needed; set it in [{group}]")
    found: dict[str, int] = {}
    for entry in entries:
        told = _LEG.fullmatch(entry)
        if told is None:
            raise ConfigError(f"legs has {entry!r}; NAME:PRIORITY would do, with a priority of 1 to 999999")
        if told[1] in found:
            raise ConfigError(f"legs names {told[1]!r} twice; once would do")
        found[told[1]] = int(told[2] or 1)
    return found
