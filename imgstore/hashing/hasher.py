"""All digests of an image in one pass, computed beside the I/O and beside each other."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from imgstore.errors import OperationCancelledError
from imgstore.hashing._chunks import Chunks
from imgstore.hashing._schedule import HOLE, Lane, Part, Schedule
from imgstore.hashing.algorithms import Hash, new

PIECE: Final = 2 << 20  # as much as a copy asks of one receive: imgstore/transfer/copy.py has the measurement
# Enough to ride out a slow moment of either side; and not more than a small machine has to spare.
_LEAST, _MOST = 16 << 20, 256 << 20


@dataclass(frozen=True, slots=True)
class Digests:
    """What was hashed: `size` bytes; the digests of the whole, lower-case hexadecimal by algorithm.

    `chunks` holds the chunks' digests one after the other, in bytes; it is empty where none were asked for.
    """

    size: int
    whole: Mapping[str, str]
    chunks: bytes


class Hasher:
    """Hashes an image as it goes by, from its first byte to its last, holes included.

    Each digest of the whole takes its bytes in order, on one thread at a time; digests of chunks are computed
    on all. With enough data at hand that takes as long as the slowest digest of the whole, or as all work
    divided by the cores, whichever is longer. Where hashing is slower than reading, the reader has to wait,
    and works too.

    The bytes are copied by `update`; or they are received into what `buffer` gives, and never copied:

        view = hasher.buffer()
        count = stream.readinto(view)
        hasher.filled(count)

    Whatever interrupts the stream leaves the digests as they are: after a splice the caller just goes on.

    Memory: `memory` bytes, rounded down to whole pieces and at least one, in buffers made when first needed;
    1 MiB of zeros for the whole process; and in the end twice the digests of the chunks.

    Threads: none before a first half piece is full. They end with `finish` or `close`, within the time that
    one of them takes for a part of at most 16 MiB; those of a hasher that is dropped end too. A hasher
    belongs to one thread at a time, and to one process: after a fork the child's is of no use.

    The first error is final: what a thread has met, or what interrupts a call, ends the work, and every
    later call raises it again.
    """

    def __init__(
        self,
        algorithms: Collection[str] = (),
        *,
        chunk: tuple[str, int] | None = None,
        threads: int | None = None,
        memory: int | None = None,
        piece: int = PIECE,
    ) -> None:
        """Takes the digests of the whole by name, and the digest and the size in bytes of the chunks, if any.

        `threads` is how many work beside the caller, by default as many as there are cores; with 0 the caller
        does all. `memory` is by default one chunk more than there are threads, within 16 and 256 MiB; of
        larger chunks, fewer are hashed at once. `piece` is the most that `buffer` gives.

        Raises: ConfigError for a digest there is not; ValueError for a number that makes no sense.
        """
        for least, given, what in (
            (1, piece, "a piece"),
            (0, threads, "the number of threads"),
            (1, memory, "the memory"),
            (1, chunk and chunk[1], "a chunk"),
        ):
            if given is not None and given < least:
                raise ValueError(f"{what} is at least {least}, not {given}")
        self.size = 0  # bytes taken so far
        self._whole: dict[str, Hash] = {name: new(name) for name in algorithms}
        self._lanes = [Lane(each.update) for each in self._whole.values()]
        self._chunks = None if chunk is None else Chunks(*chunk, piece)
        self._piece = piece
        threads = len(os.sched_getaffinity(0)) if threads is None else threads
        if memory is None:
            memory = min(max(_LEAST, (threads + 1) * (self._chunks.stretch if self._chunks else 0)), _MOST)
        most = max(1, memory // piece)
        self._schedule = Schedule(most, piece)
        self._wanted = min(threads, len(self._lanes) + (most if self._chunks else 0))
        self._threads: list[threading.Thread] = []
        self._process = os.getpid()
        self._closed = False
        self._buffer: memoryview | None = None
        self._filled = 0

    def buffer(self) -> memoryview:
        """Gives room for the next bytes, at least half a piece; waits for it where all memory is in use.

        What the view holds is taken when `filled` says so.

        Raises: ValueError for a hasher that is closed or another process's; what a thread has met.
        """
        with self._working():
            if self._buffer is None:
                self._schedule.room()
                self._buffer = self._schedule.buffer()
            return self._buffer[self._filled :]

    def filled(self, count: int) -> None:
        """Takes the first `count` bytes of what `buffer` has given.

        They can still be read there, up to the next call; nobody may write to them any more.

        Raises: ValueError where `buffer` gave less; otherwise as `buffer`.
        """
        with self._working():
            given = 0 if self._buffer is None else len(self._buffer) - self._filled
            if not 0 <= count <= given:
                raise ValueError(f"{count} bytes cannot be filled in a buffer of {given}")
            self.size += count
            if not self._lanes and self._chunks is None:
                return
            self._filled += count
            if self._filled * 2 >= self._piece:
                self._send_filled()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Takes the next bytes, by copying them. Raises: as `buffer`."""
        with memoryview(data) as given, given.cast("B") as left:
            if not self._lanes and self._chunks is None:
                with self._working():
                    self.size += len(left)
                return
            done = 0
            while done < len(left):
                room = self.buffer()
                count = min(len(room), len(left) - done)
                room[:count] = left[done : done + count]
                self.filled(count)
                done += count

    def skip(self, count: int) -> None:
        """Takes `count` zeros, which cost no memory. Raises: ValueError for fewer than 0; as `buffer`."""
        with self._working():
            if count < 0:
                raise ValueError(f"a hole has at least 0 bytes, not {count}")
            self._send_filled()
            for done in range(0, count, HOLE):
                self._schedule.room()
                step = min(HOLE, count - done)
                self.size += step
                self._send(step)

    def finish(self) -> Digests:
        """Gives the digests of all that was taken, once it is hashed, and closes. Raises: as `buffer`."""
        with self._working():
            self._send_filled()
            if self._chunks is not None and (parts := self._chunks.tail()):
                self._schedule.room()
                self._schedule.add(parts, None)
            self._schedule.drain()
            chunks = b"" if self._chunks is None else self._chunks.finish(self.size)
            found = Digests(self.size, {name: each.hexdigest() for name, each in self._whole.items()}, chunks)
        self.close()
        return found

    def close(self) -> None:
        """Ends the threads, whatever is left to be hashed. Idempotent."""
        self._closed = True
        if os.getpid() != self._process:
            return  # the threads are the parent's, and one of them may have held the lock as it forked
        self._schedule.end()
        for each in self._threads:
            if each.ident is not None:  # else an interrupt came as it was started: it ends when it begins
                each.join()
        self._threads = []
        self._buffer = None

    def __enter__(self) -> Hasher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # The threads know the schedule alone, so that nothing of them keeps this alive. They are not waited
        # for: the collector may have come in one of them. __init__ may have raised before there was anything.
        with contextlib.suppress(AttributeError):
            if os.getpid() == self._process:
                self._schedule.stop()

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        """Around what changes something: an error in its midst is final."""
        self._schedule.check()
        if self._closed:
            raise ValueError("the hasher is closed")
        if os.getpid() != self._process:
            raise ValueError("the hasher belongs to the process that made it; each needs its own")
        try:
            yield
        except Exception as exc:
            self._schedule.fail(exc)
            raise
        except BaseException:
            self._schedule.fail(OperationCancelledError("hashing was interrupted"))
            raise

    def _send_filled(self) -> None:
        buffer, self._buffer = self._buffer, None
        filled, self._filled = self._filled, 0
        if filled and buffer is not None:
            self._send(buffer[:filled], buffer)
        elif buffer is not None:
            self._schedule.add([], buffer)  # kept, it would take the room of what comes instead

    def _send(self, data: memoryview | int, buffer: memoryview | None = None) -> None:
        parts = [Part(lane, data) for lane in self._lanes]
        if self._chunks is not None:
            parts += self._chunks.zeros(data) if isinstance(data, int) else self._chunks.data(data)
        if self.size * 2 >= self._piece:
            self._start()
        self._schedule.add(parts, buffer)

    def _start(self) -> None:
        while len(self._threads) < self._wanted:
            # An interpreter that ends does not wait for a hasher that nobody closed.
            thread = threading.Thread(target=self._schedule.serve, name="imgstore-hash", daemon=True)
            self._threads.append(thread)
            try:
                thread.start()
            except RuntimeError:  # no more threads in this process: those there are do it, or the reader
                self._threads.pop()
                self._wanted = len(self._threads)
