"""An image cut into the parts of an upload: how large they are, and how they are read and sent at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from imgstore.buffer import paged
from imgstore.errors import TruncatedError, UnsupportedError
from imgstore.model import Part
from imgstore.store import UploadLimits
from imgstore.transfer.copy import Readable

# What S3's and Swift's own puts have at first; of more, a kill would cost more.
PART: Final = 16 << 20
# So many times that where the store takes parts one at a time: RBD opens and locks the image for each, which
# takes as long as 12 MiB. It is no farther away than a local network.
SERIAL: Final = 4
_MIB: Final = 1 << 20


def part_size(size: int, limits: UploadLimits) -> int:
    """Gives the size of the parts of an image of `size` bytes: PART, or in whole MiB what the limits need.

    Where the store takes them one at a time, four times that.

    Raises: UnsupportedError for an image that has no room in all the parts there may be.

    >>> limits = UploadLimits(min_part=5 << 20, max_part=5 << 30, max_parts=10_000, ordered=False)
    >>> part_size(1 << 30, limits) >> 20, part_size(1 << 40, limits) >> 20
    (16, 105)
    """
    least = -(-size // limits.max_parts)
    each = min(max(PART * SERIAL if limits.serial else PART, limits.min_part), limits.max_part)
    if each < least:
        each = min(-(-least // _MIB) * _MIB, limits.max_part)
    if each < least:
        raise UnsupportedError(
            f"an image of {size} bytes is too large: the store takes {limits.max_parts} parts "
            f"of {limits.max_part} bytes"
        )
    return each


def fill(stream: Readable, view: memoryview) -> None:
    """Fills all of `view`. Raises: TruncatedError where the stream ends before; as `ByteStream.readinto`."""
    done = 0
    while done < len(view):
        count = stream.readinto(view[done:])
        if not count:
            raise TruncatedError("the source ended before its size was reached")
        done += count


class Flight:
    """Parts that are sent, some at once, while the next one is read. After one that failed none is begun.

    Memory: `abreast` parts and the one that is read. Threads: `abreast`, which end with `close`. Belongs to
    the thread that reads.
    """

    def __init__(self, landed: Callable[[Part], None], *, abreast: int, size: int) -> None:
        """`landed` hears of each part that was sent, in the thread that reads; a part has `size` bytes."""
        self._landed = landed
        self._abreast = abreast
        self._size = size
        self._pool = ThreadPoolExecutor(abreast, "imgstore-part")
        self._flying: deque[tuple[Future[Part], memoryview]] = deque()
        self._free: list[memoryview] = []
        self._failure: BaseException | None = None

    def buffer(self, count: int) -> memoryview:
        """Gives room for a part of `count` bytes; waits for it. Raises: as `drain`."""
        while len(self._flying) > self._abreast:
            self._land()
        if not self._free:
            self._free.append(paged(self._size))
        return self._free[-1][:count]

    def send(self, put: Callable[[], Part]) -> None:
        """Has a thread `put` a part, which is in what `buffer` gave last."""
        self._flying.append((self._pool.submit(self._run, put), self._free.pop()))

    def drain(self) -> None:
        """Waits until all is sent. Raises: what the first part that failed does."""
        while self._flying:
            self._land()

    def close(self) -> None:
        """Waits for what is being sent; what is not yet is left. Idempotent."""
        self._pool.shutdown(cancel_futures=True)

    def _run(self, put: Callable[[], Part]) -> Part:
        if self._failure is not None:
            raise self._failure  # it may be landed before the one that met it
        try:
            return put()
        except BaseException as exc:
            self._failure = exc
            raise

    def _land(self) -> None:
        future, buffer = self._flying[0]
        part = future.result()
        self._flying.popleft()
        self._free.append(buffer)
        self._landed(part)
