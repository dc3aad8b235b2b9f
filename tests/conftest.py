"""The guards over the whole suite: nothing is left behind, no secret is shown, and CI skips nothing.

They watch every test, so that no test has to remember to. tests/unit/test_house.py shows each of them fail.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests import canary, promises

# A shell ignores SIGINT for what it runs in the background, and so would every command that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Hundreds of tests start a command, and each would compile the whole package; so would pytest all the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The cases of the kit are read by people: their asserts explain themselves as a test's do.
pytest.register_assert_rewrite("imgstore.testing")


def in_ci() -> bool:
    """Tells whether this run is the build's own."""
    return os.environ.get("CI") == "true"


# How long an example takes says nothing on cores that others share; and CI looks for what a change broke,
# so that the same change gives the same answer.
hypothesis.settings.register_profile("imgstore", deadline=None, derandomize=in_ci())
hypothesis.settings.load_profile("imgstore")

# A cancelled wait ends within a second, by DESIGN.md; so may the thread that waited.
GRACE = 1.0
# Unit tests have time.sleep blocked.
_pause = time.sleep

# The -m of make test
BRIEF = "not soak and not wide"

Report = pytest.TestReport | pytest.CollectReport
LEAKS: pytest.StashKey[list[str]] = pytest.StashKey()
ESCAPED: pytest.StashKey[list[str]] = pytest.StashKey()
LEDGER: pytest.StashKey[promises.Ledger] = pytest.StashKey()

promise = promises.promise  # a fixture of every test


def descriptors() -> dict[int, str]:
    """Gives what is open in this process: descriptor to target."""
    opened = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            opened[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor that listed the folder
    # multiprocessing keeps the pipe of its tracker for the life of the process
    opened.pop(resource_tracker._resource_tracker._fd, None)
    return opened


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fails a test that leaves a thread or a descriptor; it is set up first, and so looks last."""
    threads, opened = set(threading.enumerate()), descriptors()
    yield

    def left() -> list[str]:
        running = [f"thread {each.name}" for each in threading.enumerate() if each not in threads]
        kept = descriptors().items() - opened.items()
        return running + [f"descriptor {number} -> {target}" for number, target in sorted(kept)]

    end = time.monotonic() + GRACE
    while (remains := left()) and time.monotonic() < end:
        _pause(0.01)
    if remains:
        pytest.fail("left behind: " + "; ".join(remains), pytrace=False)


def look(item: pytest.Item, where: str, data: str | bytes | None) -> None:
    """Notes each secret that `data` shows, for the report of `item`."""
    text = data.decode(errors="replace") if isinstance(data, bytes) else data or ""
    item.stash.setdefault(LEAKS, []).extend(f"{name} in {where}" for name in sorted(canary.found(text)))


@pytest.fixture(autouse=True)
def children_are_read(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks for secrets in what child processes print: a test takes that before any report is made."""
    communicate = subprocess.Popen.communicate

    @functools.wraps(communicate)
    def read(self: Any, *args: Any, **options: Any) -> Any:
        out, err = communicate(self, *args, **options)
        look(request.node, "a child's stdout", out)
        look(request.node, "a child's stderr", err)
        return out, err

    monkeypatch.setattr(subprocess.Popen, "communicate", read)


def _watched(capture: Any, item: pytest.Item) -> Any:
    readouterr = capture.readouterr

    def read() -> Any:
        result = readouterr()
        look(item, "captured stdout", result.out)
        look(item, "captured stderr", result.err)
        return result

    capture.readouterr = read
    return capture


@pytest.fixture
def capsys(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Any:
    """As pytest's, and looks for secrets in what the test takes away."""
    return _watched(capsys, request.node)


@pytest.fixture
def capfd(capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Any:
    """As pytest's, and looks for secrets in what the test takes away."""
    return _watched(capfd, request.node)


@pytest.fixture
def capsysbinary(capsysbinary: pytest.CaptureFixture[bytes], request: pytest.FixtureRequest) -> Any:
    """As pytest's, and looks for secrets in what the test takes away."""
    return _watched(capsysbinary, request.node)


@pytest.fixture
def capfdbinary(capfdbinary: pytest.CaptureFixture[bytes], request: pytest.FixtureRequest) -> Any:
    """As pytest's, and looks for secrets in what the test takes away."""
    return _watched(capfdbinary, request.node)


def _fail(report: Report, reason: str) -> None:
    before = f"{report.longreprtext}\n" if report.outcome == "failed" else ""
    report.outcome = "failed"
    report.longrepr = canary.scrubbed(f"{before}{reason}")


def _refuse_skip(report: Report) -> None:
    if in_ci() and report.skipped and not hasattr(report, "wasxfail"):
        said = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        _fail(report, f"CI skips nothing, yet here: {said}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fails a test that shows a secret in its log, output, name or failure, and hides it in the report."""
    report = yield
    _refuse_skip(report)
    if call.when == "setup":
        look(item, "the test's name", item.nodeid)
    for title, text in report.sections:
        # A later phase carries the sections of the earlier ones along: each is judged once.
        if title.endswith(f" {call.when}"):
            look(item, title.lower(), text)
    look(item, "the failure", report.longreprtext)
    if leaks := item.stash.setdefault(LEAKS, []):
        _fail(report, f"{item.nodeid} shows a secret: {', '.join(dict.fromkeys(leaks))}")
        leaks.clear()
    report.sections = [(title, canary.scrubbed(text)) for title, text in report.sections]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Holds the collecting of tests to the same."""
    report = yield
    _refuse_skip(report)
    if names := canary.found(report.longreprtext):
        _fail(report, f"{collector.nodeid} shows a secret: {', '.join(sorted(names))}")
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> list[pytest.Item] | None:
    """Passes over a class that `make test` leaves out: to collect those takes as long as all the others."""
    if not isinstance(obj, type) or collector.config.getoption("markexpr") != BRIEF:
        return None
    return [] if any(mark.name == "wide" for mark in getattr(obj, "pytestmark", ())) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Takes what pytest has collected out of the collector's sight.

    Twelve thousand tests take half a second to go through, and some hundred tests ask for a collection.
    """
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option that writes down what was measured of the promises."""
    parser.addoption("--promises", metavar="FILE", type=Path, help="write the table of the promises to FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Gives the run its lists: of secrets that reached a finished report, of promises measured."""
    config.stash[ESCAPED] = []
    config.stash[LEDGER] = promises.Ledger()
    config.pluginmanager.register(config.stash[LEDGER])

    class LastLook:
        """Reads each report as it is shown, whoever wrote into it: under xdist in the main process."""

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            sections = [text for _, text in report.sections]
            text = "\n".join([report.nodeid, report.longreprtext, *sections, repr(report.user_properties)])
            config.stash[ESCAPED].extend(f"{name} in {report.nodeid}" for name in sorted(canary.found(text)))

    config.pluginmanager.register(LastLook())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run if a report shows a secret."""
    if session.config.stash[ESCAPED]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Counts the cases of the kit, tells of the promises, and names the tests whose reports show a secret."""
    _count_cases(terminalreporter)
    promises.summarize(terminalreporter, config.stash[LEDGER])
    if (path := config.getoption("promises")) is not None:
        promises.write(path, config.stash[LEDGER])
    if config.stash[ESCAPED]:
        terminalreporter.section("secrets in the reports", red=True)
        for each in dict.fromkeys(config.stash[ESCAPED]):
            terminalreporter.line(canary.scrubbed(each))


def _count_cases(terminalreporter: Any) -> None:
    passed = [each.nodeid.split("::") for each in terminalreporter.stats.get("passed", ())]
    files: dict[str, Counter[str]] = {}
    for path, *names in passed:
        if len(names) == 2:  # a case of a suite, not a function of a test file
            files.setdefault(path, Counter())[names[0]] += 1
    kit = {path: classes for path, classes in files.items() if "conformance" in path or "/real/" in path}
    if kit:
        terminalreporter.section("cases of the conformance kit")
    for path, classes in sorted(kit.items()):
        terminalreporter.line(f"{path}: {classes.total()} cases passed in {len(classes)} suites")
