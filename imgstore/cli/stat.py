"""`imgstore stat`."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import click

from imgstore.cli.amounts import show_size
from imgstore.cli.command import Command
from imgstore.cli.location import Location
from imgstore.cli.options import LOCATION, json_option, source_options
from imgstore.cli.output import Terminal, table
from imgstore.cli.source import opened
from imgstore.model import ObjectInfo


@click.command(cls=Command)
@click.argument("source", type=LOCATION, metavar="SRC")
@json_option
@source_options
@click.pass_obj
def stat(terminal: Terminal, /, source: Location, as_json: bool, **given: Any) -> None:  # noqa: FBT001 - by name
    """Show size, version, time and digests of the image SRC, a path or a URL, without reading it."""
    with opened(source, given, terminal) as origin:
        info = origin.stat()
    if as_json:
        terminal.print_json(_as_dict(source, info))
    else:
        terminal.print(terminal.scrubbed(table(_rows(source, info))))


def _as_dict(source: Location, info: ObjectInfo) -> dict[str, Any]:
    return {
        "location": source.shown,
        "key": info.key,
        "size": info.size,
        "version": info.version,
        "modified": info.modified,
        "digests": dict(info.digests),
    }


def _rows(source: Location, info: ObjectInfo) -> list[tuple[str, str]]:
    size = "unknown"
    if info.size is not None:
        size = f"{info.size} bytes" + (f" ({show_size(info.size)})" if info.size >= 1024 else "")
    rows = [("location", source.shown), ("size", size), ("version", info.version or "none: cannot be pinned")]
    if info.modified is not None:
        rows.append(("modified", _when(info.modified)))
    return rows + sorted(info.digests.items())


def _when(modified: float) -> str:
    try:
        return datetime.fromtimestamp(modified, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{modified:.0f} s after 1970"
