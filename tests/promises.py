"""The promises, each with the figure of the run that measured it.

A test that holds one asks for the fixture `promise`; the summary of the run prints what was measured, and
`--promises FILE` writes it down, as `make promises` does.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

PROMISES: Final = {
    "P1": "Where a version or a digest is known, no wrong byte is ever called right.",
    "P2": "A broken connection costs no byte twice.",
    "P3": "Ten drops at nine tenths cost hardly more than the size.",
    "P4": "A read that goes on survives any number of breaks; one that does not ends after eight tries.",
    "P5": "A corrupt chunk costs that chunk; no good one is asked for again.",
    "P6": "A download that is killed loses at most the parts in flight.",
    "P7": "A stall is noticed within its window and a second; what is slow but steady is none.",
    "P8": "A cancel or a deadline ends any wait within a second.",
    "P9": "Under a total outage retries add a tenth of the requests.",
    "P10": "Clients that failed together do not come back together.",
    "P11": "Memory is bounded by a formula, whatever the size of the image.",
    "P12": "Nothing is left behind.",
    "P13": "A name is absent or holds the whole image, synced, wherever the process or the power ends.",
    "P14": "A resumed read is held to as much as a clean one.",
    "P15": "Every fault ends as the table says: exact, or one typed error.",
    "P16": "What a report tells is what the server sent.",
    "P17": "Proving every byte costs little.",
    "P18": "An upload that is killed goes on: at most one part is sent twice, one image results.",
    "P19": "The image service obeys a cancel at once.",
    "P20": "Each promise is a figure in this table.",
}
# What no test of this version measures, and why.
ELSEWHERE: Final = {
    "P12": "after each test: `tests/conftest.py` fails one that leaves a thread or a descriptor",
    "P14": "`faults/test_rows_c.py`: each of its tests runs with and without a drop, to the same end",
    "P15": "[faults.md](faults.md): its tests ask for the one error",
    "P17": "measured by `make bench`: [hashing and verified](../benchmarks/RESULTS.md)",
    "P19": "later: the image service",
    "P20": "`unit/test_promises.py` compares this table with the tests",
}


@dataclass
class Figure:
    """The worst of what the tests of one sentence measured; without a bound, the sum of what they counted."""

    worst: float
    bound: float | None
    tests: set[str]

    def add(self, figure: float) -> None:
        self.worst = self.worst + figure if self.bound is None else max(self.worst, figure)


def show(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if number == int(number) else f"{number:.3g}"


@pytest.fixture
def promise(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Gives what holds a measured figure to its bound, and has it told.

    `promise("P3", "bytes sent, of the size", 1.0, 1.02)`: the sentence says what is measured, in which unit.
    Without a bound it is a count, of what was tried for one.
    """

    def hold(name: str, what: str, figure: float, bound: float | None = None) -> None:
        if bound is not None:
            assert figure <= bound, f"{name}: {what}: {show(figure)}, and at most {show(bound)} is promised"
        assert name in PROMISES
        record_property("promise", [name, what, figure, bound])

    return hold


class Ledger:
    """Gathers the figures of a run, from every worker."""

    def __init__(self) -> None:
        self.figures: dict[tuple[str, str], Figure] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Marks every test that measures one."""
        for item in items:
            if "promise" in getattr(item, "fixturenames", ()):
                item.add_marker("promise")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown" or report.failed:
            return
        for kind, value in report.user_properties:
            if kind == "promise":
                self._enter(report.nodeid.partition("[")[0].removeprefix("tests/"), *value)

    def lines(self) -> list[str]:
        """Gives the rows of the table, in order of the promises."""
        rows = []
        for name, text in PROMISES.items():
            found = [(what, each) for (known, what), each in sorted(self.figures.items()) if known == name]
            if not found:
                rows.append(f"| {name} | {text} | {ELSEWHERE.get(name, 'not measured in this run')} | | | |")
            heads = itertools.chain([f"{name} | {text}"], itertools.repeat(" | "))
            for head, (what, each) in zip(heads, found, strict=False):
                tests = "<br>".join(f"`{test}`" for test in sorted(each.tests))
                rows.append(f"| {head} | {what} | **{show(each.worst)}** | {show(each.bound)} | {tests} |")
        return rows

    def _enter(self, test: str, name: str, what: str, figure: float, bound: float | None) -> None:
        if (known := self.figures.get((name, what))) is None:
            known = self.figures[name, what] = Figure(figure, bound, set())
        else:
            known.add(figure)
        known.tests.add(test)


HEAD = """\
# Promises

What is promised of every transfer, and what the tests that hold it measured on {date}: the worst of each, or
where there is no bound, how many cases there were. `make promises` measures all of it again and writes this
page.

| | promise | measured | figure | at most | tests |
|---|---|---|--:|--:|---|
"""


def write(path: Path, ledger: Ledger) -> None:
    """Writes the table as a page."""
    date = dt.datetime.now(tz=dt.timezone.utc).date()
    path.write_text(HEAD.format(date=date) + "\n".join(ledger.lines()) + "\n")


def summarize(terminalreporter: Any, ledger: Ledger) -> None:
    """Prints what was measured."""
    if ledger.figures:
        terminalreporter.section("promises")
    order = list(PROMISES)
    for name, what in sorted(ledger.figures, key=lambda each: (order.index(each[0]), each[1])):
        each = ledger.figures[name, what]
        bound = "" if each.bound is None else f" (at most {show(each.bound)})"
        terminalreporter.line(f"{name:>4} {what}: {show(each.worst)}{bound}")
