"""When to try again, how long to pause, and when to give up. Pure: no clock and no randomness inside."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from imgstore.errors import TimedOutError, TransientError

FIRST_PAUSE: Final = (
    0.2  # long enough for a load balancer to notice a dead backend, too short for a person to
)
LONGEST_PAUSE: Final = 20.0  # a store that is back is found within this, however long it was away
RETRY_AFTER_LIMIT: Final = 20.0  # a longer wish is the caller's business, not one for a blocked thread
REFUND: Final = 64 << 10  # progress that proves a connection useful: one read buffer


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait of `at_least` seconds plus a share of `spread`, drawn uniformly by who waits (full jitter)."""

    at_least: float
    spread: float


class TokenBucket:
    """What all calls to one endpoint together may spend on retries; keeps an outage from becoming a storm.

    It begins full. A retry takes 5 tokens, after a time-out 10; progress gives them back with one on top, so
    a healthy endpoint earns what an ill one may spend. The figures are those of the AWS SDKs' standard retry
    mode, where they bound retries to a tenth of the requests of a lasting outage. Callable from many threads.
    """

    CAPACITY: Final = 500
    RETRY_COST: Final = 5
    TIMEOUT_COST: Final = 10

    def __init__(self) -> None:
        self._tokens = self.CAPACITY
        self._lock = threading.RLock()  # a signal handler may interrupt its holder

    @property
    def tokens(self) -> int:
        return self._tokens

    def take(self, cause: TransientError) -> int | None:
        """Takes what a retry after `cause` costs and gives that number; None, taking nothing, if too few."""
        cost = self.TIMEOUT_COST if isinstance(cause, TimedOutError) else self.RETRY_COST
        with self._lock:
            if self._tokens < cost:
                return None
            self._tokens -= cost
        return cost

    def give_back(self, taken: int) -> None:
        """Returns `taken` tokens, and one more for the success that they bought."""
        with self._lock:
            self._tokens = min(self.CAPACITY, self._tokens + taken + 1)


class Budget:
    """The tries of one call. It counts failures without progress; 64 KiB of progress refund them all.

    Belongs to one thread.
    """

    def __init__(self, attempts: int, bucket: TokenBucket) -> None:
        self._attempts = attempts
        self._bucket = bucket
        self._failures = 0
        self._progress = 0
        self._taken = 0
        self._earned = False

    def progress(self, count: int) -> None:
        """Notes `count` bytes that the caller did not have before."""
        self._progress += count
        if self._progress >= REFUND:
            self.succeed()

    def succeed(self) -> None:
        """Notes that the tries so far paid off; a call that needed none earns its endpoint a token too."""
        self._failures = 0
        if self._taken or not self._earned:
            self._bucket.give_back(self._taken)
            self._taken = 0
            self._earned = True

    def spend(self, cause: TransientError) -> Pause | str:
        """Gives the pause before the next try after `cause`, or says why there is none.

        A failure after a refund's worth of progress is a break, not a failed attempt, and is not counted.
        """
        if self._progress >= REFUND:
            self._progress = 0
        else:
            self._failures += 1
        if self._failures >= self._attempts:
            return f"{self._failures} tries in a row brought no progress"
        taken = self._bucket.take(cause)
        if taken is None:
            return "too many calls to this endpoint are failing"
        self._taken += taken
        spread = FIRST_PAUSE * 2 ** max(0, self._failures - 1)
        return Pause(_asked(cause), min(LONGEST_PAUSE, spread))


def _asked(cause: TransientError) -> float:
    """The store's own wish within reason: absurd and negative ones exist (RFC 9110 §10.2.3 has no bound)."""
    return min(RETRY_AFTER_LIMIT, max(0.0, cause.retry_after or 0.0))
