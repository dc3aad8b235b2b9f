"""The digests of chunks: each a piece of work of its own."""

from __future__ import annotations

from imgstore.hashing._schedule import HOLE, Lane, Part
from imgstore.hashing.algorithms import digest_size, new


class Chunks:
    """Cuts what comes into lanes, and gathers the digests.

    A lane is a chunk, or where chunks are small, a *stretch* of them. Stretches that are all zeros have the
    same digests: those of the first are computed. Belongs to the reader; threads only use what lanes hold.
    """

    def __init__(self, algorithm: str, size: int, piece: int) -> None:
        """Takes the bytes of a chunk and of the pieces in which they come. Raises: as `algorithms.new`."""
        self.digests = bytearray()  # by threads only overwritten, each its own place
        self._algorithm = algorithm
        self._size = size
        self._width = digest_size(algorithm)
        self.stretch = size * max(1, piece // size)
        self._room = self.stretch // size * self._width  # of the digests of a stretch
        self._at = 0  # in the stretch
        self._lane: Lane | None = None  # of this stretch; None as long as it is zeros
        self._last: _Stretch | None = None
        self._zeros: int | None = None  # where in `digests` the first stretch of zeros stands
        self._alike: list[range] = []  # where the others do; neighbours are one

    def data(self, data: memoryview) -> list[Part]:
        """Gives the work that the next bytes bring."""
        parts: list[Part] = []
        while data:
            lane = self._lane or self._begin(parts)
            part = data[: self.stretch - self._at]
            parts.append(Part(lane, part))
            self._pass(len(part), parts)
            data = data[len(part) :]
        return parts

    def zeros(self, count: int) -> list[Part]:
        """Gives the work that so many zeros bring."""
        parts: list[Part] = []
        while count:
            step = min(count, self.stretch - self._at)
            if self._lane is not None:
                parts.append(Part(self._lane, step))
            self._pass(step, parts)
            count -= step
        return parts

    def tail(self) -> list[Part]:
        """Gives the work that is left at the end of the image."""
        parts: list[Part] = []
        if self._at and self._lane is None:
            self._begin(parts)
        return parts

    def finish(self, size: int) -> bytes:
        """Gives the digests one after the other, once all work for an image of `size` bytes is done."""
        if self._at and self._last is not None:
            self._last.end()
        if self._zeros is not None:
            known = self.digests[self._zeros : self._zeros + self._room]
            for run in self._alike:
                self.digests[run.start : run.stop] = known * len(run)
        return bytes(self.digests[: -(-size // self._size) * self._width])

    def _pass(self, count: int, parts: list[Part]) -> None:
        self._at += count
        if self._at < self.stretch:
            return
        if self._lane is None and self._zeros is not None:
            self._same_again()
        elif self._lane is None:
            self._zeros = len(self.digests)
            self._begin(parts)
        self._lane = None
        self._at = 0

    def _same_again(self) -> None:
        start = at = self._reserve()
        if self._alike and self._alike[-1].stop == at:
            start = self._alike.pop().start
        self._alike.append(range(start, at + self._room, self._room))

    def _begin(self, parts: list[Part]) -> Lane:
        """Makes the lane of this stretch, and has it take the zeros with which that has begun."""
        self._last = _Stretch(self._algorithm, self._size, self.digests, self._reserve())
        self._lane = Lane(self._last.take)
        parts += [Part(self._lane, min(HOLE, self._at - done)) for done in range(0, self._at, HOLE)]
        return self._lane

    def _reserve(self) -> int:
        at = len(self.digests)
        self.digests += bytes(self._room)
        return at


class _Stretch:
    """Chunks that follow one another: writes each digest into its place when the chunk is full."""

    def __init__(self, algorithm: str, size: int, digests: bytearray, at: int) -> None:
        self._algorithm = algorithm
        self._size = size
        self._digests = digests
        self._at = at
        self._left = size
        self._hash = new(algorithm)

    def take(self, data: memoryview) -> None:
        while data:
            part = data[: self._left]
            self._hash.update(part)
            self._left -= len(part)
            data = data[len(part) :]
            if not self._left:
                self._write()

    def end(self) -> None:
        """Writes the digest of a chunk that is the image's last and not full."""
        if self._left < self._size:
            self._write()

    def _write(self) -> None:
        digest = self._hash.digest()
        self._digests[self._at : self._at + len(digest)] = digest
        self._at += len(digest)
        self._left = self._size
        self._hash = new(self._algorithm)
