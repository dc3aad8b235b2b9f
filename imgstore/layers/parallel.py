"""The parallel layer: one stream out of several ranged reads of the inner store at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from imgstore.errors import ConfigError, UnsupportedError
from imgstore.layers._parallel_plan import PartPlan, next_edge
from imgstore.layers._parallel_reader import ParallelReader
from imgstore.layers.base import Layer, lead_of, passed, proof_of
from imgstore.model import ANY, ByteRange, Call, Event, Version
from imgstore.ramp import Ramp
from imgstore.store import Store
from imgstore.stream import ByteStream, Opened

# Parts more in memory than there are connections: what comes early waits there for what is before it, and its
# connection goes on.
SPARE: Final = 2
# Each part waits for a round trip. Over eight connections with 50 ms, 3 MiB under way in each, 256 MiB took
# 1.6 s in parts of 4 MiB and 1.1 s in parts of 8; `benchmarks/parallel.py` compares with others.
PART_SIZE: Final = 8 << 20


class ParallelLayer(Layer):
    """Reads a range in parts, several of them at once, each a ranged read of the store inside.

    So each part resumes and is verified on its own, and all are of one version: that which the first tells,
    sent with each of the others and compared in each reply. Where nothing tells versions apart, neither a
    version nor a manifest, and the caller does not prove the bytes himself (`ANY`), the range is read as one
    stream. So it is where the store tells no size, and the rest of it where it turns out to ignore ranges.

    A range of at most `part_size` bytes is passed straight through: no thread, no request more. Of others the
    first request is for one part, and its reply gives what the rest needs; `Ramp` says how many connections
    help. One that finds nothing to do takes half of what the slowest still has to receive.

    Memory of a stream that is read: (`streams` + 2) x `part_size`, less where fewer connections help; a part
    is at least a chunk of the manifest below, whose own memory each connection has. Threads: one for each
    connection, of the stream and joined at its end.
    """

    def __init__(
        self,
        inner: Store,
        *,
        streams: int,
        part_size: int = PART_SIZE,
        deadline: float | None = None,
        ramp: Callable[[int], Ramp] = Ramp,
    ) -> None:
        """Wraps `inner`: at most `streams` parts of `part_size` bytes are received at once.

        `deadline` bounds each call, in seconds; that of a resume layer below would bound each part. `ramp`
        makes what says how many connections a stream has.

        Raises: ConfigError where there would be no stream, or no byte.
        """
        super().__init__(inner)
        for name, value in (("streams", streams), ("part_size", part_size)):
            if value < 1:
                raise ConfigError(f"{name} is {value}; it is 1 or more")
        self.streams = streams
        self.part_size = part_size
        self._deadline = deadline
        self._ramp = ramp

    def around(self, inner: Store) -> ParallelLayer:
        """Gives a layer of the same settings around another store."""
        return ParallelLayer(inner, streams=self.streams, part_size=self.part_size, deadline=self._deadline)

    def bounded(self, call: Call) -> Call:
        """Gives `call` within the deadline of this layer, from now on."""
        return call if self._deadline is None else call.within(self._deadline, clock=self.clock)

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        if self.streams == 1 or (stop is not None and stop - start <= self.part_size):
            return super()._open(key, start, stop, version, call)
        call = self.bounded(call)
        call = replace(call, observe=_one_at_a_time(call.observe))
        asked, size = ByteRange(start, stop), self.part_size
        first = self._first_part(key, asked, size, version, call)
        if first is not None and (whole := _in_chunks(size, first)) != size:
            first.close()
            size = whole
            first = self._first_part(key, asked, size, version, call)
        if first is None:
            return super()._open(key, start, stop, version, call)
        end = _end(first, stop)
        if first.range.stop == end:
            return passed(first)
        try:
            return Opened(self._reader(first, end, size, version, call), first.info, ByteRange(start, end))
        except BaseException:
            first.close()
            raise

    def _first_part(
        self, key: str, asked: ByteRange, size: int, version: Version, call: Call
    ) -> ByteStream | None:
        """Opens the first part; None where the others could not be told to belong to it."""
        edge = next_edge(asked.start, size)
        stop = edge if asked.stop is None else min(edge, asked.stop)
        try:
            first = self._inner_stream(key, asked.start, stop, version, call)
        except UnsupportedError:  # a store that tells no size gives no part
            return None
        if first.range.stop == _end(first, asked.stop):
            return first
        pinned = version is ANY or first.info.version is not None or proof_of(first) is not None
        if pinned and first.info.size is not None and not lead_of(first):
            return first
        first.close()
        return None

    def _reader(
        self, first: ByteStream, stop: int, size: int, version: Version, call: Call
    ) -> ParallelReader:
        proof = proof_of(first)
        return ParallelReader(
            self.inner._pinned(first) if isinstance(self.inner, Layer) else self.inner,
            first,
            stop,
            plan=PartPlan(
                first.range.start,
                stop,
                part_size=size,
                ring=self.streams + SPARE,
                grain=1 if proof is None else proof.chunk_size,
            ),
            ramp=self._ramp(self.streams),
            version=version or first.info.version,
            call=call,
        )


def _end(first: ByteStream, stop: int | None) -> int:
    """Gives where a range ends that is asked for up to `stop`; -1 while the store tells no size."""
    size = first.info.size
    if size is None:
        return -1
    return size if stop is None else min(stop, size)


def _in_chunks(size: int, first: ByteStream) -> int:
    """Gives the size of parts of `size` bytes at least, each of whole chunks of what proves them.

    A chunk that lay in two parts would be fetched for both.
    """
    proof = proof_of(first)
    return size if proof is None else -(-size // proof.chunk_size) * proof.chunk_size


def _one_at_a_time(observe: Callable[[Event], None] | None) -> Callable[[Event], None] | None:
    """Gives an observer that is told one event after the other, in whichever threads they happen."""
    if observe is None:
        return None
    lock = threading.RLock()  # what it is told may make it cancel, which is told of

    def tell(event: Event) -> None:
        with lock:
            observe(event)

    return tell
