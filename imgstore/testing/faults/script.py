"""What can go wrong in a read, as data: the faults, and the schedules that string them together."""

from __future__ import annotations

import enum
import functools
import random
from dataclasses import dataclass, field, replace
from typing import Literal

BASE_SIZE = 1 << 20  # no schedule has a larger image; each content is made once and cut to size
OPEN_TIMEOUT = 10.0  # what a driver allows lookup, connect and headers together
RECEIVE_TIMEOUT = 15.0  # at most the stall window, by DESIGN.md
SLOW_RATE = 32768.0  # twice the floor: a rate that must never be taken for a stall
SLOW_SPELL = 6.0  # below half the stall window, so that a silence before it cannot be held against it


class Kind(enum.Enum):
    """One way in which an attempt goes wrong. An attempt meets one fault at most."""

    # the open fails; another try may succeed
    UNAVAILABLE = "unavailable"
    THROTTLED = "throttled"
    OPEN_TIMEOUT = "open-timeout"
    BAD_REPLY = "bad-reply"
    REFUSED = "refused"  # an OSError, which `translate` must know
    # the reply lies, and it shows
    LATER = "served-later"
    OVERSOLD = "range-beyond-size"
    # the body breaks
    ENDS = "early-end"
    LOST = "connection-lost"
    SILENT = "silence"
    TRICKLE = "trickle"
    BROKEN = "os-error"
    # the reply is unusual, and legal
    WHOLE = "served-whole"
    SUPERSET = "served-superset"
    SUBSET = "served-subset"
    SINGLE = "one-byte-receives"
    SLOW = "slow"
    # nothing that trying again could mend, as a rule
    SWAPPED = "swapped"
    SWAPPED_SIZE = "swapped-other-size"
    IGNORED = "swapped-precondition-ignored"
    RETAGGED = "retagged"
    DAMAGED = "damaged"
    DELETED = "deleted"
    DENIED = "denied"
    OVERSTATED = "size-overstated"
    UNSATISFIABLE = "unsatisfiable"
    UNKNOWN = "unknown-exception"
    HOPELESS = "transient-not-retryable"


_ALL = tuple(Kind)
WEATHER = _ALL[: _ALL.index(Kind.SWAPPED)]  # survivable one by one
FINAL = _ALL[len(WEATHER) :]  # end a read that depends on what they break
SWAPS = frozenset({Kind.SWAPPED, Kind.SWAPPED_SIZE, Kind.IGNORED})
AT_OPEN = frozenset(WEATHER[: WEATHER.index(Kind.ENDS)]) | {Kind.DELETED, Kind.DENIED, Kind.UNSATISFIABLE}
# a body may be over before these have anything to break
BREAKS = frozenset(
    {Kind.ENDS, Kind.LOST, Kind.SILENT, Kind.TRICKLE, Kind.BROKEN, Kind.SUBSET, Kind.UNKNOWN, Kind.HOPELESS}
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that meets one attempt.

    `at`: the bytes of body that are sent before it breaks, whatever was asked for; None where it does not
    break by itself (UNKNOWN and HOPELESS: raised by the open then). `amount`: how many bytes a served range
    or a size is off, or how many receives bring one byte. `retry_after`: the store's word on when to return.
    `flavour` chooses among exceptions or ways to break: even is a clean end, odd a lost connection.
    """

    kind: Kind
    at: int | None = None
    amount: int = 0
    retry_after: float | None = None
    flavour: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of resume that a schedule chooses; names and defaults are those of the layer settings."""

    resume_attempts: int = 8
    skip_limit: int = 1 << 30
    proof_limit: float = 2.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """One caller, one image, and what goes wrong: all that it takes to play a read and to predict its end.

    `sizes`: the image's, then that of each content that is swapped in. The caller reads `length` bytes from
    `offset` on. When a call ends in an error while faults are left, the caller calls again: `anew` from its
    offset, else from where it stood; a later call has neither deadline nor version token. `pin` is what the
    caller passes as version: nothing, the token, or ANY. `deadline` in seconds from the start.
    """

    seed: int
    faults: tuple[Fault, ...]
    sizes: tuple[int, ...]
    offset: int = 0
    length: int | None = None
    versioned: bool = True
    digests: Literal["none", "known", "unknown"] = "none"
    sized: bool = True
    pin: Literal["none", "token", "any"] = "none"
    anew: bool = False
    deadline: float | None = None
    receive: int = 65536
    buffer: int = 65536
    settings: Settings = field(default_factory=Settings)

    def images(self) -> list[bytes]:
        """Gives the contents in the order in which they are swapped in; any two differ in every byte."""
        return [_content(number)[:size] for number, size in enumerate(self.sizes)]

    def without(self, number: int) -> Schedule:
        """Gives this schedule without one of its faults."""
        return replace(self, faults=self.faults[:number] + self.faults[number + 1 :])

    def __str__(self) -> str:
        """A script for people: the circumstances, then a line for each fault."""
        told = [
            f"{name}={value!r}"
            for name in self.__slots__
            if name not in {"seed", "faults", "sizes"}
            and (value := getattr(self, name)) != getattr(_PLAIN, name)
        ]
        lines = [f"  {number}: {_told(fault)}" for number, fault in enumerate(self.faults, 1)]
        return "\n".join([f"seed {self.seed}: sizes={self.sizes!r} {' '.join(told)}", *lines])


def _told(fault: Fault) -> str:
    parts = [f"{name}={value}" for name in fault.__slots__[1:] if (value := getattr(fault, name))]
    if fault.at == 0:
        parts.insert(0, "at=0")
    return " ".join([fault.kind.value, *parts])


_PLAIN = Schedule(seed=0, faults=(), sizes=())


@functools.cache
def _content(number: int) -> bytes:
    """Gives the content with that number; the XOR makes it differ from every other in every byte."""
    if number == 0:
        return random.Random(0).randbytes(BASE_SIZE)
    return _content(0).translate(bytes(byte ^ number for byte in range(256)))
