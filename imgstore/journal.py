"""The journal of a download: which parts of the image have been written, so that another process can go on.

It stands beside the half image. What it says is a hint, that can be lost, torn or changed: each record is
believed only whole (`imgstore.records`), each claim only of a file that is still the same and as long. A
claim is settled when the bytes are known to be durable; of one that is not, and after another boot of any,
the bytes have to be those that were claimed.
"""

from __future__ import annotations

import json
import os
import threading
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Final, TypeGuard

from imgstore import checksum, records
from imgstore.checksum import Checksum
from imgstore.errors import ManifestError
from imgstore.model import ByteRange

FORMAT: Final = 1
# The longest record is the header, with a version that drivers keep below 4 KiB.
_LINE_LIMIT: Final = 16 << 10
_SETTLED: Final = 1000  # numbers in one line, of seven digits at most
_PARTS_LIMIT: Final = 1 << 22  # 16 TiB in parts of 4 MiB; 20 MiB of memory


@dataclass(frozen=True, slots=True)
class Identity:
    """What a half image is half of.

    `source` says where it came from and is no secret: a digest. `pin` is that of the manifest by which every
    byte was proven, None without one.
    """

    source: str
    size: int
    version: str | None
    pin: str | None = None

    def continues(self, earlier: Identity) -> bool:
        """Tells whether parts of `earlier` are parts of this one.

        Under a manifest they are where they were proven by the same one, wherever they came from; otherwise
        where place and version are the same. An image without a version is never the same again.
        """
        if self.size != earlier.size:
            return False
        if self.pin is not None:
            return self.pin == earlier.pin
        return self.version is not None and (self.source, self.version) == (earlier.source, earlier.version)


@dataclass(frozen=True, slots=True)
class _Header:
    journal: int
    source: str
    size: int
    version: str | None
    pin: str | None
    part_size: int
    sum: str
    file: int
    boot: str
    digests: Mapping[str, str] = field(default_factory=dict)  # in a record of its own


_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "journal": (int,),
    "source": (str,),
    "size": (int,),
    "version": (str, type(None)),
    "pin": (str, type(None)),
    "part_size": (int,),
    "sum": (str,),
    "file": (int,),
    "boot": (str,),
}


class Claims:
    """Which parts are held, each with its checksum. Memory: 5 bytes a part, some 60 for one not settled."""

    def __init__(self, header: _Header) -> None:
        """None is held."""
        parts = -(-header.size // header.part_size)
        self._part_size = header.part_size
        self._sum = header.sum
        self._last = header.size - (parts - 1) * header.part_size  # bytes of the last part
        self._held = bytearray(parts)
        self._sums = array("I", [0]) * parts
        self._unsettled: set[int] = set()

    def __len__(self) -> int:
        """The number of parts, held or not."""
        return len(self._held)

    def add(self, number: int, found: int) -> None:
        """Notes a part."""
        self._sums[number] = found
        self._held[number] = 1
        self._unsettled.add(number)

    def add_zeros(self, numbers: range) -> None:
        """Notes parts of nothing but zeros."""
        for number in numbers:
            self.add(number, checksum.of_zeros(self._sum, self._part_size))
        if numbers.stop == len(self) and numbers:
            self.add(len(self) - 1, checksum.of_zeros(self._sum, self._last))

    def settle(self, numbers: Iterable[int]) -> None:
        """Notes that those parts are durable."""
        self._unsettled.difference_update(numbers)

    def drop(self, numbers: range) -> None:
        """Forgets those parts."""
        self._held[numbers.start : numbers.stop] = bytes(len(numbers))
        self._unsettled.difference_update([each for each in self._unsettled if each in numbers])

    def held(self) -> Iterator[tuple[int, int]]:
        """Gives the number and the checksum of each part that is held."""
        return ((number, self._sums[number]) for number, held in enumerate(self._held) if held)

    def unsettled(self) -> list[tuple[int, int]]:
        """Gives those of which nobody knows whether they are durable."""
        return [(number, self._sums[number]) for number in sorted(self._unsettled)]

    def missing(self) -> Iterator[range]:
        """Gives the numbers of the others, in runs of neighbours."""
        stop = 0
        while (start := self._held.find(0, stop)) >= 0:
            stop = self._held.find(1, start)
            stop = len(self._held) if stop < 0 else stop
            yield range(start, stop)


class Journal:
    """The claims of one download, in an open file that is its own.

    A part is a stretch of `part_size` bytes, the last one what is left. Who opens a journal holds a lock as
    long as it is in use. Callable from many threads. Memory: 5 bytes a part, some 60 for one not settled. On
    the disk: at most 63 bytes a part, half of it for being settled, and what the header and the boots since
    take, some 300 and 60 bytes.
    """

    def __init__(self, file: int, header: _Header, claims: Claims) -> None:
        """As `opened` gives it."""
        self._file = file
        self._header = header
        self._claims = claims
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """The bytes of the whole image."""
        return self._header.size

    @property
    def part_size(self) -> int:
        """The bytes of a part: those that the download was begun with."""
        return self._header.part_size

    @property
    def digests(self) -> Mapping[str, str]:
        """What the source said of the whole image's digests when the download began, by name."""
        return self._header.digests

    def __len__(self) -> int:
        """The number of parts, claimed or not."""
        return len(self._claims)

    def part(self, number: int) -> ByteRange:
        """Gives the range of a part, counted from 0."""
        start = number * self.part_size
        return ByteRange(start, min(start + self.part_size, self.size))

    def missing(self) -> list[ByteRange]:
        """Gives what is not claimed, in order; neighbouring parts are one range."""
        with self._lock:
            runs = list(self._claims.missing())
        return [ByteRange(run.start * self.part_size, self.part(run.stop - 1).stop) for run in runs]

    def checksum(self) -> Checksum:
        """Begins a checksum such as this journal has."""
        return checksum.known()[self._header.sum]()

    def claim(self, number: int, found: int) -> None:
        """Notes that a part is written to the file, where `found` is the checksum of its bytes.

        The note outlives this process at once; the machine when it is settled, or else if the bytes do.

        Raises: as `records.append`; the part is not claimed then.
        """
        with self._lock:
            records.append(self._file, [number, found], durable=False)
            self._claims.add(number, found)

    def claim_zeros(self, numbers: range) -> None:
        """Claims neighbouring parts of nothing but zeros, in one note. Raises: as `claim`."""
        with self._lock:
            records.append(self._file, {"zeros": [numbers.start, numbers.stop]}, durable=False)
            self._claims.add_zeros(numbers)

    def settle(self, numbers: Collection[int]) -> None:
        """Notes that the bytes of those parts are durable, since they were claimed before a sync of the file.

        The claims are durable when this returns. Raises: as `claim`; they are still to be proven then.
        """
        settled = [*numbers]
        with self._lock:
            for at in range(0, len(settled), _SETTLED):
                some = settled[at : at + _SETTLED]
                records.append(self._file, {"settled": some}, durable=at + _SETTLED >= len(settled))
            self._claims.settle(settled)

    def drop(self, numbers: range) -> None:
        """Takes claims back, durably. Raises: as `claim`; they stand then."""
        with self._lock:
            records.append(self._file, {"dropped": [numbers.start, numbers.stop]})
            self._claims.drop(numbers)

    def prove(self, found: Callable[[ByteRange], int], boot: str) -> int:
        """Drops the parts whose bytes are not those that were claimed; gives their number.

        Looked at is what was not settled, which a failed write may have taken back behind everybody's back;
        and after another boot everything: a disk that told of durable bytes before it had them is found out
        then. `found` gives the checksum of a range of the half image, `boot` is the token of this boot.

        Raises: as `found` and `claim`; the next one to open proves again then.
        """
        same = boot == self._header.boot
        claimed = self._claims.unsettled() if same else self._claims.held()
        lost = [number for number, known in claimed if found(self.part(number)) != known]
        for number in lost:
            self.drop(range(number, number + 1))
        if not same:
            records.append(self._file, {"boot": boot})
            self._header = replace(self._header, boot=boot)
        return len(lost)

    def differing(self, found: Callable[[ByteRange], int]) -> int:
        """Gives the number of claimed parts whose checksum is another than `found` gives. Raises: as that."""
        return sum(found(self.part(number)) != known for number, known in self._claims.held())


def opened(
    file: int,
    identity: Identity,
    *,
    part_size: int,
    data: os.stat_result,
    boot: str,
    digests: Mapping[str, str] | None = None,
) -> tuple[Journal, bool]:
    """Gives the journal in the open file `file`, and whether it goes on with what an earlier one began.

    `data` is what `fstat` tells of the half image; claims of what lies beyond its end are dropped. What is
    begun anew keeps `digests`, those of the whole image by name, for who goes on with it. A journal
    of another image or another file, one with checksums that cannot be computed here, and what does not begin
    as one, is emptied and begun anew.

    Raises: ManifestError for a journal in a format that this version does not know, ValueError for a part
    size of less than 1 or more parts than 2^22, OSError.
    """
    if part_size < 1 or identity.size > part_size * _PARTS_LIMIT:
        raise ValueError(f"{identity.size} bytes make no parts of {part_size}, or more than {_PARTS_LIMIT}")
    if (known := read(file)) is not None:
        header, claims = known
        if identity.continues(_identity(header)) and header.file == data.st_ino:
            journal = Journal(file, header, claims)
            if data.st_size < header.size:
                # In the journal as well: when the file has grown again, those parts are still not there.
                journal.drop(range(data.st_size // header.part_size, len(claims)))
            return journal, True
    header = _Header(
        journal=FORMAT,
        source=identity.source,
        size=identity.size,
        version=identity.version,
        pin=identity.pin,
        part_size=part_size,
        sum=next(iter(checksum.known())),
        file=data.st_ino,
        boot=boot,
        digests=dict(digests or {}),
    )
    os.ftruncate(file, 0)
    # Before the header: else a power loss may leave it in front of the claims of another image.
    os.fsync(file)
    records.append(file, {name: getattr(header, name) for name in _KINDS})
    if header.digests:
        records.append(file, {"digests": header.digests})
    return Journal(file, header, Claims(header)), False


def begun(file: int) -> Identity | None:
    """Gives what the journal in the open file was begun for, None where it is none. Raises: as `read`."""
    with open(file, "rb", closefd=False) as lines:
        lines.seek(0)
        header = _header(next(_records(lines), None))
    return None if header is None else _identity(header)


def read(file: int) -> tuple[_Header, Claims] | None:
    """Gives the header and the claims in the open file, None where it is none that can be used here.

    Raises: ManifestError for a format that this version does not know, OSError. Memory: 5 bytes a part, and
    the 16 KiB of the longest line.
    """
    with open(file, "rb", closefd=False) as lines:
        lines.seek(0)
        found = _records(lines)
        header = _header(next(found, None))
        if header is None or header.sum not in checksum.known():
            return None
        claims = Claims(header)
        for record in found:
            header = _applied(record, header, claims)
    return header, claims


def _records(lines: BinaryIO) -> Iterator[Any]:
    return map(_parsed, records.texts(iter(lambda: lines.readline(_LINE_LIMIT), b"")))


def _identity(header: _Header) -> Identity:
    return Identity(header.source, header.size, header.version, header.pin)


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # somebody has written that, checksum and all
        return None


def _header(record: Any) -> _Header | None:
    """Gives the header that a journal begins with, None where this is none."""
    if not isinstance(record, dict) or not _is_count(found := record.get("journal")):
        return None
    if found != FORMAT:
        raise ManifestError(
            f"the journal has format {found}, and this version reads {FORMAT}; begin the copy anew"
        )
    if record.keys() != _KINDS.keys() or not all(isinstance(record[name], _KINDS[name]) for name in _KINDS):
        return None
    header = _Header(**record)
    sane = header.part_size > 0 and 0 <= header.size <= header.part_size * _PARTS_LIMIT
    return header if sane else None


def _applied(record: Any, header: _Header, claims: Claims) -> _Header:
    """Enters a record into `claims`, or gives the header it makes; what makes no sense changes nothing."""
    if _is_pair(record):
        number, found = record
        if number < len(claims) and found < 1 << 32:
            claims.add(number, found)
    elif isinstance(record, dict) and _is_pair(run := record.get("zeros")):
        claims.add_zeros(range(run[0], min(run[1], len(claims))))
    elif isinstance(record, dict) and _is_pair(run := record.get("dropped")):
        claims.drop(range(run[0], min(run[1], len(claims))))
    elif isinstance(record, dict) and isinstance(numbers := record.get("settled"), list):
        claims.settle(filter(_is_count, numbers))
    elif isinstance(record, dict) and isinstance(boot := record.get("boot"), str):
        return replace(header, boot=boot)
    elif isinstance(record, dict) and _is_texts(digests := record.get("digests")):
        return replace(header, digests=digests)
    return header


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_texts(value: object) -> TypeGuard[dict[str, str]]:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


def _is_pair(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_count, value))
