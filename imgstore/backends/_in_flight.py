"""Parts of one image on their way, several at a time: each sent by a thread, from memory of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Generic, TypeVar

from imgstore.backends._intake import Cutter
from imgstore.buffer import paged
from imgstore.model import Call, CancelToken

T = TypeVar("T")


class InFlight(Generic[T]):
    """Sends parts by at most `workers` threads, while one more part is filled.

    Memory: (workers + 1) x `size` bytes. Of parts larger than `size` fewer are on their way, one at least:
    two of these may be more than that. With one worker there is no thread, and one part in memory.

    Belongs to one thread, which closes it in any case; no thread of it is left then.
    """

    def __init__(
        self, send: Callable[[int, int, memoryview, Call], T], workers: int, size: int, call: Call
    ) -> None:
        """Takes what sends part `number`, the bytes from `offset` on, and gives what the service says of it.

        `send` is called in several threads at once. Its call is `call`, cancelled also when the sending ends.
        """
        self.failures: list[BaseException] = []
        self._send = send
        self._workers = workers
        self._room = (workers + 1) * size
        self._cancel = CancelToken() if call.cancel is None else call.cancel.child()
        self._call = replace(call, cancel=self._cancel)
        self._pool = ThreadPoolExecutor(workers, "imgstore-part") if workers > 1 else None
        self._flying: dict[Future[T], tuple[int, memoryview]] = {}
        self._free: list[memoryview] = []
        self._sent: dict[int, T] = {}

    @property
    def sent(self) -> list[T]:
        """What the service said of the parts that it has, by their order in the image."""
        return [self._sent[number] for number in sorted(self._sent)]

    def run(self, cutter: Cutter, memory: memoryview, size_of: Callable[[int, int], int]) -> list[T]:
        """Sends the part that `cutter` filled `memory` with, and all that follow; gives `sent`.

        `size_of` gives the size of the part of a number and an offset; it may refuse one more.

        Raises: what the source, a part or `size_of` raises first.
        """
        number, offset, count = 0, 0, len(memory)
        while True:
            self._add(number, offset, memory, count)
            number, offset = number + 1, offset + count
            if cutter.ended:
                break
            size = size_of(number, offset)
            memory = self._memory(size)
            count = cutter.fill(memory[:size])
        while self._flying:
            self._land()
        return self.sent

    def close(self, patience: float = 0.0) -> None:
        """Ends what is still on its way, within a second or so after `patience` seconds.

        Those of it that came after all are in `sent`; what the others failed with is in `failures`.
        """
        if self._pool is None:
            return
        if patience:
            wait(self._flying, patience)
        self._cancel.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
        flying, self._flying = self._flying, {}
        for each, (number, _) in flying.items():
            if each.cancelled():
                continue  # no byte of it was sent
            failure = each.exception()
            if failure is None:
                self._sent[number] = each.result()
            else:
                self.failures.append(failure)

    def _memory(self, size: int) -> memoryview:
        """Gives memory for a part of `size` bytes; waits until there is some, while others are sent."""
        while len(self._flying) > max(1, min(self._workers, self._room // size - 1)):
            self._land()
        self._free = [each for each in self._free if len(each) >= size]
        return self._free.pop() if self._free else paged(size)

    def _add(self, number: int, offset: int, memory: memoryview, count: int) -> None:
        if self._pool is None:
            self._sent[number] = self._send(number, offset, memory[:count], self._call)
            self._free.append(memory)
            return
        task = self._pool.submit(self._send, number, offset, memory[:count], self._call)
        self._flying[task] = number, memory

    def _land(self) -> None:
        done, _ = wait(self._flying, return_when=FIRST_COMPLETED)
        for each in done:
            number, memory = self._flying.pop(each)
            self._sent[number] = each.result()
            self._free.append(memory)
