"""`imgstore cat`."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from imgstore.cli.command import Command
from imgstore.cli.configured import needed
from imgstore.cli.location import Location
from imgstore.cli.options import LOCATION, POSITIVE_SIZE, SIZE, layer_settings, source_options
from imgstore.cli.output import Terminal
from imgstore.cli.source import check_output, opened
from imgstore.errors import ConfigError


@click.command(
    cls=Command,
    examples=(
        "imgstore cat disks:debian.raw | qemu-img info -",
        "imgstore cat https://example.org/disk.img --offset 1M --length 512 | xxd",
    ),
)
@click.argument("source", type=LOCATION, metavar="SRC")
@click.option("--offset", type=SIZE, metavar="N", help="Begin at this byte, such as 512 or 1GiB.")
@click.option("--length", type=POSITIVE_SIZE, metavar="N", help="Write this many bytes at most.")
@click.option("--force", is_flag=True, help="Write to a terminal, too.")
@source_options
@click.pass_obj
def cat(
    terminal: Terminal,
    /,
    source: Location,
    offset: int | None,
    length: int | None,
    force: bool,  # noqa: FBT001 - by name
    **given: Any,
) -> None:
    """Write the image SRC, or a range of it, to standard output.

    SRC is a path, a URL, STORE:KEY or -. A reader that goes away early, such as head, ends it quietly.
    """
    from imgstore.transfer.copy import copy
    from imgstore.transfer.progress import Report
    from imgstore.transfer.standard import StandardOutput

    if source.kind == "standard" and (offset is not None or length is not None):
        raise ConfigError("standard input has no ranges; use head -c and tail -c for that")
    check_output([source], terminal, force=force)
    with (
        contextlib.suppress(BrokenPipeError),
        needed([source], terminal, layer_settings(given)) as stores,
        opened(source, given, terminal, stores) as origin,
        origin.open(offset or 0, length) as stream,
    ):
        copy(stream, StandardOutput(call=origin.call), report=Report())
