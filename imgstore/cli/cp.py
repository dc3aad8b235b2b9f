"""`imgstore cp`."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from imgstore.cli import downloading, uploading
from imgstore.cli.amounts import show_count
from imgstore.cli.command import Command
from imgstore.cli.configured import needed
from imgstore.cli.location import Location
from imgstore.cli.meter import MODES, json_events, shown
from imgstore.cli.options import FILE, LOCATION, json_option, layer_settings, name_option, source_options
from imgstore.cli.output import Terminal
from imgstore.cli.source import Source, check_idle
from imgstore.cli.sources import joined, name_of
from imgstore.cli.status import DONE
from imgstore.cli.target import admit, check, completed, service
from imgstore.errors import AlreadyExistsError, ConfigError, StorageIOError
from imgstore.model import Call
from imgstore.store import Store

if TYPE_CHECKING:
    from imgstore.manifest import Manifest
    from imgstore.transfer.progress import Report


@click.command(
    cls=Command,
    examples=(
        "imgstore cp https://example.org/disk.img disk.img",
        "imgstore cp disk.img disks:debian/12.raw",
        "imgstore cp disks:debian/12.raw cold:debian/",
        "imgstore cp -r --skip-existing disks:debian/ cold:debian/",
        "imgstore cp --store-manifest --read-back 12.raw cold:12.raw",
        "imgstore cp --manifest 12.raw.meta4 cold:12.raw https://example.org/12.raw 12.raw",
        "zstd -dc a.raw.zst | imgstore cp - disks:a.raw",
    ),
)
@click.argument("sources", type=LOCATION, nargs=-1, metavar="SRC...")
@click.argument("target", type=LOCATION, metavar="DST")
@click.option(
    "--recursive",
    "-r",
    is_flag=True,
    help="Copy all images below each SRC, a folder, STORE: or STORE:PREFIX/, into DST, one of these.",
)
@click.option("--force", is_flag=True, help="Replace DST if it exists.")
@click.option("--skip-existing", is_flag=True, help="With -r, leave out what DST has already.")
@click.option(
    "--manifest",
    type=FILE,
    metavar="FILE",
    help="Prove each chunk by this manifest before it is written, and fetch bad ones again.",
)
@name_option
@click.option(
    "--store-manifest", is_flag=True, help="Have the manifest of the image stored with it, as KEY.meta4."
)
@click.option(
    "--read-back",
    is_flag=True,
    help="Read DST once more and compare it: a file from the disk and before it gets its name.",
)
@json_option
@click.option(
    "--progress",
    type=click.Choice(MODES),
    default="auto",
    help="A bar on a terminal, else a line every few seconds; or one of them; or JSON lines. [default: auto]",
)
@click.option("--no-progress", is_flag=True, help="The same as --progress none.")
@source_options
@click.pass_obj
def cp(terminal: Terminal, /, sources: tuple[Location, ...], target: Location, **given: Any) -> int:
    """Copy the image SRC to DST.

    SRC is a path, a URL, STORE:KEY or - for standard input; DST a path, STORE:KEY, an s3://, swift:// or
    rbd:// URL, or - for standard output. A DST that is STORE: or STORE:PREFIX/ gets the last part of
    SRC's name added; a folder as DST is refused. A copy onto a path or into a store appears there only
    when it is complete and on the disk; until then nothing is there, or the old image is. A copy inside
    one store is left to the store, where it can do that; one from path to path to the kernel.

    A copy of 64 MiB and more that is ended, by whatever, is gone on with by the same command, unless
    --no-resume is given. Until then DST.part and DST.part.journal hold what came of a copy onto a path, and
    a store what it was sent; imgstore reap removes what nobody goes on with. Into a store, --parallel sends N
    parts at once, too.

    Several SRC are places of one image, the best first: where one fails, the next goes on. In the middle of
    the image that takes proof that both hold the same: a manifest, or a SHA-256 that both tell. The copies
    that the manifest names (http and https) are the next best, and enough if no SRC is given.

    With -r each SRC is another image, or a place of many: all below a folder or STORE:PREFIX/ keep the rest
    of their names. What fails does not end it: the failures are told at the end, and the exit status is the
    highest of them.

    What --read-back finds to be another image than was sent is not published, or removed from the store
    again. The manifest that --store-manifest asks for is stored after the image; imgstore verify finds it.

    With --json the last line on standard output is an object with bytes, held (of an earlier copy),
    received, refetched, attempts, resumes, stalls, repaired_chunks, repaired (their bytes), sources (the
    bytes received from each), failures (each source that was left, with offset, type and message),
    seconds and digests; after a failure also error. With --progress json each line on standard error that
    has event: progress has the same so far, and total, rate (bytes a second) and left (seconds, or null).
    The SHA-256 in the last object takes a core's time for every byte, those of holes too. With -r it has
    the sums, no digests, and also images and not_copied, of which each has source, target and the fields
    of error.
    """
    from imgstore.transfer.progress import Report

    if not sources and not given["manifest"]:
        raise click.UsageError("Missing argument 'DST'.", click.get_current_context())
    if given["no_progress"]:
        given["progress"] = "none"
    if given["recursive"]:
        return _copy_all(sources, target, given, terminal)
    if given["skip_existing"]:
        raise ConfigError("--skip-existing goes with -r")
    report = Report()
    if given["as_json"]:
        terminal.json = report.as_dict
    try:
        with needed([*sources, target], terminal, layer_settings(given)) as stores:
            manifest = _manifest(sources, given)
            name = name_of(sources, manifest)
            target = completed(sources, target, name)
            check(sources, target, name, given, terminal)
            given["prove"] = manifest
            _copy(sources, target, given, terminal, stores=stores, report=report)
    except BrokenPipeError as exc:
        raise StorageIOError(
            f"the reader of standard output went away after {report.bytes} bytes", errno=errno.EPIPE
        ) from exc
    finally:
        report.finish()
    if given["as_json"]:
        terminal.print_json(report.as_dict())
    return DONE


def _copy_all(
    sources: Sequence[Location], target: Location, given: dict[str, Any], terminal: Terminal
) -> int:
    """Copies every image of `sources` into the place `target`; gives the exit status."""
    from imgstore.cli import batch
    from imgstore.transfer.batch import Batch

    if given["manifest"] or given["name"]:
        raise ConfigError("--manifest and --name are for one image, and -r copies many")
    total, outcome = Batch(None), batch.Outcome()
    call = Call() if given["timeout"] is None else Call().within(given["timeout"])
    given["prove"] = None
    todo: list[batch.Job] = []
    if given["as_json"]:
        terminal.json = lambda: {**total.as_dict(), "images": len(todo), "not_copied": outcome.failed}
    try:
        with needed([*sources, target], terminal, layer_settings(given)) as stores:
            todo += batch.jobs(sources, target, stores, terminal, call=call)
            total.total = batch.expected(todo)

            def copy(source: Location, to: Location, report: Report) -> None:
                check([source], to, source.name, given, terminal)
                rest = {**given, "timeout": call.remaining()}
                _copy([source], to, rest, terminal, stores=stores, report=report)

            skip = given["skip_existing"]
            with shown(total, terminal, given["progress"], show_count(len(todo), "image")):
                batch.run(todo, copy, terminal, total, outcome, skip_existing=skip, call=call)
    finally:
        total.finish()
        batch.tell(outcome, len(todo), terminal)
    if terminal.json is not None:
        terminal.print_json(terminal.json())
    return max((each["status"] for each in outcome.failed), default=DONE)


def _manifest(sources: Iterable[Location], given: dict[str, Any]) -> Manifest | None:
    """Reads what is to prove the sources, if anything is. Raises: ConfigError where it cannot."""
    from imgstore.cli.digest import read_manifest

    if not given["manifest"]:
        if given["name"]:
            raise ConfigError("--name goes with --manifest, and is that of an image in it")
        return None
    if any(source.kind == "standard" for source in sources):
        raise ConfigError("a bad chunk cannot be fetched again from standard input; give the image a path")
    return read_manifest(given["manifest"], name=given["name"])


def _copy(
    sources: Sequence[Location],
    target: Location,
    given: dict[str, Any],
    terminal: Terminal,
    *,
    stores: Mapping[str, Store],
    report: Report,
) -> None:
    mode = given["progress"]
    face = "none" if given["recursive"] else mode
    with ExitStack() as stack:
        origin = stack.enter_context(
            joined(sources, given, terminal, stores, json_events(mode, terminal, report))
        )
        if target.kind not in {"store", "service"}:
            meter = shown(report, terminal, face, origin.name)
            downloading.run(origin, sources, target, given, terminal, meter=meter, report=report)
            return
        if target.kind == "store":
            store = stores[target.store]
        else:
            store, target = service(target, given, stack)
            terminal.target = target.store
        inside = origin.store is store and store.copier is not None
        inside = inside and not (given["manifest"] or given["read_back"])
        if inside:
            check_idle(given, f"a copy inside the store {target.store}, which moves no bytes through here")
        upload = uploading.Upload(origin, sources, store, target.key)
        try:
            admit(store, target, origin.call, overwrite=given["force"])
        except AlreadyExistsError:
            if inside or not uploading.may_be_done(upload):
                raise
        if given["force"]:
            from imgstore.stack import followed

            upload = replace(upload, store=followed(store))  # the manifest of what is replaced goes, too
        stack.enter_context(shown(report, terminal, face, origin.name))
        if inside:
            with upload.mark():  # of a large image S3 makes an upload, too
                _copy_inside(upload.store, origin, target.key, report, overwrite=given["force"])
        else:
            uploading.run(upload, given, terminal, report)


def _copy_inside(store: Store, origin: Source, key: str, report: Report, *, overwrite: bool) -> None:
    """Leaves the copy to the store: no byte passes through here, and none is hashed."""
    if store.copier is not None:
        info = store.copier.copy(origin.key, key, overwrite=overwrite, call=origin.call)
        report.total = info.size
        report.delivered(info.size or 0)
