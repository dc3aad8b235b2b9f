"""Rounds of contenders: each runs once a round, in a process of its own, and is checked each time."""

from __future__ import annotations

import json
import mmap
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.ratios import Ratio, paired

ROOT = Path(__file__).resolve().parent.parent


class BrokenRunError(Exception):
    """A contender failed, or what it brought is not what was there."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one run on the clock, seconds of processor in user and system, and the peak of its memory.

    `peak` is in bytes, where it was measured.
    """

    wall: float
    cpu: float
    peak: int | None = None


@dataclass(frozen=True)
class Contender:
    """One way to do the work. `prepare` and `check` stand outside the timing.

    We want our time to be at most `limit` of its.
    """

    name: str
    run: Callable[[], Cost]
    limit: float = 1.0


@dataclass
class Comparison:
    """Contenders and what each round cost them; the first is ours."""

    name: str
    about: str
    contenders: Sequence[Contender]
    costs: dict[str, list[Cost]] = field(default_factory=dict)

    def ratio(self, peer: str, of: Callable[[Cost], float] = lambda cost: cost.wall) -> Ratio:
        """Gives ours over that of `peer`."""
        ours = self.contenders[0].name
        return paired([of(each) for each in self.costs[ours]], [of(each) for each in self.costs[peer]])

    def median(self, name: str, of: Callable[[Cost], float] = lambda cost: cost.wall) -> float:
        """Gives the median cost of a contender."""
        return statistics.median(of(each) for each in self.costs[name])


@dataclass(frozen=True)
class Figure:
    """A figure of ours: the median of `values`, which has to be at most `limit`, if it has one."""

    name: str
    about: str
    unit: str
    values: Sequence[float]
    limit: float | None

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass
class Bench:
    """What scenarios run with: `size` bytes of image, a folder on disk and one in memory.

    `results` holds what each of them found.
    """

    size: int
    rounds: int
    seed: int
    disk: Path
    memory: Path
    results: dict[str, list[Comparison | Figure]] = field(default_factory=dict)
    scenario: str = ""

    def compare(
        self,
        name: str,
        about: str,
        contenders: Sequence[Contender],
        *,
        prepare: Callable[[], None] = lambda: None,
        check: Callable[[], None] = lambda: None,
    ) -> Comparison:
        """Runs the rounds. `prepare` and `check` come before and after each run, outside its time."""
        found = Comparison(name, about, contenders, {each.name: [] for each in contenders})
        order = random.Random(self.seed)
        # The round before the first fills caches and counts for nothing.
        for number in range(self.rounds + 1):
            for each in order.sample(list(contenders), len(contenders)):
                prepare()
                os.sync()  # nobody pays for what another left to be written
                populate(self.size)
                cost = each.run()
                check()
                if number:
                    found.costs[each.name].append(cost)
            tell(f"{self.scenario}: {name}: round {number} of {self.rounds}")
        self.results.setdefault(self.scenario, []).append(found)
        return found

    def figure(self, name: str, about: str, unit: str, values: Sequence[float], limit: float | None) -> None:
        """Notes a figure that has to be at most `limit`, if any."""
        self.results.setdefault(self.scenario, []).append(Figure(name, about, unit, values, limit))


def program(argv: Sequence[str | Path], *, sync: Path | None = None) -> Cost:
    """Runs a program from its start to its end; the file `sync`, if any, is synced within its time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(argv, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
    if sync is not None and not done.returncode:
        fsync(sync)
    wall = time.perf_counter() - began
    if done.returncode:
        raise BrokenRunError(f"{argv[0]}: {done.stderr.decode(errors='replace').strip()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def library(function: Callable[..., object], *arguments: object) -> Cost:
    """Runs `function` in a fresh interpreter, as `benchmarks.child` says. Start-up is not timed."""
    argv = [sys.executable, "-m", "benchmarks.child", function.__module__, function.__name__]
    argv.append(json.dumps([str(each) if isinstance(each, Path) else each for each in arguments]))
    done = subprocess.run(argv, check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise BrokenRunError(f"{function.__name__}: {done.stderr.strip()}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def populate(size: int) -> None:
    """Makes the host of a virtual machine give it as much memory as a run fills.

    Some take back what a machine has not used for seconds. The next to touch it pays: 1 GiB written to a file
    then took 4 s instead of 0.4, whoever wrote it.
    """
    mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def fsync(path: Path | str) -> None:
    """Has the bytes of a file on its medium: what is asked of every contender that writes one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tell(line: str) -> None:
    """Tells on standard error how far things are."""
    sys.stderr.write(f"{line}\n")
