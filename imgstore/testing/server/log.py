"""What the server saw and sent: the independent truth of a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

from imgstore.testing.server.wire import Taken


@dataclass
class Exchange:
    """One request and what became of its reply. Bytes; offsets half-open; times are `time.monotonic()`.

    `body_sent` counts image bytes which the peer's kernel acknowledged: no head, no chunk framing, no error
    body, no surplus. Bytes acknowledged but never read by the peer's program do count; bytes of a TLS record
    acknowledged only in part do not. Of a content-encoded body the encoded bytes are counted. `other_sent` is
    all the rest that was acknowledged, TLS's own bytes included.

    A peer that reset in mid-body may have taken a little more, for which its kernel still held back the
    acknowledgement (40 ms at most): `unsure` is the most that can be, heads and all. It is 0 after a break of
    the server's own, which waits.
    """

    connection: int
    method: str
    target: str
    headers: list[tuple[str, str]]
    range_asked: str | None
    status: int | None = None
    range_served: tuple[int, int] | None = None
    body_sent: int = 0
    other_sent: int = 0
    unsure: int = 0
    body_received: int = 0
    ended: str = "open"
    """complete, cut, reset, stalled, peer-left, stopped or broken; "open" while in progress."""
    started: float = field(default_factory=time.monotonic)
    finished: float | None = None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def range_taken(self) -> tuple[int, int] | None:
        """The image offsets `[start, stop)` the peer's kernel has; None when it has none."""
        if self.range_served is None or not self.body_sent:
            return None
        start = self.range_served[0]
        return start, start + self.body_sent

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case; None without one."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Log(Sequence[Exchange]):
    """The exchanges in the order their requests arrived; every one handed out is a copy.

    Safe in any thread. Figures of an exchange in progress grow; `wait_idle` first makes them final.
    """

    def __init__(self) -> None:
        """An empty log."""
        self._changed = threading.Condition()
        self._entries: list[Exchange] = []
        self._probes: dict[int, Callable[[], Taken]] = {}
        self._connections = self._open = 0

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        with self._changed:
            return self._connections

    @property
    def open_connections(self) -> int:
        """Connections that neither side has closed yet, as the server sees it."""
        with self._changed:
            return self._open

    def exchanges(self, path: str | None = None) -> list[Exchange]:
        """The exchanges of one path, or all."""
        with self._changed:
            return [
                self._copy(number) for number, entry in enumerate(self._entries) if path in (None, entry.path)
            ]

    def requests(self, path: str | None = None) -> int:
        """How many requests arrived for one path, or in all."""
        return len(self.exchanges(path))

    def body_bytes(self, path: str | None = None) -> int:
        """Image bytes that peers took of one path, or in all."""
        return sum(entry.body_sent for entry in self.exchanges(path))

    def wait_idle(self, timeout: float = 5.0) -> None:
        """Waits until no exchange is in progress, so that the figures are final.

        Raises: TimeoutError after `timeout` seconds.
        """
        self._wait(lambda: not self._probes, timeout, "an exchange is in progress")

    def wait_closed(self, timeout: float = 5.0) -> None:
        """Waits until no connection is open: a client has let go of all of them.

        Raises: TimeoutError after `timeout` seconds.
        """
        self._wait(lambda: not self._open, timeout, "a connection is open")

    def __len__(self) -> int:
        """The number of requests so far."""
        with self._changed:
            return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Exchange: ...
    @overload
    def __getitem__(self, index: slice) -> list[Exchange]: ...
    def __getitem__(self, index: int | slice) -> Exchange | list[Exchange]:
        """One exchange, or several."""
        return self.exchanges()[index]

    def __iter__(self) -> Iterator[Exchange]:
        """The exchanges as they are now."""
        return iter(self.exchanges())

    def connected(self) -> int:
        """The number of a new connection, from 1; the server calls this."""
        with self._changed:
            self._connections += 1
            self._open += 1
            return self._connections

    def disconnected(self) -> None:
        """A connection is gone; the server calls this."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def begin(self, exchange: Exchange, probe: Callable[[], Taken]) -> int:
        """Enters an exchange and gives its number; `probe` tells what its connection's peer took so far."""
        with self._changed:
            self._entries.append(exchange)
            before = probe()
            number = len(self._entries) - 1

            def since() -> Taken:
                now = probe()
                return now._replace(image=now.image - before.image, other=now.other - before.other)

            self._probes[number] = since
            return number

    def note(self, number: int, *, status: int, range_served: tuple[int, int] | None) -> None:
        """Enters what the reply is to be."""
        with self._changed:
            self._entries[number].status = status
            self._entries[number].range_served = range_served

    def end(self, number: int, kind: str) -> None:
        """Closes an exchange with its final figures."""
        with self._changed:
            self._entries[number] = replace(self._copy(number), ended=kind, finished=time.monotonic())
            del self._probes[number]
            self._changed.notify_all()

    def _copy(self, number: int) -> Exchange:
        entry = self._entries[number]
        if probe := self._probes.get(number):
            image, other, unsure = probe()
            return replace(entry, body_sent=image, other_sent=other, unsure=unsure)
        return replace(entry)

    def _wait(self, ready: Callable[[], bool], timeout: float, complaint: str) -> None:
        with self._changed:
            if not self._changed.wait_for(ready, timeout):
                message = f"{complaint} after {timeout} s"
                raise TimeoutError(message)
