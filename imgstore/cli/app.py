"""The `imgstore` command: finds the subcommand, and turns every error into one line and an exit status."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

import click

from imgstore.cli import status
from imgstore.cli.options import config_option, debug_option, wants_json
from imgstore.cli.output import Terminal
from imgstore.cli.signals import interruptible
from imgstore.errors import ConfigError

_COMMANDS = ("cat", "check", "completion", "cp", "digest", "ls", "reap", "rm", "stat", "stores", "verify")

_STATUSES = (
    ("0", "done"),
    ("1", "anything else: TLS, a broken medium, what a store cannot do"),
    ("2", "usage or configuration"),
    ("3", "not found"),
    ("4", "integrity: a digest does not match, or none can be told"),
    ("5", "the image changed meanwhile, or is of another version"),
    ("6", "tries or time used up"),
    ("7", "permission or authentication"),
    ("8", "no space"),
    ("9", "refused as unsafe"),
    ("10", "exists already"),
    ("11", "in use or locked"),
    ("130", "interrupted"),
)


class _Commands(click.Group):
    """Imports a subcommand when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit status"):
            formatter.write_dl(_STATUSES)
        with formatter.section("Completion in the shell"):
            formatter.write_text('eval "$(imgstore completion bash)"; likewise zsh and fish')

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"imgstore.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"imgstore {version('imgstore')}")
        ctx.exit()


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=False,  # its status is 0 before click 8.2; no command is an error like any other
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
)
@config_option
@debug_option
def imgstore() -> None:
    """Keep and move disk and VM images: exactly the right bytes, or a clear error.

    A location is a path; an http:// or https:// URL; s3://BUCKET/KEY, swift://CONTAINER/OBJECT or
    rbd://POOL/IMAGE, with the credentials of each service's own tools; STORE:KEY, an image in a configured
    store; or - for standard input or output. A path with a colon in it is written ./a:b. Without any
    configuration there is one store, local, in the user's data directory.
    """


def run(argv: Sequence[str]) -> int:
    """Runs the command that `argv` means; gives its exit status."""
    terminal = Terminal(_open_standard())
    if wants_json(argv):
        terminal.json = dict
    if "_IMGSTORE_COMPLETE" in os.environ:
        from imgstore.cli.completion import register

        register()
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
