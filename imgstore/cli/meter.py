"""How a copy is going, shown while it goes: a bar, a line now and then, or JSON lines."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from imgstore.cli.amounts import show_count, show_seconds, show_size
from imgstore.cli.output import Terminal, printable
from imgstore.model import Event
from imgstore.transfer.batch import Batch
from imgstore.transfer.pace import Pace, Progress
from imgstore.transfer.progress import Report

MODES = ("auto", "bar", "json", "none")

_FIRST = 1.0  # a copy shorter than this is over before one has read its bar
_NAME_WIDTH = 28


class _Face(Protocol):
    """One way to show a report. `update` is called every `interval` seconds.

    People are spared one that would be over before they have read it; a program may rely on the last line.
    """

    interval: float
    is_for_people: bool

    def update(self, now: Progress) -> None: ...
    def finish(self, *, complete: bool) -> None: ...


@contextlib.contextmanager
def shown(report: Report | Batch, terminal: Terminal, mode: str, name: str) -> Iterator[None]:
    """Shows `report` on standard error in `mode` until the block ends."""
    face = _face(report, terminal, mode, name)
    if face is None:
        yield
        return
    meter = _Meter(report, face)
    meter.start()
    complete = False
    try:
        yield
        complete = True
    finally:
        meter.stop(complete=complete)


def json_events(mode: str, terminal: Terminal, report: Report) -> Any:
    """Gives the observer of a copy: the report, and in `json` mode a line for each thing that goes wrong."""
    if mode != "json":
        return report.observe

    def observe(event: Event) -> None:
        report.observe(event)
        if event.kind in {"resumed", "stalled", "repaired", "failed"}:
            error = None if event.error is None else type(event.error).__name__
            told = {"event": event.kind, "offset": event.offset, "attempt": event.attempt, "error": error}
            terminal.write_line(json.dumps(told))

    return observe


class _Meter:
    """A thread that tells the face every now and then; the copy itself only counts."""

    def __init__(self, report: Report | Batch, face: _Face) -> None:
        self._report = report
        self._face = face
        self._over = threading.Event()
        self._seen = False
        self._pace = Pace(report)
        self._thread = threading.Thread(target=self._run, name="imgstore-meter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, complete: bool) -> None:
        self._over.set()
        self._thread.join()
        # A copy that nobody had to wait for is told of where a source failed.
        if self._seen or self._report.failures or not self._face.is_for_people:
            self._face.finish(complete=complete)

    def _run(self) -> None:
        pause = max(_FIRST, self._face.interval)
        while not self._over.wait(pause):
            self._seen = True
            self._face.update(self._pace.look())
            pause = self._face.interval


class _Bar:
    """A bar that redraws itself, and goes when it is done."""

    interval = 0.2
    is_for_people = True

    def __init__(self, report: Report | Batch, terminal: Terminal, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(stderr=True, force_terminal=True)
        console.width = min(console.width, 110)
        fields = ("share", "amount", "rate", "left", "resumes")
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            *(TextColumn(f"{{task.fields[{each}]}}", markup=False) for each in fields),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            expand=True,
        )
        empty: dict[str, Any] = dict.fromkeys(fields, "")
        self._task = self._progress.add_task(printable(name), total=None, **empty)
        self._report = report
        self._terminal = terminal
        self._name = name
        self._plain_line = terminal.write_line

    def update(self, now: Progress) -> None:
        if not self._progress.live.is_started:
            self._progress.start()
            self._terminal.write_line = self._line_above
        fields: dict[str, Any] = {**_amounts(now), "resumes": _troubles(self._report)}
        self._progress.update(self._task, total=self._report.total, completed=self._report.bytes, **fields)
        self._progress.refresh()

    def finish(self, *, complete: bool) -> None:
        self._progress.stop()
        self._terminal.write_line = self._plain_line
        if complete:
            self._terminal.say(_summary(self._report, self._name))

    def _line_above(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Lines:
    """A line every few seconds, for logs and for terminals that cannot redraw."""

    interval = 5.0
    is_for_people = True

    def __init__(self, report: Report | Batch, terminal: Terminal, name: str) -> None:
        self._report = report
        self._terminal = terminal
        self._name = name

    def update(self, now: Progress) -> None:
        told = [*_amounts(now).values(), _troubles(self._report)]
        self._terminal.say(f"{self._name}: {', '.join(filter(None, told))}")

    def finish(self, *, complete: bool) -> None:
        if complete:
            self._terminal.say(_summary(self._report, self._name))


class _Json:
    """A JSON object on one line, every second and at the end."""

    interval = 1.0
    is_for_people = False

    def __init__(self, report: Report | Batch, terminal: Terminal) -> None:
        self._report = report
        self._terminal = terminal

    def update(self, now: Progress) -> None:
        told = self._report.as_dict()
        del told["digests"], told["failures"]
        left = None if now.left is None else round(now.left, 1)
        told = {"event": "progress", **told, "total": now.total, "rate": round(now.rate), "left": left}
        self._terminal.write_line(json.dumps(told))

    def finish(self, *, complete: bool) -> None:
        self.update(Pace(self._report).look())  # the rate is that of all of it


def _face(report: Report | Batch, terminal: Terminal, mode: str, name: str) -> _Face | None:
    if mode == "none" or sys.stderr is None:
        return None
    if mode == "json":
        return _Json(report, terminal)
    draws = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if mode == "bar" or draws:
        return _Bar(report, terminal, name if len(name) <= _NAME_WIDTH else "..." + name[3 - _NAME_WIDTH :])
    return _Lines(report, terminal, name)


def _amounts(now: Progress) -> dict[str, str]:
    told = {
        "share": "",
        "amount": show_size(now.bytes),
        "rate": f"{show_size(now.rate)}/s" if now.rate >= 1 else "waiting",
        "left": "",
    }
    if now.total:
        told["share"] = f"{now.bytes * 100 // now.total}%"
        told["amount"] = f"{show_size(now.bytes)} of {show_size(now.total)}"
    if now.left is not None and now.total:
        told["left"] = f"{show_seconds(math.ceil(now.left))} left"
    return told


def _troubles(report: Report | Batch) -> str:
    return show_count(report.resumes, "resume") if report.resumes else ""


def _summary(report: Report | Batch, name: str) -> str:
    told = f"{name}: {show_size(report.bytes)} in {show_seconds(report.seconds)}"
    told += f", {show_size((report.bytes - report.held) / max(report.seconds, 1e-3))}/s"
    if report.held:
        told += f", {show_size(report.held)} of it held before"
    if report.resumes:
        told += f", {_troubles(report)}"
    if len(report.sources) > 1 or report.failures:
        told += "".join(f"; {show_size(count)} from {source}" for source, count in report.sources.items())
        failed = dict.fromkeys(f"; {each.source} failed: {each.type}" for each in report.failures)
        told += "".join(failed)
    return told
