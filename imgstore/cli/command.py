"""What every subcommand is: a click command whose errors end in one line and an exit status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from imgstore.cli.options import URL_OPTIONS
from imgstore.cli.output import Terminal
from imgstore.cli.status import DONE


class Command(click.Command):
    """Runs its function and gives the exit status: what the function gives, or done.

    Errors are told here and not by click, which takes every OSError with EPIPE, so also a lost connection,
    for a closed standard output.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **options: Any) -> None:
        """Takes what click does, and `examples` of use for the help."""
        super().__init__(*args, **options)
        self._examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        told: dict[str, list[tuple[str, str]]] = {"Options": [], "Options for a URL as SRC": []}
        plain, for_urls = told.values()
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                (for_urls if param.name in URL_OPTIONS else plain).append(record)
        for title, records in told.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self._examples:
            with formatter.section("Examples"):
                for each in self._examples:
                    formatter.write(f"{'':{formatter.current_indent}}{each}\n")

    def invoke(self, ctx: click.Context) -> Any:
        terminal = ctx.ensure_object(Terminal)
        try:
            with terminal.logging():
                status = super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except BaseException as exc:  # noqa: BLE001 - told, with a status
            return terminal.failed(exc)
        return DONE if status is None else status
