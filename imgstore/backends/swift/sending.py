"""The segments of one put on their way, several at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imgstore.backends._in_flight import InFlight
from imgstore.backends._intake import Cutter
from imgstore.backends.swift.joining import is_final
from imgstore.backends.swift.parts import SizeOf
from imgstore.backends.swift.records import Record
from imgstore.backends.swift.segments import Segments
from imgstore.model import Call, Part

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore

# Seconds for the answers to segments that are on their way when the source fails: one that is cut off may be
# stored all the same, after everything was cleared away.
_ANSWERS: Final = 5.0


class Sending:
    """Belongs to one thread. Memory: as `InFlight`, of segments of `size` bytes."""

    def __init__(self, owner: SwiftStore, record: Record, concurrency: int, size: int, call: Call) -> None:
        self._owner = owner
        self._flight = InFlight(Segments(owner, record).put, concurrency, size, call)

    @property
    def parts(self) -> list[Part]:
        """The segments that are stored, by their order."""
        return self._flight.sent

    def run(self, cutter: Cutter, memory: memoryview, size_of: SizeOf) -> None:
        """Sends the segment that `cutter` filled `memory` with, and all that follow, as `InFlight.run`.

        Raises: what the source or `size_of` raises; as `Segments.put`. No thread of it is left then.
        """
        patience = 0.0
        try:
            self._flight.run(cutter, memory, size_of)
        except Exception as exc:
            if is_final(self._owner.translate(exc)):
                patience = _ANSWERS
            raise
        finally:
            self._flight.close(patience)

    def is_answered(self, exc: Exception) -> bool:
        """Tells, after `run` failed with `exc`, whether no segment can come late.

        A request that got no answer may still be carried out.
        """
        failures = [exc, *(each for each in self._flight.failures if isinstance(each, Exception))]
        return all(is_final(self._owner.translate(each)) for each in failures)
