from __future__ import annotations

import io

import pytest

from imgstore.errors import (
    AlreadyExistsError,
    BadReplyError,
    ConnectionLostError,
    DeadlineExceededError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolViolationError,
    RangeNotSatisfiableError,
    RetriesExhaustedError,
    UnpinnableError,
    UploadLostError,
)
from imgstore.layers.resume import ResumeLayer
from imgstore.model import ByteRange, Call, Extent, ObjectInfo
from imgstore.retry import TokenBucket
from imgstore.store import Upload
from tests.unit.layers.scripted import Facet, ScriptedStore

LOST = ConnectionLostError("lost", request_id="req-7")


def lost():
    return ConnectionLostError("lost")


def resuming(*, settings=None, **facets):
    inner = ScriptedStore()
    for name, facet in facets.items():
        setattr(inner, name, facet)
    return ResumeLayer(inner, jitter=lambda: 0.5, **settings or {}), inner


class Pages:
    """A lister or a map of extents that breaks: each asking gives so many items, then its error."""

    def __init__(self, items, *breaks):
        self.items, self.breaks = items, list(breaks)
        self.asked: list[tuple] = []

    def given(self, items):
        count, error = self.breaks.pop(0) if self.breaks else (len(items), None)
        yield from items[:count]
        if error is not None:
            raise error

    def list(self, prefix="", *, call=None):
        self.asked.append((prefix, call))
        return self.given(self.items)

    def uploads(self, older_than=0.0, *, call=None):
        self.asked.append((older_than, call))
        return self.given(self.items)

    limits = None

    def extents(self, key, *, start=0, stop=None, version=None, call=None):
        self.asked.append((key, start, stop, version, call))
        return self.given([each for each in self.items if each.range.start >= start])


class Plain:
    """A source that can only be read."""

    def read(self, size):
        return b""


class Unseekable(io.BytesIO):
    def seekable(self):
        return False


TAKEN = {"overwrite": True, "digests": {"md5": "0"}}
OPERATIONS = [
    ("writer", "put", ("image", io.BytesIO(b"data"), 4), TAKEN, "image"),
    ("writer", "delete", ("image",), {"version": "v1"}, "image"),
    ("uploader", "begin", ("image", 4), TAKEN, "image"),
    ("uploader", "put_part", ("token", 3, 12, memoryview(b"data")), {}, ""),
    ("uploader", "parts", ("token",), {}, ""),
    ("uploader", "complete", ("token", [1, 2]), {}, ""),
    ("uploader", "abort", ("token",), {}, ""),
]
each_operation = pytest.mark.parametrize("facet, operation, args, options, key", OPERATIONS)


@each_operation
def test_each_operation_is_tried_again_as_it_was_asked(facet, operation, args, options, key):
    inside = Facet(lost(), lost(), "given")
    store, inner = resuming(**{facet: inside})
    call = Call(observe=lambda event: None)
    given = getattr(getattr(store, facet), operation)(*args, **options, call=call)
    assert given == (None if operation in {"delete", "abort"} else "given")
    assert inside.calls == [(operation, args, {**options, "call": call})] * 3
    assert inner.clock.slept == [0.1, 0.2]


@each_operation
def test_each_operation_keeps_to_the_deadline_of_the_layer(facet, operation, args, options, key):
    inside = Facet(lost())
    store, inner = resuming(settings={"deadline": 0.25}, **{facet: inside})
    began = inner.clock.time()
    with pytest.raises(DeadlineExceededError):
        getattr(getattr(store, facet), operation)(*args, **options)
    assert inner.clock.elapsed == pytest.approx(0.25)
    assert {options["call"].deadline for _, _, options in inside.calls} == {began + 0.25}


@each_operation
def test_each_operation_gives_up_and_names_the_key(facet, operation, args, options, key):
    inside = Facet(LOST)
    store, _ = resuming(settings={"resume_attempts": 3}, **{facet: inside})
    with pytest.raises(RetriesExhaustedError) as raised:
        getattr(getattr(store, facet), operation)(*args, **options)
    assert len(inside.calls) == 3
    assert raised.value.key == key
    assert raised.value.attempts == 3
    assert raised.value.request_id == "req-7"
    assert raised.value.__cause__ is LOST


@pytest.mark.parametrize("settings", [{"resume_attempts": 2}, {"deadline": 0.25}])
def test_what_ends_the_tries_with_a_token_names_the_image_as_the_driver_did(settings):
    inside = Facet(ConnectionLostError("lost", key="disk.img", store="cold"))
    store, _ = resuming(settings=settings, uploader=inside)
    with pytest.raises((RetriesExhaustedError, DeadlineExceededError)) as raised:
        store.uploader.parts("token")
    assert (raised.value.key, raised.value.store) == ("disk.img", "cold")
    assert raised.value.__cause__ is not None


@each_operation
def test_a_permanent_error_of_an_operation_is_final(facet, operation, args, options, key):
    denied = PermissionDeniedError("no")
    inside = Facet(denied)
    store, _ = resuming(**{facet: inside})
    with pytest.raises(PermissionDeniedError) as raised:
        getattr(getattr(store, facet), operation)(*args, **options)
    assert raised.value is denied
    assert len(inside.calls) == 1


@each_operation
def test_a_try_is_told_by_the_name_of_its_operation(facet, operation, args, options, key, caplog):
    store, _ = resuming(**{facet: Facet(lost(), "given")})
    with caplog.at_level("WARNING", logger="imgstore.layers.resume"):
        getattr(getattr(store, facet), operation)(*args, **options)
    (message,) = [record.getMessage() for record in caplog.records]
    assert f": {operation} of {key!r} goes on at offset 0, try 2" in message


def test_what_is_not_said_stays_unsaid():
    writer, uploader = Facet(), Facet()
    store, _ = resuming(writer=writer, uploader=uploader)
    source = io.BytesIO()
    store.writer.put("image", source)
    store.uploader.begin("image", None)
    plain = {"overwrite": False, "digests": None, "call": Call()}
    assert writer.calls == [("put", ("image", source, None), plain)]
    assert uploader.calls == [("begin", ("image", None), plain)]
    assert store.uploader.limits is uploader.limits


def test_operations_and_reads_share_the_bucket_and_success_pays_back():
    bucket = TokenBucket()
    store, _ = resuming(settings={"bucket": bucket}, uploader=Facet(lost(), lost(), "given"))
    seen = []
    store.uploader.parts("token", call=Call())
    seen.append(bucket.tokens)
    store.uploader._inner.outcomes = [LOST]
    with pytest.raises(RetriesExhaustedError):
        store.uploader.parts("token")
    seen.append(bucket.tokens)
    assert seen == [500, 500 - 7 * 5]


def test_a_put_is_sent_again_from_where_the_source_stood():
    sent = []

    class Writer:
        def put(self, key, source, size=None, *, call, **options):
            sent.append(source.read())
            if len(sent) < 3:
                raise lost()

    store, _ = resuming(writer=Writer())
    source = io.BytesIO(b"before the data")
    source.seek(7)
    store.writer.put("image", source)
    assert sent == [b"the data"] * 3


@pytest.mark.parametrize("source", [Plain(), Unseekable(b"data")])
def test_a_put_from_what_cannot_be_rewound_is_not_sent_again(source):
    broken = lost()
    writer = Facet(broken)
    store, _ = resuming(writer=writer)
    with pytest.raises(ConnectionLostError) as raised:
        store.writer.put("image", source)
    assert raised.value is broken
    assert not raised.value.retryable
    assert len(writer.calls) == 1


def test_a_put_onto_what_exists_is_final():
    store, _ = resuming(writer=Facet(AlreadyExistsError("taken")))
    with pytest.raises(AlreadyExistsError):
        store.writer.put("image", io.BytesIO())


REMOVALS = [("writer", "delete"), ("uploader", "abort")]


@pytest.mark.parametrize("facet, operation", REMOVALS)
@pytest.mark.parametrize("gone", [NotFoundError("gone"), UploadLostError("gone")])
def test_not_finding_it_after_a_lost_reply_is_done(facet, operation, gone):
    inside = Facet(lost(), gone)
    store, _ = resuming(**{facet: inside})
    assert getattr(getattr(store, facet), operation)("it") is None
    assert len(inside.calls) == 2


@pytest.mark.parametrize("facet, operation", REMOVALS)
@pytest.mark.parametrize("gone", [NotFoundError("gone"), UploadLostError("gone")])
def test_not_finding_it_at_first_is_an_error(facet, operation, gone):
    store, _ = resuming(**{facet: Facet(gone)})
    for _ in range(2):  # each call is judged by itself
        with pytest.raises(type(gone)):
            getattr(getattr(store, facet), operation)("it")


IMAGES = [ObjectInfo(key, 1, None) for key in ("a", "a/b", "b", "z", "\u00e4", "\U0001f4be")]


@pytest.mark.parametrize("breaks", [[], [0], [3], [6], [1, 2, 0, 5, 5], [5, 1]])
def test_a_broken_list_goes_on_without_loss_or_duplicate(breaks):
    lister = Pages(IMAGES, *[(count, lost()) for count in breaks])
    store, _ = resuming(lister=lister)
    call = Call(observe=lambda event: None)
    assert list(store.lister.list("", call=call)) == IMAGES
    assert lister.asked == [("", call)] * (1 + len(breaks))


def test_a_list_is_asked_for_by_its_prefix_and_only_when_it_is_read():
    lister = Pages(IMAGES[:2], (1, lost()))
    store, _ = resuming(lister=lister)
    listed = store.lister.list("a")
    assert lister.asked == []
    assert list(listed) == IMAGES[:2]
    assert [prefix for prefix, _ in lister.asked] == ["a", "a"]
    list(store.lister.list())
    assert lister.asked[-1] == ("", Call())


def test_each_page_of_a_list_has_its_own_tries():
    lister = Pages(IMAGES, *[(count, lost()) for count in range(1, 7)])
    store, _ = resuming(settings={"resume_attempts": 2}, lister=lister)
    assert list(store.lister.list()) == IMAGES


@pytest.mark.parametrize(
    "error, final", [(lost(), RetriesExhaustedError), (BadReplyError("odd"), ProtocolViolationError)]
)
def test_a_list_that_never_comes_back_gives_up_after_what_it_gave(error, final):
    lister = Pages(IMAGES, *[(2, error)] * 99)
    store, _ = resuming(settings={"resume_attempts": 4}, lister=lister)
    listed = store.lister.list("a")
    assert [next(listed), next(listed)] == IMAGES[:2]
    with pytest.raises(final) as raised:
        next(listed)
    assert len(lister.asked) == 4
    assert raised.value.key == "a"


def test_a_permanent_error_ends_a_list():
    store, _ = resuming(lister=Pages(IMAGES, (1, PermissionDeniedError("no"))))
    listed = store.lister.list()
    assert next(listed) == IMAGES[0]
    with pytest.raises(PermissionDeniedError):
        next(listed)


@pytest.mark.parametrize("facet, ask", [("lister", "list"), ("uploader", "uploads"), ("extents", "extents")])
def test_a_broken_page_is_told_by_the_name_of_its_operation(facet, ask, caplog):
    store, _ = resuming(**{facet: Pages([], (0, lost()))})
    arguments = {"list": ("pre",), "uploads": (), "extents": ("image",)}[ask]
    with caplog.at_level("WARNING", logger="imgstore.layers.resume"):
        assert list(getattr(getattr(store, facet), ask)(*arguments)) == []
    key = {"list": "pre", "uploads": "", "extents": "image"}[ask]
    assert f": {ask} of {key!r} goes on" in caplog.text


PENDING = [Upload(token, "image", 0.0) for token in ("t3", "t1", "t2")]


@pytest.mark.parametrize("breaks", [[], [0], [2], [3], [1, 2, 0]])
def test_pending_uploads_are_told_once_each(breaks):
    uploader = Pages(PENDING, *[(count, lost()) for count in breaks])
    store, _ = resuming(uploader=uploader)
    call = Call(observe=lambda event: None)
    assert list(store.uploader.uploads(60.0, call=call)) == PENDING
    assert uploader.asked == [(60.0, call)] * (1 + len(breaks))


def test_pending_uploads_of_any_age_are_told_unless_asked_otherwise():
    uploader = Pages(PENDING)
    store, _ = resuming(uploader=uploader)
    assert list(store.uploader.uploads()) == PENDING
    assert uploader.asked == [(0.0, Call())]


MAP = [
    Extent(ByteRange(0, 10), "data"),
    Extent(ByteRange(10, 30), "hole"),
    Extent(ByteRange(30, 35), "zero"),
]


@pytest.mark.parametrize("breaks", [[], [0], [1], [2], [1, 1], [1, 0, 1, 0]])
def test_a_broken_map_of_extents_goes_on_where_the_last_one_ended(breaks):
    extents = Pages(MAP, *[(count, lost()) for count in breaks])
    store, _ = resuming(extents=extents)
    call = Call(observe=lambda event: None)
    assert list(store.extents.extents("image", version="v1", call=call)) == MAP
    starts, at = [0], 0
    for count in breaks:
        at += count
        starts.append(MAP[at].range.start)
    assert extents.asked == [("image", start, None, "v1", call) for start in starts]


def test_a_part_of_a_map_is_asked_for_by_its_bounds():
    extents = Pages(MAP[1:2], (0, lost()))
    store, _ = resuming(extents=extents)
    assert list(store.extents.extents("image", start=10, stop=30)) == MAP[1:2]
    assert extents.asked == [("image", 10, 30, "v1", Call())] * 2
    list(store.extents.extents("image"))
    assert extents.asked[-1] == ("image", 0, None, "v1", Call())


def test_a_map_that_broke_behind_its_last_extent_is_whole():
    extents = Pages(MAP, (3, lost()), (0, RangeNotSatisfiableError("behind")))
    store, _ = resuming(extents=extents)
    assert list(store.extents.extents("image")) == MAP
    assert [start for _, start, *_ in extents.asked] == [0, 35]


@pytest.mark.parametrize("start", [0, 40])
def test_a_map_from_behind_the_end_is_an_error(start):
    store, _ = resuming(extents=Pages(MAP, (0, RangeNotSatisfiableError("behind"))))
    with pytest.raises(RangeNotSatisfiableError):
        list(store.extents.extents("image", start=start))


def test_an_extent_of_unknown_end_is_asked_for_again_from_where_it_began():
    endless = [Extent(ByteRange(0, None), "data")]
    extents = Pages(endless, (1, lost()), (0, None))
    store, _ = resuming(extents=extents)
    assert list(store.extents.extents("image")) == endless
    assert [start for _, start, *_ in extents.asked] == [0, 0]


def test_facets_that_the_store_lacks_stay_lacking():
    store, _ = resuming()
    assert (store.writer, store.uploader, store.lister, store.extents) == (None, None, None, None)


def test_maps_of_two_versions_are_never_joined():
    extents = Pages(MAP, (1, lost()))
    store, inner = resuming(extents=extents)
    versions = iter(["v1", None])
    inner._stat = lambda key, call: ObjectInfo(key, 100, next(versions))
    assert list(store.extents.extents("image")) == MAP
    assert {asked[3] for asked in extents.asked} == {"v1"}
    with pytest.raises(UnpinnableError):
        list(resuming_unversioned())


def resuming_unversioned():
    store, inner = resuming(extents=Pages(MAP, (1, lost())))
    inner._stat = lambda key, call: ObjectInfo(key, 100, None)
    return store.extents.extents("image")


def test_a_map_without_a_version_that_broke_before_its_first_extent_is_asked_for_again():
    store, inner = resuming(extents=Pages(MAP, (0, lost())))
    inner._stat = lambda key, call: ObjectInfo(key, 100, None)
    assert list(store.extents.extents("image")) == MAP
