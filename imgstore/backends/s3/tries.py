"""The tries of a part: it is in memory, where no layer above can send it again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from imgstore.backends.s3.parts import Held
from imgstore.clock import Clock
from imgstore.errors import TransientError
from imgstore.model import Call
from imgstore.retry import Budget, TokenBucket

# What was sent before a part would be lost with it: a source may not rewind. Three tries ride out a
# connection that broke; longer outages are the resume layer's.
_TRIES: Final = 3

Send = Callable[[int, int, memoryview, Call], Held]


def tried(send: Send, clock: Clock) -> Send:
    """Gives what sends the parts of one image as `send` does, each up to three times.

    It may be called in several threads at once, as `send`. Raises: what the last try failed with.
    """
    bucket = TokenBucket()

    def sent(number: int, offset: int, data: memoryview, call: Call) -> Held:
        budget = Budget(_TRIES, bucket)
        while True:
            try:
                return send(number, offset, data, call)
            except TransientError as exc:
                pause = budget.spend(exc)
                if isinstance(pause, str):
                    raise
            clock.sleep(pause.at_least + random.random() * pause.spread, call.cancel)
            call.check(clock)

    return sent
