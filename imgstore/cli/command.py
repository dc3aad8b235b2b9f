"""What every subcommand is: a click command whose errors end in one line and an exit status."""

from __future__ import annotations

from typing import Any

import click

from imgstore.cli.output import Terminal
from imgstore.cli.status import DONE


class Command(click.Command):
    """Runs its function and gives the exit status.

    Errors are told here and not by click, which takes every OSError with EPIPE, so also a lost connection,
    for a closed standard output.
    """

    def invoke(self, ctx: click.Context) -> Any:
        terminal = ctx.ensure_object(Terminal)
        try:
            with terminal.logging():
                super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except BaseException as exc:  # noqa: BLE001 - told, with a status
            return terminal.failed(exc)
        return DONE
