"""The model of the disk: what it lets be lost, and what not. A kinder one would find nothing to blame."""

from __future__ import annotations

import random

from tests.faults.simdisk import (
    BLOCK,
    GARBAGE,
    Chmod,
    Disk,
    Enter,
    Found,
    Move,
    Remove,
    Resize,
    Sync,
    Write,
)

FILE, FOLDER, OTHER = 7, 8, 9


def disk(*ops, data=b"", mode=0o600):
    """Gives a disk on which `ops` were made, with a durable folder `d` and, of `data`, a durable `d/old`."""
    made = Disk()
    made.add_folder(FOLDER)
    made.add_file(FILE, mode)
    made.entries[0]["d"] = FOLDER
    made.add_file(OTHER, mode, data)
    if data:
        made.entries[FOLDER]["old"] = OTHER
    for op in ops:
        made.do(op)
    return made


def names(made):
    """Gives the sets of names that may be in the folder."""
    found = (frozenset(path for path in state if path != "d") for state in made.states(random.Random(0)))
    return {tuple(sorted(each)) for each in found}


def contents(made, path="d/new"):
    """Gives what the file may hold where it has its name."""
    states = made.states(random.Random(0))
    return {state[path].data for state in states if path in state}


def test_a_name_is_lost_or_there_until_its_folder_is_synced():
    entered = Enter(FOLDER, "new", FILE)
    assert names(disk(entered)) == {(), ("d/new",)}
    assert names(disk(entered, Sync(FILE))) == {(), ("d/new",)}
    assert names(disk(entered, Sync(0))) == {(), ("d/new",)}
    assert names(disk(entered, Sync(FOLDER))) == {("d/new",)}


def test_names_come_and_go_in_any_order():
    made = disk(Enter(FOLDER, "new", FILE), Remove(FOLDER, "old"), data=b"x")
    assert names(made) == {(), ("d/new",), ("d/old",), ("d/new", "d/old")}


def test_a_rename_is_one_change_also_from_folder_to_folder():
    assert names(disk(Move(FOLDER, "old", FOLDER, "new", OTHER), data=b"x")) == {("d/old",), ("d/new",)}
    away = disk(Move(FOLDER, "old", 0, "out", OTHER), data=b"x")
    assert names(away) == {("d/old",), ("out",)}
    away.do(Sync(0))
    assert names(away) == {("out",)}


def test_what_is_durable_of_a_name_is_not_undone_by_what_came_before():
    made = disk(Enter(FOLDER, "part", FILE), Move(FOLDER, "part", 0, "out", FILE), Sync(0))
    assert names(made) == {("out",)}
    assert made.whole().keys() == {"d", "out"}


def test_a_folder_takes_along_what_is_in_it():
    made = disk()
    made.add_folder(10)
    for op in (Enter(FOLDER, "deep", 10), Enter(10, "new", FILE), Sync(10)):
        made.do(op)
    assert names(made) == {(), ("d/deep", "d/deep/new")}


def test_unsynced_data_is_lost_torn_zeros_or_garbage_at_any_length_it_had():
    named = (Enter(FOLDER, "new", FILE), Sync(FOLDER))
    half = BLOCK // 2
    found = contents(disk(*named, Write(FILE, 0, b"x" * BLOCK)))
    whole, zeros = b"x" * BLOCK, bytes(BLOCK)
    assert found == {b"", whole, zeros, GARBAGE, whole[:half] + zeros[half:]}
    assert contents(disk(*named, Write(FILE, 0, whole), Sync(FILE))) == {whole}
    assert contents(disk(*named, Write(FILE, 0, whole), Sync(FILE, only_data=True))) == {whole}
    assert contents(disk(*named, Resize(FILE, 2))) == {b"", bytes(2), GARBAGE[:2]}


def test_each_block_is_lost_by_itself():
    ops = [Enter(FOLDER, "new", FILE), Sync(FOLDER), Resize(FILE, 2 * BLOCK), Sync(FILE)]
    found = contents(disk(*ops, Write(FILE, 0, b"x" * 2 * BLOCK)))
    kept = {(each[:1], each[BLOCK : BLOCK + 1]) for each in found}
    assert kept == {(b"\0", b"\0"), (b"x", b"\0"), (b"\0", b"x"), (b"x", b"x")}


def test_durable_bytes_stay_beside_what_is_appended():
    made = disk(Write(OTHER, 3, b"new"), data=b"old")
    assert contents(made, "d/old") == {b"old", b"oldnew", b"old\0\0\0", b"old" + GARBAGE[:3]}
    over = disk(Write(OTHER, 0, b"new"), data=b"old")
    assert contents(over, "d/old") == {b"old", b"new", b"nld"}


def test_permissions_are_durable_with_fsync_alone():
    ops = [Enter(FOLDER, "new", FILE), Sync(FOLDER), Chmod(FILE, 0o644)]

    def modes(*more):
        return {state["d/new"].mode for state in disk(*ops, *more).states(random.Random(0))}

    assert modes() == {0o600, 0o644}
    assert modes(Sync(FILE, only_data=True)) == {0o600, 0o644}
    assert modes(Sync(FILE)) == {0o644}


def test_many_changes_are_drawn_from_and_the_prefixes_are_among_them():
    made = disk(*(Enter(FOLDER, str(number), FILE) for number in range(20)))
    found = {len(each) for each in names(made)}
    assert {0, 1, 10, 19, 20} <= found
    assert made.whole()["d/19"] == Found(b"", 0o600)
