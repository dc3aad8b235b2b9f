"""Shows what was tried at the end of the run, also where a worker of xdist did: the schedules, for one."""

from __future__ import annotations

import sys

import pytest

SHOWN: pytest.StashKey[list[str]] = pytest.StashKey()


@pytest.fixture
def histogram(request):
    """Takes what is to be shown at the end."""
    return lambda text: request.config.stash.setdefault(SHOWN, []).append(str(text))


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A worker has no terminal, and pytest's main process no way to know of this folder before the workers do;
    # but they share the standard error.
    if hasattr(session.config, "workerinput"):
        capture = session.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            for text in session.config.stash.get(SHOWN, []):
                sys.stderr.write(f"\n{text}\n")
                sys.stderr.flush()


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    for text in config.stash.get(SHOWN, []):
        terminalreporter.section("tried")
        terminalreporter.line(text)
