"""Events as lines of a log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from imgstore.errors import ImgstoreError
from imgstore.model import Event

LOG = logging.getLogger(__name__)

_QUIET: Final = 1.0  # seconds: what breaks a thousand times in one of them is told of once, with the number
_ROUTINE: Final = frozenset({"opened", "source"})
_TROUBLE: Final = frozenset({"failed", "stalled", "resumed", "repaired"})


class LogObserver:
    """Writes one line for each event that says more than that bytes flow. Called from any thread.

    What goes wrong (failed, stalled, resumed, repaired) is logged at `level`, by default INFO, since the
    layers themselves warn of it; what is routine (opened, source) at DEBUG; delivered and refetched, which
    come with every receive, not at all. Of one kind and store at most one line of trouble a second is
    written; the next one tells as `omitted` how many were left out.

    A line is `event=KIND` and further `name=value`; the same is in the record's attribute `imgstore`, a
    dictionary, for formatters that write JSON. Text from outside is quoted, so that no key can break a line.
    Of an exception that is none of ours only the type is told, since its text may hold anything.
    """

    def __init__(
        self,
        logger: logging.Logger = LOG,
        level: int = logging.INFO,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._level = level
        self._now = now
        self._lock = threading.Lock()
        self._quiet: dict[tuple[str, str], tuple[float, int]] = {}  # until when, and what was left out so far

    def __call__(self, event: Event) -> None:
        if event.kind in _ROUTINE:
            self._write(logging.DEBUG, event, 0)
        elif event.kind in _TROUBLE and self._logger.isEnabledFor(self._level):
            omitted = self._admitted(event)
            if omitted is not None:
                self._write(self._level, event, omitted)

    def _admitted(self, event: Event) -> int | None:
        """Gives how many lines were left out before this one, None where it is left out as well."""
        now, which = self._now(), (event.kind, event.store)
        with self._lock:
            until, omitted = self._quiet.get(which, (now, 0))
            if now < until:
                self._quiet[which] = until, omitted + 1
                return None
            self._quiet[which] = now + _QUIET, 0
            return omitted

    def _write(self, level: int, event: Event, omitted: int) -> None:
        if self._logger.isEnabledFor(level):
            fields = _fields(event, omitted)
            line = " ".join(f"{name}={value}" for name, value in _shown(fields))
            self._logger.log(level, "%s", line, extra={"imgstore": fields})


def _fields(event: Event, omitted: int) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "event": event.kind,
        "store": event.store,
        "key": event.key,
        "op": event.operation,
        "offset": event.offset,
    }
    if event.kind == "opened":
        fields["seconds"] = round(event.seconds, 6)
    numbers = {"count": event.count, "attempt": event.attempt, "omitted": omitted}
    fields |= {name: value for name, value in numbers.items() if value}
    if event.error is not None:
        fields["error"] = type(event.error).__name__
    if isinstance(event.error, ImgstoreError):
        fields["message"] = event.error.message
        if event.error.request_id is not None:
            fields["request_id"] = event.error.request_id
    return fields


def _shown(fields: dict[str, Any]) -> list[tuple[str, Any]]:
    quoted = {"store", "key", "message", "request_id"}
    return [(name, repr(value) if name in quoted else value) for name, value in fields.items()]
