"""Parts in flight: cut from what a source gives, sent by a few threads, each from memory of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
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
_ZEROS: Final = memoryview(bytes(1 << 20))

Send = Callable[[int, int, memoryview, Call], Held]


class Cutter:
    """Fills memory with what `pieces` gives: data, or the lengths of holes, which are sent as zeros."""

    def __init__(self, pieces: Iterator[bytes | int]) -> None:
        self._pieces = pieces
        self._rest: bytes | int = b""
        self._at = 0
        self.ended = False

    def fill(self, view: memoryview) -> int:
        """Fills `view`, but for the end, and gives the bytes. `ended` tells whether nothing follows.

        Raises: what the source raises, and what its end is judged to be.
        """
        filled = 0
        while filled < len(view) and self._more():
            filled += self._take(view[filled:])
        self._more()
        return filled

    def _more(self) -> bool:
        """Tells whether there is anything left; asks for the next piece if the last one is used up."""
        while not self.ended and self._at >= _size(self._rest):
            self._at = 0
            self._rest = next(self._pieces, b"")
            # an empty piece is the end: the intake gives no other
            self.ended = not self._rest
        return not self.ended

    def _take(self, view: memoryview) -> int:
        count = min(len(view), _size(self._rest) - self._at)
        if isinstance(self._rest, int):
            count = min(count, len(_ZEROS))
            view[:count] = _ZEROS[:count]
        else:
            view[:count] = memoryview(self._rest)[self._at : self._at + count]
        self._at += count
        return count


def _size(piece: bytes | int) -> int:
    return piece if isinstance(piece, int) else len(piece)


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
