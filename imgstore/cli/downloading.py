"""A copy onto a path or to standard output."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from imgstore.cli.location import Location
from imgstore.cli.options import layer_settings
from imgstore.cli.output import Terminal
from imgstore.cli.source import Source
from imgstore.cli.target import opened_target
from imgstore.errors import OperationCancelledError

if TYPE_CHECKING:
    from imgstore.store import Store
    from imgstore.transfer.progress import Report


def run(
    origin: Source,
    sources: Sequence[Location],
    target: Location,
    given: dict[str, Any],
    terminal: Terminal,
    *,
    meter: AbstractContextManager[None],
    report: Report,
) -> None:
    """Copies `origin`, which stands for `sources`, and publishes it; `meter` shows the `report` meanwhile.

    What comes from a store onto a path can be gone on with by the same command. From one path to another the
    kernel copies, where nobody wants the bytes hashed, slowed down or told of.

    Raises: as `transfer.download` and `transfer.copy`.
    """
    is_bare = target.kind == "path" and origin.file is not None and _leaves_bytes_alone(given)
    if target.kind == "path" and origin.store is not None and not is_bare:
        with meter:
            _download(origin, origin.store, sources, target, given=given, terminal=terminal, report=report)
        return
    with opened_target(target, origin.call, given) as out, meter:
        try:
            _copy(origin, out, report, digest=given["as_json"], is_bare=is_bare)
        except KeyboardInterrupt:
            if getattr(out, "published", False):
                raise OperationCancelledError(f"interrupted when {target.shown} was complete") from None
            raise


def _leaves_bytes_alone(given: dict[str, Any]) -> bool:
    """Whether nobody wants the bytes hashed, slowed down, or told of in events: then the kernel may copy."""
    wanted = given["as_json"] or given["manifest"] or given["read_back"] or given["progress"] == "json"
    return not (wanted or layer_settings(given))


def _copy(origin: Source, out: Any, report: Report, *, digest: bool, is_bare: bool) -> None:
    """Copies and publishes: through this process, or with `is_bare`, from one file to another, past it."""
    from imgstore.transfer.copy import copy

    if is_bare and origin.file is not None:
        report.total = origin.file.stat(origin.key, call=origin.call).size
        info = origin.file.copier.copy_out(origin.key, out, call=origin.call, copied=report.delivered)
        out.publish(info.size)
        return
    with origin.open() as stream:
        copy(stream, out, report=report, digest=digest)


def _download(
    origin: Source,
    store: Store,
    sources: Sequence[Location],
    target: Location,
    *,
    given: dict[str, Any],
    terminal: Terminal,
    report: Report,
) -> None:
    from imgstore.stack import over_one
    from imgstore.transfer.download import Origin, download

    manifest = given["prove"]
    # several connections write to the file out of order
    single, connections, call = over_one(store, origin.call)
    download(
        Origin(
            store=single,
            key=origin.key,
            place="\n".join(each.place for each in sources),
            pin=None if manifest is None else manifest.pin,
            chunk_size=1 if manifest is None else manifest.chunk_size,
            call=call,
        ),
        target.text,
        report=report,
        overwrite=given["force"],
        resume=not given["no_resume"],
        read_back=given["read_back"],
        digest=given["as_json"],
        connections=connections,
        say=terminal.say,
    )
