"""A half image and its journal, and what the next process makes of them: E8, E9, F9, G11, I4, I5, I10."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from imgstore import checksum, journal
from imgstore.errors import (
    AlreadyExistsError,
    ConfigError,
    DeadlineExceededError,
    DigestMismatchError,
    LockedError,
    NoSpaceError,
    StorageIOError,
    TruncatedError,
    UnsafeLocationError,
    UnsupportedError,
)
from imgstore.journal import Identity
from imgstore.model import ByteRange
from imgstore.publish import beside, claims, partial, settler
from imgstore.publish.leftovers import leftovers
from imgstore.publish.partial import PartialFile

PART = 4096
IMAGE = os.urandom(10 * PART + 77)
N = len(IMAGE)
IDENTITY = Identity("5e1f", N, '"v1"')
OTHER = Identity("5e1f", N, '"v2"')


@pytest.fixture
def target(tmp_path):
    return tmp_path / "disk.img"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(partial, "PART_SIZE", PART)


def write(half, start, stop):
    with memoryview(IMAGE) as view:
        half.write_at(view[start:stop], start)


def begun(target, identity=IDENTITY, **options):
    half = PartialFile(target, **options)
    half.__enter__()
    half.begin(identity)
    return half


@contextlib.contextmanager
def ending(half):
    try:
        yield
    finally:
        half.__exit__()


def leave(target, *parts):
    """Leaves a half image with those parts, as a kill does."""
    half = begun(target)
    for number in parts:
        write(half, number * PART, min((number + 1) * PART, N))
    half._close()


def held(target, identity=IDENTITY):
    """Gives the parts that the next process finds."""
    half = begun(target, identity)
    gone = {at // PART for each in half.missing() for at in range(each.start, each.stop, PART)}
    half._close()
    return [number for number in range(11) if number not in gone]


def names(target):
    return sorted(os.listdir(target.parent))


def test_written_in_any_order_it_is_published_whole(target):
    with PartialFile(target) as half:
        assert half.earlier is None
        half.begin(IDENTITY)
        assert half.missing() == [ByteRange(0, N)]
        assert names(target) == ["disk.img.part", "disk.img.part.journal"]
        for name in names(target):
            assert stat.S_IMODE((target.parent / name).stat().st_mode) == 0o600
        for start, stop in ((PART + 5, N), (0, 3), (3, PART + 5)):
            write(half, start, stop)
        assert half.held == N
        half.publish(read_back=True)
    assert target.read_bytes() == IMAGE
    assert names(target) == ["disk.img"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_what_was_claimed_is_not_missing_for_the_next(target):
    leave(target, 0, 1, 4)
    with PartialFile(target) as half:
        assert half.earlier == IDENTITY
        half.begin(IDENTITY)
        assert half.missing() == [ByteRange(2 * PART, 4 * PART), ByteRange(5 * PART, N)]
        assert half.held == 3 * PART
        for each in half.missing():
            write(half, each.start, each.stop)
        half.publish()
    assert target.read_bytes() == IMAGE


def test_part_of_a_part_is_not_claimed(target):
    half = begun(target)
    write(half, 0, PART - 1)
    write(half, PART, 3 * PART)
    half._close()
    assert held(target) == [1, 2]


def test_what_is_missing_cannot_be_published(target):
    with PartialFile(target) as half:
        half.begin(IDENTITY)
        write(half, 0, 5 * PART)
        with pytest.raises(TruncatedError, match="is missing"):
            half.publish()
    assert names(target) == []


def test_another_version_begins_anew_and_nothing_is_mixed(target):
    leave(target, *range(11))
    assert held(target, OTHER) == []
    half = begun(target, OTHER)
    half.zero(0, N)
    half.publish()
    assert target.read_bytes() == bytes(N), "a hole over what another version has left"


def test_holes_over_old_bytes_are_zeros(target):
    half = begun(target)
    write(half, 0, PART - 1)  # not claimed, but there
    half._close()
    with PartialFile(target) as half:
        half.begin(IDENTITY)
        half.zero(0, 3 * PART + 9)
        half.zero(3 * PART + 9, 100)
        write(half, 3 * PART + 109, N)
        half.publish(read_back=True)
    assert target.read_bytes() == bytes(3 * PART + 109) + IMAGE[3 * PART + 109 :]


@pytest.mark.parametrize(
    "start, stop", [(0, N), (5, N), (0, N - 5), (PART, 2 * PART), (5, PART - 5), (N - 9, N)]
)
def test_holes_take_no_room_and_are_claimed(target, start, stop):
    half = begun(target)
    half.zero(start, stop - start)
    for at, end in ((0, start), (stop, N)):
        write(half, at, end)
    assert half.held == N
    half.publish(read_back=True)
    assert target.read_bytes() == IMAGE[:start] + bytes(stop - start) + IMAGE[stop:]
    if (start, stop) == (0, N):
        assert target.stat().st_blocks == 0


def test_many_threads_write_one_image(target):
    half = begun(target)
    step = 1000  # no multiple of a part: most are written by two

    def work(first):
        for at in range(first * step, N, 8 * step):
            write(half, at, min(at + step, N))

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    half.publish(read_back=True)
    assert target.read_bytes() == IMAGE


def test_e8_without_its_half_image_a_journal_claims_nothing(target):
    leave(target, 0, 1)
    os.unlink(f"{target}.part")
    assert held(target) == []


def test_e8_a_shorter_half_image_has_lost_what_was_behind(target):
    leave(target, 0, 1, 4, 10)
    os.truncate(f"{target}.part", 2 * PART + 5)
    assert held(target) == [0, 1]


def test_e8_bytes_that_changed_before_they_were_settled_are_not_believed(target):
    leave(target, 0, 1)
    with open(f"{target}.part", "r+b") as file:
        file.write(b"\0")
    assert held(target) == [1]


def test_e8_without_its_journal_a_half_image_is_somebody_elses(target):
    part = target.with_name("disk.img.part")
    part.write_bytes(b"a browser's")
    with PartialFile(target) as half, pytest.raises(UnsupportedError, match=r"disk\.img\.part is there"):
        half.begin(IDENTITY)
    assert part.read_bytes() == b"a browser's"
    assert names(target) == ["disk.img.part"]


def test_e8_nor_does_a_kill_that_comes_as_it_is_looked_at_make_it_ours(target, monkeypatch):
    part = target.with_name("disk.img.part")
    part.write_bytes(b"precious")

    def kill(*_):
        raise SystemExit

    half = PartialFile(target)
    half.__enter__()
    with monkeypatch.context() as patch:
        patch.setattr(partial, "has_bytes", kill)
        with pytest.raises(SystemExit):
            half.begin(IDENTITY)
    half._is_begun = False  # nothing is tidied behind a kill
    half._close()
    assert list(leftovers(target.parent)) == []
    with PartialFile(target) as half, pytest.raises(UnsupportedError):
        half.begin(IDENTITY)
    assert part.read_bytes() == b"precious"


def test_i4_what_another_copy_began_and_left_meanwhile_is_gone_on_with(target):
    half = PartialFile(target)
    with ending(half):
        assert half.__enter__().earlier is None
        leave(target, 0, 1)
        half.begin(IDENTITY)
        assert half.held == 2 * PART
        half.keep()
    assert held(target) == [0, 1]


@pytest.mark.parametrize("uid, mode", [(65534, 0o600), (None, 0o777)], ids=["owner", "mode"])
def test_where_no_file_is_kept_to_one_user_nothing_can_be_kept(target, monkeypatch, uid, mode):
    """FAT gives all files one owner and mode; NFS gives those of root to nobody."""
    real = os.fstat

    def fstat(file):
        found = list(real(file))
        found[stat.ST_MODE] = stat.S_IFMT(found[stat.ST_MODE]) | mode
        found[stat.ST_UID] = found[stat.ST_UID] if uid is None else uid
        return os.stat_result(found)

    with monkeypatch.context() as patch:
        patch.setattr(beside.os, "fstat", fstat)
        with PartialFile(target) as half, pytest.raises(UnsupportedError, match="keeps no file to one user"):
            half.begin(IDENTITY)
    assert names(target) == []


def test_c12_e9_after_another_boot_every_claim_is_proven(target, monkeypatch):
    leave(target, 0, 1, 2)
    with open(f"{target}.part", "r+b") as file:
        file.seek(PART)
        file.write(bytes(PART))
    monkeypatch.setattr(partial, "_boot", lambda: "another")
    assert held(target) == [0, 2]
    assert held(target) == [0, 2]


def test_p8_what_is_read_back_ends_at_the_deadline_and_stays(target, monkeypatch):
    """After another boot that is all there is: minutes, of a large image."""
    leave(target, 0, 1)

    def check():
        raise DeadlineExceededError("the deadline has passed")

    with monkeypatch.context() as patch:
        patch.setattr(partial, "_boot", lambda: "another")
        with PartialFile(target, check=check) as half, pytest.raises(DeadlineExceededError):
            half.begin(IDENTITY)
    assert held(target) == [0, 1]


def in_another_process(target, then="time.sleep(60)"):
    """Gives a process that has begun a copy to `target`."""
    program = f"""
import os, sys, time
from imgstore.journal import Identity
from imgstore.publish import partial
partial.PART_SIZE = {PART}
half = partial.PartialFile({str(target)!r}).__enter__()
half.begin(Identity("5e1f", {N}, '"v1"'))
half.write_at(bytes({PART}), 0)
print("begun", flush=True)
{then}
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"begun\n"
    return process


def end(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_i4_i5_a_second_process_is_refused_and_takes_over_from_a_killed_one(target):
    process = in_another_process(target)
    try:
        with pytest.raises(LockedError, match=r"another copy to .*disk\.img is running"), PartialFile(target):
            pass
        assert list(leftovers(target.parent)) == []
    finally:
        end(process)
    with PartialFile(target) as half:
        half.begin(IDENTITY)
        assert half.missing() == [ByteRange(PART, N)]


def test_i4_so_is_a_second_thread(target):
    with PartialFile(target) as half:
        half.begin(IDENTITY)
        with pytest.raises(LockedError), PartialFile(target):
            pass


def test_i5_the_journal_of_another_boot_is_taken_over(target, monkeypatch):
    """The lock went with the machine: no number of a process is looked at that might be another's by now."""
    leave(target, 3)
    monkeypatch.setattr(partial, "_boot", lambda: "another")
    assert held(target) == [3]


@pytest.mark.parametrize("replaced", [False, True])
def test_i4_who_comes_as_the_owner_ends_takes_a_journal_that_has_its_name(target, monkeypatch, replaced):
    """It has opened what the owner then removes: who comes next would lock another file."""
    leave(target, 0)
    path = target.with_name("disk.img.part.journal")
    real, locked = fcntl.flock, []

    def flock(file, how):
        if not locked:
            path.rename(target.with_name("gone"))
            if replaced:
                path.write_bytes(target.with_name("gone").read_bytes())
                path.chmod(0o600)
        locked.append(os.fstat(file).st_ino)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with PartialFile(target) as half:
        assert half.earlier == (IDENTITY if replaced else None)
        assert locked[0] == target.with_name("gone").stat().st_ino
        assert locked[1:] == ([path.stat().st_ino] if replaced else [])


def test_g11_a_journal_that_others_can_write_to_is_refused(target):
    leave(target, 0)
    os.chmod(f"{target}.part.journal", 0o620)
    with pytest.raises(UnsafeLocationError, match=r"part\.journal beside it is no file that this user alone"):
        PartialFile(target).__enter__()


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "folder"])
def test_g11_what_is_no_file_of_ours_is_refused(target, tmp_path, kind):
    journal_path = f"{target}.part.journal"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    make = {
        "link": lambda: os.symlink(elsewhere, journal_path),
        "hard link": lambda: os.link(elsewhere, journal_path),
        "fifo": lambda: os.mkfifo(journal_path),
        "folder": lambda: os.mkdir(journal_path),
    }
    make[kind]()
    with pytest.raises(UnsafeLocationError):
        PartialFile(target).__enter__()
    assert elsewhere.read_bytes() == b"precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_g11_another_users_journal_is_refused(target):
    leave(target, 0)
    os.chown(f"{target}.part.journal", 12345, -1)
    with pytest.raises(UnsafeLocationError):
        PartialFile(target).__enter__()


@pytest.mark.parametrize("kind", ["link", "hard link"])
def test_g11_a_half_image_that_is_a_link_is_not_written_through(target, tmp_path, kind):
    leave(target, 0)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    os.unlink(f"{target}.part")
    (os.symlink if kind == "link" else os.link)(elsewhere, f"{target}.part")
    half = begun(target)
    write(half, 0, N)
    half.publish()
    assert elsewhere.read_bytes() == b"precious"
    assert target.read_bytes() == IMAGE


def test_an_image_that_is_there_is_left_alone_with_what_is_beside_it(target):
    leave(target, 0)
    target.write_bytes(b"old")
    with pytest.raises(AlreadyExistsError), PartialFile(target):
        pass
    assert names(target) == ["disk.img", "disk.img.part", "disk.img.part.journal"]


def test_what_a_kill_behind_the_name_left_is_tidied(target):
    half = begun(target)
    write(half, 0, N)
    os.link(f"{target}.part", target)
    half._close()
    with pytest.raises(AlreadyExistsError), PartialFile(target):
        pass
    assert names(target) == ["disk.img"]
    assert target.read_bytes() == IMAGE


def test_a_published_image_is_never_written_into(target):
    half = begun(target)
    write(half, 0, N)
    os.link(f"{target}.part", target)
    half._close()
    half = begun(target, OTHER, overwrite=True)
    half.zero(0, N)
    assert target.read_bytes() == IMAGE
    half.publish()
    assert target.read_bytes() == bytes(N)


def test_the_mode_is_that_of_the_image_it_replaces(target):
    target.write_bytes(b"old")
    target.chmod(0o640)
    half = begun(target, overwrite=True)
    write(half, 0, N)
    half.publish()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert target.read_bytes() == IMAGE


@pytest.mark.parametrize("name", ["n" * 130, "n" * 131, "n" * 255, "ö" * 100])
def test_a_long_name_is_cut_and_stays_known(tmp_path, name):
    names_ = beside.names_beside(name)
    assert all(len(os.fsencode(each)) <= 143 for each in names_)
    assert names_[0].endswith(".part")
    assert beside.names_beside(f"{name}x") != names_
    target = tmp_path / name
    leave(target, 0, 2)
    assert held(target) == [0, 2]
    (left,) = leftovers(tmp_path)
    assert left.path == str(tmp_path / names_[0])


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_nothing_can_be_kept(target, monkeypatch, code):
    def flock(file, how):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with PartialFile(target) as half, pytest.raises(UnsupportedError, match="has no locks"):
        half.begin(IDENTITY)
    assert names(target) == []


@pytest.mark.parametrize("name", ["", "missing/x"])
def test_what_names_no_file_is_refused(tmp_path, name):
    with pytest.raises(ConfigError):
        PartialFile(tmp_path / name if name else f"{tmp_path}/").__enter__()


def test_a_sync_that_failed_once_is_never_tried_again(target, monkeypatch):
    """Nor is anything written after it: the kernel may call the lost pages clean by then."""
    monkeypatch.setattr(settler, "_BYTES", PART)
    calls = []

    def fdatasync(file):
        calls.append(file)
        raise OSError(errno.EIO, "broken")

    half = begun(target)
    monkeypatch.setattr(settler.os, "fdatasync", fdatasync)
    with ending(half), pytest.raises(StorageIOError):
        for number in range(10):
            write(half, number * PART, (number + 1) * PART)
            half._claims._settler._thread.join()  # it has failed, and ended
    assert len(calls) == 1
    assert names(target) == []


def test_a_sync_that_failed_behind_the_last_part_publishes_nothing(target, monkeypatch):
    """The kernel tells of it once: the sync of the whole would know nothing of it."""
    monkeypatch.setattr(settler, "_SECONDS", 0)

    def fdatasync(file):
        raise OSError(errno.EIO, "broken")

    half = begun(target)
    monkeypatch.setattr(settler.os, "fdatasync", fdatasync)
    write(half, 0, PART // 2)
    with half._claims._settler._changed:  # no sync begins before the last part is claimed
        for number in range(N // PART + 1):
            write(half, max(number * PART, PART // 2), min((number + 1) * PART, N))
    half._claims._settler._thread.join()
    with ending(half), pytest.raises(StorageIOError):
        half.publish()
    assert names(target) == []


def test_a_failure_to_claim_leaves_what_was_claimed(target, monkeypatch):
    half = begun(target)
    write(half, 0, PART)
    real = os.pwrite

    def pwrite(file, data, at):
        if file == half._lock:
            raise OSError(errno.ENOSPC, "full")
        return real(file, data, at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with ending(half), pytest.raises(NoSpaceError):
            try:
                write(half, PART, 2 * PART)
            finally:
                assert half.keep() == PART
    assert held(target) == [0]


def test_nothing_that_is_held_is_nothing_that_is_kept(target):
    with PartialFile(target) as half:
        half.begin(IDENTITY)
        write(half, 0, 100)
        assert half.keep() == 0
    assert names(target) == []


def test_what_was_not_begun_stays(target):
    leave(target, 0)
    with PartialFile(target):
        pass
    with PartialFile(target) as half:
        assert half.keep() == 0
    assert held(target) == [0]


def test_claims_are_settled_after_64_mib_and_by_the_clock(target, monkeypatch):
    """Both without a sleep: the one by its size, the other by waiting for what the thread then writes."""
    monkeypatch.setattr(settler, "_BYTES", 3 * PART)
    monkeypatch.setattr(settler, "_SECONDS", 0.05)
    half = begun(target)
    write(half, 0, 4 * PART)
    end = time.monotonic() + 30
    while half._journal._claims.unsettled() and time.monotonic() < end:
        time.sleep(0.01)
    assert half._journal._claims.unsettled() == []
    half._close()


def test_where_there_are_no_more_threads_whoever_writes_syncs(target, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(settler, "_BYTES", PART)
    half = begun(target)
    write(half, 0, N)
    assert half._journal._claims.unsettled() == []
    half.publish()
    assert target.read_bytes() == IMAGE


def test_bytes_that_the_disk_changes_are_found_when_they_are_read_back(target, monkeypatch):
    half = begun(target)
    write(half, 0, N)
    with open(f"{target}.part", "r+b") as file:
        file.seek(7 * PART)
        file.write(b"\0\0\0\0\0\0\0\0")
    with ending(half), pytest.raises(DigestMismatchError, match="other bytes than were written"):
        half.publish(read_back=True)
    assert names(target) == []


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_interrupt_right_behind_the_name_leaves_the_image_and_nothing_else(target, monkeypatch, overwrite):
    """As it comes where the old image takes long to go."""
    call = "rename" if overwrite else "link"
    real = getattr(os, call)

    def interrupted(*args, **options):
        real(*args, **options)
        raise KeyboardInterrupt

    half = begun(target, overwrite=overwrite)
    write(half, 0, N)
    monkeypatch.setattr(os, call, interrupted)
    with ending(half), pytest.raises(KeyboardInterrupt):
        half.publish()
    assert half.published
    assert target.read_bytes() == IMAGE
    assert names(target) == ["disk.img"]


def test_a_half_image_that_somebody_replaced_is_not_published(target):
    half = begun(target)
    write(half, 0, N)
    os.unlink(f"{target}.part")
    with open(f"{target}.part", "wb") as file:
        file.write(bytes(N))
    with ending(half), pytest.raises(StorageIOError, match="somebody has changed"):
        half.publish()
    assert not target.exists()


def test_parts_grow_with_the_image(monkeypatch):
    monkeypatch.undo()
    assert partial._part_size(1, 1) == partial._part_size(512 << 30, 1) == 2 << 20
    assert partial._part_size((512 << 30) + 1, 1) == 4 << 20
    assert partial._part_size(1, 3 << 20) == 3 << 20
    assert partial._part_size(1 << 40, 4096) == 4 << 20
    assert partial._part_size(1, 3000) % 3000 == 0
    assert (16 << 40) // partial._part_size(16 << 40, 1) <= 1 << 18 <= journal._PARTS_LIMIT


def test_what_could_not_be_begun_leaves_nothing(target, monkeypatch):
    def ftruncate(file, size):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(partial.os, "ftruncate", ftruncate)
    with PartialFile(target) as half, pytest.raises(NoSpaceError):
        half.begin(IDENTITY)
    assert names(target) == []


def test_leftovers_are_told_and_removed(target, tmp_path):
    leave(target, 0, 1)
    pending = tmp_path / ".other.img.0123456789abcdef.part"
    pending.write_bytes(bytes(PART))
    told = {os.path.basename(each.path): each for each in leftovers(tmp_path)}
    assert set(told) == {"disk.img.part", pending.name}
    assert told["disk.img.part"].held >= 2 * PART
    assert abs(told["disk.img.part"].since - time.time()) < 60
    assert list(leftovers(tmp_path, older_than=3600)) == []
    assert all(each.remove() for each in told.values())
    assert not any(each.remove() for each in told.values())
    assert os.listdir(tmp_path) == []


def test_f9_files_of_others_are_no_leftovers(tmp_path):
    for name, data in {
        "a.part": b"x",
        "b.part.journal": b"a diary",
        ".c.part": b"",
        "disk.img": IMAGE,
        ".part.journal": b"1",
    }.items():
        (tmp_path / name).write_bytes(data)
    os.symlink("disk.img", tmp_path / "d.part.journal")
    assert list(leftovers(tmp_path)) == []


def test_f9_a_folder_full_of_leftovers_is_gone_through_in_bounded_time(tmp_path):
    leave(tmp_path / "0", 0)
    for number in range(1, 3000):
        os.link(tmp_path / "0.part", tmp_path / f"x{number}.img.part")
        (tmp_path / f"{number}.part.journal").touch(0o600)
    began = time.monotonic()
    found = sum(1 for _ in leftovers(tmp_path))
    assert found == 3000
    assert time.monotonic() - began < 10  # 30 us for each on an idle machine


def test_i10_what_is_begun_while_it_is_looked_at_is_not_removed(target):
    leave(target, 0)
    (left,) = leftovers(target.parent)
    half = begun(target)
    assert not left.remove()
    half._close()
    assert held(target) == [0]
    assert left.remove()
    assert names(target) == []


def test_i10_a_look_does_not_refuse_a_copy_that_begins(target):
    """Who looks holds the lock for a moment; who begins waits for that."""
    leave(target, 0)
    file = os.open(f"{target}.part.journal", os.O_RDWR)
    fcntl.flock(file, fcntl.LOCK_EX)
    timer = threading.Timer(0.02, os.close, [file])
    timer.start()
    with PartialFile(target) as half:
        assert half.earlier == IDENTITY
    timer.join()


def test_a_part_is_read_back_where_it_was_not_written_in_order(target, monkeypatch):
    read = []
    real = claims.checksum_of

    def checksum_of(file, part, found):
        read.append(part.start)
        return real(file, part, found)

    monkeypatch.setattr(claims, "checksum_of", checksum_of)
    half = begun(target)
    write(half, 0, 10)
    write(half, 10, PART)
    write(half, PART + 10, 2 * PART)
    write(half, PART, PART + 10)
    half._close()
    assert read == [PART]
    assert held(target) == [0, 1]


def test_two_that_write_one_part_at_once_claim_what_is_there(target, monkeypatch):
    others = []

    class Slow(checksum.Crc32):
        def update(self, data):
            if not others:
                others.append(threading.Thread(target=write, args=[half, 10, PART]))
                others[0].start()
                others[0].join()
            super().update(data)

    monkeypatch.setattr(checksum, "known", lambda: {"crc32": Slow})
    half = begun(target)
    write(half, 0, 10)
    monkeypatch.undo()
    half._close()
    assert held(target) == [0]
