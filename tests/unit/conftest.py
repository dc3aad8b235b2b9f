"""Unit tests are quick because nothing in them waits: no network, no pause."""

from __future__ import annotations

import socket
import sys
import time
from typing import Any, NoReturn

import pytest

NETWORK = (socket.AF_INET, socket.AF_INET6)


@pytest.fixture(autouse=True)
def no_network_no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a unit test that reaches for the network or sleeps.

    By pytest's own failure, which no `except Exception` on the way can take for weather.
    """

    def refuse(what: str) -> NoReturn:
        pytest.fail(f"a unit test {what}: take the simulated store and clock, or move it to tests/faults")

    def guard(name: str) -> None:
        real = getattr(socket.socket, name)

        def call(self: socket.socket, *args: Any) -> Any:
            if self.family in NETWORK:
                refuse(f"calls socket.{name}{args!r}")
            return real(self, *args)

        monkeypatch.setattr(socket.socket, name, call)

    for name in ("bind", "connect", "connect_ex", "sendto"):
        guard(name)

    real_sleep = time.sleep

    def sleep(seconds: float) -> None:
        # Waiting for a child with a timeout polls: that is a wait for work, not a pause.
        if sys._getframe(1).f_globals.get("__name__") != "subprocess":
            refuse(f"calls time.sleep({seconds!r})")
        real_sleep(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
