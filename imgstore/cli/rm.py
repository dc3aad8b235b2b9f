"""`imgstore rm`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from imgstore.cli.command import Command
from imgstore.cli.configured import needed
from imgstore.cli.location import Location
from imgstore.cli.options import STORED, json_option, store_options, timeout_option
from imgstore.cli.output import Terminal
from imgstore.cli.source import check_named
from imgstore.cli.status import DONE, exit_status
from imgstore.errors import ConfigError, ImgstoreError, NotFoundError, UnsupportedError
from imgstore.model import Call
from imgstore.store import Store


@click.command(
    cls=Command,
    examples=(
        "imgstore rm disks:debian.raw",
        "imgstore rm -f disks:a.img disks:b.img cold:b.img",
    ),
)
@click.argument("images", type=STORED, metavar="STORE:KEY...", nargs=-1, required=True)
@click.option("--force", "-f", is_flag=True, help="It is no error if an image is not there.")
@click.option("--version", metavar="V", help="Remove it only if this is its version, as stat shows it.")
@json_option
@timeout_option
@store_options
@click.pass_obj
def rm(terminal: Terminal, /, images: tuple[Location, ...], **given: Any) -> int:
    """Remove images from their stores, and first the manifests that are stored with them.

    One that cannot be removed does not keep the others; the exit status is then the highest of all failures.

    With --json the last line is an object with removed, missing and failed.
    """
    told: dict[str, list[Any]] = {"removed": [], "missing": [], "failed": []}
    if given["as_json"]:
        terminal.json = lambda: told
    from imgstore.stack import followed

    version, timeout = given["version"], given["timeout"]
    if version is not None and len(images) > 1:
        raise ConfigError("--version goes with one image")
    status = DONE
    with needed(images, terminal) as stores:
        _check(images, stores)
        call = Call() if timeout is None else Call().within(timeout)
        for image in images:
            try:
                _remove(followed(stores[image.store]), image.key, version, call)
            except ImgstoreError as exc:
                if given["force"] and isinstance(exc, NotFoundError):
                    told["missing"].append(image.shown)
                    continue
                status = max(status, exit_status(exc))
                terminal.say(terminal.sentence(exc))
                told["failed"].append({"location": image.shown, "error": terminal.fields(exc)})
            else:
                told["removed"].append(image.shown)
    if given["as_json"]:
        terminal.print_json(told)
    return status


def _check(images: tuple[Location, ...], stores: Mapping[str, Store]) -> None:
    """Refuses, before anything is removed, what cannot be."""
    for image in images:
        check_named(image)
        if stores[image.store].writer is None:
            raise UnsupportedError("the store is only read; nothing is removed", store=image.store)


def _remove(store: Store, key: str, version: str | None, call: Call) -> None:
    if store.writer is not None:
        store.writer.delete(key, version=version, call=call)
