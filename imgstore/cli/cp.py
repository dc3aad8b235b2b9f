"""`imgstore cp`."""

from __future__ import annotations

import contextlib
import errno
import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

from imgstore.cli.command import Command
from imgstore.cli.location import Location, same_file
from imgstore.cli.meter import MODES, json_events, shown
from imgstore.cli.options import LOCATION, json_option, source_options
from imgstore.cli.output import Terminal
from imgstore.cli.source import check_output, opened
from imgstore.errors import ConfigError, OperationCancelledError, StorageIOError
from imgstore.model import Call

if TYPE_CHECKING:
    from imgstore.transfer.copy import Target


@click.command(cls=Command)
@click.argument("source", type=LOCATION, metavar="SRC")
@click.argument("target", type=LOCATION, metavar="DST")
@click.option("--force", is_flag=True, help="Replace DST if it exists.")
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
def cp(terminal: Terminal, /, source: Location, target: Location, **given: Any) -> None:
    """Copy the image SRC to DST.

    SRC is a path, a URL or - for standard input; DST a path or - for standard output. A copy onto a path
    appears there only when it is complete and on the disk; until then nothing is there, or the old file is.

    With --json the last line on standard output is an object with bytes, received, refetched, attempts,
    resumes, stalls, repaired_chunks, sources, seconds and digests; after a failure also error.
    """
    from imgstore.transfer.copy import copy
    from imgstore.transfer.progress import Report

    _check(source, target, given, terminal)
    report = Report()
    if given["as_json"]:
        terminal.json = report.as_dict
    mode = "none" if given["no_progress"] else given["progress"]
    observe = json_events(mode, terminal, report)
    out: Any = None
    try:
        with contextlib.ExitStack() as stack:
            origin = stack.enter_context(opened(source, given, terminal, observe))
            out = stack.enter_context(_target(target, origin.call, overwrite=given["force"]))
            stack.enter_context(shown(report, terminal, mode, origin.name))
            with origin.open() as stream:
                copy(stream, out, report=report, digest=given["as_json"])
    except KeyboardInterrupt:
        if getattr(out, "published", False):
            raise OperationCancelledError(f"interrupted when {target.shown} was complete") from None
        raise
    except BrokenPipeError as exc:
        raise StorageIOError(
            f"the reader of standard output went away after {report.bytes} bytes", errno=errno.EPIPE
        ) from exc
    finally:
        report.finish()
    if given["as_json"]:
        terminal.print_json(report.as_dict())


def _check(source: Location, target: Location, given: dict[str, Any], terminal: Terminal) -> None:
    """Refuses, before anything is opened, what cannot be meant. Raises: ConfigError."""
    if target.kind == "url":
        raise ConfigError(f"{target.shown}: copies go to a path or -; this version does not write to URLs")
    if target.kind == "standard":
        if given["as_json"]:
            terminal.json = None  # the object would be taken for the image
            raise ConfigError("--json and the image would both go to standard output; give DST a path")
        if given["force"]:
            raise ConfigError("--force replaces a file; there is none in standard output")
        check_output(source, terminal)
    elif os.path.isdir(target.text):
        name = os.path.basename(source.shown.partition("?")[0])
        example = os.path.join(target.text, name if source.kind != "standard" and name else "NAME")
        raise ConfigError(f"{target.text} is a folder; name the file in it, such as {example}")
    elif source.kind == "path" and same_file(source.text, target.text):
        raise ConfigError(f"{source.text} and {target.text} are one file; there is nothing to copy")


def _target(target: Location, call: Call, *, overwrite: bool) -> AbstractContextManager[Target]:
    from imgstore.publish import PendingFile
    from imgstore.transfer.standard import StandardOutput

    if target.kind == "standard":
        return contextlib.nullcontext(StandardOutput(call=call))
    return PendingFile(target.text, overwrite=overwrite)
