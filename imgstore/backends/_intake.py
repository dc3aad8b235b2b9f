"""The source of a put, read once, judged by its size and digests, and cut into parts."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, overload

from imgstore.clock import Clock
from imgstore.errors import DigestMismatchError, SourceChangedError, UnsupportedError
from imgstore.model import Call
from imgstore.store import Source

RECEIVE: Final = 1 << 20  # one read of a source
_ZEROS: Final = memoryview(bytes(RECEIVE))
# What is known to give the same by `read` and by `readinto`; of a class derived from one only `read` counts.
_FILES: Final = (io.FileIO, io.BufferedReader, io.BytesIO)

# Gives memory for the next read, or None where a read is to bring its own.
Room = Callable[[], "memoryview | None"]


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
        self._readinto = _readinto(source)
        self._size = size
        self._clock = clock
        self._call = call

    @property
    def sparse(self) -> bool:
        """Whether the source knows its holes."""
        return self._hole is not None

    @overload
    def pieces(self) -> Iterator[bytes | int]: ...
    @overload
    def pieces(self, room: Room) -> Iterator[bytes | memoryview | int]: ...
    def pieces(self, room: Room = lambda: None) -> Iterator[Any]:
        """Gives data, and the lengths of holes, in the order of the source; all of it is hashed.

        At the end size and digests are judged: whoever publishes what came takes the whole iterator. A source
        that can is read straight into what `room` gives; it is asked then, and the piece is the front of it.

        Raises: SourceChangedError for another size than was promised, DigestMismatchError.
        """
        given = 0
        for piece in self._pieces(room):
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

    def _pieces(self, room: Room) -> Iterator[Any]:
        while True:
            if hole := self._pass_hole():
                yield hole
            piece = self._read(room)
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

    def _read(self, room: Room) -> Any:  # a source of somebody else's may give anything
        view = None if self._readinto is None else room()
        try:
            if self._readinto is None or view is None:
                return self._source.read(RECEIVE)
            count = self._readinto(view)
        except BaseException as exc:
            self.failure = exc
            raise
        if count is None:
            return None
        if not 0 <= count <= len(view):
            raise UnsupportedError(f"the source says that it read {count} bytes where {len(view)} have room")
        return view[:count]


class Cutter:
    """Fills memory with what an intake gives: data, and holes as zeros."""

    def __init__(self, pieces: Callable[[Room], Iterator[bytes | memoryview | int]]) -> None:
        """Takes `Intake.pieces`."""
        self._pieces = pieces(self._room)
        self._empty: memoryview | None = None  # where the next piece belongs
        self._lent = False  # whether it was read there
        self._rest: bytes | memoryview | int = b""
        self._at = 0
        self.ended = False

    def fill(self, view: memoryview) -> int:
        """Fills `view`, but for the end, and gives the bytes. `ended` tells whether nothing follows.

        Raises: what the source raises, and what its end is judged to be.
        """
        filled = 0
        while filled < len(view):
            self._empty = view[filled : filled + RECEIVE]
            if not self._more():
                break
            filled += self._take(view[filled:])
        self._empty = None  # what comes now belongs to memory that is not there yet
        self._more()
        return filled

    def _room(self) -> memoryview | None:
        self._lent = self._empty is not None
        return self._empty

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
        elif not self._lent:
            view[:count] = memoryview(self._rest)[self._at : self._at + count]
        self._at += count
        return count


def _readinto(source: Source) -> Callable[[memoryview], int | None] | None:
    if isinstance(source, io.IOBase) and type(source) not in _FILES:
        return None
    found: Callable[[memoryview], int | None] | None = getattr(source, "readinto", None)
    return found


def _size(piece: bytes | memoryview | int) -> int:
    return piece if isinstance(piece, int) else len(piece)
