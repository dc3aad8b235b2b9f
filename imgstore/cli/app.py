"""The `imgstore` command: finds the subcommand, and turns every error into one line and an exit status."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import click

from imgstore.cli import status
from imgstore.cli.options import debug_option, wants_json
from imgstore.cli.output import Terminal
from imgstore.cli.signals import interruptible
from imgstore.errors import ConfigError

_COMMANDS = {"cat": "imgstore.cli.cat", "cp": "imgstore.cli.cp", "stat": "imgstore.cli.stat"}


class _Commands(click.Group):
    """Imports a subcommand when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        command: click.Command | None = getattr(importlib.import_module(module), cmd_name) if module else None
        return command


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    if value:
        from importlib.metadata import version

        click.echo(f"imgstore {version('imgstore')}")
        ctx.exit()


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
)
@debug_option
def imgstore() -> None:
    """Move disk and VM images: exactly the right bytes, or a clear error.

    A location is a path, an http:// or https:// URL, or - for standard input or output. A path with a colon
    in it is written ./a:b.

    Exit status: 0 done, 1 other, 2 usage, 3 not found, 4 wrong digest, 5 version changed, 6 gave up trying,
    7 permission, 8 no space, 9 unsafe, 10 exists, 11 in use, 130 interrupted.
    """


def run(argv: Sequence[str]) -> int:
    """Runs the command that `argv` means; gives its exit status."""
    terminal = Terminal(_open_standard())
    if wants_json(argv):
        terminal.json = dict
    with interruptible():
        try:
            result: Any = imgstore.main(list(argv), prog_name="imgstore", standalone_mode=False, obj=terminal)
        except click.Abort:
            return terminal.failed(KeyboardInterrupt())
        except click.ClickException as exc:
            return terminal.failed(ConfigError(_usage(exc)))
        except SystemExit as exc:  # how click ends a request of the shell for completions
            return exc.code if isinstance(exc.code, int) else status.DONE
        except BaseException as exc:  # noqa: BLE001 - told, with a status
            return terminal.failed(exc)
    return result if isinstance(result, int) else status.DONE


def _usage(exc: click.ClickException) -> str:
    command = getattr(getattr(exc, "ctx", None), "command_path", "imgstore")
    if isinstance(exc, click.exceptions.NoArgsIsHelpError):
        return f"no command given; see {command} --help"
    said = exc.format_message()
    # What is too much may be a piece of a header or password that lost its quotes: it is not repeated.
    if said.startswith("Got unexpected extra argument"):
        said = "too many arguments"
    said = said.rstrip(".")
    return f"{said[:1].lower()}{said[1:]} (see {command} --help)"


def _open_standard() -> frozenset[int]:
    """Gives the standard descriptors that are closed, and opens nothing in their place.

    Else the next file or socket would get that number, and what is printed would land in it.
    """
    closed = set()
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            closed.add(descriptor)
    return frozenset(closed)
