"""`imgstore stat`."""

from __future__ import annotations

from typing import Any

import click

from imgstore.cli.amounts import show_size, show_time
from imgstore.cli.command import Command
from imgstore.cli.configured import needed
from imgstore.cli.location import Location
from imgstore.cli.ls import as_dict
from imgstore.cli.options import LOCATION, json_option, layer_settings, source_options
from imgstore.cli.output import Terminal, table
from imgstore.cli.source import opened
from imgstore.model import ObjectInfo


@click.command(
    cls=Command,
    examples=(
        "imgstore stat https://example.org/disk.img",
        "imgstore stat disks:debian.raw --json",
    ),
)
@click.argument("source", type=LOCATION, metavar="SRC")
@json_option
@source_options
@click.pass_obj
def stat(terminal: Terminal, /, source: Location, as_json: bool, **given: Any) -> None:  # noqa: FBT001 - by name
    """Show size, version, time and digests of the image SRC, without reading it.

    SRC is a path, a URL or STORE:KEY.
    """
    with (
        needed([source], terminal, layer_settings(given)) as stores,
        opened(source, given, terminal, stores) as origin,
    ):
        info = origin.stat()
    if as_json:
        terminal.print_json(_located(source, info))
    else:
        terminal.print(table(_rows(source, info)))


def _located(source: Location, info: ObjectInfo) -> dict[str, Any]:
    return {"location": source.shown, **as_dict(info)}


def _rows(source: Location, info: ObjectInfo) -> list[tuple[str, str]]:
    size = "unknown"
    if info.size is not None:
        size = f"{info.size} bytes" + (f" ({show_size(info.size)})" if info.size >= 1024 else "")
    rows = [("location", source.shown), ("size", size), ("version", info.version or "none: cannot be pinned")]
    if info.modified is not None:
        rows.append(("modified", show_time(info.modified)))
    return rows + sorted(info.digests.items())
