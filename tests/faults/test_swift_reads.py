"""Reads from Swift while something changes: tokens, segments, listings, the object itself."""

from __future__ import annotations

import threading
import time

import pytest

from imgstore.errors import (
    AuthenticationError,
    BadReplyError,
    ConfigError,
    NotFoundError,
    OperationCancelledError,
    PermanentError,
    PermissionDeniedError,
    ProtocolViolationError,
    RangeNotSatisfiableError,
    RetriesExhaustedError,
    TruncatedError,
    UnpinnableError,
    VersionChangedError,
)
from imgstore.model import ANY
from tests.faults.swift_rig import IMAGE, SEGMENT, SMALL, read, rig
from tests.faults.swift_server import Fault, _Handler


@pytest.fixture
def made():
    with rig() as one:
        yield one


def test_ranges_of_a_static_large_object(made):
    made.put_large()
    store = made.driver()
    info = store.stat("large")
    assert info.size == len(IMAGE)
    for start, length in ((0, None), (SEGMENT - 3, 10), (len(IMAGE) - 1, 1), (2 * SEGMENT, SEGMENT)):
        stop = len(IMAGE) if length is None else start + length
        assert read(store, "large", start, length, version=info.version) == IMAGE[start:stop]


def test_ranges_of_a_dynamic_large_object(made):
    data = made.put_dynamic()
    store = made.driver()
    info = store.stat("dynamic")
    assert info.size == len(data)
    for start, length in ((0, None), (999, 2), (1000, 1000), (2499, 1)):
        stop = len(data) if length is None else start + length
        assert read(store, "dynamic", start, length, version=info.version) == data[start:stop]
    with pytest.raises(RangeNotSatisfiableError):
        read(store, "dynamic", len(data))


def test_the_version_is_sent_and_the_time_is_compared(made):
    made.server.put("images", "small", SMALL)
    store = made.driver()
    info = store.stat("small")
    made.server.put("images", "small", SMALL)  # the same bytes, and so the same ETag, at another time
    with pytest.raises(VersionChangedError):
        read(store, "small", version=info.version)
    assert read(store, "small", version=ANY) == SMALL
    made.server.put("images", "small", SMALL[::-1])
    with pytest.raises(VersionChangedError):
        read(store, "small", version=info.version)


def test_a_service_that_refuses_every_condition_on_large_objects_is_still_compared():
    """Radosgw 16."""
    with rig(refuses=True) as made:
        made.put_large()
        store = made.driver()
        version = store.stat("large").version
        assert read(store, "large", 5, 10, version=version) == IMAGE[5:15]
        before = made.server.count("HEAD", "large")
        assert read(store, "large", SEGMENT, 10, version=version) == IMAGE[SEGMENT : SEGMENT + 10]
        assert made.server.count("HEAD", "large") == before
        made.put_large(data=IMAGE[::-1])
        with pytest.raises(VersionChangedError):
            read(store, "large", version=version)


@pytest.mark.parametrize("version", ['"dlo-0"', '"abc@1.5"', "abc", '"abc"', "modified:x", '"@1.5"'])
def test_a_version_that_never_was_is_never_served(made, version):
    made.server.put("images", "small", SMALL)
    with pytest.raises(VersionChangedError):
        read(made.driver(), "small", version=version)


def test_an_object_that_became_a_dynamic_one_is_another(made):
    made.server.put("images", "dynamic", SMALL)
    store = made.driver()
    version = store.stat("dynamic").version
    made.put_dynamic()
    with pytest.raises(VersionChangedError):
        read(store, "dynamic", version=version)


def test_a_missing_segment_in_the_middle_is_no_shorter_image(made):
    made.put_dynamic()
    del made.server.containers["images"]["dynamic-00002"]
    with pytest.raises(BadReplyError, match="segment 2 of the image is missing"):
        made.driver().stat("dynamic")
    with pytest.raises(BadReplyError, match="segment 2 of the image is missing"):
        read(made.driver(), "dynamic")
    with pytest.raises(ProtocolViolationError):
        read(made.store(), "dynamic")


@pytest.mark.parametrize("first", [0, 1])
def test_a_missing_first_segment_shows(made, first):
    data = made.put_dynamic(first=first)
    assert read(made.driver(), "dynamic") == data
    del made.server.containers["images"][f"dynamic-{first:05}"]
    if first == 0:
        return  # those that begin with 1 are Glance's: nothing tells them apart
    with pytest.raises(BadReplyError, match="segment 0 of the image is missing"):
        made.driver().stat("dynamic")


def test_a_missing_last_segment_shows_where_names_tell_the_size(made):
    prefix = "dynamic/1700000000.0/2500/1000/"
    for number, size in enumerate((1000, 1000, 500)):
        made.server.put("images_segments", f"{prefix}{number:08}", IMAGE[:size])
    made.server.put("images", "dynamic", b"", dlo=f"images_segments/{prefix}")
    assert made.driver().stat("dynamic").size == 2500
    del made.server.containers["images_segments"][f"{prefix}00000002"]
    with pytest.raises(BadReplyError, match="2000 bytes where their names tell 2500"):
        made.driver().stat("dynamic")


def test_a_missing_last_segment_is_another_version(made):
    made.put_dynamic()
    store = made.driver()
    version = store.stat("dynamic").version
    del made.server.containers["images"]["dynamic-00003"]
    with pytest.raises(VersionChangedError):
        read(store, "dynamic", version=version)


def test_segments_without_numbers_prove_nothing(made):
    for name in ("a", "b"):
        made.server.put("images_segments", f"x/{name}", SMALL)
    made.server.put("images", "dynamic", b"", dlo="images_segments/x/")
    with pytest.raises(UnpinnableError, match="do not end in numbers"):
        made.driver().stat("dynamic")


def test_b13_a_listing_that_lags_is_waited_for(made):
    """The manifest is there, its segments are not listed yet."""
    made.server.put("images", "first", b"x")
    made.server.lag()
    data = made.put_dynamic()
    made.server.before = lambda method, path: (
        made.server.count("GET", "images$") > 2 and made.server.catch_up()
    )
    assert read(made.store(), "dynamic") == data


def test_b12_a_segment_replaced_in_mid_read_is_noticed(made):
    data = made.put_dynamic()
    store = made.store()
    with store.get("dynamic") as stream:
        assert stream.read(500) == data[:500]
        made.server.put("images", "dynamic-00003", data[:500])
        with pytest.raises(VersionChangedError):
            stream.read()


def test_b12_a_segment_removed_in_mid_read_is_noticed(made):
    data = made.put_dynamic()
    with made.store().get("dynamic") as stream:
        assert stream.read(500) == data[:500]
        del made.server.containers["images"]["dynamic-00003"]
        with pytest.raises(NotFoundError, match="segment 'dynamic-00003' of the image is gone") as caught:
            stream.read()
    assert caught.value.offset == 2000


@pytest.mark.parametrize("manifests", [True, False])
@pytest.mark.parametrize("what", ["removed", "overwritten"])
def test_b12_a_segment_that_vanishes_under_a_manifest_is_a_typed_error(what, manifests):
    """Swift cuts the body there, or refuses to begin, without a word."""
    with rig(manifests=manifests) as made:
        names = made.put_large()
        if what == "removed":
            del made.server.containers["images_segments"][names[2]]
        else:
            made.server.put("images_segments", names[2], bytes(SEGMENT))
        compared = not manifests and what == "overwritten"  # by the driver, as a whole
        wanted = {
            (True, "removed"): NotFoundError,
            (True, "overwritten"): VersionChangedError,
            (False, "removed"): RetriesExhaustedError,
            (False, "overwritten"): (VersionChangedError, RetriesExhaustedError),
        }[manifests, what]
        store = made.store(resume_attempts=3)
        for start in (SEGMENT + 5, 2 * SEGMENT + 5):
            before = made.server.count("GET", "/images/large")
            with pytest.raises(wanted) as caught, store.get("large", start) as stream:
                stream.read()
            refused = start if compared or start > 2 * SEGMENT else None
            assert caught.value.offset in (2 * SEGMENT, refused, None)
            # three tries, each with a look, and the first whether the service tells manifests
            assert made.server.count("GET", "/images/large") - before <= 7
        if not compared:
            assert read(store, "large", 0, 2 * SEGMENT) == IMAGE[: 2 * SEGMENT]


def test_a_body_that_breaks_for_another_reason_goes_on(made):
    made.put_large()
    made.server.script("GET", "/images/large$", Fault(cut=1000))
    made.server.script("GET", "/images/large$", Fault(cut=SEGMENT))
    assert read(made.store(), "large") == IMAGE


def test_a_token_that_ends_in_mid_read_is_renewed_once(made):
    made.put_large()
    store = made.store(receive_timeout=0.2)
    made.server.script("GET", "/images/large$", Fault(stall=True))
    with store.get("large") as stream:
        got = stream.read(1000)
        made.server.forget_tokens()
        got += stream.read()
    assert got == IMAGE
    assert made.server.logins == 2


def test_a_refused_token_costs_one_login_for_all_threads(made):
    made.server.put("images", "small", SMALL)
    store = made.driver()
    store.stat("small")
    made.server.forget_tokens()
    barrier, got = threading.Barrier(8, timeout=10), []

    def work():
        barrier.wait()
        got.append(read(store, "small"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert got == [SMALL] * 8
    assert made.server.logins == 2


@pytest.mark.parametrize("lifetime,lasts", [(3600, 3539), (59, 29)])
def test_a_token_is_renewed_before_its_end(made, lifetime, lasts):
    made.server.put("images", "small", SMALL)
    made.server.lifetime = lifetime
    store = made.driver()
    for ahead, logins in ((0, 1), (lasts - 1, 1), (lasts + 2, 2), (lasts + 3, 2)):
        made.clock.ahead = ahead
        store.stat("small")
        assert made.server.logins == logins, ahead


def test_a_user_who_is_refused_again_and_again_gets_one_error(made):
    made.server.put("images", "small", SMALL)
    store = made.driver()
    store.stat("small")
    made.server.secret = "another"
    made.server.forget_tokens()
    with pytest.raises(AuthenticationError) as caught:
        store.stat("small")
    assert made.server.logins == 1
    assert "CANARY" not in repr(caught.value)


def test_a_secret_that_was_renewed_counts_at_the_next_login(made):
    made.server.put("images", "small", SMALL)
    held = ["old"]
    made.server.secret = "old"
    store = made.driver(password=lambda: held[0])
    store.stat("small")
    held[0] = made.server.secret = "new"
    made.server.forget_tokens()
    assert store.stat("small").size == len(SMALL)


def test_a_body_short_of_its_length_is_truncated(made):
    made.server.put("images", "small", SMALL)
    made.server.script("GET", "small", Fault(cut=100))
    with pytest.raises((TruncatedError, ConnectionError)):
        read(made.driver(), "small")


@pytest.mark.parametrize(
    "status,kind", [(400, PermanentError), (403, PermissionDeniedError), (404, NotFoundError)]
)
def test_a16_a_final_status_costs_no_further_request(made, status, kind):
    made.server.put("images", "small", SMALL)
    made.server.script("GET", "small", Fault(status=status))
    with pytest.raises(kind):
        read(made.store(), "small")
    assert made.server.count("GET", "small") == 1


@pytest.mark.parametrize("status", [408, 425, 429, 498, 500, 502, 503, 504])
def test_a16_a_passing_status_costs_one_more_request(made, status):
    made.server.put("images", "small", SMALL)
    made.server.script("GET", "small", Fault(status=status))
    assert read(made.store(), "small") == SMALL
    assert made.server.count("GET", "small") == 2


@pytest.mark.parametrize("key", ["dynamic", "large"])
def test_a_cancel_ends_what_a_reader_asks_in_between(made, key):
    """The next segment of a dynamic image; what is wrong with one of a static image that broke off."""
    made.put_dynamic()
    made.put_large()
    made.server.script("GET", "/images/large$", Fault(cut=1000))
    asked, over = threading.Event(), threading.Event()
    with made.driver().get(key) as stream:

        def before(method, path):
            if asked.is_set() or not path.endswith(("dynamic-00002", "/images/large")):
                return
            asked.set()
            over.wait(10)

        def cancel():
            asked.wait(10)
            stream.cancel()

        made.server.before = before
        assert len(stream.read(1000)) == 1000
        canceller = threading.Thread(target=cancel)
        canceller.start()
        begun = time.monotonic()
        with pytest.raises(OperationCancelledError):
            stream.read(1)
        took = time.monotonic() - begun
        over.set()
        canceller.join()
    assert asked.is_set()
    assert took < 3


@pytest.mark.parametrize("other", [bytes(SEGMENT), bytes(SEGMENT + 1), bytes(SEGMENT - 1)])
def test_b12_where_the_service_does_not_compare_segments_the_driver_does(monkeypatch, other):
    """As with radosgw, which serves whatever is there, and tells no manifest."""

    def whole(handler, found):
        if found.slo is None:
            return found.data, False
        held = handler.service.containers["images_segments"]
        return b"".join(held[name].data for name in names)[: len(IMAGE)], False

    monkeypatch.setattr(_Handler, "_whole", whole)
    with rig(manifests=False) as made:
        names = made.put_large()
        version = made.driver().stat("large").version
        assert read(made.driver(), "large", version=version) == IMAGE
        made.server.put("images_segments", names[1], other)
        for options in ({}, {"version": version}):
            with pytest.raises(VersionChangedError):
                read(made.driver(), "large", **options)


def test_b12_segments_are_compared_once_for_a_parallel_read(made):
    made.server.manifests = False
    made.put_large()
    store = made.driver()
    for offset in range(0, len(IMAGE), SEGMENT):
        assert read(store, "large", offset, 10) == IMAGE[offset : offset + 10]
    assert made.server.count("GET", "images_segments$") == 2  # and the page that ends it
    made.server.manifests = True
    store = made.driver()
    made.server.log.clear()
    for _ in range(3):
        assert read(store, "large", 5, 10) == IMAGE[5:15]
    assert made.server.count("GET", "images_segments$") == 0
    assert made.server.count("GET", "images/large$") == 4


def test_a17_a_whole_image_for_a_range_is_skipped_forward(made):
    made.server.put("images", "small", SMALL)
    made.server.ranges = False
    store = made.store()
    assert read(store, "small", 1000, 10, version=store.stat("small").version) == SMALL[1000:1010]
    made.server.put("images", "small", SMALL[:500])
    with pytest.raises(VersionChangedError):
        read(store, "small", 1000, 10, version='"0@1.5"')


def test_b11_an_etag_is_never_a_digest(made):
    """The ETag of a plain object is its MD5, that of a large one is not, and both look alike."""
    made.server.put("images", "small", SMALL)
    made.put_large()
    store = made.driver()
    assert store.stat("small").digests == store.stat("large").digests == {}
    with store.get("small") as stream:
        assert stream.info.digests == {}


def test_b13_the_version_is_that_of_the_reply_to_get(made):
    made.server.put("images", "small", SMALL)
    store = made.driver()
    store.stat("small")
    made.server.put("images", "small", SMALL[::-1])
    with store.get("small") as stream:
        assert stream.read() == SMALL[::-1]
        version = stream.info.version
    assert version == store.stat("small").version


@pytest.mark.parametrize("key", ["a\r\nX-Evil: 1", "a?format=json", "a#b", "a%0d%0ab", "\u202e", "a\nb"])
def test_g9_a_key_is_a_path_and_nothing_else(made, key):
    made.server.put("images", key, SMALL)
    store = made.driver()
    assert read(store, key) == SMALL
    assert made.server.log[-1] == ("GET", f"/v1/AUTH_test/images/{key}", "")
    assert [info.key for info in store.lister.list(key)] == [key]


def test_g9_what_no_header_can_carry_is_refused(made):
    for options in ({"user": "a\r\nX-Evil: 1"}, {"password": "a\nb"}):
        with pytest.raises(ConfigError, match="holds a character that no header can carry") as caught:
            made.driver(**options).stat("small")
        assert "Evil" not in str(caught.value)
    assert made.server.log == []


def test_what_a_listing_leaves_out_is_said_once(made, caplog):
    """A copy of everything would be without it."""
    store = made.driver()
    for name in ("a", "folder/", "x//y", "/abs"):
        made.server.put(store.layout.place("a"), name, b"" if name.endswith("/") else SMALL)
    assert [info.key for info in store.lister.list()] == ["a"]
    (said,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert "2 of the objects in" in said
    assert "no key is called '/abs'" in said
