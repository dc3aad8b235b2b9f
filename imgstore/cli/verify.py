"""`imgstore verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imgstore.cli.command import Command
from imgstore.cli.configured import needed
from imgstore.cli.digest import read_manifest
from imgstore.cli.location import Location
from imgstore.cli.meter import MODES, json_events, shown
from imgstore.cli.options import (
    FILE,
    LOCATION,
    URL_OPTIONS,
    json_option,
    layer_settings,
    name_option,
    source_options,
)
from imgstore.cli.output import Terminal
from imgstore.cli.source import Source, opened
from imgstore.errors import ConfigError, DigestMismatchError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imgstore.layers.verify import Manifests
    from imgstore.manifest import Manifest
    from imgstore.store import Store
    from imgstore.transfer.progress import Report
    from imgstore.transfer.verify import Damage


@click.command(
    cls=Command,
    examples=(
        "imgstore verify disk.img --manifest disk.img.meta4",
        "imgstore verify disks:debian.raw",
        "imgstore verify cold:debian.raw --manifest debian.raw.meta4 --sample 100",
        "imgstore verify disk.img --manifest disk.img.meta4 --repair-from https://example.org/disk.img",
    ),
)
@click.argument("source", type=LOCATION, metavar="SRC")
@click.option(
    "--manifest",
    type=FILE,
    metavar="FILE",
    help="What imgstore digest -o wrote. [default: the one stored with SRC, SRC.meta4]",
)
@name_option
@click.option("--pin", metavar="PIN", help="The manifest has to be this one: sha256: and 64 digits.")
@click.option("--allow-weak", is_flag=True, help="Take MD5 or SHA-1 of chunks, too: against accidents alone.")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Look at N chunks drawn at random.")
@click.option(
    "--repair-from",
    type=LOCATION,
    metavar="OTHER",
    help="Rewrite what is damaged of the file SRC.",
)
@json_option
@click.option(
    "--progress", type=click.Choice(MODES), default="auto", help="As for imgstore cp. [default: auto]"
)
@source_options
@click.pass_obj
def verify(terminal: Terminal, /, source: Location, repair_from: Location | None, **given: Any) -> None:
    """Hold the image SRC against its manifest, and tell which ranges of it are damaged.

    Without --manifest it is the one that is stored with the image: SRC.meta4, in the store's manifest_store
    if there is one.

    The exit status is 4 where something is. With --repair-from only the damaged chunks are fetched, each is
    held against the manifest before it is written, and nothing else of SRC is touched; the status is then 0
    if all could be repaired.
    """
    from imgstore.transfer.progress import Report

    _check(source, repair_from, given)
    manifest = None
    if given["manifest"]:
        manifest = read_manifest(
            given["manifest"], name=given["name"], pin=given["pin"], weak=given["allow_weak"]
        )
    locations = [source] if repair_from is None else [source, repair_from]
    report = Report()
    # So that a store that neither makes nor looks at manifests knows where its own are.
    settings = {**layer_settings(given), "store_manifests": True}
    with needed(locations, terminal, settings) as stores:
        events = json_events(given["progress"], terminal, report)
        with (
            opened(source, _options_for(source, repair_from, given), terminal, stores, events) as origin,
            shown(report, terminal, given["progress"], origin.name),
        ):
            damage = _found(origin, manifest, given, terminal, report)
        mending = Report()
        try:
            if damage.chunks and repair_from is not None:
                _repair(source, repair_from, damage, given, terminal, stores=stores, report=mending)
        finally:
            repaired = mending.repaired_chunks
            _tell(terminal, source, damage, repaired, as_json=given["as_json"])
    if len(damage.chunks) > repaired:
        raise DigestMismatchError(
            f"{len(damage.chunks)} of the {damage.checked} chunks of {source.shown} that were looked at are "
            "damaged",
            chunks=damage.chunks,
        )
    if given["as_json"]:
        terminal.print_json(_as_dict(source, damage, repaired))


def _check(source: Location, other: Location | None, given: dict[str, Any]) -> None:
    if source.kind == "standard":
        raise ConfigError("standard input cannot be verified by ranges; give the image a path")
    if given["allow_weak"] and not given["manifest"]:
        raise ConfigError("--allow-weak goes with --manifest: what is stored with images has to be strong")
    if given["name"] and not given["manifest"]:
        raise ConfigError("--name goes with --manifest, and is that of an image in it")
    if other is None:
        return
    if source.kind != "path":
        raise ConfigError(f"{source.shown}: only a file is repaired in its place; copy an image anew with cp")
    if other.kind == "standard":
        raise ConfigError("standard input has no ranges to repair from; name a file, a URL or STORE:KEY")


def _options_for(source: Location, other: Location | None, given: dict[str, Any]) -> dict[str, Any]:
    """Gives the options without those that are for the URL of the other copy."""
    if source.kind != "path" or other is None or other.kind != "url":
        return given
    return {**given, **dict.fromkeys(URL_OPTIONS)}


def _found(
    origin: Source, manifest: Manifest | None, given: dict[str, Any], terminal: Terminal, report: Report
) -> Damage:
    from imgstore.manifest.draft import pinned
    from imgstore.stack import unproven
    from imgstore.transfer import verify as verifying

    if origin.store is None:
        raise ConfigError("there is no image to verify")
    # A layer that proves would stop at the first bad chunk.
    store, manifests = unproven(origin.store)
    if manifest is None:
        manifest = pinned(_stored(origin, store, manifests, terminal), given["pin"])
    if given["sample"] is None:
        return verifying.verify(store, origin.key, manifest, report=report, call=origin.call)
    return verifying.sample(store, origin.key, manifest, given["sample"], report=report, call=origin.call)


def _stored(origin: Source, store: Store, manifests: Manifests, terminal: Terminal) -> Manifest:
    """Gives the manifest that is stored with the image; its chunks decide, and say so if it is of another.

    Raises: NotFoundError where there is none, or no image; ManifestError for what is no manifest.
    """
    shown = origin.location.shown
    manifest = manifests.find(origin.key, origin.call)
    held = store.stat(origin.key, call=origin.call).version
    if manifest is None:
        raise NotFoundError(f"no manifest is stored with {shown}; --manifest names a file that is one")
    if manifest.version not in {None, held}:
        terminal.say(f"{shown} was replaced or written to since its manifest was stored")
    return manifest


def _repair(
    source: Location,
    other: Location,
    damage: Damage,
    given: dict[str, Any],
    terminal: Terminal,
    *,
    stores: Mapping[str, Store],
    report: Report,
) -> None:
    from imgstore.transfer.verify import repair

    with opened(other, given, terminal, stores) as copy:
        if copy.store is not None:
            repair(source.text, damage, copy.store, copy.key, report=report, call=copy.call)


def _tell(terminal: Terminal, source: Location, damage: Damage, repaired: int, *, as_json: bool) -> None:
    """Prints what was found; an object is printed at the end, with the error if there is one."""
    if as_json:
        terminal.json = lambda: _as_dict(source, damage, repaired)
        return
    for each in damage.ranges:
        terminal.print(f"damaged: bytes {each.start} to {each.stop}")
    of = f" of {len(damage.manifest.chunks)}" if damage.checked < len(damage.manifest.chunks) else ""
    told = f"{damage.checked}{of} chunks looked at, {len(damage.chunks)} damaged"
    terminal.print(told + (f", {repaired} repaired" if repaired else ""))


def _as_dict(source: Location, damage: Damage, repaired: int) -> dict[str, Any]:
    return {
        "location": source.shown,
        "chunks": len(damage.manifest.chunks),
        "checked": damage.checked,
        "damaged": list(damage.chunks),
        "ranges": [{"start": each.start, "stop": each.stop} for each in damage.ranges],
        "repaired": repaired,
    }
