"""The segments of one put on their way, several at a time."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from imgstore.backends.swift.joining import is_final
from imgstore.backends.swift.parts import Filling
from imgstore.backends.swift.records import Record
from imgstore.backends.swift.segments import Segments
from imgstore.errors import UnsupportedError
from imgstore.model import Call, CancelToken, Part

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore

# Seconds for the answers to segments that are on their way when the source fails: one that is cut off may be
# stored all the same, after everything was cleared away.
_ANSWERS: Final = 5.0


class Sending:
    """Belongs to one thread. `parts` are those that are stored, by their order unless `run` fails."""

    def __init__(self, owner: SwiftStore, record: Record, concurrency: int, call: Call) -> None:
        self.parts: list[Part] = []
        self._owner = owner
        self._segments = Segments(owner, record)
        self._concurrency = concurrency
        self._cancel = CancelToken() if call.cancel is None else call.cancel.child()
        self._call = replace(call, cancel=self._cancel)
        self._sent: deque[Future[Part]] = deque()

    def run(self, filling: Filling, most: int) -> None:
        """Sends what `filling` gives, `most` segments at most; fills one more while all are on their way.

        Raises: what the source raises; UnsupportedError for more segments; as `Segments.put`. No thread of it
        is left then.
        """
        with ThreadPoolExecutor(self._concurrency, "imgstore-swift") as pool:
            try:
                self._run(pool, filling, most)
            except BaseException as exc:
                if isinstance(exc, Exception) and is_final(self._owner.translate(exc)):
                    wait(self._sent, _ANSWERS)
                self._cancel.cancel()
                raise

    def is_answered(self, exc: Exception) -> bool:
        """Tells, after `run` failed with `exc`, whether no segment can come late; adds those that came.

        A request that got no answer may still be carried out.
        """
        failures = [exc]
        for each in self._sent:
            failure = each.exception()
            if failure is None:
                self.parts.append(each.result())
            elif isinstance(failure, Exception):
                failures.append(failure)
        return all(is_final(self._owner.translate(each)) for each in failures)

    def _run(self, pool: ThreadPoolExecutor, filling: Filling, most: int) -> None:
        data = filling.next()
        number = offset = 0
        while data.nbytes:
            if number == most:
                raise UnsupportedError(
                    f"the image has more than the {most} segments that the service joins; give its size"
                )
            self._sent.append(pool.submit(self._segments.put, number, offset, data, self._call))
            number, offset = number + 1, offset + data.nbytes
            data = filling.next()
            while len(self._sent) >= self._concurrency:
                self._take()
        while self._sent:
            self._take()

    def _take(self) -> None:
        self.parts.append(self._sent[0].result())
        self._sent.popleft()
