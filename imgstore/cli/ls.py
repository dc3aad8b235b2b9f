"""`imgstore ls`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import click

from imgstore.cli.amounts import show_size, show_time
from imgstore.cli.command import Command
from imgstore.cli.configured import every, needed
from imgstore.cli.location import Location
from imgstore.cli.options import STORED, store_options, timeout_option
from imgstore.cli.output import Terminal, printable
from imgstore.errors import UnsupportedError
from imgstore.model import Call, ObjectInfo
from imgstore.store import Store

# Fixed, since the widest cell is known only when the last image is: a listing may have a million lines.
_SIZE: Final = len("1023.9 MiB")
_BYTES: Final = len("1099511627776")  # 1 TiB
_TIME: Final = len("2026-01-01 00:00:00 UTC")


@click.command(
    cls=Command,
    examples=(
        "imgstore ls                     everything in the default store",
        "imgstore ls disks:              everything in the store disks",
        "imgstore ls -l disks:debian/    what begins with debian/",
    ),
)
@click.argument("place", type=STORED, metavar="[STORE:[PREFIX]]", required=False)
@click.option("--long", "-l", "is_long", is_flag=True, help="Show exact bytes, and the version.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each image, one on a line.")
@timeout_option
@store_options
@click.pass_obj
def ls(
    terminal: Terminal,
    /,
    place: Location | None,
    is_long: bool,  # noqa: FBT001 - by name
    as_json: bool,  # noqa: FBT001
    timeout: float | None,
) -> None:
    """List the images in STORE whose keys begin with PREFIX; of the default store, if none is named.

    Shows size, time and key of each, in the order of the keys, as they come. None is no error. Manifests that
    are beside their images (KEY.meta4) are not shown.

    With --json each line is an object with key, size, version, modified and digests; after a failure the last
    one has error instead.
    """
    with ExitStack() as stack:
        store = _store(stack, place, terminal)
        call = Call() if timeout is None else Call().within(timeout)
        if store.lister is None:
            raise UnsupportedError("this store cannot list its images", store=store.store_id)
        infos = store.lister.list("" if place is None else place.key, call=call)
        if as_json:
            terminal.print_lines(terminal.json_line(as_dict(info)) for info in infos)
        else:
            terminal.print_lines(_rows(infos, is_long=is_long))


def as_dict(info: ObjectInfo) -> dict[str, Any]:
    """Gives what a store says of an image, for JSON."""
    return {
        "key": info.key,
        "size": info.size,
        "version": info.version,
        "modified": info.modified,
        "digests": dict(info.digests),
    }


def _store(stack: ExitStack, place: Location | None, terminal: Terminal) -> Store:
    from imgstore.stack import followed

    if place is None:
        return followed(stack.enter_context(every(terminal)).default)
    return followed(stack.enter_context(needed([place], terminal))[place.store])


def _rows(infos: Iterable[ObjectInfo], *, is_long: bool) -> Iterator[str]:
    widest = 0
    for info in infos:
        modified = "" if info.modified is None else show_time(info.modified)
        if is_long:
            size = "?" if info.size is None else str(info.size)
            version = printable(info.version or "-")
            widest = max(widest, len(version))
            yield f"{size:>{_BYTES}}  {modified:{_TIME}}  {version:{widest}}  {printable(info.key)}"
        else:
            size = "?" if info.size is None else show_size(info.size)
            yield f"{size:>{_SIZE}}  {modified:{_TIME}}  {printable(info.key)}"
