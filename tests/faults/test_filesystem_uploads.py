"""Uploads of the filesystem driver, killed, torn and raced."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import re
import signal
import threading
import time

import pytest

from imgstore import records
from imgstore.backends.filesystem import FilesystemStore, upload_folder, upload_log, uploads
from imgstore.errors import (
    AlreadyExistsError,
    ConflictError,
    DeadlineExceededError,
    DigestMismatchError,
    NoSpaceError,
    OperationCancelledError,
    SourceChangedError,
    StorageIOError,
    UploadLostError,
)
from imgstore.model import Call, CancelToken, Part

PART = 5000
DATA = bytes(range(251)) * 60
assert len(DATA) == 3 * PART + 60


@pytest.fixture
def store(tmp_path):
    return FilesystemStore(data_dir=tmp_path)


def put(store, token, numbers=(0, 1, 2, 3), data=DATA):
    return [
        store.uploader.put_part(token, n, n * PART, memoryview(data)[n * PART : (n + 1) * PART])
        for n in numbers
    ]


def begun(store, key="a/image", **options):
    token = store.uploader.begin(key, len(DATA), **options)
    return token, put(store, token)


def read(store, key="a/image"):
    with store.get(key) as stream:
        return stream.read()


def folder(tmp_path, token):
    return tmp_path / ".imgstore" / "uploads" / token


def images(store):
    return [each.key for each in store.lister.list()]


def pending(store):
    return [each.token for each in store.uploader.uploads()]


def test_a_token_is_never_a_path(store, tmp_path):
    token, parts = begun(store)
    assert re.fullmatch("[0-9a-f]{32}", token)
    for wrong in ("", ".", "..", "../uploads/" + token, token.upper(), token + "/", token + "\n", "0" * 32):
        for act in (
            lambda wrong=wrong: store.uploader.put_part(wrong, 0, 0, memoryview(b"x")),
            lambda wrong=wrong: store.uploader.parts(wrong),
            lambda wrong=wrong: store.uploader.complete(wrong, parts),
        ):
            with pytest.raises(UploadLostError):
                act()
        store.uploader.abort(wrong)
    assert store.uploader.parts(token) == parts


def test_a_completed_upload_leaves_its_answer_and_no_more(store, tmp_path):
    token, parts = begun(store)
    assert images(store) == []
    info = store.uploader.complete(token, parts)
    assert info == store.stat("a/image")
    assert os.listdir(folder(tmp_path, token)) == ["log"]
    assert pending(store) == []
    for act in (
        lambda: store.uploader.parts(token),
        lambda: store.uploader.put_part(token, 0, 0, memoryview(b"x")),
    ):
        with pytest.raises(UploadLostError):
            act()
    store.uploader.abort(token)
    with FilesystemStore(data_dir=tmp_path) as second:
        assert second.uploader.complete(token, parts) == info
    store.writer.delete("a/image")
    assert store.uploader.complete(token, parts) == info


def test_an_aborted_upload_leaves_nothing(store, tmp_path):
    token, _ = begun(store)
    store.uploader.abort(token)
    store.uploader.abort(token)
    assert os.listdir(tmp_path / ".imgstore" / "uploads") == []
    assert pending(store) == []


@pytest.mark.parametrize("thin", [False, True])
def test_parts_that_overlap_replace_each_other(tmp_path, thin):
    store = FilesystemStore(data_dir=tmp_path, thin=thin)
    token = store.uploader.begin("a", None)
    old = put(store, token, data=b"\xff" * len(DATA))
    new = store.uploader.put_part(token, 7, PART - 1, memoryview(bytes(PART)))
    assert store.uploader.parts(token) == [old[2], old[3], new]
    with pytest.raises(UploadLostError, match="does not hold part 0 as given"):
        store.uploader.complete(token, old)
    first = store.uploader.put_part(token, 0, 0, memoryview(DATA)[: PART - 1])
    last = store.uploader.put_part(token, 1, 2 * PART - 1, memoryview(DATA)[:1])
    store.uploader.complete(token, [first, new, last, old[2], old[3]])
    wanted = DATA[: PART - 1] + bytes(PART) + DATA[:1] + b"\xff" * (len(DATA) - 2 * PART)
    assert read(store, "a") == wanted


def test_a_part_that_moves_leaves_no_tail(store):
    token = store.uploader.begin("a", None)
    store.uploader.put_part(token, 0, 0, memoryview(b"x" * 900))
    store.uploader.put_part(token, 1, 900, memoryview(b"y" * 900))
    part = store.uploader.put_part(token, 0, 0, memoryview(b"z" * 100))
    info = store.uploader.complete(token, [part])
    assert info.size == 100
    assert read(store, "a") == b"z" * 100


def test_zeros_of_parts_become_holes_where_that_is_wanted(tmp_path):
    for thin in (False, True):
        store = FilesystemStore(data_dir=tmp_path, thin=thin)
        key = f"thin-{thin}"
        token = store.uploader.begin(key, None)
        parts = [store.uploader.put_part(token, n, n << 20, memoryview(bytes(1 << 20))) for n in range(4)]
        store.uploader.complete(token, parts)
        assert read(store, key) == bytes(4 << 20)
        assert (os.stat(tmp_path / key).st_blocks == 0) is thin


def test_digests_and_sizes_are_proven(store):
    wrong = hashlib.sha256(DATA[1:]).hexdigest()
    token, parts = begun(store, digests={"sha256": wrong})
    for _ in range(2):
        with pytest.raises(DigestMismatchError, match="another sha256 digest"):
            store.uploader.complete(token, parts)
    with pytest.raises(SourceChangedError, match=f"hold {2 * PART} bytes where {len(DATA)} were promised"):
        store.uploader.complete(token, parts[:2])
    with pytest.raises(ValueError, match="part 2 begins at 10000, not at 5000"):
        store.uploader.complete(token, [parts[0], parts[2]])
    with pytest.raises(ValueError, match="lies outside the image of"):
        store.uploader.put_part(token, 4, len(DATA) - 1, memoryview(b"xy"))
    assert images(store) == []
    with pytest.raises(ValueError, match="unsupported hash"):
        store.uploader.begin("b", 5, digests={"sha-nothing": "00"})


def test_another_writer_who_was_first_is_not_replaced(store):
    token, parts = begun(store)
    with FilesystemStore(data_dir=store._directories.ordered[0].path) as other:
        other.uploader.complete(*begun(other))
        version = other.stat("a/image").version
    with pytest.raises(ConflictError, match="another writer published the image first"):
        store.uploader.complete(token, parts)
    assert store.stat("a/image").version == version
    with pytest.raises(AlreadyExistsError):
        store.uploader.begin("a/image", 5)
    assert pending(store) == [token]


@pytest.mark.parametrize("at", ["torn", "flipped", "garbage", "nothing"])
def test_a_record_that_is_not_whole_was_never_made(store, tmp_path, at):
    token, parts = begun(store)
    log = folder(tmp_path, token) / "log"
    whole = log.read_bytes()
    last = whole.rindex(b"\n", 0, len(whole) - 1) + 1
    for cut in range(last, len(whole)) if at == "torn" else (last,):
        tail = {
            "torn": whole[last:cut],
            "flipped": whole[last : last + 20] + bytes([whole[last + 20] ^ 1]) + whole[last + 21 :],
            "garbage": b"\0" * 512,
            "nothing": b"",
        }[at]
        log.write_bytes(whole[:last] + tail)
        assert store.uploader.parts(token) == parts[:3]
    parts[3:] = put(store, token, (3,))
    assert store.uploader.parts(token) == parts
    store.uploader.complete(token, parts)
    assert read(store) == DATA


def test_an_upload_that_never_quite_began_is_none(store, tmp_path):
    token, parts = begun(store)
    log = folder(tmp_path, token) / "log"
    for text in (b"", log.read_bytes()[:20], log.read_bytes().partition(b"\n")[2]):
        log.write_bytes(text)
        assert pending(store) == []
        with pytest.raises(UploadLostError):
            store.uploader.complete(token, parts)


def test_old_answers_and_remains_are_removed_and_nothing_else(store, tmp_path):
    done, parts = begun(store, "done")
    store.uploader.complete(done, parts)
    young, parts = begun(store, "young")
    store.uploader.complete(young, parts)
    half, _ = begun(store, "half")
    (folder(tmp_path, half) / "log").write_bytes(b"")
    bare, _ = begun(store, "bare")
    os.unlink(folder(tmp_path, bare) / "log")
    live, _ = begun(store, "live")
    foreign = tmp_path / ".imgstore" / "uploads" / "notes"
    foreign.mkdir()
    long_ago = time.time() - 8 * 86400
    for token in (done, half, bare, live, "notes"):
        os.utime(folder(tmp_path, token), (long_ago, long_ago))
    store.uploader.begin("new", 5)
    left = set(os.listdir(tmp_path / ".imgstore" / "uploads"))
    assert {young, live, "notes"} <= left
    assert not {done, half, bare} & left
    assert set(images(store)) == {"done", "young"}


def aged(store, tmp_path, count):
    """Answers that were given long ago."""
    done = [begun(store, f"old-{number}") for number in range(count)]
    for token, parts in done:
        store.uploader.complete(token, parts)
        os.utime(folder(tmp_path, token), (0, 0))


def test_two_begins_that_remove_the_same_answers_both_begin(store, tmp_path, monkeypatch, caplog):
    aged(store, tmp_path, 3)
    real = upload_folder.forget

    def late(place, token):
        real(place, token)  # as another does in this moment
        real(place, token)

    monkeypatch.setattr(upload_folder, "forget", late)
    token = store.uploader.begin("new", 5)
    assert os.listdir(tmp_path / ".imgstore" / "uploads") == [token]
    assert caplog.records == []


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("file_mode, replaced, wanted", [
    ("0604", None, 0o604), (None, None, 0o640), (None, 0o606, 0o606), ("0604", 0o606, 0o604),
])  # fmt: skip
def test_an_upload_is_its_owner_s_alone_until_it_is_published(tmp_path, file_mode, replaced, wanted):
    store = FilesystemStore(data_dir=tmp_path, file_mode=file_mode)
    if replaced is not None:
        (tmp_path / "image").write_bytes(b"old")
        (tmp_path / "image").chmod(replaced)
    token, parts = begun(store, "image", overwrite=True)
    at = folder(tmp_path, token)
    assert [each.stat().st_mode & 0o777 for each in (at, at / "data", at / "log")] == [0o700, 0o600, 0o600]
    store.uploader.complete(token, parts)
    assert (tmp_path / "image").stat().st_mode & 0o777 == wanted


@pytest.mark.parametrize("step", ["listdir", "unlink"])
def test_what_cannot_be_tidied_hinders_no_upload(store, tmp_path, monkeypatch, caplog, step):
    aged(store, tmp_path, 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, step, failing(errno.EIO))
        tokens = [store.uploader.begin(f"new-{number}", 5) for number in range(2)]
    assert set(pending(store)) == set(tokens)
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    assert "can be neither told nor removed" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("readable", [False, True])
def test_an_upload_of_another_user_hinders_nobody(store, tmp_path, readable):
    aged(store, tmp_path, 1)
    token, _ = begun(store, "theirs")
    for each in (tmp_path, tmp_path / ".imgstore", tmp_path / ".imgstore" / "uploads"):
        each.chmod(0o777)
    for each in tmp_path.parents:
        if "pytest-" in str(each):
            each.chmod(0o755)
    folder(tmp_path, token).chmod(0o755 if readable else 0o700)
    (folder(tmp_path, token) / "log").chmod(0o644)
    child = os.fork()
    if not child:
        try:
            os.setgid(65534)
            os.setuid(65534)
            mine = store.uploader.begin("mine", 5)
            assert set(pending(store)) == ({mine, token} if readable else {mine})
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


STEPS = (
    "ftruncate", "fchmod", "fsync", "fdatasync", "pwrite", "mkdir", "open", "link", "rename", "unlink",
    "close", "rmdir",
)  # fmt: skip


def killed(store, token, parts, at):
    """Completes in a process that is killed before its step number `at`; tells whether it came to that."""
    child = os.fork()
    if not child:
        count = itertools.count(1)

        def watched(real):
            def call(*arguments, **options):
                if next(count) == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **options)

            return call

        for name in STEPS:
            setattr(os, name, watched(getattr(os, name)))
        try:
            store.uploader.complete(token, parts)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.wide  # tests/faults/test_crash_kills.py kills an upload, too, at each call of the kernel
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_complete_killed_at_any_step_is_asked_again(tmp_path, overwrite):
    """Killed before each step in turn: the image is whole or not there, and asking again makes it whole."""
    old = b"old"
    for at in itertools.count(1):
        place = tmp_path / str(at)
        place.mkdir()
        store = FilesystemStore(data_dir=place)
        if overwrite:
            token = store.uploader.begin("a/image", len(old))
            part = store.uploader.put_part(token, 0, 0, memoryview(old))
            store.uploader.complete(token, [part])
        token, parts = begun(store, overwrite=overwrite)
        if not killed(store, token, parts, at):
            break
        found = images(store)
        assert found == ["a/image"] or (found == [] and not overwrite)
        assert not found or read(store) in ((DATA, old) if overwrite else (DATA,))
        info = store.uploader.complete(token, parts)
        assert store.uploader.complete(token, parts) == info
        assert info == store.stat("a/image")
        assert read(store) == DATA
        assert os.listdir(folder(place, token)) == ["log"]
        assert os.stat(place / "a" / "image").st_nlink == 1
        assert pending(store) == []
    assert at > 25
    assert read(store) == DATA


@pytest.mark.parametrize("step", ["ftruncate", "fchmod", "fsync", "link"])
def test_a_part_that_complete_cuts_off_is_held_no_more(store, monkeypatch, step):
    """Whatever ends a complete that left parts out: bytes that are gone are never taken for a part."""
    token = store.uploader.begin("a/image", None)
    parts = put(store, token)
    with monkeypatch.context() as patch, pytest.raises(StorageIOError):
        patch.setattr(os, step, failing(errno.EIO))
        store.uploader.complete(token, parts[:2])
    held = store.uploader.parts(token)
    assert held == ([] if step == "fsync" else parts[:2])
    missing = [number for number in range(4) if parts[number] not in held]
    store.uploader.complete(token, [*held, *put(store, token, missing)])
    assert read(store) == DATA


def test_a_part_that_comes_late_never_changes_the_image(store, monkeypatch):
    """Stopped when the file had its name already, and still that of the upload."""
    token, parts = begun(store)
    with monkeypatch.context() as patch, pytest.raises(StorageIOError):
        patch.setattr(os, "unlink", failing(errno.EIO))
        store.uploader.complete(token, parts)
    assert read(store) == DATA
    with pytest.raises(UploadLostError):
        store.uploader.put_part(token, 0, 0, memoryview(b"x" * PART))
    assert read(store) == DATA
    assert store.uploader.complete(token, parts) == store.stat("a/image")


def test_an_upload_is_durable_before_its_token_is_given(store, tmp_path, monkeypatch):
    real, synced = os.fsync, []

    def fsync(descriptor):
        synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    token = store.uploader.begin("a", 5)
    assert synced == [".", ".imgstore", ".imgstore/uploads", f".imgstore/uploads/{token}"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_image_is_durable_before_the_answer_is_noted(store, monkeypatch, overwrite):
    token, parts = begun(store, overwrite=overwrite)
    order = []

    def note(name):
        real = getattr(os, name)

        def call(what, *rest, **options):
            told = what if isinstance(what, str) else os.readlink(f"/proc/self/fd/{what}")
            order.append((name, os.path.basename(told)))
            return real(what, *rest, **options)

        return call

    for name in ("fsync", "fdatasync", "link", "rename", "unlink"):
        monkeypatch.setattr(os, name, note(name))
    store.uploader.complete(token, parts)
    named = order.index(("rename" if overwrite else "link", "data"))
    assert [each for each in order[:named] if each[1] in {"data", "log"}] == [
        ("fsync", "data"),
        ("fdatasync", "log"),
    ]
    assert order[named + 1 :] == [("fsync", "a"), ("unlink", "data"), ("fdatasync", "log")]


def test_an_upload_that_cannot_begin_leaves_nothing(store, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fdatasync", failing(errno.ENOSPC))
    with pytest.raises(NoSpaceError):
        store.uploader.begin("a", 5)
    assert os.listdir(tmp_path) == []


def failing(code):
    def fail(*arguments, **options):
        raise OSError(code, os.strerror(code))

    return fail


def test_a_part_is_on_the_disk_before_its_record(store, tmp_path, monkeypatch):
    token = store.uploader.begin("a", None)
    order = []

    def note(name):
        real = getattr(os, name)

        def call(descriptor, *rest):
            order.append((name, os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))))
            return real(descriptor, *rest)

        return call

    for name in ("pwrite", "fdatasync"):
        monkeypatch.setattr(os, name, note(name))
    store.uploader.put_part(token, 0, 0, memoryview(DATA))
    data, log = [("pwrite", "data"), ("fdatasync", "data")], [("pwrite", "log"), ("fdatasync", "log")]
    assert order == data + log
    order.clear()
    store.uploader.put_part(token, 0, 0, memoryview(DATA))
    assert order == log + data + log


@pytest.mark.parametrize("step", ["pwrite", "fdatasync", "close"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_part_that_fails_is_not_held_and_can_be_put_again(store, monkeypatch, step, code):
    token, parts = begun(store)
    real = getattr(os, step)
    for turn in range(1, 30):
        seen = []

        def fail(descriptor, *rest, turn=turn, seen=seen):
            told = os.readlink(f"/proc/self/fd/{descriptor}") if step == "close" else ""
            if step == "close":
                if not told.endswith("/data"):
                    return real(descriptor)
                real(descriptor)
            seen.append(1)
            if len(seen) == turn:
                raise OSError(code, os.strerror(code))
            return None if step == "close" else real(descriptor, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            try:
                (part,) = put(store, token, (1,))
                break
            except (StorageIOError, NoSpaceError) as exc:
                error = exc
        assert error.errno == code
        # what could not be proven is not held, and neither is what it was to replace, once that was touched
        held = store.uploader.parts(token)
        assert held in ([parts[0], *parts[2:]], parts)
        parts[1:2] = put(store, token, (1,))
        assert store.uploader.parts(token) == parts
    assert turn > 1
    parts[1] = part
    store.uploader.complete(token, parts)
    assert read(store) == DATA


def test_a_failed_sync_of_the_whole_drops_every_part(store, monkeypatch):
    token, parts = begun(store)

    def fail(descriptor):
        raise OSError(errno.EIO, "lost")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StorageIOError):
            store.uploader.complete(token, parts)
    assert images(store) == []
    assert store.uploader.parts(token) == []
    store.uploader.complete(token, put(store, token))
    assert read(store) == DATA


def test_a_short_write_goes_on(store, monkeypatch):
    real = os.pwrite

    def short(descriptor, data, offset):
        log = os.readlink(f"/proc/self/fd/{descriptor}").endswith("log")
        return real(descriptor, data if log else data[:777], offset)

    monkeypatch.setattr(os, "pwrite", short)
    token, parts = begun(store)
    store.uploader.complete(token, parts)
    assert read(store) == DATA


def test_a_write_that_takes_nothing_ends(store, monkeypatch):
    token = store.uploader.begin("a", None)
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: 0)
    with pytest.raises(StorageIOError, match="takes no byte"):
        store.uploader.put_part(token, 0, 0, memoryview(b"x"))


def test_a_torn_record_is_taken_back(store, tmp_path, monkeypatch):
    token, parts = begun(store)
    size = os.stat(folder(tmp_path, token) / "log").st_size
    real = os.pwrite

    def torn(descriptor, data, offset):
        log = os.readlink(f"/proc/self/fd/{descriptor}").endswith("log")
        return real(descriptor, data[: max(0, size + 10 - offset)] if log else data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", torn)
        with pytest.raises(StorageIOError, match="only a part of a record"):
            store.uploader.put_part(token, 9, len(DATA) - 1, memoryview(b"x"))
    assert os.stat(folder(tmp_path, token) / "log").st_size == size
    assert store.uploader.parts(token) == parts


def test_parts_of_many_threads_and_stores_do_not_tear(tmp_path):
    stores = [FilesystemStore(data_dir=tmp_path) for _ in range(3)]
    token = stores[0].uploader.begin("a", None)
    size, count = 3000, 24
    image = [bytes([number]) * size for number in range(count)]
    failures = []

    def work(store, numbers):
        try:
            for number in numbers:
                store.uploader.put_part(token, number, number * size, memoryview(image[number]))
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(stores[n % 3], range(n // 2, count, 3))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    parts = stores[1].uploader.parts(token)
    assert [part.number for part in parts] == list(range(count))
    answers = []
    threads = [
        threading.Thread(target=lambda s=s: answers.append(s.uploader.complete(token, parts))) for s in stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(repr, answers))) == 1
    assert len(answers) == 3
    assert read(stores[0], "a") == b"".join(image)


def test_a_busy_upload_is_waited_for_no_longer_than_the_call_may_take(store, tmp_path):
    token, parts = begun(store)
    with upload_folder.opened(store._directories, token, upload_log.Replays(), store.clock, Call()):
        cancel = CancelToken()
        timer = threading.Timer(0.05, cancel.cancel)
        timer.start()
        with pytest.raises(OperationCancelledError):
            store.uploader.complete(token, parts, call=Call(cancel=cancel))
        timer.join()
        assert store.uploader.parts(token) == parts
        assert pending(store) == [token]


def forked_and_staying():
    """A process that has whatever is open now, and stays."""
    child = os.fork()
    if not child:
        signal.pause()
    return child


def test_a_fork_keeps_no_upload_locked(store, monkeypatch):
    token, parts = begun(store)
    real, children = os.fdatasync, []

    def forking(descriptor):
        if not children:
            children.append(forked_and_staying())
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", forking)
    try:
        parts[:1] = put(store, token, (0,))
        assert store.uploader.complete(token, parts, call=Call().within(5)).size == len(DATA)
    finally:
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def test_a_fork_that_ends_leaves_the_lock_to_its_parent(store):
    token, parts = begun(store)
    child = -1
    try:
        with upload_folder.opened(store._directories, token, upload_log.Replays(), store.clock, Call()):
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                with pytest.raises(DeadlineExceededError):
                    store.uploader.complete(token, parts, call=Call().within(0.05))
    finally:
        if not child:
            os._exit(0)


def test_an_upload_aborted_by_another_while_it_is_waited_for_is_lost(store):
    token, _ = begun(store)
    with upload_folder.opened(store._directories, token, upload_log.Replays(), store.clock, Call()) as upload:
        lost = []

        def late():
            try:
                put(store, token, (0,))
            except UploadLostError as exc:
                lost.append(exc)

        thread = threading.Thread(target=late)
        thread.start()
        time.sleep(0.05)
        upload.drop()
    thread.join()
    assert len(lost) == 1


@pytest.mark.parametrize("step", ["pwrite", "pread"])
def test_cancellation_during_a_part_and_during_the_proof(store, monkeypatch, step):
    monkeypatch.setattr(upload_folder, "_STEP", 1000)
    monkeypatch.setattr(uploads, "RECEIVE", 1000)
    token, parts = begun(store, digests={"sha256": hashlib.sha256(DATA).hexdigest()})
    call, real = Call(cancel=CancelToken()), getattr(os, step)

    def once(*arguments):
        result = real(*arguments)
        if os.readlink(f"/proc/self/fd/{arguments[0]}").endswith("data"):
            call.cancel.cancel()
        return result

    with monkeypatch.context() as patch:
        patch.setattr(os, step, once)
        with pytest.raises(OperationCancelledError):
            if step == "pwrite":
                store.uploader.put_part(token, 0, 0, memoryview(DATA)[:PART], call=call)
            else:
                store.uploader.complete(token, parts, call=call)
    store.uploader.complete(token, put(store, token))
    assert read(store) == DATA


GOLDEN = (
    b'0935cb1d {"begun":["k",5,{"md5":"00"},true,1.5]}\n'
    b'7b7cfc5e {"part":[0,0,3,"aa"]}\n'
    b'9251de92 {"part":[1,3,2,"bb"]}\n'
    b'bf4dc948 {"dropped":[0]}\n'
    b'83610af1 {"published":[7,5,11]}\n'
    b'bd40741a {"done":{"key":"k","size":5,"version":"v","modified":2.5,"digests":{"md5":"00"}}}\n'
)


def test_a_log_of_today_is_read_tomorrow(tmp_path):
    """Uploads outlive an upgrade: this is how the first release wrote it."""
    (tmp_path / "log").write_bytes(GOLDEN)
    log = os.open(tmp_path / "log", os.O_RDWR)
    try:
        state = upload_log.replay(log)
        assert (state.key, state.size, state.digests, state.overwrite, state.started) == (
            "k", 5, {"md5": "00"}, True, 1.5,
        )  # fmt: skip
        assert state.parts == {1: Part(1, 3, 2, "bb")}
        assert state.published == [7, 5, 11]
        assert state.done == {
            "key": "k",
            "size": 5,
            "version": "v",
            "modified": 2.5,
            "digests": {"md5": "00"},
        }
        records.append(log, upload_log.held(Part(0, 0, 3, "aa")))
    finally:
        os.close(log)
    assert (tmp_path / "log").read_bytes() == GOLDEN + GOLDEN.splitlines(keepends=True)[1]


def test_of_a_log_that_is_known_only_the_new_records_are_read(tmp_path, monkeypatch):
    stores = [FilesystemStore(data_dir=tmp_path) for _ in range(2)]
    token = stores[0].uploader.begin("a/image", len(DATA))
    log, read_, real = folder(tmp_path, token) / "log", [], upload_log._records

    def counting(lines):
        read_.append(len(lines))
        return real(lines)

    monkeypatch.setattr(upload_log, "_records", counting)
    for number in range(4):
        put(stores[0], token, (number,))
    assert read_ == [1, 1, 1, 1]
    put(stores[1], token, (0, 0))  # drops and holds anew, each time
    assert read_[4:] == [5, 2]
    with open(log, "ab") as file:
        file.write(b"torn")
    put(stores[0], token, (1,))
    put(stores[0], token, (2,))
    assert read_[6:] == [5, 3]
    stores[0].uploader.complete(token, stores[0].uploader.parts(token))
    assert read(stores[0]) == DATA


def test_a_log_that_was_changed_is_read_from_its_beginning(store, tmp_path):
    token, parts = begun(store)
    log = folder(tmp_path, token) / "log"
    put(store, token, (0,))  # from here on all but the record of this one is known
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:3]))
    with pytest.raises(UploadLostError, match="does not hold part 2 as given"):
        store.uploader.complete(token, parts)
    assert store.uploader.parts(token) == parts[:2]


def test_the_logs_that_are_known_are_few(store, monkeypatch):
    monkeypatch.setattr(upload_log, "_KEPT", 2)
    begun_ones = [begun(store, f"image-{number}") for number in range(4)]
    assert len(store.uploader._replays._kept) == 2
    for number, (token, parts) in enumerate(begun_ones):
        store.uploader.complete(token, parts)
        assert read(store, f"image-{number}") == DATA
