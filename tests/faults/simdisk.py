"""What a disk may hold after a power loss: a model is told the operations, and gives every legal state.

It assumes what POSIX promises and nothing that a certain file system does beyond it:

- Until it is synced, each block of 4 KiB of a file is on its own: the disk has any content that it ever had
  since the last sync, or its first half of one and its second half of an earlier; and where the file is
  longer than it was, zeros or what was on the disk before. The file has any length that it ever had.
- What is durable and not written over stays, also in a block that is written to beside it.
- Names are changed in any order, and each change is made or lost by itself, until the folder is synced; a
  rename is one change. A name may be there before anything of the file is. Permissions are as lost as data.
- fsync of a file makes its data, its length and its permissions durable, not its name; fdatasync not the
  permissions. fsync of a folder makes the names in it durable, not the folder's own name.
- The disk keeps what it said it has: a sync that returned is true.

It knows nothing of what it judges, and shares no code with it.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

BLOCK = 4096
GARBAGE = b"\xa5" * BLOCK

# Of more changes than this that may be lost, some sets are drawn and not all tried: 2^8 already.
EXHAUSTIVE = 8
# Contents of the files of one state of the names: all if they are no more, else so many drawn.
CONTENTS = 48


@dataclass(frozen=True)
class Enter:
    """A name is given: by creating a file or folder, or by a link."""

    folder: int
    name: str
    node: int


@dataclass(frozen=True)
class Remove:
    folder: int
    name: str


@dataclass(frozen=True)
class Move:
    """A rename, which replaces what had the new name."""

    folder: int
    name: str
    to_folder: int
    to_name: str
    node: int


@dataclass(frozen=True)
class Write:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Resize:
    file: int
    size: int


@dataclass(frozen=True)
class Chmod:
    file: int
    mode: int


@dataclass(frozen=True)
class Sync:
    """fsync, of a file or a folder; with `only_data`, fdatasync."""

    node: int
    only_data: bool = False


Names = Enter | Remove | Move
Op = Names | Write | Resize | Chmod | Sync
Entries = dict[int, dict[str, int]]


@dataclass(frozen=True)
class Found:
    """A file that the disk holds."""

    data: bytes
    mode: int


State = Mapping[str, Found | None]
"""What is on the disk by path; None for a folder."""


@dataclass
class File:
    """Every content and mode that a file had since it was last synced, the one on the disk first."""

    data: list[bytes]
    modes: list[int]

    def pending(self) -> bool:
        return len(self.data) > 1 or len(self.modes) > 1

    def sizes(self) -> list[int]:
        return sorted({len(each) for each in self.data})

    def blocks(self, size: int) -> list[list[bytes]]:
        """Gives what each block of the file may be, where it has `size` bytes."""
        return [self._block(at, min(BLOCK, size - at)) for at in range(0, size, BLOCK)]

    def _block(self, at: int, length: int) -> list[bytes]:
        was = [each[at : at + length].ljust(length, b"\0") for each in self.data]
        half = length // 2
        torn = [new[:half] + old[half:] for old, new in itertools.combinations(was, 2)]
        durable = self.data[0][at : at + length]
        fresh = [durable + tail[len(durable) : length] for tail in (bytes(BLOCK), GARBAGE)]
        return list(dict.fromkeys([*was, *torn, *(fresh if len(self.data) > 1 else [])]))


@dataclass
class Disk:
    """The disk at one moment: what is durable, and the changes of names that are not. Folder 0 is the top."""

    entries: Entries = field(default_factory=lambda: {0: {}})
    files: dict[int, File] = field(default_factory=dict)
    pending: list[Names] = field(default_factory=list)

    def add_folder(self, node: int) -> None:
        """Makes room for a folder that may get a name later."""
        self.entries.setdefault(node, {})

    def add_file(self, node: int, mode: int, data: bytes = b"") -> None:
        """The same for a file; it is empty on the disk, or durable as it is given."""
        self.files.setdefault(node, File([data], [mode]))

    def do(self, op: Op) -> None:
        """Makes an operation, in memory; a sync, on the disk."""
        if isinstance(op, Write):
            self._change(op.file, op.offset, op.data)
        elif isinstance(op, Resize):
            now = self.files[op.file].data
            now.append(now[-1][: op.size].ljust(op.size, b"\0"))
        elif isinstance(op, Chmod):
            self.files[op.file].modes.append(op.mode)
        elif isinstance(op, Sync):
            self._sync(op)
        else:
            self.pending.append(op)

    def _change(self, node: int, offset: int, data: bytes) -> None:
        now = self.files[node].data
        last = now[-1].ljust(offset, b"\0")
        now.append(last[:offset] + data + last[offset + len(data) :])

    def _sync(self, op: Sync) -> None:
        if op.node in self.files:
            file = self.files[op.node]
            file.data = file.data[-1:]
            file.modes = file.modes if op.only_data else file.modes[-1:]
            return
        made = _with_earlier([op.node in _folders(each) for each in self.pending], self.pending)
        self.entries = applied(self.entries, itertools.compress(self.pending, made))
        self.pending = [each for each, done in zip(self.pending, made, strict=True) if not done]

    def whole(self) -> State:
        """Gives what a process sees: what the disk will hold if nothing is lost."""
        entries = applied(self.entries, self.pending)
        return self._state(
            entries, {node: (file.data[-1], file.modes[-1]) for node, file in self.files.items()}
        )

    def states(self, rng: random.Random) -> Iterator[State]:
        """Gives what the disk may hold if the power goes now; some of it more than once."""
        for made in _subsets(self.pending, rng):
            entries = applied(self.entries, made)
            reached = set(_reached(entries))
            torn = {node: file for node, file in self.files.items() if node in reached and file.pending()}
            rest = {
                node: (file.data[0], file.modes[0]) for node, file in self.files.items() if node not in torn
            }
            for contents in _contents(torn, rng):
                yield self._state(entries, {**rest, **contents})

    def _state(self, entries: Entries, files: Mapping[int, tuple[bytes, int]]) -> State:
        return {path: Found(*files[node]) if node in files else None for path, node in _walk(entries, 0, "")}


def applied(entries: Entries, changes: Iterable[Names]) -> Entries:
    """Gives the names after `changes`, each made as if none before it was lost."""
    now = {folder: dict(names) for folder, names in entries.items()}
    for each in changes:
        if isinstance(each, Enter):
            now[each.folder][each.name] = each.node
            continue
        now[each.folder].pop(each.name, None)
        if isinstance(each, Move):
            now[each.to_folder][each.to_name] = each.node
    return now


def _with_earlier(made: list[bool], changes: list[Names]) -> list[bool]:
    """Adds what came before a change of the same name: it cannot come to the disk after it."""
    made = list(made)
    for late in reversed(range(len(changes))):
        for early in range(late) if made[late] else ():
            made[early] = made[early] or bool(_names(changes[early]) & _names(changes[late]))
    return made


def _names(op: Names) -> set[tuple[int, str]]:
    own = {(op.folder, op.name)}
    return own | {(op.to_folder, op.to_name)} if isinstance(op, Move) else own


def _folders(op: Names) -> set[int]:
    return {folder for folder, _ in _names(op)}


def _walk(entries: Entries, folder: int, below: str) -> Iterator[tuple[str, int]]:
    for name, node in entries[folder].items():
        yield below + name, node
        if node in entries:
            yield from _walk(entries, node, f"{below}{name}/")


def _reached(entries: Entries) -> Iterator[int]:
    return (node for _, node in _walk(entries, 0, ""))


def _subsets(changes: list[Names], rng: random.Random) -> Iterator[list[Names]]:
    if len(changes) <= EXHAUSTIVE:
        chosen: Iterable[tuple[bool, ...]] = itertools.product((False, True), repeat=len(changes))
    else:
        drawn = (tuple(rng.random() < 0.5 for _ in changes) for _ in range(1 << EXHAUSTIVE))
        prefixes = (tuple(at < most for at in range(len(changes))) for most in range(len(changes) + 1))
        chosen = itertools.chain(prefixes, drawn)
    for keep in chosen:
        yield list(itertools.compress(changes, keep))


def _contents(files: Mapping[int, File], rng: random.Random) -> Iterator[dict[int, tuple[bytes, int]]]:
    """Gives what `files` may hold: all there is where that is little, else the ends and some drawn."""
    choices = {
        node: [(size, mode, file.blocks(size)) for size in file.sizes() for mode in dict.fromkeys(file.modes)]
        for node, file in files.items()
    }
    kinds = [sum(math.prod(map(len, blocks)) for _, _, blocks in each) for each in choices.values()]
    if math.prod(kinds) <= CONTENTS:
        for every in itertools.product(*(_all(each) for each in choices.values())):
            yield dict(zip(choices, every, strict=True))
        return
    yield {node: (file.data[0], file.modes[0]) for node, file in files.items()}
    yield {node: (file.data[-1], file.modes[-1]) for node, file in files.items()}
    for _ in range(CONTENTS):
        yield {node: _drawn(each, rng) for node, each in choices.items()}


def _all(choices: list[tuple[int, int, list[list[bytes]]]]) -> Iterator[tuple[bytes, int]]:
    for _, mode, blocks in choices:
        for every in itertools.product(*blocks):
            yield b"".join(every), mode


def _drawn(choices: list[tuple[int, int, list[list[bytes]]]], rng: random.Random) -> tuple[bytes, int]:
    _, mode, blocks = rng.choice(choices)
    return b"".join(rng.choice(each) for each in blocks), mode
