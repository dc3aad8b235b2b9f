"""The stores of the configuration, opened only for a command that names one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from imgstore.cli.location import Location, unknown_store
from imgstore.cli.output import Terminal
from imgstore.errors import ConfigError
from imgstore.layers.base import Layer
from imgstore.store import Store

if TYPE_CHECKING:
    from oslo_config.cfg import ConfigOpts

    from imgstore.config import Stores


@contextlib.contextmanager
def needed(
    locations: Iterable[Location], terminal: Terminal, settings: Mapping[str, Any] = {}
) -> Iterator[Mapping[str, Store]]:
    """Gives the stores where one of `locations` is in a store, else none; closed at the end.

    `settings` of the layers go, in the stores that are named, before what is configured.

    Raises: ConfigError for a store that is not configured, naming those that are.
    """
    named = [each for each in locations if each.kind == "store"]
    if not named:
        yield {}
        return
    with every(terminal, dict.fromkeys((each.store for each in named), settings)) as stores:
        for each in named:
            if each.store not in stores:
                raise ConfigError(unknown_store(each.store, each.key, stores))
        yield stores


@contextlib.contextmanager
def every(terminal: Terminal, settings: Mapping[str, Mapping[str, Any]] = {}) -> Iterator[Stores]:
    """Gives all stores; closed at the end. `settings` are those of layers, by store.

    Those for a mirror, which has no layers, are its legs'.

    Raises: ConfigError.
    """
    from imgstore.config import load, open_stores
    from imgstore.config.mirrors import read_from

    conf = load(terminal.config_file)
    for store_id, given in settings.items():
        for each in read_from(conf, store_id) if given else ():
            _set(conf, each, given)
    with open_stores(conf, hide=terminal.hide) as stores:
        terminal.conf, terminal.stores = conf, frozenset(stores)
        yield stores


def driver_of(store: Store) -> Store:
    """Gives the driver inside the layers of `store`."""
    while isinstance(store, Layer):
        store = store.inner
    return store


def _set(conf: ConfigOpts, store_id: str, settings: Mapping[str, Any]) -> None:
    from imgstore.config.options import LAYER_OPTIONS, group_of

    conf.register_opts(LAYER_OPTIONS, group_of(store_id))
    for name, value in settings.items():
        conf.set_override(name, value, group_of(store_id))
