"""A download that is ended, by whatever, is gone on with by the same one: rows B4, E2-E6, E8, F7, I4, I6."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import itertools
import mmap
import os
import random
import re
import signal
import struct
from types import SimpleNamespace

import pytest

from imgstore import journal
from imgstore.backends.filesystem import FilesystemStore
from imgstore.errors import (
    AlreadyExistsError,
    ConnectionLostError,
    DigestMismatchError,
    ImgstoreError,
    LockedError,
    NotFoundError,
    PermissionDeniedError,
    StorageIOError,
    VersionChangedError,
)
from imgstore.model import Call, CancelToken, Event
from imgstore.publish import partial
from imgstore.transfer import download as module
from imgstore.transfer.download import Origin, download
from imgstore.transfer.progress import Report
from tests.faults.halves import PART, Source, fetch, small_parts
from tests.faults.system_calls import Calls

IMAGE = random.Random(6).randbytes(9 * PART + 17)
N = len(IMAGE)
OTHER = IMAGE[::-1]
SHA256 = hashlib.sha256(IMAGE).hexdigest()
PIECE = 5000  # what a stream of `Source` gives at once
LEFT = ["disk.img.part", "disk.img.part.journal"]


@pytest.fixture(autouse=True)
def small():
    with small_parts():
        yield


@pytest.fixture
def target(tmp_path):
    return tmp_path / "disk.img"


def names(target):
    return sorted(os.listdir(target.parent))


def break_off(target, most, data=IMAGE, **options):
    """Leaves a half image of `data`, broken off behind `most` bytes; gives what it cost."""
    source = Source(data, most, **options)
    with pytest.raises(ConnectionLostError):
        fetch(source, target)
    return source.served


def test_a_clean_one_is_one_request_and_leaves_nothing_beside(target):
    source = Source(IMAGE)
    report = fetch(source, target, digest=True)
    assert source.asked == [(0, None)]
    assert target.read_bytes() == IMAGE
    assert names(target) == ["disk.img"]
    assert (report.bytes, report.held, report.total) == (N, 0, N)
    assert report.digests == {"sha256": SHA256}


@pytest.mark.parametrize("most", [PART, PART + 1, 5 * PART - 1, 5 * PART, N - 1])
def test_what_was_broken_off_is_gone_on_with(target, most):
    said = []
    source = Source(IMAGE, most)
    with pytest.raises(ConnectionLostError) as failure:
        fetch(source, target, say=said.append)
    held = most // PART * PART
    assert failure.value.resumable
    assert said == [f"{held} bytes are kept beside {target}; the same command goes on from there"]
    assert names(target) == LEFT
    source = Source(IMAGE)
    report = fetch(source, target, digest=True)
    assert target.read_bytes() == IMAGE
    assert names(target) == ["disk.img"]
    assert source.asked == [(held, '"v1"')]
    assert source.served == N - held
    assert (report.bytes, report.held) == (N, held)
    assert report.digests == {"sha256": SHA256}


def test_p16_what_was_received_beyond_the_image_is_told(target):
    report = Report()
    report.observe(Event("delivered", "web", "disk.img", count=N + 30))  # as layers above the source tell
    download(Origin(store=Source(IMAGE), key="disk.img"), target, report=report)
    assert (report.received, report.refetched) == (N + 30, 30)


def test_what_is_broken_off_before_the_first_part_leaves_nothing(target):
    break_off(target, PART - 1)
    assert names(target) == []


def test_p12_a_small_image_leaves_nothing(target, monkeypatch):
    monkeypatch.setattr(module, "LEAST", N + 1)
    break_off(target, N - 1)
    assert names(target) == []


def test_one_without_a_version_is_never_gone_on_with(target):
    break_off(target, N - 1, version=None)
    assert names(target) == []


def test_without_resume_nothing_is_gone_on_with_and_nothing_kept(target):
    break_off(target, 5 * PART)
    source = Source(IMAGE, N - 1)
    with pytest.raises(ConnectionLostError):
        fetch(source, target, resume=False)
    assert source.asked == [(0, None)]
    assert names(target) == []


def test_all_is_there_but_the_name(target, monkeypatch):
    """Killed before the last step: one byte tells that the image is still the same."""
    with monkeypatch.context() as patch:
        patch.setattr("imgstore.publish.partial.link_or_rename", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(Source(IMAGE), target)
    source = Source(IMAGE)
    fetch(source, target)
    assert source.asked == [(N - 1, '"v1"')]
    assert target.read_bytes() == IMAGE
    assert names(target) == ["disk.img"]


def interrupt(*_):
    raise KeyboardInterrupt


def test_b4_a_source_that_has_changed_is_fetched_anew_and_told(target):
    break_off(target, 5 * PART)
    said, source = [], Source(OTHER, version='"v2"')
    fetch(source, target, say=said.append)
    assert target.read_bytes() == OTHER
    assert said == [f"the image has changed since the copy to {target} was begun; it begins anew"]
    assert [at for at, _ in source.asked] == [5 * PART, 0]
    assert names(target) == ["disk.img"]


@pytest.mark.parametrize("size", [PART, N - 1, N + 1])
def test_b4_also_of_another_size(target, size):
    break_off(target, 5 * PART)
    data = (OTHER + b"x")[:size]
    fetch(Source(data, version='"v2"'), target)
    assert target.read_bytes() == data


def test_b4_one_that_changes_meanwhile_is_an_error_and_no_mixture(target, monkeypatch):
    class Replaced(Source):
        def _open(self, key, start, stop, version, call):
            opened = super()._open(key, start, stop, version, call)
            self.data, self.version = OTHER, '"v2"'
            return opened

    leave_a_gap(target, monkeypatch)
    source = Replaced(IMAGE)
    with pytest.raises(VersionChangedError):
        fetch(source, target)
    assert [at for at, _ in source.asked] == [3 * PART, 6 * PART]
    assert names(target) == []


def leave_a_gap(target, monkeypatch):
    """Leaves a half image with two stretches missing: after a reboot, what the disk lost is found out."""
    break_off(target, 6 * PART)
    with open(f"{target}.part", "r+b") as file:
        file.seek(4 * PART - 3)
        file.write(b"\0\0\0")
    monkeypatch.setattr(partial, "_boot", lambda: "another")


def test_two_stretches_are_two_requests(target, monkeypatch):
    leave_a_gap(target, monkeypatch)
    source = Source(IMAGE)
    report = fetch(source, target)
    assert source.asked == [(3 * PART, '"v1"'), (6 * PART, '"v1"')]
    assert source.served == N - 5 * PART
    assert report.bytes == N
    assert target.read_bytes() == IMAGE


@pytest.mark.parametrize(
    "error, kept",
    [
        (NotFoundError("gone"), False),
        (PermissionDeniedError("the signature has expired"), True),
        (DigestMismatchError("damaged"), False),
        (KeyboardInterrupt(), True),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_another_run_may_overcome_is_kept(target, error, kept):
    class Failing(Source):
        def _open(self, key, start, stop, version, call):
            raise error

    break_off(target, 5 * PART)
    with pytest.raises(type(error)):
        fetch(Failing(IMAGE), target)
    assert names(target) == (LEFT if kept else [])


def test_a_failure_at_another_place_leaves_what_is_kept_of_this_one(target):
    """A URL with a typing error must not cost what was fetched from the right one."""
    break_off(target, 5 * PART)

    class Missing(Source):
        def _open(self, key, start, stop, version, call):
            raise NotFoundError("there is no such image")

    with pytest.raises(NotFoundError):
        download(Origin(store=Missing(IMAGE), key="x", place="elsewhere"), target, report=Report())
    assert names(target) == LEFT


@pytest.mark.parametrize("pin", ["5e1f", None])
@pytest.mark.parametrize("error", [NotFoundError, VersionChangedError])
def test_what_a_manifest_has_proven_outlives_the_place_it_came_from(target, pin, error):
    class Losing(Source):
        def _open(self, key, start, stop, version, call):
            opened = super()._open(key, start, stop, version, call)
            opened.raw.readinto = self.lose
            return opened

        def lose(self, view):
            raise error("gone")

    for source in (Source(IMAGE, 5 * PART), Losing(IMAGE)):
        with pytest.raises((ConnectionLostError, error)):
            download(Origin(store=source, key="x", place="here", pin=pin), target, report=Report())
    assert names(target) == (LEFT if pin else [])


def test_p14_a_digest_that_the_source_names_counts_after_a_resume_too(target):
    wrong = {"sha256": hashlib.sha256(OTHER).hexdigest()}
    for most in (None, 5 * PART):
        if most:
            break_off(target, most)
        with pytest.raises(DigestMismatchError, match="another sha256 digest than the source names"):
            fetch(Source(IMAGE, digests=wrong), target)
        assert names(target) == []


@pytest.mark.parametrize(
    "later, error", [({}, DigestMismatchError), ({"sha256": "11" * 32}, VersionChangedError)]
)
def test_p14_one_that_only_the_first_process_was_told_counts_too(target, later, error):
    """A reply to the middle of an image may leave its digest out."""
    wrong = {"sha256": hashlib.sha256(OTHER).hexdigest()}
    break_off(target, 5 * PART, digests=wrong)
    with pytest.raises(error):
        fetch(Source(IMAGE, digests=later), target)
    assert names(target) == []


@pytest.mark.parametrize("connections", [1, 4])
def test_p14_each_stretch_is_of_the_image_that_was_begun_with(target, monkeypatch, connections):
    """One version and two sizes: a plain copy that resumed would tell."""

    class Growing(Source):
        def _open(self, key, start, stop, version, call):
            if len(self.asked) > 0:
                self.data = IMAGE + b"more"
            return super()._open(key, start, stop, version, call)

    leave_a_gap(target, monkeypatch)
    with pytest.raises(VersionChangedError, match=r"it had .* bytes, and has"):
        fetch(Growing(IMAGE), target, connections=connections)
    assert names(target) == []


def test_i4_two_at_once_are_one_and_a_refusal(target):
    refused = []

    class Second(Source):
        def _open(self, key, start, stop, version, call):
            opened = super()._open(key, start, stop, version, call)
            real = opened.raw.readinto

            def readinto(view):
                if not refused and os.path.exists(f"{target}.part"):
                    with pytest.raises(LockedError, match="another copy to"):
                        fetch(Source(OTHER), target)
                    refused.append(True)
                return real(view)

            opened.raw.readinto = readinto
            return opened

    fetch(Second(IMAGE), target)
    assert refused
    assert target.read_bytes() == IMAGE


def test_i6_an_interrupt_at_any_call_leaves_all_or_what_can_be_gone_on_with(target):
    for number in itertools.count(1):
        left = number

        def watch(name, call, args, options):
            nonlocal left
            left -= 1
            if not left and name != "close":
                raise KeyboardInterrupt
            result = call()
            if not left:
                raise KeyboardInterrupt
            return result

        try:
            with Calls(watch):
                fetch(Source(IMAGE), target)
            break
        except (KeyboardInterrupt, ImgstoreError):
            pass
        if target.exists():
            assert target.read_bytes() == IMAGE
        assert set(names(target)) <= {"disk.img", *LEFT}
        with contextlib.suppress(AlreadyExistsError):
            fetch(Source(IMAGE), target)
        assert target.read_bytes() == IMAGE
        assert names(target) == ["disk.img"]
        target.unlink()
    assert number > 30


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_d10_any_call_that_fails_leaves_the_old_image_or_the_new(target, code):
    for number in itertools.count(1):
        left = number

        def watch(name, call, args, options):
            nonlocal left
            left -= 1
            if not left and name not in {"close", "sched_getaffinity"}:
                raise OSError(code, os.strerror(code))
            return call()

        target.write_bytes(OTHER)
        with contextlib.suppress(ImgstoreError), Calls(watch):
            fetch(Source(IMAGE), target, overwrite=True)
        assert target.read_bytes() in {OTHER, IMAGE}
        fetch(Source(IMAGE), target, overwrite=True)
        assert target.read_bytes() == IMAGE
        assert names(target) == ["disk.img"], f"call {number}"
        if left > 0:
            break
    assert number > 30


def test_a_full_disk_keeps_what_was_written_and_a_broken_one_nothing(target):
    for code, kept in ((errno.ENOSPC, True), (errno.EIO, False)):

        def watch(name, call, args, options, code=code):
            if name == "pwrite" and len(args[1]) == PIECE and args[2] > 5 * PART:
                raise OSError(code, os.strerror(code))
            return call()

        with pytest.raises(ImgstoreError) as failure, Calls(watch):
            fetch(Source(IMAGE), target)
        assert failure.value.resumable is kept
        assert isinstance(failure.value, StorageIOError) is not kept
        assert names(target) == LEFT * kept
        source = Source(IMAGE)
        fetch(source, target)
        assert source.asked == [(5 * PART * kept, '"v1"' if kept else None)]
        target.unlink()


def test_a_cancel_keeps_what_was_written(target):
    token = CancelToken()

    class Cancelling(Source):
        def _open(self, key, start, stop, version, call):
            opened = super()._open(key, start, stop, version, call)
            real = opened.raw.readinto
            opened.raw.readinto = lambda view: (self.served > 3 * PART and token.cancel(), real(view))[1]
            return opened

    origin = Origin(
        store=Cancelling(IMAGE), key="disk.img", place="http://host/disk.img", call=Call(cancel=token)
    )
    with pytest.raises(ImgstoreError) as failure:
        download(origin, target, report=Report())
    assert failure.value.resumable
    assert names(target) == LEFT


def journal_of(target, most=6 * PART):
    break_off(target, most)
    with open(f"{target}.part.journal", "rb") as file:
        return file.read()


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.wide), 11])
def test_e4_e5_a_journal_torn_or_changed_at_any_byte_costs_at_most_its_claims(target, monkeypatch, step):
    same_file(monkeypatch)
    whole = journal_of(target)
    half = target.with_name(LEFT[0]).read_bytes()
    for at in range(0, len(whole), step):
        claims = len(re.findall(rb" \[\d+,\d+\]\n", whole[:at]))
        assert gone_on(target, whole[:at], half) == N - PART * claims, at
        fetched = gone_on(target, whole[:at] + bytes([whole[at] ^ 8]) + whole[at + 1 :], half)
        assert fetched <= N - 4 * PART or at <= whole.index(b"\n"), at


def same_file(monkeypatch):
    """What a journal knows its half image by, the inode, is another when that is laid anew."""
    real = journal.opened

    def opened(file, identity, *, data, **options):
        return real(file, identity, data=SimpleNamespace(st_ino=1, st_size=data.st_size), **options)

    monkeypatch.setattr(journal, "opened", opened)


def gone_on(target, damaged, half):
    """Goes on with that journal; gives the bytes that were fetched."""
    lay(target, damaged, half)
    source = Source(IMAGE)
    fetch(source, target)
    assert target.read_bytes() == IMAGE
    assert names(target) == ["disk.img"]
    target.unlink()
    return source.served


def lay(target, record, half):
    """Puts a half image and its journal there."""
    for name, data in zip(LEFT, (half, record), strict=True):
        path = target.with_name(name)
        path.write_bytes(data)
        path.chmod(0o600)


def kills(target, count, rng):
    """Downloads with `count` kills at random moments, each run getting further; counts what was received."""
    received = mmap.mmap(-1, 8)
    held = 0
    for _ in range(count):
        after = rng.randrange(PART, 2 * PART)
        pid = os.fork()
        if not pid:
            die_after(target, after, received)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        before, held = held, held_in(target)
        assert held > before
    return struct.unpack("q", received[:8])[0]


def die_after(target, after, received):
    """In a child: downloads, and is killed in the receive behind `after` bytes."""

    class Deadly(Source):
        def _open(self, key, start, stop, version, call):
            opened = super()._open(key, start, stop, version, call)
            real = opened.raw.readinto

            def readinto(view):
                if self.served >= after:
                    os.kill(os.getpid(), signal.SIGKILL)
                count = real(view)
                received[:8] = struct.pack("q", struct.unpack("q", received[:8])[0] + count)
                return count

            opened.raw.readinto = readinto
            return opened

    fetch(Deadly(LARGE), target)
    os._exit(0)


def held_in(target):
    """Gives the bytes that the journal claims."""
    try:
        with open(f"{target}.part.journal", "rb") as file:
            found = journal.read(file.fileno())
    except FileNotFoundError:
        return 0
    return 0 if found is None else sum(1 for _ in found[1].held()) * PART


LARGE = random.Random(8).randbytes(80 * PART + 17)


def test_e2_e3_fifty_kills_in_one_download(target, promise):
    received = kills(target, 50, random.Random(3))
    assert names(target) == LEFT
    source = Source(LARGE)
    fetch(source, target)
    total = received + source.served
    assert target.read_bytes() == LARGE
    assert names(target) == ["disk.img"]
    assert total > len(LARGE), "no kill came in the midst of a part"
    promise(
        "P6",
        "bytes received beyond the image for each of 50 kills, of those in flight",
        (total - len(LARGE)) / 50 / (PART + PIECE),
        1,
    )


def test_holes_stay_holes_also_after_a_resume(target, tmp_path):
    data = IMAGE[:PART] + bytes(1 << 20) + IMAGE[PART : 3 * PART]
    (tmp_path / "images").mkdir()
    with FilesystemStore(data_dir=tmp_path / "images", thin=True) as store:
        store.writer.put("disk.img", io.BytesIO(data))
        origin = Origin(store=store, key="disk.img")
        real = store._open

        def broken(key, start, stop, version, call):
            if start > PART:
                raise ConnectionLostError("the connection is gone")
            return real(key, start, stop, version, call)

        store._open = broken
        with pytest.raises(ConnectionLostError):
            download(origin, tmp_path / "disk.img", report=Report())
        store._open = real
        report = Report()
        download(origin, tmp_path / "disk.img", report=report, digest=True)
    assert report.held >= PART + (1 << 20) - PART
    assert target.read_bytes() == data
    assert target.stat().st_blocks * 512 < 8 * PART
    assert report.digests == {"sha256": hashlib.sha256(data).hexdigest()}
