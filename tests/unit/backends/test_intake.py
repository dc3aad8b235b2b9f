"""The source of a put: how it is read, and how it is cut."""

import io
import random

import pytest

from imgstore.backends._intake import RECEIVE, Cutter, Digests, Intake
from imgstore.clock import SYSTEM
from imgstore.errors import DigestMismatchError, SourceChangedError, UnsupportedError
from imgstore.model import NO_CALL

DATA = random.Random(1).randbytes(3 * RECEIVE + 17)
WRONG = {"sha256": "0" * 64}


class Reader:
    """Gives what `read` gives, in pieces of random sizes; counts how it was asked."""

    def __init__(self, data=DATA):
        self._file = io.BytesIO(data)
        self._random = random.Random(2)
        self.reads = self.fills = 0

    def read(self, size):
        self.reads += 1
        return self._file.read(self._random.randint(1, size))


class Filler(Reader):
    """One that can be read into memory."""

    def readinto(self, view):
        self.fills += 1
        return self._file.readinto(view[: self._random.randint(1, len(view))])


class Holed(Filler):
    """One that begins with a hole of 100 bytes."""

    left = 100

    def hole(self):
        self.left, hole = 0, self.left
        return hole


def intake(source, size=None, digests=None):
    return Intake(source, size, Digests(digests), SYSTEM, NO_CALL)


def cut(source, step, **given):
    """Gives the parts of `step` bytes that are cut of a source."""
    cutter, parts = Cutter(intake(source, **given).pieces), []
    while not cutter.ended:
        part = memoryview(bytearray(b"x" * step))
        parts.append(bytes(part[: cutter.fill(part)]))
    return parts


@pytest.mark.parametrize("kind", [Reader, Filler, io.BytesIO])
@pytest.mark.parametrize("step", [1000, RECEIVE, RECEIVE + 1, len(DATA), len(DATA) + 1])
def test_parts_are_the_source_in_order_and_only_the_last_is_short(kind, step):
    data = DATA[: 5 * step + 1]
    parts = cut(kind(data), step)
    assert parts == [data[at : at + step] for at in range(0, len(data), step)]


def test_holes_become_zeros_in_memory_that_was_used():
    assert b"".join(cut(Holed(DATA[:500]), 64)) == bytes(100) + DATA[:500]


def test_an_empty_source_is_one_empty_part():
    assert cut(Filler(b""), 10) == [b""]


def test_a_source_that_can_is_read_into_the_part_and_beyond_it_once():
    source = Filler()
    cut(source, len(DATA))
    # the read behind the part tells that nothing follows
    assert (source.reads, source.fills > 3) == (1, True)


def test_of_a_class_derived_from_a_file_only_read_counts():
    class Shouting(io.BytesIO):
        def read(self, size=-1):
            return super().read(size).upper()

    assert cut(Shouting(b"abcdef"), 4) == [b"ABCD", b"EF"]


@pytest.mark.parametrize("kind", [Reader, Filler])
@pytest.mark.parametrize(
    "given, error",
    [
        ({"size": len(DATA) + 1}, SourceChangedError),
        ({"size": len(DATA) - 1}, SourceChangedError),
        ({"digests": WRONG}, DigestMismatchError),
    ],
)
def test_the_last_part_is_not_given_of_a_source_that_is_not_what_was_promised(kind, given, error):
    for step in (RECEIVE, len(DATA)):
        with pytest.raises(error):
            cut(kind(), step, **given)


@pytest.mark.parametrize(
    "count, said", [(None, "open it as blocking"), (-1, "read -1 bytes"), (11, "read 11 bytes where 10")]
)
def test_a_count_that_makes_no_sense_is_refused(count, said):
    class Liar(Filler):
        def readinto(self, view):
            return count

    with pytest.raises(UnsupportedError, match=said):
        cut(Liar(), 10)


def test_what_readinto_raises_is_known_as_the_failure_of_the_source():
    class Broken(Filler):
        def readinto(self, view):
            raise OSError("the disk")

    taken = intake(Broken())
    with pytest.raises(OSError, match="the disk") as caught:
        Cutter(taken.pieces).fill(memoryview(bytearray(10)))
    assert taken.failure is caught.value
