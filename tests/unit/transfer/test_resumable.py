"""Uploads that are ended and gone on with: what is sent again, what is never mixed, what is left behind."""

from __future__ import annotations

import hashlib
import io
import os
import random
import threading
import zlib
from concurrent.futures import wait
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgstore.backends.memory import MemoryStore
from imgstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    ConflictError,
    DigestMismatchError,
    NoSpaceError,
    NotFoundError,
    OperationCancelledError,
    RetriesExhaustedError,
    SourceChangedError,
    StorageIOError,
    TruncatedError,
    UnavailableError,
    UnsupportedError,
    UploadLostError,
    VersionChangedError,
)
from imgstore.journal import Identity
from imgstore.model import NO_CALL, Call, CancelToken, ObjectInfo
from imgstore.stack import LayerSettings, build
from imgstore.store import UploadLimits
from imgstore.transfer import parts as cutting
from imgstore.transfer import resumable
from imgstore.transfer.notes import Notes, Sent
from imgstore.transfer.parts import PART, Flight, part_size
from imgstore.transfer.progress import Report
from imgstore.transfer.resumable import Image, ResumableUpload, abandon, can_resume
from imgstore.transfer.sparse import LEAST_HOLE, open_source

SIZE = 1000
COUNT = 7
IMAGE = random.Random(8).randbytes(SIZE * (COUNT - 1) + 17)
SHA256 = hashlib.sha256(IMAGE).hexdigest()
SIZES = [SIZE] * (COUNT - 1) + [17]


class KilledError(BaseException):
    """The process is gone."""


class Uploader:
    """What passes each call on, and is told before and after it."""

    def __init__(self, inner, step):
        self._inner, self._step, self.limits = inner, step, inner.limits
        self.sent = []

    def __getattr__(self, name):
        def call(*args, **options):
            self._step(f"before {name}")
            if name == "put_part":
                self.sent.append(args[1])
            result = getattr(self._inner, name)(*args, **options)
            self._step(f"after {name}")
            return result

        return call


class Rig:
    """A source and a store in memory, and runs of one copy between them."""

    def __init__(self, folder, **options):
        self.source, self.store = MemoryStore(), MemoryStore(**options)
        self.store.extents = None  # as with services: else an image with holes is put in one go
        self.source.writer.put("disk", io.BytesIO(IMAGE))
        self.notes = Notes(str(folder))
        self.folder, self.steps, self.said = folder, [], []
        self.fault = lambda step: None
        self.real, self.store.uploader = self.store.uploader, Uploader(self.store.uploader, self._step)
        self.report = Report()

    def _step(self, step):
        self.steps.append(step)
        self.fault(step)

    @property
    def sent(self):
        return self.store.uploader.sent

    def run(self, *, digest=False, read_back=False, call=NO_CALL, place="there", pin=None, **options):
        self.report, self.steps = Report(), []
        with (
            closing(open_source(self.source, "disk", call=call)) as stream,
            self.notes.opened("to", "from") as note,
        ):
            image = Image(self.source, stream, call)
            identity = Identity(place, image.size, image.info.version, pin)
            upload = ResumableUpload(
                image,
                self.store,
                "copy",
                note,
                identity=identity,
                report=self.report,
                tell=self.said.append,
                **options,
            )
            return upload.run(digest=digest, read_back=read_back)

    def fails(self, at, error, *, times=1):
        """Has the step of that name, or the n-th of all, raise."""
        left = [times]

        def fault(step):
            if (step == at or len(self.steps) == at) and left[0]:
                left[0] -= 1
                raise error

        self.fault = fault

    def mends(self):
        self.fault = lambda step: None

    def is_clean(self, image=IMAGE):
        """Whether there is the image, and nothing else of the upload anywhere."""
        with self.store.get("copy") as stream:
            assert stream.read() == image
        return list(self.real.uploads()) == [] and self.left() == []

    def left(self):
        return os.listdir(self.folder) if os.path.isdir(self.folder) else []


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(cutting, "PART", SIZE)
    monkeypatch.setattr(resumable, "LEAST", SIZE)


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path / "notes")


def test_an_image_is_stored_in_parts_and_nothing_is_left(rig):
    info = rig.run(digest=True)
    assert (info.key, info.size) == ("copy", len(IMAGE))
    assert rig.sent == list(range(COUNT))
    assert rig.report.bytes == rig.report.total == len(IMAGE)
    assert rig.report.digests == {"sha256": SHA256}
    assert rig.is_clean()
    assert rig.said == []


@pytest.mark.parametrize("digest", [False, True])
@pytest.mark.parametrize("error", [KilledError(), KeyboardInterrupt(), UnavailableError("weather")])
def test_ended_at_any_step_it_goes_on(tmp_path, error, digest):
    """At the n-th call of the store, for each n until a run meets none: at most one part is sent twice."""
    for number in range(1, 99):
        rig = Rig(tmp_path / str(number))
        rig.fails(number, error)
        try:
            rig.run(digest=digest)
        except type(error):
            pass
        else:
            break
        rig.mends()
        rig.run(digest=digest)
        assert len(rig.sent) <= COUNT + 1
        assert rig.report.bytes == len(IMAGE)
        if digest:
            assert rig.report.digests == {"sha256": SHA256}
        with rig.store.get("copy") as stream:
            assert stream.read() == IMAGE
        assert rig.left() == []
        pending = len(list(rig.real.uploads()))
        assert pending == (rig.steps[0] == "before begin" and number == 2), "only a begin is lost"
    assert number == 2 * (COUNT + 2) + 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_ended_again_and_again_each_run_makes_progress(rig, moment):
    """Of a part that was stored as its process ended there is no receipt: that one is sent twice."""
    kills, puts = 0, []

    def second_part(step):
        puts.extend([step] * (step == f"{moment} put_part"))
        if len(puts) == 2:
            raise KilledError

    rig.fault = second_part
    while True:
        puts.clear()
        try:
            rig.run()
        except KilledError:
            kills += 1
        else:
            break
        assert kills < COUNT
    assert set(rig.sent) == set(range(COUNT))
    assert len(rig.sent) == COUNT + (kills if moment == "after" else 0)
    assert rig.is_clean()


def test_what_is_held_is_not_read_either(rig, monkeypatch):
    rig.fails("before complete", KilledError())
    with pytest.raises(KilledError):
        rig.run()
    rig.mends()
    monkeypatch.setattr(rig.source, "_open", lambda *_: pytest.fail("it is read"))
    rig.run()
    assert rig.said[-1] == f"the upload goes on: {len(IMAGE)} of {len(IMAGE)} bytes are stored"
    assert rig.is_clean()


def test_only_the_gaps_are_sent(rig):
    rig.fails(5, KilledError())
    with pytest.raises(KilledError):
        rig.run()
    (upload,) = rig.real.uploads()
    part = rig.real.put_part(upload.token, 4, 4 * SIZE, memoryview(IMAGE)[4 * SIZE : 5 * SIZE])
    with rig.notes.opened("to", "from") as note:
        note.add(Sent(part, zlib.crc32(IMAGE[4 * SIZE : 5 * SIZE])))
    rig.real.put_part(upload.token, 5, 5 * SIZE, memoryview(IMAGE)[5 * SIZE : 5 * SIZE + 3])  # of another run
    held = {part.number for part in rig.real.parts(upload.token)}
    rig.mends()
    rig.sent.clear()
    rig.run()
    assert rig.sent == [number for number in range(COUNT) if number not in held - {5}]
    assert rig.is_clean()


def test_what_the_store_holds_without_a_receipt_is_sent_again(rig):
    """It may have come damaged: who sent it was told so, and was to send it again."""
    rig.fails("before complete", KilledError())
    with pytest.raises(KilledError):
        rig.run()
    rig.mends()
    (upload,) = rig.real.uploads()
    rig.real.put_part(upload.token, 2, 2 * SIZE, memoryview(bytes(SIZE)))
    rig.sent.clear()
    rig.run()
    assert rig.sent == [2]
    assert rig.is_clean()


@pytest.mark.parametrize("lie", ["another crc", "another part", "no record"])
def test_where_a_digest_is_wanted_what_is_held_is_proven(rig, lie):
    """A part that differs from the source, by whatever mishap of an earlier run, is sent again."""
    rig.fails("before complete", KilledError())
    with pytest.raises(KilledError):
        rig.run()
    rig.mends()
    (upload,) = rig.real.uploads()
    if lie == "another part":
        rig.real.put_part(upload.token, 2, 2 * SIZE, memoryview(bytes(SIZE)))
    else:
        with rig.notes.opened("to", "from") as note:
            begun, sent = note.begun, dict(note.sent)
            note.begin(begun)
            for number, each in sent.items():
                if number != 2:
                    note.add(each)
                elif lie == "another crc":
                    note.add(type(each)(each.part, each.crc ^ 1))
    rig.sent.clear()
    rig.run(digest=True)
    assert rig.sent == [2]
    assert rig.report.digests == {"sha256": SHA256}
    assert rig.is_clean()


@pytest.mark.parametrize("resumed", [False, True])
def test_what_the_source_claims_is_checked_before_anything_is_published(rig, monkeypatch, resumed):
    if resumed:
        rig.fails("before complete", KilledError())
        with pytest.raises(KilledError):
            rig.run()
        rig.mends()
    stat = rig.source._images.find("disk")
    info = ObjectInfo("disk", len(IMAGE), stat.info.version, None, {"sha256": "0" * 64})
    monkeypatch.setattr(type(stat), "info", property(lambda self: info))
    with pytest.raises(DigestMismatchError, match="another sha256 digest than the source names"):
        rig.run()
    monkeypatch.undo()
    assert list(rig.store.lister.list()) == []
    assert list(rig.real.uploads()) == []
    assert rig.left() == []


@pytest.mark.parametrize("resumed", [False, True])
def test_what_is_read_back_is_compared_chunk_for_chunk(rig, monkeypatch, resumed):
    if resumed:
        rig.fails("before complete", KilledError())
        with pytest.raises(KilledError):
            rig.run()
        rig.mends()
    rig.run(read_back=True)
    publish = rig.store._images.publish
    rig.store.writer.delete("copy")

    def twisted(key, data, **options):
        return publish(key, data[:-1] + b"x", **options)

    monkeypatch.setattr(rig.store._images, "publish", twisted)
    with pytest.raises(DigestMismatchError) as raised:
        rig.run(read_back=True)
    assert raised.value.chunks == (0,)
    assert list(rig.store.lister.list()) == []
    assert rig.left() == []


@pytest.mark.parametrize("resumed", [False, True])
def test_a_manifest_is_of_what_was_sent_or_there_is_no_image(rig, monkeypatch, resumed):
    """It is made of what the store gives: who has the digest of what was sent compares the two."""
    if resumed:
        rig.fails("before complete", KilledError())
        with pytest.raises(KilledError):
            rig.run()
        rig.mends()
    bare = rig.store
    publish = bare._images.publish

    def twisted(key, data, **options):
        return publish(key, data[:-1] + b"x" if key == "copy" else data, **options)

    rig.store = build(bare, LayerSettings(store_manifests=True))
    monkeypatch.setattr(bare._images, "publish", twisted)
    with pytest.raises(DigestMismatchError, match="other bytes than were sent"):
        rig.run(digest=True)
    assert list(bare.lister.list()) == []
    monkeypatch.undo()
    rig.run(digest=True)
    assert [info.key for info in bare.lister.list()] == ["copy", "copy.meta4"]


def test_another_source_is_an_error_and_not_a_mixture(rig):
    rig.fails(9, KilledError())
    with pytest.raises(KilledError):
        rig.run()
    rig.mends()
    rig.source.writer.put("disk", io.BytesIO(IMAGE[::-1]), overwrite=True)
    held = len(rig.sent)
    with pytest.raises(SourceChangedError, match=f"of which {held * SIZE} bytes are stored"):
        rig.run()
    assert len(list(rig.real.uploads())) == 1, "it is whoever runs it who gives it up"
    with rig.notes.opened("to", "from") as note:
        abandon(rig.store, note)
        note.forget()
    rig.run()
    assert rig.is_clean(IMAGE[::-1])


def test_by_the_same_manifest_it_is_the_same_source_wherever_it_comes_from(rig):
    rig.fails(9, KilledError())
    with pytest.raises(KilledError):
        rig.run(pin="p")
    rig.mends()
    rig.source.writer.put("disk", io.BytesIO(IMAGE), overwrite=True)  # another version
    rig.run(pin="p", place="elsewhere")
    assert len(rig.sent) <= COUNT + 1
    assert rig.is_clean()


def test_a_source_that_changes_meanwhile_is_given_up(rig):
    """From the stretch that was read to the one that comes behind what is held."""
    rig.fails(9, KilledError())
    with pytest.raises(KilledError):
        rig.run()
    rig.fault = lambda step: (
        step == "after parts" and rig.source.writer.put("disk", io.BytesIO(IMAGE[::-1]), overwrite=True)
    )
    with pytest.raises(VersionChangedError):
        rig.run()
    assert list(rig.real.uploads()) == []
    assert rig.left() == []


def test_an_upload_that_is_gone_begins_anew(rig):
    rig.fails(9, KilledError())
    with pytest.raises(KilledError):
        rig.run()
    rig.mends()
    (upload,) = rig.real.uploads()
    rig.real.abort(upload.token)
    rig.run()
    (said,) = rig.said[1:]
    assert said.startswith("the upload that was under way is gone, and begins anew: there is no such upload")
    assert rig.is_clean()


def test_one_that_is_gone_when_all_was_sent_begins_anew_too(rig):
    rig.fails("before complete", KilledError())
    with pytest.raises(KilledError):
        rig.run()
    rig.mends()
    (upload,) = rig.real.uploads()
    rig.real.abort(upload.token)
    rig.run()
    assert rig.sent == [*range(COUNT), *range(COUNT)]
    assert rig.is_clean()


def test_who_now_overwrites_begins_anew(rig):
    rig.fails(9, KilledError())
    with pytest.raises(KilledError):
        rig.run()
    rig.mends()
    rig.store.writer.put("copy", io.BytesIO(b"old"))
    rig.run(overwrite=True)
    assert rig.is_clean()
    assert rig.said[-1] == "the upload that was under way was not to replace an image, and begins anew"


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("weather"),
        RetriesExhaustedError("weather"),
        NoSpaceError("full"),
        AuthenticationError("expired"),
        KeyboardInterrupt(),
        KilledError(),
    ],
)
def test_what_may_pass_keeps_what_is_stored_and_says_so(rig, error):
    rig.fails(9, error)
    with pytest.raises(type(error)):
        rig.run()
    held = sum(part.size for part in rig.real.parts(next(rig.real.uploads()).token))
    assert rig.said[0].endswith("and the same command goes on from there")
    assert held >= int(rig.said[0].split()[0]) >= held - SIZE
    rig.mends()
    rig.run()
    assert rig.is_clean()


@pytest.mark.parametrize("error", [StorageIOError("bad"), ZeroDivisionError(), DigestMismatchError("bad")])
@pytest.mark.parametrize("step", ["before put_part", "before complete"])
def test_what_does_not_pass_leaves_nothing(rig, error, step):
    rig.fails(step, error)
    with pytest.raises(type(error)):
        rig.run()
    assert list(rig.real.uploads()) == []
    assert rig.left() == []
    assert rig.said == []


def test_what_cannot_be_dropped_is_left_to_reap(rig):
    def fault(step):
        if step == "before put_part":
            raise StorageIOError("bad")
        if step == "before abort":
            raise UnavailableError("weather")

    rig.fault = fault
    with pytest.raises(StorageIOError):
        rig.run()
    assert rig.said == ["what is stored of the upload is left, and imgstore reap removes it: weather"]
    assert len(list(rig.real.uploads())) == 1
    assert rig.left() == [], "the same command begins anew"


def test_an_upload_lost_on_the_way_is_an_error_and_the_next_one_anew(rig):
    rig.fails("before put_part", UploadLostError("reaped"))
    with pytest.raises(UploadLostError):
        rig.run()
    assert rig.left() == []


def test_the_image_of_somebody_who_was_first_stays(rig):
    def fault(step):
        if step == "before complete":
            rig.store.writer.put("copy", io.BytesIO(b"theirs"))
            raise ConflictError("somebody was first")

    rig.fault = fault
    with pytest.raises(ConflictError):
        rig.run()
    assert list(rig.real.uploads()) == []
    assert rig.left() == []
    with rig.store.get("copy") as stream:
        assert stream.read() == b"theirs"


@pytest.mark.parametrize("step", ["before put_part", "before complete"])
def test_an_upload_that_another_process_took_over_is_left_to_it(rig, step):
    """To abort it would take away what the other one is at."""
    rig.fails(step, ConflictError("another process has taken this upload over"))
    with pytest.raises(ConflictError):
        rig.run()
    assert len(list(rig.real.uploads())) == 1
    assert rig.said == ["somebody else goes on with the upload, and has it now"]


def test_killed_when_it_was_published_the_next_one_finds_it_done(rig):
    rig.fails("after complete", KilledError())
    with pytest.raises(KilledError):
        rig.run()
    rig.mends()
    version = rig.store.stat("copy").version
    assert rig.notes.is_whole("to", "from")
    assert rig.run(digest=True).version == version
    assert rig.sent == list(range(COUNT))
    assert rig.is_clean()


@pytest.mark.parametrize("error", [KilledError(), KeyboardInterrupt(), UnavailableError("away")])
def test_ended_while_it_is_read_back_the_next_one_reads_it_back(rig, monkeypatch, error):
    def ended(*args, **options):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(resumable, "prove", ended)
        with pytest.raises(type(error)):
            rig.run(read_back=True)
    assert "not proven yet" in rig.said[-1]
    version, prove, proven = rig.store.stat("copy").version, resumable.prove, []
    monkeypatch.setattr(resumable, "prove", lambda *args, **more: (proven.append(more), prove(*args, **more)))
    assert rig.run(read_back=True).version == version
    assert [each["read_back"] for each in proven] == [True]
    assert rig.sent == list(range(COUNT))
    assert rig.is_clean()


def test_what_was_removed_while_it_was_read_back_leaves_nothing(rig, monkeypatch):
    prove = resumable.prove

    def removed(*args, **options):
        rig.store.writer.delete("copy")
        prove(*args, **options)

    monkeypatch.setattr(resumable, "prove", removed)
    with pytest.raises(NotFoundError):
        rig.run(read_back=True)
    assert rig.left() == []


def test_published_and_replaced_by_somebody_since_it_is_not_taken_for_it(rig):
    rig.fails("after complete", KilledError())
    with pytest.raises(KilledError):
        rig.run()
    rig.mends()
    rig.store.writer.put("copy", io.BytesIO(b"theirs"), overwrite=True)
    with pytest.raises(AlreadyExistsError):
        rig.run()
    with rig.store.get("copy") as stream:
        assert stream.read() == b"theirs"


def test_cancelled_by_the_caller_it_ends_and_stays(rig):
    cancel = CancelToken()
    rig.fault = lambda step: len(rig.sent) == 3 and cancel.cancel()
    with pytest.raises(OSError, match="cancelled"):
        rig.run(call=Call(cancel=cancel))
    rig.mends()
    rig.run()
    assert len(rig.sent) <= COUNT + 1
    assert rig.is_clean()


@pytest.mark.parametrize("one", [None, "ordered", "serial"])
def test_parts_go_abreast_where_the_store_takes_them_so(tmp_path, monkeypatch, one):
    rig = Rig(tmp_path, ordered=one == "ordered")
    if one == "serial":
        monkeypatch.setattr(cutting, "SERIAL", 1)
        rig.store.uploader.limits = replace(rig.real.limits, serial=True)
    begun, flying, most, lock = [0], [0], [0], threading.Lock()
    together = threading.Barrier(3)

    def fault(step):
        with lock:
            begun[0] += step == "before put_part"
            flying[0] += {"before put_part": 1, "after put_part": -1}.get(step, 0)
            most[0] = max(most[0], flying[0])
            is_early = step == "before put_part" and begun[0] <= 3
        if is_early and not one:
            together.wait(30)  # each waits for the two others: they are on their way at once

    rig.fault = fault
    rig.run(abreast=3, digest=True)
    assert most[0] == (1 if one else 3)
    assert rig.is_clean()


def test_after_a_part_that_failed_none_is_begun():
    begun = []
    flight = Flight(lambda part: None, abreast=1, size=10)

    def put(number):
        begun.append(number)
        assert submitted.wait(30)
        raise UnavailableError("weather")

    submitted = threading.Event()
    try:
        for number in range(2):
            flight.buffer(10)
            flight.send(partial(put, number))
        submitted.set()
        wait([future for future, _ in flight._flying])
        with pytest.raises(UnavailableError):
            flight.drain()
    finally:
        flight.close()
    assert begun == [0]


def test_memory_is_a_part_more_than_there_are_abreast(monkeypatch):
    made = []
    paged = cutting.paged
    monkeypatch.setattr(cutting, "paged", lambda size: (made.append(size), paged(size))[1])
    landed = []
    flight = Flight(landed.append, abreast=2, size=10)
    try:
        for number in range(20):
            data = flight.buffer(10)
            data[:] = bytes([number]) * 10
            flight.send(partial(bytes, data))
        flight.drain()
    finally:
        flight.close()
    assert made == [10] * 3
    assert landed == [bytes([number]) * 10 for number in range(20)], "no buffer is filled while it is sent"


def test_the_next_part_is_read_while_one_is_sent(rig, monkeypatch):
    put_part, fill = rig.real.put_part, resumable.fill
    read = [threading.Event() for _ in range(COUNT)]
    numbers = iter(range(COUNT))

    def filled(stream, view):
        fill(stream, view)
        read[next(numbers)].set()

    def put(token, number, *args, **options):
        assert read[min(number + 1, COUNT - 1)].wait(30)
        return put_part(token, number, *args, **options)

    monkeypatch.setattr(resumable, "fill", filled)
    monkeypatch.setattr(rig.real, "put_part", put)
    rig.run()
    assert rig.is_clean()


def test_the_first_part_that_fails_ends_it(rig):
    rig.fails(6, StorageIOError("bad"), times=99)
    with pytest.raises(StorageIOError):
        rig.run(abreast=3)
    assert [each.name for each in threading.enumerate() if "imgstore-part" in each.name] == []


def test_what_is_being_sent_is_called_off_when_the_source_fails(rig, monkeypatch):
    cancelled, filled = [], []

    def put_part(*_, call):
        cancelled.append(call.cancel.wait(30))
        raise OperationCancelledError("called off")

    def fill(stream, view):
        filled.append(len(view))
        if len(filled) == 2:
            raise StorageIOError("a bad disk")

    monkeypatch.setattr(rig.real, "put_part", put_part)
    monkeypatch.setattr(resumable, "fill", fill)
    with pytest.raises(StorageIOError, match="a bad disk"):
        rig.run()
    assert cancelled in ([True], [])


def test_a_source_that_ends_early_publishes_nothing(rig, monkeypatch):
    monkeypatch.setattr(Image, "opened", lambda self, wanted: io.BytesIO(IMAGE[:1500]))
    with pytest.raises(TruncatedError):
        rig.run()
    assert list(rig.store.lister.list()) == []


def test_a_store_without_parts_is_refused(rig):
    rig.store.uploader = None
    with pytest.raises(UnsupportedError, match="no uploads in parts"):
        rig.run()


def image_of(store, key="disk"):
    return Image(store, open_source(store, key), NO_CALL)


def test_what_can_be_gone_on_with(monkeypatch):
    source, target = MemoryStore(), MemoryStore()
    target.extents = None
    source.writer.put("disk", io.BytesIO(IMAGE))
    assert can_resume(image_of(source), target)
    monkeypatch.setattr(resumable, "LEAST", len(IMAGE) + 1)
    assert not can_resume(image_of(source), target), "it is small"
    monkeypatch.setattr(resumable, "LEAST", 1)
    target.uploader = None
    assert not can_resume(image_of(source), target), "nobody takes parts"


def test_without_a_version_only_a_manifest_says_that_it_is_the_same(monkeypatch):
    source, target = MemoryStore(), MemoryStore()
    source.extents = target.extents = None
    source.writer.put("disk", io.BytesIO(IMAGE))
    found = source._images.find("disk")
    info = ObjectInfo("disk", len(IMAGE), None)
    monkeypatch.setattr(type(found), "info", property(lambda self: info))
    assert not can_resume(image_of(source), target)
    assert can_resume(image_of(source), target, pin="p")


@pytest.mark.parametrize(
    "holes, in_parts, in_thin_parts", [(0, True, True), (2, False, True), (8, False, False)]
)
def test_holes_go_where_they_stay_holes(holes, in_parts, in_thin_parts):
    source, target = MemoryStore(), MemoryStore()
    data = IMAGE * (4 * LEAST_HOLE // len(IMAGE) + 1)
    source.writer.put("disk", io.BytesIO(data + bytes(holes * LEAST_HOLE) + IMAGE))
    for thin, expected in ((False, in_parts), (True, in_thin_parts)):
        target.uploader.limits = UploadLimits(1, 1 << 30, 9999, ordered=False, thin=thin)
        assert can_resume(image_of(source), target) == expected
    target.extents = None
    assert can_resume(image_of(source), target), "who has no holes is sent the zeros in any case"


LIMITS = st.sampled_from(
    [
        UploadLimits(5 << 20, 5 << 30, 10_000, ordered=False),
        UploadLimits(1, 5 << 30, 1000, ordered=False),
        UploadLimits(1, 1 << 40, 10_000, ordered=False),
        UploadLimits(32 << 20, 64 << 20, 3, ordered=True),
        UploadLimits(1, 1 << 40, 10_000, ordered=False, serial=True),
    ]
)


@given(st.integers(1, 1 << 43), LIMITS)
def test_d17_parts_are_legal_for_any_size(size, limits):
    cutting.PART, kept = PART, cutting.PART
    try:
        each = part_size(size, limits)
    except UnsupportedError:
        assert size > limits.max_part * limits.max_parts
        return
    finally:
        cutting.PART = kept
    assert limits.min_part <= each <= limits.max_part
    assert -(-size // each) <= limits.max_parts
    wanted = PART * cutting.SERIAL if limits.serial else PART
    assert each == wanted or size > wanted * limits.max_parts or limits.min_part > wanted
