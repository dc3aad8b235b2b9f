"""What the demo prints: for people as it goes, with a table at the end; for machines one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from demo.images import Image
from demo.others import Other
from demo.play import Outcome
from demo.scenes import Ending, Scene

# All of it fits a terminal of 80 columns.
INDENT = (0, 0, 0, 3)
# Into a file or a pipe: wide enough for a line of figures.
WIDTH = 110

SHORT = {
    Ending.COPIED: "identical",
    Ending.DAMAGED: "refused",
    Ending.CHANGED: "refused",
    Ending.INTERRUPTED: "stopped",
}


class Show:
    """Tells a person what happens. With `quiet` it says nothing."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(quiet=quiet, highlight=False, width=None if sys.stdout.isatty() else WIDTH)

    def line(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style))

    def image(self, image: Image) -> None:
        self._console.print(
            Text.assemble((image.name, "bold"), f"  {amount(image.size)} bytes, {image.origin}")
        )
        self._below(f"sha256 {image.sha256}", "dim")

    def announce(self, scene: Scene, image: Image) -> None:
        self._console.print()
        self._console.print(Text.assemble((scene.name, "bold cyan"), "  ", (image.name, "dim")))
        self._below(scene.sentence)

    def outcome(self, outcome: Outcome) -> None:
        log, report = outcome.log, outcome.report
        self._below(
            f"{amount(outcome.image.size)} bytes; sent {amount(log.received)}, "
            f"received {amount(report.received)}"
        )
        self._below(
            f"refetched {amount(log.refetched)}; "
            f"{count(log.attempts, 'request')}, {count(log.resumes, 'resume')}, "
            f"{count(log.stalls, 'stall')}, {outcome.seconds:.1f} s, exit status {outcome.status}"
        )
        if outcome.status:
            self._below(outcome.said, "dim")
        self._below(f"source {outcome.image.sha256}", "dim")
        self._below(f"copy   {outcome.copy or 'there is none'}", "dim")
        if outcome.complaints:
            for each in outcome.complaints:
                self._below(f"WRONG: {each}", "bold red")
        else:
            self._below(outcome.scene.ending.words, "green")

    def other(self, other: Other) -> None:
        self._below(
            f"{other.tool}: exit status {other.status}, {other.ratio:.2f} times the size sent, {other.left} "
            f"({other.options}; {other.seconds:.1f} s)"
        )

    def table(self, outcomes: Sequence[Outcome]) -> None:
        for name, group in groupby(outcomes, lambda each: each.image.name):
            self._console.print()
            self._console.print(_table(name, list(group)))

    def verdict(self, scenes: int, wrong: int, seconds: float, *, ok: bool) -> None:
        self.line("")
        text = f"{scenes - wrong} of {scenes} scenes ended as they must, in {seconds:.0f} s"
        if ok:
            self.line(f"{text}; the server's log and cp --json agree on every figure.", "bold green")
        else:
            self.line(f"{text}. Something is WRONG: see above.", "bold red")

    def _below(self, text: str, style: str = "") -> None:
        self._console.print(Padding(Text(text, style), INDENT, expand=False))


def _table(name: str, outcomes: Sequence[Outcome]) -> Table:
    title = f"{name}, {amount(outcomes[0].image.size)} bytes"
    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False
    )
    table.add_column("scene", no_wrap=True)
    for column in ("received", "ratio", "refetched", "tries", "resumes", "stalls", "s"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("ending", no_wrap=True)
    for each in outcomes:
        log = each.log
        ending = Text("WRONG", "bold red") if each.complaints else Text(SHORT[each.scene.ending], "green")
        table.add_row(
            each.scene.name,
            amount(log.received),
            f"{log.received / each.image.size:.2f}",
            amount(log.refetched),
            *map(str, (log.attempts, log.resumes, log.stalls)),
            f"{each.seconds:.1f}",
            ending,
        )
    return table


def amount(number: int) -> str:
    """A number of bytes, to the byte."""
    return f"{number:,}"


def count(number: int, thing: str) -> str:
    """`1 stall`, `2 stalls`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def as_json(outcomes: Sequence[Outcome], compared: Sequence[Other], notes: Sequence[str], *, ok: bool) -> str:
    """The whole run, on one line."""
    return json.dumps(
        {
            "ok": ok,
            "scenes": [each.as_dict() for each in outcomes],
            "others": [each.as_dict() for each in compared],
            "notes": list(notes),
        }
    )
