"""What a transfer did and cost, gathered from events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from imgstore.model import Event
from imgstore.transfer.pace import Follower, Progress


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one of several sources was left: at which byte of the image, and after which error."""

    source: str
    offset: int
    type: str
    message: str


class Report:
    """A fold over events: `observe` takes one after the other, from any thread.

    `bytes` are in the target, `held` of them since an earlier copy that was broken off; `received` came as
    body from the stores, and `refetched` of them had come before. `attempts` counts the requests that were
    made for bytes, `resumes` how often the transfer went on after a break, `stalls` how often it was broken
    for being too slow. `sources` tells the bytes received by store, `failures` each time that one of several
    sources was left for another, and why. `repaired` bytes of bad chunks were replaced.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self.bytes = 0
        self.held = 0
        self.total: int | None = None
        self.received = 0
        self.refetched = 0
        self.attempts = 0
        self.resumes = 0
        self.stalls = 0
        self.repaired_chunks = 0
        self.repaired = 0
        self.sources: dict[str, int] = {}
        self.failures: list[Failure] = []
        self.digests: dict[str, str] = {}
        self._now = now
        self._began = now()
        self._ended: float | None = None
        self._follower: Follower | None = None
        self._lock = threading.Lock()

    def observe(self, event: Event) -> None:
        """Takes one event in."""
        with self._lock:
            getattr(self, f"_{event.kind}", self._ignored)(event)

    def delivered(self, count: int) -> None:
        """Notes `count` bytes more in the target. From any thread; whoever writes a byte notes it once."""
        with self._lock:
            self.bytes += count
        if self._follower is not None:
            self._follower.moved()

    def follow(self, tell: Callable[[Progress], None], *, every: float = 1.0) -> None:
        """Has `tell` called while bytes come, at most once in `every` seconds, in a thread that writes them.

        It is to be quick. What it raises ends the transfer as any error does: OperationCancelledError, if the
        transfer is to be called off. A transfer that stands still tells nothing: a deadline or a cancel ends
        that one.
        """
        self._follower = Follower(self, tell, every)

    def found(self, count: int) -> None:
        """Notes `count` bytes that the target has already."""
        with self._lock:
            self.held += count
            self.bytes += count

    def settle(self) -> None:
        """Notes that the target has all that there is: of what was received beyond that, all came again.

        A stream that is left for another one had bytes under way, which the other asked for once more.
        """
        with self._lock:
            self.refetched = max(self.refetched, self.received - (self.bytes - self.held))

    def finish(self) -> None:
        """Stops the clock. Idempotent."""
        if self._ended is None:
            self._ended = self._now()

    @property
    def seconds(self) -> float:
        return (self._now() if self._ended is None else self._ended) - self._began

    def as_dict(self) -> dict[str, Any]:
        """Gives the numbers by the names that `--json` prints."""
        return {
            "bytes": self.bytes,
            "held": self.held,
            "received": self.received,
            "refetched": self.refetched,
            "attempts": self.attempts,
            "resumes": self.resumes,
            "stalls": self.stalls,
            "repaired_chunks": self.repaired_chunks,
            "repaired": self.repaired,
            "sources": dict(self.sources),
            "failures": [asdict(failure) for failure in self.failures],
            "seconds": round(self.seconds, 3),
            "digests": dict(self.digests),
        }

    def _opened(self, event: Event) -> None:
        if event.operation == "get":
            self.attempts += 1
            self.sources.setdefault(event.store, 0)

    def _failed(self, event: Event) -> None:
        # A stream that breaks was counted when it opened; an attempt that opened nothing counts here.
        if event.operation == "get" and event.opening:
            self.attempts += 1
        source = getattr(event.error, "store", None)
        # A mirror tells of its legs; every other store of itself.
        if event.operation == "get" and source not in {None, event.store}:
            self.failures.append(Failure(source, event.offset, type(event.error).__name__, str(event.error)))

    def _delivered(self, event: Event) -> None:
        self.received += event.count
        self.sources[event.store] = self.sources.get(event.store, 0) + event.count

    def _refetched(self, event: Event) -> None:
        self.refetched += event.count

    def _resumed(self, event: Event) -> None:
        self.resumes += 1

    def _stalled(self, event: Event) -> None:
        self.stalls += 1

    def _repaired(self, event: Event) -> None:
        self.repaired_chunks += 1
        self.repaired += event.count

    def _ignored(self, event: Event) -> None:
        """`source` says nothing that `delivered` does not."""
