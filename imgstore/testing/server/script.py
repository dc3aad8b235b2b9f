"""What goes wrong with which request: scripts consumed in order, and traps that wait for an offset."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from imgstore.testing.server.fault import Fault, Positioned, Script, combined
from imgstore.testing.server.lies import Overlay
from imgstore.testing.server.reply import Reply
from imgstore.testing.server.request import Request


@dataclass
class _Play:
    """The faults to come at one path."""

    coming: deque[Script]
    after: Script
    method: str | None


@dataclass
class _Trap:
    """A fault that waits for the reply which carries its offset; `left` None is for ever."""

    fault: Fault
    at: int
    left: int | None


class Scripts:
    """The scripts and traps of a server. Safe in any thread; each step is taken by exactly one request."""

    def __init__(self) -> None:
        """No script: everything is served properly."""
        self._lock = threading.Lock()
        self._plays: dict[str, _Play] = {}
        self._traps: dict[str, list[_Trap]] = {}
        self._greetings: deque[Script] = deque()

    def play(
        self,
        path: str,
        faults: Iterable[Fault | Script | None],
        then: Fault | Script | None,
        method: str | None,
    ) -> None:
        """Replaces the script of a path."""
        with self._lock:
            self._plays[path] = _Play(deque(map(combined, faults)), combined(then), method)

    def trap(self, path: str, fault: Fault, times: int | None) -> None:
        """Adds a trap.

        Raises: ValueError when the fault has no image offset.
        """
        at = fault.at if isinstance(fault, Positioned | Overlay) else None
        if at is None:
            message = f"{fault} has no place in the image"
            raise ValueError(message)
        with self._lock:
            self._traps.setdefault(path, []).append(_Trap(fault, at, times))

    def greet(self, faults: Iterable[Fault | Script | None]) -> None:
        """Replaces what the next connections meet."""
        with self._lock:
            self._greetings = deque(map(combined, faults))

    def left(self, path: str) -> int:
        """The steps not yet taken."""
        with self._lock:
            play = self._plays.get(path)
            return len(play.coming) if play else 0

    def step(self, request: Request) -> Script:
        """Takes the next step for a request."""
        with self._lock:
            play = self._plays.get(request.path)
            if play is None or play.method not in (None, request.method):
                return ()
            return play.coming.popleft() if play.coming else play.after

    def sprung(self, path: str, reply: Reply) -> Script:
        """The traps whose byte this reply carries; each counts once less."""
        start, stop = reply.range or (0, 0)
        found = []
        with self._lock:
            for trap in self._traps.get(path, []):
                if trap.left != 0 and start <= trap.at < stop and not reply.bodiless:
                    found.append(trap.fault)
                    trap.left = None if trap.left is None else trap.left - 1
        return tuple(found)

    def greeting(self) -> Script:
        """What a new connection meets before its first request."""
        with self._lock:
            return self._greetings.popleft() if self._greetings else ()
