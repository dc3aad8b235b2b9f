"""Runs tests against a program that stands in for a module: a forked process each, with a time limit.

The program never reaches the disk. In the child, whoever imports the module's file gets the program instead;
a child in which nobody imported it says so, because then its tests prove nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn

KILLED, SURVIVED, ENDLESS, BROKEN = "killed", "survived", "endless", "broken"
DEAD = {KILLED, ENDLESS}

# Loaded once, before the forks: what every run of pytest needs, and nothing of what is tested.
_PRELOADED = (
    "pytest", "_hypothesis_pytestplugin", "hypothesis", "pytest_timeout", "xdist.plugin", "multiprocessing",
    "concurrent.futures", "http.client", "unittest.mock", "ssl", "email.utils", "logging.handlers", "urllib3",
)  # fmt: skip
_NEVER_IMPORTED = 77
_STUMBLED = 3  # pytest's own status for an error of its own: as red as a failed test
_MEMORY = 4 << 30  # bytes of address space: a mutant that allocates for ever dies of it
_OPTIONS = (
    "-x", "-q", "--tb=line", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist",
    # the preloaded plugins need no rewritten asserts
    "-W", "ignore::pytest.PytestAssertRewriteWarning",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """`tests` (paths below the root) to run with `program` in the place of `module`; None: as it is."""

    subject: Any
    module: str
    tests: tuple[str, ...]
    program: CodeType | None
    limit: float


@dataclass(frozen=True)
class Outcome:
    """How a job ended, in how many seconds, and what pytest printed."""

    job: Job
    verdict: str
    seconds: float
    output: str


class Harness:
    """Runs jobs in `root`, which holds the package and its tests, `parallel` at a time."""

    def __init__(self, root: Path, parallel: int) -> None:
        self._root = root
        self._parallel = parallel
        self._running: dict[int, tuple[Job, float, Path]] = {}

    def run(self, jobs: Iterable[Job]) -> Iterator[Outcome]:
        """Gives the outcomes as they come."""
        for name in _PRELOADED:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        with tempfile.TemporaryDirectory() as folder:
            try:
                for number, job in enumerate(jobs):
                    self._start(job, Path(folder, str(number)))
                    while len(self._running) >= self._parallel:
                        yield self._wait()
                while self._running:
                    yield self._wait()
            finally:
                for process in self._running:
                    os.killpg(process, signal.SIGKILL)
                    os.waitpid(process, 0)
                self._running.clear()

    def _start(self, job: Job, output: Path) -> None:
        process = os.fork()
        if process == 0:
            _child(self._root, job, output)
        with contextlib.suppress(OSError):  # the child does the same: whoever comes first
            os.setpgid(process, process)
        self._running[process] = (job, time.monotonic(), output)

    def _wait(self) -> Outcome:
        while True:
            for process, (job, began, output) in list(self._running.items()):
                seconds = time.monotonic() - began
                ended, status = os.waitpid(process, os.WNOHANG)
                endless = not ended and seconds > job.limit
                if not ended and not endless:
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process, signal.SIGKILL)  # also what the tests started and left
                if endless:
                    os.waitpid(process, 0)
                del self._running[process]
                verdict = ENDLESS if endless else _verdict(os.waitstatus_to_exitcode(status))
                printed = output.read_text(errors="replace") if output.exists() else ""
                return Outcome(job, verdict, seconds, printed)
            time.sleep(0.005)


def _verdict(status: int) -> str:
    """Judges pytest's exit status. A crash of the interpreter is as red as a failed test."""
    if status == 0:
        return SURVIVED
    # 1: failed tests; 2: a test module that can't be imported, or an interrupt
    return KILLED if status in {1, 2, _STUMBLED} or status < 0 else BROKEN


def _child(root: Path, job: Job, output: Path) -> NoReturn:
    status = _NEVER_IMPORTED
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        written = os.open(output, os.O_CREAT | os.O_WRONLY, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in ((0, nothing), (1, written), (2, written)):
            os.dup2(descriptor, number)
        os.close(written)
        os.close(nothing)
        os.chdir(root)
        # As in CI: the same change gives the same verdict, and a skipped test proves nothing.
        os.environ["CI"] = "true"
        sys.path.insert(0, str(root))
        # The tree is a copy: the tests' bytecode is kept there from one mutant to the next.
        sys.dont_write_bytecode = False
        # A folder of its own: pytest clears away the old ones of all its runs, and they trip over each other.
        status = _tested(root, job, f"--basetemp={output}.tmp")
    except BaseException:
        traceback.print_exc()
        status = _STUMBLED
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _tested(root: Path, job: Job, *options: str) -> int:
    import pytest

    imported = _stand_in(root / job.module, job.program)
    status = int(pytest.main([*_OPTIONS, *options, *job.tests]))
    return status if imported or status else _NEVER_IMPORTED


def _stand_in(path: Path, program: CodeType | None) -> list[str]:
    """Makes whoever imports `path` from now on get `program`; the list that it gives tells of each."""
    imported: list[str] = []
    real = importlib.machinery.SourceFileLoader.get_code

    def get_code(self: Any, fullname: str) -> CodeType | None:
        if self.path != str(path):
            return real(self, fullname)
        imported.append(fullname)
        return program or real(self, fullname)

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
    return imported
