"""The journal claims what was written, whatever becomes of its file: rows E4, E5, E8, E9, E14 and F5."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace

import pytest

from imgstore import checksum, journal, records
from imgstore.errors import ManifestError, StorageIOError
from imgstore.journal import Identity, opened
from imgstore.model import ByteRange

PART = 10
SIZE = 95  # ten parts, the last of five bytes
IDENTITY = Identity("5e1f", SIZE, '"v1"')
CLAIMED = (0, 1, 4, 9)
DATA = bytes(range(SIZE))

# What format 1 looks like for ever: line by line as its first version wrote it.
GOLDEN = (
    b'398bad63 {"journal":1,"source":"5e1f","size":95,"version":"\\"v1\\"","pin":null,"part_size":10,'
    b'"sum":"crc32","file":7,"boot":"b0"}\n'
    b"de97878d [0,1164760902]\n"
    b"088b50bf [1,2]\n"
)


def sum_of(data):
    """Gives the checksum that a journal begun here has."""
    found = next(iter(checksum.known().values()))()
    found.update(bytes(data))
    return found.value()


def crc(part):
    return sum_of(DATA[part.start : part.stop])


class Place:
    """A half image and its journal, opened as often as one likes."""

    def __init__(self, folder):
        self.paths = folder / "image.part", folder / "image.part.journal"
        self.paths[0].write_bytes(DATA)
        self.paths[1].touch()

    def open(self, identity=IDENTITY, boot="b1", part_size=PART):
        """Gives the journal, and whether it goes on."""
        self.file = os.open(self.paths[1], os.O_RDWR)
        return opened(self.file, identity, part_size=part_size, data=os.stat(self.paths[0]), boot=boot)

    def close(self):
        os.close(self.file)

    def begun(self):
        """Leaves a journal with some claims; gives its bytes."""
        made, went_on = self.open()
        assert not went_on
        for number in CLAIMED:
            made.claim(number, crc(made.part(number)))
        self.close()
        return self.paths[1].read_bytes()

    def held(self, identity=IDENTITY, **options):
        """Gives the numbers of the parts that are claimed when it is opened."""
        found, _ = self.open(identity, **options)
        try:
            gone = {at for run in found.missing() for at in range(run.start, run.stop)}
            return tuple(number for number in range(-(-SIZE // PART)) if number * PART not in gone)
        finally:
            self.close()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_what_was_claimed_is_not_missing(place):
    place.begun()
    found, went_on = place.open()
    assert went_on
    assert found.missing() == [ByteRange(20, 40), ByteRange(50, 90)]
    assert (found.size, found.part_size, found.part(9)) == (SIZE, PART, ByteRange(90, 95))
    place.close()


def test_the_part_size_is_that_of_the_beginning(place):
    place.begun()
    found, went_on = place.open(part_size=7)
    assert (went_on, found.part_size) == (True, PART)
    place.close()


def test_an_empty_image_misses_nothing(place):
    found, _ = place.open(replace(IDENTITY, size=0))
    assert found.missing() == []
    place.close()


@pytest.mark.parametrize(
    "other",
    [
        {"version": '"v2"'},
        {"version": None},
        {"size": SIZE + 1},
        {"source": "0ther"},
        {"pin": "sha256:aa"},
    ],
    ids=str,
)
def test_another_image_begins_anew(place, other):
    place.begun()
    assert place.held(replace(IDENTITY, **other)) == ()
    assert place.held() == (), "and what was begun before is gone"


def test_without_a_version_nothing_is_the_same_again(place):
    unnamed = replace(IDENTITY, version=None)
    made, _ = place.open(unnamed)
    made.claim(0, 1)
    place.close()
    assert place.held(unnamed) == ()


def test_a_manifest_s_pin_is_enough_and_needed():
    pinned = replace(IDENTITY, pin="sha256:aa")
    assert replace(pinned, source="other", version=None).continues(pinned)
    assert IDENTITY.continues(pinned)
    assert not pinned.continues(IDENTITY)


def test_e4_torn_at_any_byte_what_is_whole_counts(place):
    whole = place.begun()
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole)):
        place.paths[1].write_bytes(whole[:cut])
        claims = sum(end <= cut for end in ends) - 1
        assert place.held() == CLAIMED[: max(claims, 0)], cut


def test_e4_a_claim_after_a_torn_one_is_whole(place):
    whole = place.begun()
    place.paths[1].write_bytes(whole[:-3])
    found, _ = place.open()
    found.claim(5, 7)
    place.close()
    assert place.held() == (*CLAIMED[:-1], 5)


def test_e5_a_flipped_bit_costs_the_record_that_it_hit(place):
    whole = place.begun()
    header = whole.index(b"\n")
    for at in range(len(whole)):
        for bit in (0, 3, 6):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            place.paths[1].write_bytes(damaged)
            held = place.held()
            assert set(held) <= set(CLAIMED)
            # A lost end of line costs the record behind it, too.
            assert len(held) >= len(CLAIMED) - 2 or at <= header


@pytest.mark.parametrize("garbage", [bytes(4096), os.urandom(512), b"[" * 40000, b"0" * 40000 + b"\n"])
@pytest.mark.parametrize("front", [False, True])
def test_e5_garbage_claims_nothing(place, garbage, front):
    whole = place.begun()
    place.paths[1].write_bytes(garbage + whole if front else whole + garbage)
    assert place.held() == (() if front and b"\n" not in garbage[-1:] else CLAIMED)


@pytest.mark.parametrize(
    "record",
    [
        [0],
        [3, -1],
        [3, 1 << 32],
        [10, 1],
        [True, 1],
        [3.0, 1],
        [2, [1]],
        {"dropped": [0]},
        {"dropped": [-1, 3]},
        {"zeros": [2]},
        {"zeros": [-1, 3]},
        {"settled": 3},
        {"settled": [-1, "0", 77]},
        {"boot": 3},
        "boot",
        None,
    ],
    ids=str,
)
def test_e5_a_record_that_makes_no_sense_changes_nothing(place, record):
    place.paths[1].write_bytes(place.begun() + records.line(record))
    assert place.held() == CLAIMED


@pytest.mark.parametrize(
    "field, value",
    [("part_size", 0), ("part_size", "10"), ("size", -1), ("size", 1 << 62), ("version", 1), ("boot", None)],
)
def test_e5_a_header_that_makes_no_sense_is_none(place, field, value):
    whole = place.begun()
    end = whole.index(b"\n")
    header = {**json.loads(whole[9:end]), field: value}
    place.paths[1].write_bytes(records.line(header) + whole[end + 1 :])
    assert place.held() == ()


def test_e8_of_a_shorter_file_the_rest_is_missing_for_good(place):
    place.begun()
    os.truncate(place.paths[0], 45)
    assert place.held() == (0, 1)
    os.truncate(place.paths[0], SIZE)
    assert place.held() == (0, 1), "the file has grown again, but not by what was there"


def test_e8_of_another_file_nothing_is_held(place):
    place.begun()
    kept = place.paths[0].rename(place.paths[0].with_suffix(".kept"))
    place.paths[0].write_bytes(DATA)
    assert kept.exists()
    assert place.held() == ()


def test_e9_after_another_boot_only_what_is_proven_is_held(place):
    place.begun()
    made, _ = place.open()
    made.settle(CLAIMED)
    place.close()
    damaged = bytearray(DATA)
    damaged[45] ^= 1

    def found_crc(part):
        return sum_of(damaged[part.start : part.stop])

    def unasked(_):
        pytest.fail("what this boot has claimed, or proven, is proven again")

    for boot, look, lost in (("b1", unasked, 0), ("b2", found_crc, 1), ("b2", unasked, 0)):
        found, _ = place.open(boot=boot)
        assert found.prove(look, boot) == lost
        assert found.prove(unasked, boot) == 0
        place.close()
    assert place.held(boot="b2") == (0, 1, 9)


def test_e9_what_is_not_settled_is_proven_in_the_same_boot_too(place):
    """A write that failed behind our back takes the bytes away without a reboot."""
    made, _ = place.open()
    for number in (2, 3):
        made.claim(number, crc(made.part(number)))
    made.settle([2, 3])
    for number in (4, 5):
        made.claim(number, crc(made.part(number)))
    place.close()
    looked = []

    def gone(part):
        looked.append(part.start)
        return 0

    found, _ = place.open()
    assert found.prove(gone, "b1") == 2
    place.close()
    assert looked == [40, 50]
    assert place.held() == (2, 3)


def test_a_journal_begun_anew_never_has_the_claims_of_before(place, monkeypatch):
    """The header is written when the disk has let go of the old claims, which have their bytes still."""
    place.begun()
    done = []
    for name in ("ftruncate", "fsync", "pwrite", "fdatasync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (done.append(name), real(*args))[1])
    place.open(replace(IDENTITY, version='"v2"'))
    place.close()
    assert done == ["ftruncate", "fsync", "pwrite", "fdatasync"]


def test_e14_another_format_is_refused_in_one_line(place):
    place.paths[1].write_bytes(records.line({"journal": 2, "anything": [1]}))
    with pytest.raises(ManifestError, match=r"format 2, and this version reads 1; begin the copy anew"):
        place.open()
    place.close()


def test_e14_what_the_first_version_wrote_is_read(tmp_path):
    (tmp_path / "journal").write_bytes(GOLDEN)
    with open(tmp_path / "journal", "rb") as file:
        header, claims = journal.read(file.fileno())
    assert header == journal._Header(1, "5e1f", 95, '"v1"', None, 10, "crc32", 7, "b0")
    assert list(claims.held()) == [(0, 1164760902), (1, 2)]
    assert list(claims.missing()) == [range(2, 10)]


def test_however_many_are_settled_at_once_they_stay_so(place):
    """A slow disk, and an image of holes."""
    count = 5000
    with open(place.paths[1], "r+b") as file:
        identity = replace(IDENTITY, size=count)
        data = os.stat_result([*os.stat(place.paths[0])[:6], count, 0, 0, 0])
        found, _ = opened(file.fileno(), identity, part_size=1, data=data, boot="b1")
        found.claim_zeros(range(count))
        found.settle(range(count))
        assert list(journal.read(file.fileno())[1].unsettled()) == []


def test_digests_are_kept_for_who_goes_on(place):
    told = {"sha256": "ab" * 32}
    for options, kept in ((told, told), ({}, told), ({"sha256": "other"}, told)):
        with open(place.paths[1], "r+b") as file:
            data = os.stat(place.paths[0])
            found, _ = opened(file.fileno(), IDENTITY, part_size=PART, data=data, boot="b1", digests=options)
            assert found.digests == kept
    with open(place.paths[1], "r+b") as file:
        other = replace(IDENTITY, version='"v2"')
        found, _ = opened(file.fileno(), other, part_size=PART, data=data, boot="b1")
        assert found.digests == {}


def test_a_journal_with_checksums_that_cannot_be_computed_here_is_begun_anew(place, monkeypatch):
    whole = place.begun()
    monkeypatch.setattr(checksum, "known", lambda: {"crc32": checksum.Crc32})
    with open(place.paths[1], "rb") as file:
        assert journal.begun(file.fileno()) == IDENTITY
    found, went_on = place.open()
    assert (went_on, found.missing()) == (False, [ByteRange(0, SIZE)])
    assert type(found.checksum()) is checksum.Crc32
    place.close()
    assert place.paths[1].read_bytes() != whole


def test_f5_a_claim_is_short():
    last = (1 << 22) - 1
    assert len(records.line([last, (1 << 32) - 1])) <= 32
    assert len(records.line([last, (1 << 32) - 1])) + len(records.line({"settled": [last]})) <= 64


@pytest.mark.parametrize("numbers", [range(3), range(4, 10), range(9, 10), range(2, 2)], ids=str)
def test_zeros_are_claimed_in_one_line(place, numbers):
    made, _ = place.open()
    made.claim_zeros(numbers)
    place.close()
    assert len(place.paths[1].read_bytes().splitlines()) == 2
    assert place.held() == tuple(numbers)
    found, _ = place.open()
    assert found.prove(lambda part: sum_of(bytes(part.size)), "b1") == 0
    assert found.prove(crc, "b1") == len(numbers)
    place.close()


def test_claims_that_could_not_be_settled_are_proven(place, monkeypatch):
    whole = place.begun()
    found, _ = place.open()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda _: os.fstat(-1))
        with pytest.raises(OSError, match="Bad file descriptor"):
            found.settle(CLAIMED)
    assert found.prove(crc, "b1") == 0
    assert found.prove(lambda _: 0, "b1") == len(CLAIMED)
    place.close()
    assert place.paths[1].read_bytes().startswith(whole)


def test_a_claim_that_fails_is_none(place, monkeypatch):
    whole = place.begun()
    found, _ = place.open()

    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        with pytest.raises(OSError, match="full"):
            found.claim(5, 1)
    assert ByteRange(50, 90) in found.missing()
    place.close()
    assert place.paths[1].read_bytes() == whole


@pytest.mark.parametrize("full", [True, False])
def test_a_record_that_is_taken_in_part_is_none(place, monkeypatch, full):
    """As at the end of a page on a disk that is full: it says so when it is to take the rest."""
    whole = place.begun()
    found, _ = place.open()
    real, taken = os.pwrite, []

    def pwrite(file, data, at):
        if taken and full:
            raise OSError(errno.ENOSPC, "full")
        taken.append(real(file, data[: 0 if taken else 5], at))
        return taken[-1]

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        kind, told = (OSError, "full") if full else (StorageIOError, "only a part of a record")
        with pytest.raises(kind, match=told):
            found.claim(5, 1)
    place.close()
    assert place.paths[1].read_bytes() == whole


@pytest.mark.parametrize("size, part_size", [(1, 0), ((1 << 22) + 1, 1)])
def test_parts_without_number_are_refused(place, size, part_size):
    with pytest.raises(ValueError, match="make no parts of"):
        place.open(replace(IDENTITY, size=size), part_size=part_size)
    place.close()
