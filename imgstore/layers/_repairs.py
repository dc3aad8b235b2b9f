"""Chunks that are being fetched again: each by one reader, for all that found it bad meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYetError  # its own until Python 3.11

# Seconds between two looks at whether the call may go on: a cancel ends it within one.
_SLICE = 0.25


class Repairs:
    """Has a chunk fetched once, however many readers want it at the moment. Callable from many threads.

    Memory: one chunk for each that is under way.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, int, int], Future[bytes | None]] = {}

    def once(
        self,
        key: str,
        data: memoryview,
        at: int,
        *,
        fetch: Callable[[], None],
        check: Callable[[], None],
    ) -> bool:
        """Fills `data` with the bytes of `key` from `at` on; tells whether it was `fetch` that did.

        Otherwise they came to another reader, which `check` may end the waiting for; where that one failed
        they are fetched after all.

        Raises: what `fetch` and `check` raise.
        """
        slot, came = (key, at, len(data)), None
        mine: Future[bytes | None] = Future()
        try:
            with self._lock:
                flight = self._under_way.setdefault(slot, mine)
            if flight is mine:
                fetch()
                came = bytes(data)
                return True
        finally:  # also of an interrupt: whoever waits must hear of an end
            if self._under_way.get(slot) is mine:
                with self._lock:
                    del self._under_way[slot]
                mine.set_result(came)
        taken = _awaited(flight, check)
        if taken is None:
            fetch()
            return True
        data[:] = taken
        return False


def _awaited(flight: Future[bytes | None], check: Callable[[], None]) -> bytes | None:
    while True:
        check()
        try:
            return flight.result(_SLICE)
        except NotYetError:
            continue
