"""What the adapters of metrics have in common: which events count for which metric, under which labels."""

from __future__ import annotations

import abc
import logging
from collections.abc import Iterator, Mapping
from typing import Final

from imgstore.errors import ImgstoreError
from imgstore.model import Event

LOG = logging.getLogger(__name__)

# What each counter counts, by its name without prefix and suffix; docs/observing.md says more.
COUNTERS: Final[Mapping[str, str]] = {
    "bytes": "Bytes of images that arrived from the store (class received); some of them again (refetched)",
    "attempts": "Attempts of an operation, by whether the store served it (class opened) or not (failed)",
    "resumes": "Reads that went on after a break, by the error that had broken them",
    "stalls": "Streams that were given up for being too slow, by the error",
    "repairs": "Bad chunks that were replaced by good ones",
    "errors": "Attempts that ended in an error, at once or in mid-body, by the error",
}
LABELS: Final = ("store", "op", "class")

# The histogram: seconds until a store serves a get, or is done with any other operation.
DURATION: Final = "How long the store took to begin serving a get, or to carry out another operation"
# Two steps a decade, from a file or a near server to the upload of a large image; at 10 s an open times out.
BUCKETS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


class MeteringObserver(abc.ABC):
    """An observer that counts events. Called from any thread; it never raises.

    A metric that cannot be counted ends no read: it is left out, and the first such failure is logged. The
    labels are the store's id, the operation and a class out of a fixed set: never a key, so that there are as
    many series as there are stores, and not as many as images.
    """

    _failed = False

    def __call__(self, event: Event) -> None:
        try:
            for name, kind, amount in counted(event):
                self._count(name, amount, {"store": event.store, "op": event.operation, "class": kind})
            if event.kind == "opened":
                self._time(event.seconds, {"store": event.store, "op": event.operation})
        except Exception:  # what counts a read must not end it
            if not self._failed:
                self._failed = True
                LOG.warning("an event could not be counted; more such failures are not told", exc_info=True)

    @abc.abstractmethod
    def _count(self, name: str, amount: int, labels: Mapping[str, str]) -> None:
        """Adds `amount` to the counter `name`, one of COUNTERS."""

    @abc.abstractmethod
    def _time(self, seconds: float, labels: Mapping[str, str]) -> None:
        """Enters `seconds` in the histogram; `labels` have no class."""


def counted(event: Event) -> Iterator[tuple[str, str, int]]:
    """Gives what `event` adds: a counter's name, the class and the amount."""
    kind = event.kind
    if kind == "delivered":
        yield "bytes", "received", event.count
    elif kind == "refetched":
        yield "bytes", "refetched", event.count
    elif kind == "opened":
        yield "attempts", "opened", 1
    elif kind == "resumed":
        yield "resumes", _class(event.error), 1
    elif kind == "stalled":
        yield "stalls", _class(event.error), 1
    elif kind == "repaired":
        yield "repairs", _class(event.error), 1
    elif kind == "failed":
        yield "errors", _class(event.error), 1
        if event.opening:
            yield "attempts", "failed", 1


def _class(error: Exception | None) -> str:
    """Names the class of one of our errors; every other is `other`, so that the set stays small."""
    if error is None:
        return ""
    return type(error).__name__ if isinstance(error, ImgstoreError) else "other"
