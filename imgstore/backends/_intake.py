"""The source of a put, read once, and judged by its size and digests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from imgstore.clock import Clock
from imgstore.errors import DigestMismatchError, SourceChangedError, UnsupportedError
from imgstore.model import Call
from imgstore.store import Source

RECEIVE: Final = 1 << 20  # one read of a source
_ZEROS: Final = memoryview(bytes(RECEIVE))


class Digests:
    """The digests that an image must have.

    Raises: ValueError for an algorithm that `hashlib` lacks, or that has no length of its own.
    """

    def __init__(self, expected: Mapping[str, str] | None) -> None:
        self.expected = dict(expected or {})
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in self.expected}
        for name, value in self._hashes.items():
            if not value.digest_size:
                raise ValueError(f"a {name} digest has no length of its own; choose another, sha256 for one")

    def update(self, data: bytes | bytearray | memoryview) -> None:
        for each in self._hashes.values():
            each.update(data)

    def update_zeros(self, count: int, check: Callable[[], None]) -> None:
        """Adds `count` zeros; `check` is called again and again, and may end it."""
        if self._hashes:
            for at in range(0, count, RECEIVE):
                check()
                self.update(_ZEROS[: min(RECEIVE, count - at)])

    def check(self) -> None:
        """Raises: DigestMismatchError naming the algorithm."""
        for name, value in self._hashes.items():
            if value.hexdigest() != self.expected[name]:
                raise DigestMismatchError(f"the bytes have another {name} digest")


class Intake:
    """Reads a source to its end, once.

    `failure` is what the source itself raised, which is none of the store's errors. Deadline and cancellation
    are looked at after each read; a source that waits for ever is not cut short.
    """

    def __init__(self, source: Source, size: int | None, digests: Digests, clock: Clock, call: Call) -> None:
        self.failure: BaseException | None = None
        self.digests = digests
        self._source = source
        self._hole = getattr(source, "hole", None)
        self._size = size
        self._clock = clock
        self._call = call

    @property
    def sparse(self) -> bool:
        """Whether the source knows its holes."""
        return self._hole is not None

    def pieces(self) -> Iterator[bytes | int]:
        """Gives data, and the lengths of holes, in the order of the source; all of it is hashed.

        At the end size and digests are judged: whoever publishes what came takes the whole iterator.

        Raises: SourceChangedError for another size than was promised, DigestMismatchError.
        """
        given = 0
        for piece in self._pieces():
            given += piece if isinstance(piece, int) else len(piece)
            self._check_size(given)  # before hours are spent on hashing a hole
            if isinstance(piece, int):
                self.digests.update_zeros(piece, self._check)
            else:
                self.digests.update(piece)
            yield piece
        if self._size is not None and given != self._size:
            raise SourceChangedError(f"the source gave {given} bytes where {self._size} were promised")
        self.digests.check()

    def _check_size(self, given: int) -> None:
        if self._size is not None and given > self._size:
            raise SourceChangedError(f"the source gave more bytes than the {self._size} promised")

    def _pieces(self) -> Iterator[bytes | int]:
        while True:
            if hole := self._pass_hole():
                yield hole
            piece = self._read()
            self._check()
            if piece is None:
                raise UnsupportedError("the source gave None instead of waiting; open it as blocking")
            if not piece:
                return
            yield piece

    def _pass_hole(self) -> int:
        if self._hole is None:
            return 0
        try:
            hole = int(self._hole())
        except BaseException as exc:
            self.failure = exc
            raise
        if hole < 0:
            raise UnsupportedError(f"the source gave a hole of {hole} bytes")
        return hole

    def _check(self) -> None:
        self._call.check(self._clock)

    def _read(self) -> Any:  # a source of somebody else's may give anything
        try:
            return self._source.read(RECEIVE)
        except BaseException as exc:
            self.failure = exc
            raise
