"""The stores of the configuration, opened only for a command that names one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from imgstore.cli.location import Location, unknown_store
from imgstore.cli.output import Terminal
from imgstore.errors import ConfigError, ImgstoreError
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

    Raises: ConfigError.
    """
    from imgstore.config import load, open_stores

    conf = load(terminal.config_file)
    for store_id, given in settings.items():
        _set(conf, store_id, given)
    with open_stores(conf) as stores:
        terminal.conf, terminal.stores = conf, frozenset(stores)
        terminal.hide(_secrets(conf, stores))
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


def _secrets(conf: ConfigOpts, stores: Stores) -> Iterator[str]:
    """Gives whatever is secret in the options of the stores: lines, and what follows a colon in them."""
    from imgstore.config.options import DEFAULTS, group_of

    for store_id, store in stores.items():
        for option in store.OPTIONS:
            for group in (group_of(store_id), DEFAULTS) if option.secret else ():
                for text in _texts(conf[group], option.dest):
                    for line in text.splitlines():
                        yield from (line.strip(), line.partition(":")[2].strip())


def _texts(section: Any, name: str) -> Iterator[str]:
    """Gives the values of an option and what is in its file. Drivers tell what is wrong with either."""
    from imgstore.secret import SecretFile

    yield from _listed(section[name])
    with contextlib.suppress(ImgstoreError, AttributeError):
        for path in _listed(section[f"{name}_file"]):
            yield SecretFile(path, name)()


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]
