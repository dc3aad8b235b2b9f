"""`imgstore stores`."""

from __future__ import annotations

from typing import Any

import click

from imgstore.cli.command import Command
from imgstore.cli.configured import driver_of, every
from imgstore.cli.options import json_option, store_options
from imgstore.cli.output import Terminal, table
from imgstore.errors import ConfigError, redact_url
from imgstore.steps import Checkable
from imgstore.store import Store

# What a person calls the abilities, by facet.
_ABILITIES = {
    "writer": "write",
    "uploader": "upload in parts",
    "lister": "list",
    "extents": "holes",
    "device": "device",
    "copier": "copy",
    "acls": "share",
    "space": "space",
}


@click.command(cls=Command)
@json_option
@click.option("--config", "show_config", is_flag=True, help="Show which files the configuration is made of.")
@store_options
@click.pass_obj
def stores(terminal: Terminal, /, as_json: bool, show_config: bool) -> None:  # noqa: FBT001 - by name
    """Show the configured stores: name, driver, where the images are, and what can be done beside reading.

    A * marks the default store. Nothing is connected to; imgstore check STORE does that.

    With --json the last line is an object with files, those of the configuration in the order in which they
    count, default, and stores, each with name, driver, location and facets.
    """
    with every(terminal) as found:
        files = config_files(terminal)
        default = _default(found)
        if as_json:
            told = [
                {
                    "name": name,
                    "driver": found.drivers[name],
                    "location": location(store, terminal),
                    "facets": [facet for facet in _ABILITIES if getattr(store, facet) is not None],
                }
                for name, store in found.items()
            ]
            terminal.print_json({"files": files, "default": default, "stores": told})
            return
        if show_config:
            terminal.print("\n".join(files) or "no file: there is the store 'local', by itself")
            return
        rows = [("", "NAME", "DRIVER", "LOCATION", "CAN")]
        for name, store in found.items():
            mark, place = "*" if name == default else "", location(store, terminal) or "-"
            rows.append((mark, name, found.drivers[name], place, _abilities(store)))
        terminal.print(table(rows))


def location(store: Store, terminal: Terminal) -> str | None:
    """Gives where the images of a store are, as far as its driver tells; without secrets."""
    driver = driver_of(store)
    if isinstance(driver, Checkable):
        return terminal.scrubbed(driver.location)
    return terminal.scrubbed(redact_url(store.endpoint)) if store.endpoint else None


def config_files(terminal: Terminal) -> list[str]:
    """Gives the files that the configuration was read from, in the order in which they count."""
    from imgstore.config.files import read_files

    return list(read_files(terminal.conf))


def _default(found: Any) -> str | None:
    try:
        name: str = found.default_id
    except ConfigError:
        return None  # several, and none was chosen
    return name


def _abilities(store: Store) -> str:
    can = [said for facet, said in _ABILITIES.items() if getattr(store, facet) is not None]
    return ", ".join(["read", *can])
