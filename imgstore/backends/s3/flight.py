"""Parts in flight: sent by a few threads, each from memory of its own."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Final

from imgstore.backends.s3.parts import Held
from imgstore.buffer import paged
from imgstore.clock import Clock
from imgstore.errors import TransientError
from imgstore.model import Call, CancelToken
from imgstore.retry import Budget, TokenBucket

# A part is in hand, and what was sent before it would be lost with it: a source may not rewind. Three tries
# ride out a connection that broke; longer outages are the resume layer's.
_TRIES: Final = 3

Send = Callable[[int, int, memoryview, Call], Held]


class Flight:
    """Sends parts, several at a time, from (workers + 1) x `size` bytes of memory.

    Of parts larger than `size` fewer are in flight: one at least, while another is filled. With one worker
    there is no thread, and one part in memory. The first part that fails ends the others, within a second.
    Belongs to one thread.
    """

    def __init__(self, send: Send, workers: int, size: int, clock: Clock, call: Call) -> None:
        self._send = send
        self._workers = workers
        self._room = (workers + 1) * size
        self._clock = clock
        self._cancel = CancelToken() if call.cancel is None else call.cancel.child()
        self._call = Call(call.deadline, self._cancel, call.observe)
        self._bucket = TokenBucket()
        self._pool = ThreadPoolExecutor(workers, "imgstore-s3-part") if workers > 1 else None
        self._flying: dict[Future[Held], memoryview] = {}
        self._free: list[memoryview] = []
        self._done: list[Held] = []

    def memory(self, size: int) -> memoryview:
        """Gives memory for a part of `size` bytes; waits until there is some, while others are sent.

        Raises: what a part failed with.
        """
        while len(self._flying) > max(1, min(self._workers, self._room // size - 1)):
            self._land()
        self._free = [each for each in self._free if len(each) >= size]
        return self._free.pop() if self._free else paged(size)

    def add(self, number: int, offset: int, memory: memoryview, count: int) -> None:
        """Sends the first `count` bytes of `memory` as a part. Raises: what a part failed with."""
        if self._pool is None:
            self._done.append(self._sent(number, offset, memory[:count]))
            self._free.append(memory)
            return
        self._flying[self._pool.submit(self._sent, number, offset, memory[:count])] = memory

    def landed(self) -> list[Held]:
        """Waits for all parts and gives them by number. Raises: what a part failed with."""
        while self._flying:
            self._land()
        return sorted(self._done, key=lambda each: each.part.number)

    def close(self) -> None:
        """Ends what is still under way, within a second or so."""
        if self._pool is not None:
            self._cancel.cancel()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _land(self) -> None:
        done, _ = wait(self._flying, return_when=FIRST_COMPLETED)
        for each in done:
            self._free.append(self._flying.pop(each))
            self._done.append(each.result())

    def _sent(self, number: int, offset: int, data: memoryview) -> Held:
        budget = Budget(_TRIES, self._bucket)
        while True:
            try:
                return self._send(number, offset, data, self._call)
            except TransientError as exc:
                pause = budget.spend(exc)
                if isinstance(pause, str):
                    raise
            seconds = pause.at_least + random.random() * pause.spread
            self._clock.sleep(seconds, self._cancel)
            self._call.check(self._clock)
