"""Puts, uploads and deletes on Swift while something goes wrong."""

from __future__ import annotations

import io
import threading
import time
import weakref

import pytest

from imgstore.buffer import paged
from imgstore.errors import (
    AlreadyExistsError,
    BadReplyError,
    ConflictError,
    ConnectionLostError,
    DigestMismatchError,
    NoSpaceError,
    OperationCancelledError,
    PermanentError,
    PermissionDeniedError,
    RetriesExhaustedError,
    SourceChangedError,
    TransientError,
    UnsupportedError,
    UploadLostError,
)
from imgstore.model import Call, CancelToken
from tests.faults.swift_rig import IMAGE, SEGMENT, SMALL, read, rig, store_at
from tests.faults.swift_server import Fault, _Handler

MANIFEST = "/images/new$"
PART = "images_segments/new/"


@pytest.fixture
def made():
    with rig() as one:
        yield one


def views():
    return [memoryview(IMAGE)[at : at + SEGMENT] for at in range(0, len(IMAGE), SEGMENT)]


def begun(store, *, parts=4, **options):
    """An upload with its first parts."""
    token = store.uploader.begin("new", len(IMAGE), **options)
    held = [
        store.uploader.put_part(token, number, number * SEGMENT, view)
        for number, view in enumerate(views()[:parts])
    ]
    return token, held


def wait_for(condition):
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def own(made):
    """What there is beside images and their segments."""
    named = {
        each["path"].removeprefix("/images_segments/")
        for found in made.server.containers.get("images", {}).values()
        for each in found.slo or ()
    }
    return [name for name in made.segments() if name not in named]


def reap(store):
    for pending in list(store.uploader.uploads()):
        store.uploader.abort(pending.token)


def test_d17_a_small_image_is_one_object_a_large_one_has_segments(made):
    store = made.driver()
    for size in (0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, len(IMAGE)):
        for told in (size, None):
            info = store.writer.put("new", io.BytesIO(IMAGE[:size]), told, overwrite=True)
            assert info.size == size
            assert (made.object("new").slo is not None) == (size > SEGMENT), size
            assert read(store, "new") == IMAGE[:size]
    store.writer.delete("new")
    assert made.segments() == []


def test_the_parts_of_a_put_go_out_side_by_side(made):
    at_once, most = [0], [0]
    together = threading.Barrier(2, timeout=10)

    def before(method, path):
        if method == "PUT" and PART in path and made.server.count("PUT", PART) <= 2:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            together.wait()
            at_once[0] -= 1

    made.server.before = before
    made.driver(max_concurrency=2).writer.put("new", io.BytesIO(IMAGE))
    assert most[0] == 2
    assert made.server.body_of("images", "new") == IMAGE


@pytest.mark.parametrize("workers, segments", [(1, 1), (3, 4)])
def test_a_put_has_one_segment_more_in_memory_than_it_sends(made, monkeypatch, workers, segments):
    alive = weakref.WeakSet()

    def noted(size):
        memory = paged(size)
        alive.add(memory.obj)
        assert len(alive) <= segments
        return memory

    for module in ("swift.writer", "_in_flight"):
        monkeypatch.setattr(f"imgstore.backends.{module}.paged", noted)
    made.driver(max_concurrency=workers).writer.put("new", io.BytesIO(IMAGE * 2))
    assert made.server.body_of("images", "new") == IMAGE * 2
    assert not alive


def test_c13_bytes_that_change_on_their_way_are_never_published(made):
    """The server stores other bytes than were sent, and does not compare."""
    made.server.script("PUT", PART, Fault(flip=True))
    store = made.store()
    token, parts = begun(store)
    store.uploader.complete(token, parts)
    assert made.server.body_of("images", "new") == IMAGE
    assert made.server.count("PUT", PART) == 5
    assert own(made) == []


def test_c13_a_small_image_that_changes_on_its_way_is_withdrawn(made):
    made.server.script("PUT", "/images/new$", Fault(flip=True))
    with pytest.raises(BadReplyError, match="another ETag"):
        made.driver().writer.put("new", io.BytesIO(SMALL))
    assert made.server.names("images") == []


def test_d1_d2_only_the_broken_part_is_sent_again(made):
    made.server.script("PUT", f"{PART}.*/00000001-", Fault(lose=True))
    made.server.script("PUT", f"{PART}.*/00000002-", Fault(reset=True))
    store = made.store()
    token, parts = begun(store)
    assert list(store.uploader.parts(token)) == parts
    store.uploader.complete(token, parts)
    sent = sum(count for path, count in made.server.sent.items() if PART in path)
    assert sent <= len(IMAGE) + SEGMENT
    assert made.server.body_of("images", "new") == IMAGE
    assert own(made) == []


def test_d2_a_part_whose_reply_was_lost_is_told(made):
    """What the store has is asked for, never guessed."""
    store = made.driver()
    token = store.uploader.begin("new", len(IMAGE))
    made.server.script("PUT", PART, Fault(lose=True))
    with pytest.raises(ConnectionLostError):
        store.uploader.put_part(token, 0, 0, views()[0])
    (held,) = store.uploader.parts(token)
    assert (held.number, held.offset, held.size) == (0, 0, SEGMENT)


@pytest.mark.parametrize("fault", [Fault(lose=True), Fault(status=503, done=True), Fault(stall=True)])
@pytest.mark.parametrize("image", [SMALL, IMAGE], ids=["small", "large"])
def test_d3_d4_a_put_whose_last_reply_is_lost_is_asked_after(made, fault, image):
    """Exactly one object, and success is told where there was one."""
    made.server.script("PUT", MANIFEST, fault)
    store = made.driver(open_timeout=0.2, work_timeout=0.2) if fault.stall else made.driver()
    if fault.stall:
        with pytest.raises(TransientError):
            store.writer.put("new", io.BytesIO(image))
        assert made.server.names("images") == []
    else:
        info = store.writer.put("new", io.BytesIO(image))
        assert info.version == store.stat("new").version
        assert made.server.body_of("images", "new") == image
    reap(store)
    assert own(made) == []


def test_a_put_that_nobody_can_say_was_stored_succeeds_when_it_is_made_again(made):
    store = made.driver()
    made.server.script("PUT", MANIFEST, Fault(lose=True))
    made.server.before = lambda method, path: (
        method == "PUT"
        and path.endswith("/images/new")
        and (made.server.script("HEAD", MANIFEST, Fault(reset=True)))
    )
    with pytest.raises(ConnectionLostError):
        store.writer.put("new", io.BytesIO(SMALL))
    made.server.before = lambda method, path: None
    with pytest.raises(AlreadyExistsError):
        store.writer.put("new", io.BytesIO(IMAGE[1:5000]))  # not that one
    assert store.writer.put("new", io.BytesIO(SMALL)).size == len(SMALL)
    with pytest.raises(AlreadyExistsError):
        store.writer.put("new", io.BytesIO(SMALL))  # but no other time


def test_an_image_that_cannot_be_described_is_stored_all_the_same(made):
    def before(method, path):
        if method == "PUT" and path.endswith("/images/new"):
            made.server.script("HEAD", MANIFEST, Fault(status=503))

    made.server.before = before
    info = made.driver().writer.put("new", io.BytesIO(IMAGE))
    assert (info.size, info.version) == (len(IMAGE), None)
    assert made.server.body_of("images", "new") == IMAGE


def test_the_same_bytes_of_somebody_else_are_no_success_of_ours(made):
    store = made.driver()
    made.server.script("PUT", MANIFEST, Fault(reset=True))  # unclear to us, though nothing was stored
    with pytest.raises(ConnectionLostError):
        store.writer.put("new", io.BytesIO(SMALL))
    with store_at(made.server) as other:
        other.writer.put("new", io.BytesIO(SMALL))
    with pytest.raises(AlreadyExistsError):
        store.writer.put("new", io.BytesIO(SMALL))


def test_d3_complete_whose_reply_is_lost_is_idempotent(made):
    store = made.store()
    token, parts = begun(store)
    made.server.script("PUT", MANIFEST, Fault(lose=True))
    made.server.script("DELETE", ".imgstore-uploads", Fault(lose=True))
    info = store.uploader.complete(token, parts)
    assert store.uploader.complete(token, parts) == info
    assert made.server.body_of("images", "new") == IMAGE
    assert own(made) == []
    assert list(store.uploader.uploads()) == []


def test_complete_asked_again_keeps_what_is_published_whatever_it_is_given(made):
    store = made.driver()
    token, parts = begun(store)
    again = store.uploader.put_part(token, 0, 0, views()[0])
    made.server.script("DELETE", ".imgstore-uploads", Fault(status=503))
    with pytest.raises(TransientError):
        store.uploader.complete(token, parts)
    store.uploader.complete(token, [again])
    assert made.server.body_of("images", "new") == IMAGE
    assert own(made) == []


def test_d9_the_one_who_was_first_is_kept(made):
    store = made.driver()
    token, parts = begun(store)
    made.server.put("images", "new", SMALL)
    with pytest.raises(ConflictError):
        store.uploader.complete(token, parts)
    assert made.server.body_of("images", "new") == SMALL
    store.uploader.abort(token)
    assert own(made) == []


def test_d9_a_writer_who_comes_between_look_and_put_is_kept(made):
    """By If-None-Match."""

    def before(method, path):
        if method == "PUT" and path.endswith("/images/new"):
            made.server.before = lambda *_: None
            made.server.put("images", "new", SMALL)

    made.server.before = before
    with pytest.raises(AlreadyExistsError):
        made.driver().writer.put("new", io.BytesIO(IMAGE))
    assert made.server.body_of("images", "new") == SMALL
    assert own(made) == []


def test_d9_writers_take_turns_where_the_service_ignores_conditions():
    with rig(conditional=False) as made:
        stores = [made.driver() for _ in range(3)]
        for each in stores:
            each.clock = type(each).clock
        together, outcomes = threading.Barrier(3, timeout=10), []

        class Slow(io.BytesIO):
            def read(self, size=-1):
                if not self.tell():
                    together.wait()
                return super().read(size)

        def put(store, data):
            try:
                store.writer.put("new", Slow(data))
                outcomes.append(data)
            except AlreadyExistsError:
                outcomes.append(None)

        images = [bytes([n]) * 1000 for n in range(3)]
        threads = [threading.Thread(target=put, args=pair) for pair in zip(stores, images, strict=True)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        (won,) = [each for each in outcomes if each]
        assert made.server.body_of("images", "new") == won


def test_d5_d16_a_segment_that_is_gone_ends_the_upload(made):
    """Nothing short is published, and nothing wrong."""
    store = made.store()
    token, parts = begun(store)
    name = next(each for each in made.segments() if "/00000002-" in each)
    del made.server.containers["images_segments"][name]
    with pytest.raises(UploadLostError, match="part 2"):
        store.uploader.complete(token, parts)
    assert "new" not in made.server.containers.get("images", {})


@pytest.mark.parametrize("act", ["put", "upload", "copy"])
def test_d3_what_a_second_try_brought_in_vain_is_removed(made, act):
    """The first try was stored, and nobody could ask for it; the second finds that, of the same bytes."""

    def before(method, path):
        if method == "PUT" and path.endswith("/images/new"):
            made.server.before = lambda *_: None
            made.server.script("HEAD", MANIFEST, Fault(reset=True))

    def act_once():
        if act == "put":
            return store.writer.put("new", io.BytesIO(IMAGE), len(IMAGE))
        if act == "copy":
            return store.copier.copy("large", "new")
        token, parts = begun(store)
        return store.uploader.complete(token, parts)

    store = made.driver()
    if act == "copy":
        made.put_large()
    made.server.script("PUT", MANIFEST, Fault(lose=True))
    made.server.before = before
    with pytest.raises(ConnectionLostError):
        act_once()
    assert act_once().size == len(IMAGE)
    reap(store)
    assert made.server.body_of("images", "new") == IMAGE
    assert own(made) == []


def test_d16_a_manifest_that_is_refused_for_now_is_put_again(made):
    """The manifest comes before its segments are seen."""
    store = made.store()
    token, parts = begun(store)
    made.server.script("PUT", MANIFEST, Fault(status=400))
    store.uploader.complete(token, parts)
    assert made.server.body_of("images", "new") == IMAGE


def test_d16_a_listing_that_lags_loses_no_part(made):
    store = made.driver()
    token, parts = begun(store, parts=0)
    made.server.lag()
    parts = [
        store.uploader.put_part(token, number, number * SEGMENT, view) for number, view in enumerate(views())
    ]
    assert list(store.uploader.parts(token)) == parts
    store.uploader.abort(token)
    made.server.catch_up()
    assert made.segments() == []


def test_d15_the_later_of_two_resumers_has_the_upload(made):
    first, second = made.driver(), made.driver()
    token, _ = begun(first, parts=2)
    held = list(second.uploader.parts(token))
    with pytest.raises(ConflictError, match="taken this upload over"):
        first.uploader.put_part(token, 2, 2 * SEGMENT, views()[2])
    with pytest.raises(ConflictError):
        first.uploader.complete(token, held)
    held += [second.uploader.put_part(token, n, n * SEGMENT, views()[n]) for n in (2, 3)]
    second.uploader.complete(token, held)
    assert made.server.body_of("images", "new") == IMAGE
    with pytest.raises(UploadLostError):
        first.uploader.put_part(token, 2, 2 * SEGMENT, views()[2])
    assert own(made) == []


def test_d15_a_part_that_comes_late_changes_no_image(made):
    """The request of a process that was taken for dead arrives after all."""
    first, second = made.driver(), made.driver()
    token, _ = begun(first, parts=2)
    entered, go = threading.Event(), threading.Event()

    def before(method, path):
        if method == "PUT" and "/00000001-" in path and not entered.is_set():
            entered.set()
            go.wait(10)

    made.server.before = before
    late = threading.Thread(
        target=lambda: first.uploader.put_part(token, 1, SEGMENT, memoryview(bytes(SEGMENT)))
    )
    late.start()
    assert entered.wait(10)
    held = list(second.uploader.parts(token))
    held += [second.uploader.put_part(token, n, n * SEGMENT, views()[n]) for n in (2, 3)]
    second.uploader.complete(token, held)
    go.set()
    late.join()
    assert made.server.body_of("images", "new") == IMAGE


def test_d5_what_is_aborted_elsewhere_is_lost(made):
    first, second = made.driver(), made.driver()
    token, parts = begun(first, parts=2)
    second.uploader.abort(token)
    assert made.segments() == []
    for act in (
        lambda: first.uploader.put_part(token, 2, 2 * SEGMENT, views()[2]),
        lambda: first.uploader.parts(token),
        lambda: first.uploader.complete(token, parts),
    ):
        with pytest.raises(UploadLostError):
            act()


def test_an_upload_proves_its_digests(made):
    import hashlib

    store = made.driver()
    token, parts = begun(store, digests={"sha256": hashlib.sha256(IMAGE).hexdigest()})
    name = next(each for each in made.segments() if "/00000002-" in each)
    found = made.server.containers["images_segments"][name]
    good, found.data = found.data, found.data[::-1]  # rot: the ETag stays
    with pytest.raises(DigestMismatchError):
        store.uploader.complete(token, parts)
    assert "new" not in made.server.containers.get("images", {})
    found.data = good
    store.uploader.complete(token, parts)


def test_d6_d7_a_source_that_fails_or_changes_leaves_nothing(made):
    made.server.put("images", "other", b"")

    class Source:
        def __init__(self):
            self.left = 3

        def read(self, size):
            self.left -= 1
            if not self.left:
                raise RuntimeError("the source's own")
            return bytes(SEGMENT)

    store = made.driver()
    with pytest.raises(RuntimeError, match="the source's own"):
        store.writer.put("new", Source())
    with pytest.raises(SourceChangedError):
        store.writer.put("new", io.BytesIO(IMAGE), len(IMAGE) + 1)
    with pytest.raises(DigestMismatchError):
        store.writer.put("new", io.BytesIO(IMAGE), digests={"sha256": "0" * 64})
    assert made.server.names("images") == ["other"]
    assert made.segments() == []


@pytest.mark.parametrize("slow", [False, True], ids=["in time", "never"])
def test_d7_a_segment_that_is_on_its_way_when_the_source_fails(made, monkeypatch, slow):
    """Cut off, it might be stored after all was cleared away, and nothing would tell of it."""
    sent, failed = threading.Event(), threading.Event()

    class Source(io.BytesIO):
        def read(self, size=-1):
            if self.tell() and sent.wait(10):
                failed.set()
                raise RuntimeError("the source's own")
            return super().read(SEGMENT + 1)

    def before(method, path):
        if method == "PUT" and PART in path:
            sent.set()
            failed.wait(10)
            if slow:
                removed.wait(10)

    removed = threading.Event()
    made.server.before = before
    store = made.driver()
    if slow:
        monkeypatch.setattr("imgstore.backends.swift.sending._ANSWERS", 0.05)
    with pytest.raises(RuntimeError, match="the source's own"):
        store.writer.put("new", Source(IMAGE))
    removed.set()
    wait_for(lambda: made.segments() if slow else not own(made))
    assert len(list(store.uploader.uploads())) == slow
    reap(store)
    assert own(made) == []


def test_d8_a_cancelled_put_ends_at_once_and_is_reaped(made):
    token, store = CancelToken(), made.driver()

    def before(method, path):
        if method == "PUT" and PART in path:
            token.cancel()

    made.server.before = before
    with pytest.raises(OperationCancelledError):
        store.writer.put("new", io.BytesIO(IMAGE), call=Call(cancel=token))
    made.server.before = lambda *_: None
    assert [each.key for each in store.uploader.uploads()] == ["new"]
    assert list(store.uploader.uploads(older_than=3600)) == []
    reap(store)
    assert made.segments() == []
    assert "new" not in made.server.containers.get("images", {})


def test_an_image_that_came_while_another_was_on_its_way_leaves_nothing(made):
    """Each of two overwrites removes what it really replaces, and not what was there when it began."""

    class Slow(io.BytesIO):
        def read(self, size=-1):
            if self.tell() >= 3 * SEGMENT and not others:
                others.append(store.writer.put("new", io.BytesIO(IMAGE[::-1]), len(IMAGE), overwrite=True))
            return super().read(SEGMENT)

    store, others = made.driver(), []
    store.writer.put("new", io.BytesIO(IMAGE), len(IMAGE))
    store.writer.put("new", Slow(IMAGE), len(IMAGE), overwrite=True)
    assert made.server.body_of("images", "new") == IMAGE
    assert own(made) == []


@pytest.mark.parametrize("through", [False, True], ids=["while it removes", "when it is through"])
def test_an_upload_that_is_aborted_as_it_is_published_is_no_success(made, through):
    """Who aborts finds no image yet; its segments are all there when the service looks at them."""
    asked, looked, aborted, ended = (threading.Event() for _ in range(4))

    def before(method, path):
        if method == "PUT" and path.endswith("/images/new"):
            asked.set()
            looked.wait(10)
        elif method == "DELETE" and PART in path and not looked.is_set():
            looked.set()
            # the writer, too, may have seen the claim and taken its image back by now
            wait_for(lambda: ended.is_set() or "new" in made.server.containers["images"])
            if not through:
                ended.wait(10)
        elif method == "HEAD" and ".imgstore-uploads/" in path and through:
            aborted.wait(10)

    def put():
        try:
            outcome.append(made.driver().writer.put("new", io.BytesIO(IMAGE), len(IMAGE)))
        except UploadLostError as exc:
            outcome.append(exc)
        ended.set()

    outcome, reaper = [], made.driver()
    made.server.before = before
    writing = threading.Thread(target=put)
    writing.start()
    asked.wait(10)
    (upload,) = reaper.uploader.uploads()
    reaper.uploader.abort(upload.token)
    aborted.set()
    writing.join()
    assert [type(each) for each in outcome] == [UploadLostError]
    assert made.server.names("images") == []
    assert own(made) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"upload": "x", "key": "k", "newer": 1}', b'{"upload": 5, "key": 7, "started": "x"}'],
)
def test_a_record_that_cannot_be_read_hides_no_other(made, body):
    store = made.driver()
    begun(store)
    name = ".imgstore-uploads/" + "0" * 32
    made.server.put("images_segments", name, body)
    assert [each.key for each in store.uploader.uploads()] == ["new"]
    reap(store)
    assert made.segments() == [name]


def test_a_page_in_front_of_the_service_is_no_word_of_it(made, monkeypatch):
    def done(handler, path, body, **options):
        return (200, {}, b"<html>") if path == "/info" else answered(handler, path, body, **options)

    answered = _Handler._done
    monkeypatch.setattr(_Handler, "_done", done)
    made.driver().writer.put("new", io.BytesIO(IMAGE))
    assert made.server.body_of("images", "new") == IMAGE


@pytest.mark.parametrize("act", ["put", "copy"])
def test_an_image_published_in_the_moment_of_a_cancel_is_whole(made, act):
    made.put_large()
    token, store = CancelToken(), made.driver()
    done = threading.Event()

    def before(method, path):
        if method == "PUT" and path.endswith("/images/new"):
            token.cancel()
            done.wait(1)  # the client leaves; the manifest is stored all the same

    made.server.before = before
    with pytest.raises(OperationCancelledError):
        if act == "put":
            store.writer.put("new", io.BytesIO(IMAGE), call=Call(cancel=token))
        else:
            store.copier.copy("large", "new", call=Call(cancel=token))
    done.set()
    made.server.before = lambda *_: None
    for _ in range(100):
        if "new" in made.server.containers["images"]:
            break
        time.sleep(0.01)
    assert made.server.body_of("images", "new") == IMAGE
    reap(store)
    assert made.server.body_of("images", "new") == IMAGE
    assert own(made) == []


def test_a_full_account_takes_nothing(made):
    made.server.put("images", "other", b"")
    made.server.room = 2 * SEGMENT
    store = made.driver()
    with pytest.raises(NoSpaceError):
        store.writer.put("new", io.BytesIO(IMAGE))
    assert made.server.names("images") == ["other"]
    assert made.segments() == []


@pytest.mark.parametrize("size", [None, len(IMAGE)])
def test_d17_segments_are_always_as_many_as_the_service_joins(size):
    with rig(segments=10) as made:
        store = made.driver(segment_size=1 << 10)
        if size is None:
            # 2 of each size: 1, 2, 4, 8, 16 KiB
            store.writer.put("new", io.BytesIO(IMAGE[: 62 << 10]))
            assert len(made.object("new").slo) == 10
            with pytest.raises(UnsupportedError, match="give its size"):
                store.writer.put("newer", io.BytesIO(IMAGE[: (62 << 10) + 1]))
            assert own(made) == []
        else:
            store.writer.put("new", io.BytesIO(IMAGE), size)
            assert len(made.object("new").slo) == 10
            assert made.server.body_of("images", "new") == IMAGE


def test_d17_more_parts_than_the_service_joins_are_refused():
    with rig(segments=3) as made:
        store = made.driver()
        token, parts = begun(store)
        with pytest.raises(UnsupportedError, match="4 parts; the service joins 3"):
            store.uploader.complete(token, parts)


def test_the_segments_of_another_image_are_never_removed(made):
    names = made.put_large("mine")
    made.server.containers["images"]["copy"] = made.object("mine")  # a manifest that was copied shares them
    store = made.driver()
    store.writer.delete("copy")
    assert made.segments() == names
    assert made.server.body_of("images", "mine") == IMAGE
    store.writer.delete("mine")
    assert made.segments() == []


def test_a_dynamic_large_object_is_deleted_with_its_segments(made):
    made.put_dynamic()
    made.server.put("images", "dynamic2", b"x")
    made.driver().writer.delete("dynamic")
    assert made.server.names("images") == ["dynamic2"]


@pytest.mark.parametrize("act", ["delete", "overwrite"])
def test_images_named_like_the_segments_of_another_are_kept(made, act):
    others = {"disk-readme": b"1", "disk-2": b"22", "disk-20261121": b"333", "disk-1": b"4444"}
    made.put_dynamic("disk")
    for key, data in others.items():
        made.server.put("images", key, data)
    if act == "delete":
        made.driver().writer.delete("disk")
    else:
        made.driver().writer.put("disk", io.BytesIO(SMALL), overwrite=True)
    left = made.server.containers["images"]
    assert {key: left[key].data for key in left if key != "disk"} == others


def test_a_killed_delete_is_ended_by_reap(made):
    made.put_large()
    store = made.driver()
    made.server.script("DELETE", "images_segments/large/", Fault(reset=True))
    with pytest.raises(ConnectionLostError):
        store.writer.delete("large")
    assert "large" not in made.server.containers["images"]
    assert made.segments()
    reap(store)
    assert made.segments() == []


def test_a_copy_has_segments_of_its_own(made):
    made.put_large()
    made.put_dynamic()
    made.server.put("images", "small", SMALL)
    store = made.driver()
    for key, data in (("large", IMAGE), ("small", SMALL), ("dynamic", IMAGE[:2500])):
        info = store.copier.copy(key, f"{key} again")
        assert info.size == len(data)
        store.writer.delete(key)
        assert read(store, f"{key} again") == data
    assert own(made) == []


def test_a_copy_that_is_not_the_segment_is_not_published(made):
    made.put_large()
    store = made.driver()

    def before(method, path):
        if method == "HEAD" and "images_segments/target/" in path:
            made.server.put("images_segments", path.partition("images_segments/")[2], b"rot")

    made.server.before = before
    with pytest.raises(BadReplyError, match="not the segment"):
        store.copier.copy("large", "target")
    assert "target" not in made.server.containers["images"]


def test_a_container_is_made_only_where_that_is_allowed(made):
    del made.server.containers["images"]
    with pytest.raises(
        PermanentError, match="there is no container 'images'; make it, or set create_container"
    ):
        made.driver(create_container=False).writer.put("new", io.BytesIO(SMALL))
    made.driver().writer.put("new", io.BytesIO(SMALL))
    assert "images" in made.server.containers


def test_who_may_not_write_is_told_so(made):
    made.server.put("images", "other", b"")
    made.server.denied = {("PUT", "images"), ("PUT", "images_segments")}
    with pytest.raises(PermissionDeniedError):
        made.driver().writer.put("new", io.BytesIO(SMALL))


def test_a_service_that_never_takes_the_image_gets_no_more_than_its_tries(made):
    for _ in range(50):
        made.server.script("PUT", "/images/new$", Fault(status=503))
    with pytest.raises(RetriesExhaustedError):
        made.store(resume_attempts=3).writer.put("new", io.BytesIO(SMALL))
    assert made.server.count("PUT", "/images/new$") == 3


def test_images_are_spread_over_containers(made):
    store = made.driver(multiple_containers_seed=1)
    for number in range(12):
        store.writer.put(f"image {number}", io.BytesIO(IMAGE[: SEGMENT + number]))
    places = [name for name in made.server.containers if not name.endswith("_segments")]
    assert len(places) > 3
    assert sorted(info.key for info in store.lister.list()) == sorted(f"image {n}" for n in range(12))
    keys = [info.key for info in store.lister.list("image 1")]
    assert keys == ["image 1", "image 10", "image 11"]
    assert read(store, "image 7") == IMAGE[: SEGMENT + 7]
    token, _ = begun(store, parts=1)
    assert [each.token for each in store.uploader.uploads()] == [token]


def test_an_image_of_its_own_container_goes_with_it(made):
    store = made.driver(multi_tenant=True, admin_tenants=["admins"])
    store.writer.put("a/b c", io.BytesIO(IMAGE))
    store.writer.put("z", io.BytesIO(SMALL))
    assert {"images_a%2Fb%20c", "images_a%2Fb%20c_segments", "images_z"} <= set(made.server.containers)
    assert [info.key for info in store.lister.list()] == ["a/b c", "z"]
    assert read(store, "a/b c") == IMAGE
    store.writer.delete("a/b c")
    assert not [name for name in made.server.containers if "%2F" in name]
    with pytest.raises(UnsupportedError, match="too long"):
        store.stat("x" * 300)


def test_a_store_over_the_account_of_another_process_goes_on(made):
    """An upload outlives its process: nothing of it is in memory only."""
    first = made.driver()
    token, _ = begun(first, parts=3)
    first.close()
    with store_at(made.server) as second:
        (pending,) = second.uploader.uploads()
        assert (pending.token, pending.key) == (token, "new")
        held = list(second.uploader.parts(pending.token))
        assert [part.offset for part in held] == [0, SEGMENT, 2 * SEGMENT]
        held.append(second.uploader.put_part(token, 3, 3 * SEGMENT, views()[3]))
        second.uploader.complete(token, held)
    sent = sum(count for path, count in made.server.sent.items() if PART in path)
    assert sent == len(IMAGE)
    assert made.server.body_of("images", "new") == IMAGE
