"""`imgstore check`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, closing
from typing import Any, Final

import click

from imgstore.cli.command import Command
from imgstore.cli.configured import driver_of, every
from imgstore.cli.location import Location, in_store, parse, unknown_store
from imgstore.cli.options import SECONDS, STORE, json_option, store_options
from imgstore.cli.output import Terminal, printable, sentence
from imgstore.cli.status import DONE
from imgstore.cli.stores import config_files, location
from imgstore.errors import ConfigError
from imgstore.steps import Checkable
from imgstore.transfer.check import Outcome
from imgstore.transfer.check import check as tried

_NAME: Final = len("authentication")
_RESULT: Final = len("skipped")
# A failure is shown as it is, and at once; riding it out is for transfers.
_SETTINGS: Final = {"resume_attempts": 0}


@click.command(
    cls=Command, examples=("imgstore check disks", "imgstore check web:debian/12.raw --read-only --json")
)
@click.argument("place", type=STORE, metavar="STORE[:KEY]")
@click.option("--read-only", is_flag=True, help="Write and delete nothing.")
@click.option("--timeout", type=SECONDS, default="15", metavar="SECONDS", help="For each step. [default: 15]")
@json_option
@store_options
@click.pass_obj
def check(terminal: Terminal, /, place: str, **given: Any) -> int:
    """Try STORE out, step by step, and say what would help where something fails.

    The steps are the configuration; the way to the store, as its driver knows it (for a web server: name
    lookup, connect, TLS, request, clock, authentication); then list, read, write, delete and space. What
    cannot be tried is skipped, and says why. KEY is an image to read, needed where a store lists none.

    Unless --read-only is given, a small image whose name begins with imgstore-check- is stored, read back and
    removed, also after a failure or Ctrl-C.

    With --json the last line is an object with store, driver, location, status and steps, each with name,
    result (ok, failed or skipped), said, advice, seconds and error. The exit status is the
    highest of the failed steps'.
    """
    where = _place(place)
    account = _Account(terminal, where.store, as_json=given["as_json"])
    with ExitStack() as stack:
        try:
            stores = stack.enter_context(every(terminal, {where.store: _SETTINGS}))
        except ConfigError as exc:
            account.add(Outcome("configuration", "failed", exc.message, error=exc))
            return account.closed()
        if where.store not in stores:
            raise ConfigError(_unknown(place, stores))
        store, driver = stores[where.store], driver_of(stores[where.store])
        files = ", ".join(config_files(terminal)) or "no file, and so the store 'local'"
        account.told |= {"driver": stores.drivers[where.store], "location": location(store, terminal)}
        account.add(Outcome("configuration", "ok", f"{files}: driver {stores.drivers[where.store]!r}"))
        way = driver.steps(where.key or None) if isinstance(driver, Checkable) else ()
        outcomes = tried(
            store, way, where.key or None, write=not given["read_only"], seconds=given["timeout"]
        )
        # Closed also by Ctrl-C, so that what was written is removed.
        for outcome in stack.enter_context(closing(outcomes)):
            account.add(outcome)
    return account.closed()


class _Account:
    """What was found: told line by line to a person, at the end to a program."""

    def __init__(self, terminal: Terminal, store: str, *, as_json: bool) -> None:
        self._terminal = terminal
        self._as_json = as_json
        self._status = DONE
        self.told: dict[str, Any] = {"store": store, "driver": None, "location": None, "steps": []}
        if as_json:
            terminal.json = lambda: self.told

    def add(self, outcome: Outcome) -> None:
        error = None
        if outcome.error is not None:
            error = self._terminal.fields(outcome.error)
            self._status = max(self._status, error["status"])
        self.told["steps"].append(
            {
                "name": outcome.name,
                "result": outcome.result,
                "said": outcome.said,
                "advice": outcome.advice,
                "seconds": round(outcome.seconds, 3),
                "error": error,
            }
        )
        if not self._as_json:
            said = outcome.said if outcome.error is None else sentence(outcome.error, flags=False)
            self._line(outcome.name, outcome.result, said)
            if outcome.advice:
                self._line("", "", f"-> {outcome.advice}")

    def closed(self) -> int:
        """Ends the account and gives the exit status."""
        if self._as_json:
            self._terminal.print_json({**self.told, "status": self._status})
        return self._status

    def _line(self, name: str, result: str, said: str) -> None:
        line = f"{name:{_NAME}}  {result:{_RESULT}}  {printable(said)}"
        self._terminal.print(self._terminal.scrubbed(line))


def _unknown(place: str, stores: Iterable[str]) -> str:
    """Says that there is no such store; only who typed a colon may have meant a path."""
    name, colon, key = place.partition(":")
    if colon:
        return unknown_store(name, key, stores)
    return f"there is no store {name!r} (there are: {', '.join(stores)})"


def _place(text: str) -> Location:
    """Gives the store, and the image if one is named. Raises: ConfigError for what is in no store."""
    where = parse(text) if ":" in text else in_store(text, "")
    if where.kind != "store":
        raise ConfigError(f"{where.shown} is no store; imgstore stores shows the ones there are")
    return where
