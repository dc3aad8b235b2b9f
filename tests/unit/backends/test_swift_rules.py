"""The rules of the Swift driver, sans I/O: segments, versions, names, and what refusals mean."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from imgstore.backends._http_range import Reply
from imgstore.backends.swift import dynamic
from imgstore.backends.swift.failures import RefusedError, translate
from imgstore.backends.swift.joining import check_parts
from imgstore.backends.swift.layout import Layout, is_own, read_segment, segment_name, segments_of, stem
from imgstore.backends.swift.parts import Limits, limits_of, plan
from imgstore.backends.swift.records import Record, fresh_id, split
from imgstore.backends.swift.segments import etag, joined_etag, named
from imgstore.backends.swift.versions import expecting, stamped, tagged
from imgstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BadReplyError,
    ConfigError,
    ConnectionLostError,
    NoSpaceError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    SourceChangedError,
    ThrottledError,
    TimedOutError,
    TlsError,
    UnavailableError,
    UnpinnableError,
    UnsupportedError,
    UploadLostError,
    VersionChangedError,
)
from imgstore.model import NO_CALL, Part
from tests import canary

MIB = 1 << 20


@pytest.mark.parametrize("limits", [Limits(), Limits(10, 5, 1000), Limits(3, 1, 7), Limits(1, 1, 100)])
def test_d17_planned_segments_are_legal_for_any_size(limits):
    rng = random.Random(17)
    largest = limits.segments * limits.max_size
    sizes = {
        0,
        1,
        limits.max_size,
        limits.max_size + 1,
        largest,
        *(rng.randrange(largest) for _ in range(50)),
    }
    for size in (size for size in sizes if size <= largest):
        each = plan(size, 4, limits)(0, 0)
        count = -(-size // each)
        assert count <= limits.segments, size
        assert each <= limits.max_size, size
        assert each >= limits.min_size or count <= 1, size
    with pytest.raises(UnsupportedError, match="too large"):
        plan(largest + 1, 4, limits)


def test_d17_segments_of_an_unknown_size_grow_and_stay_legal():
    size_of = plan(None, 32 * MIB, Limits())
    sizes = [size_of(number, 0) for number in range(1000)]
    assert sizes[0] == 32 * MIB
    assert sizes == sorted(sizes)
    assert sizes[-1] == 16 * 32 * MIB
    assert sum(sizes) > 190 << 30
    assert max(plan(None, 4 << 30, Limits())(number, 0) for number in range(1000)) == 5 << 30
    with pytest.raises(UnsupportedError, match="more than the 1000 segments"):
        size_of(1000, sum(sizes))


def test_a_small_image_of_known_size_takes_no_more_memory():
    assert plan(10, 32 * MIB, Limits())(0, 0) == 10
    assert plan(0, 32 * MIB, Limits())(0, 0) == 1


def test_what_the_service_tells_of_its_limits():
    told = {"slo": {"max_manifest_segments": 5, "min_segment_size": 7}, "swift": {"max_file_size": 9}}
    assert limits_of(told) == Limits(5, 7, 9)
    for nonsense in (
        {},
        {"slo": None},
        {"slo": {"max_manifest_segments": "x"}},
        {"slo": {"min_segment_size": -1}},
    ):
        assert limits_of(nonsense) == Limits()


def test_parts_that_are_the_whole_image_in_any_order():
    parts = [Part(0, 0, 5, "a-1"), Part(1, 5, 5, "b-2"), Part(2, 10, 1, "c-3")]
    record = Record("u", "k", 11)
    assert check_parts(record, parts[::-1], Limits()) == parts
    for wrong in (parts[1:], parts[:2], [parts[0], parts[2]], [*parts, parts[2]], []):
        with pytest.raises(SourceChangedError):
            check_parts(record, wrong, Limits())
    with pytest.raises(UnsupportedError, match="the service joins 2"):
        check_parts(record, parts, Limits(segments=2))
    with pytest.raises(UnsupportedError, match="the service wants 6"):
        check_parts(record, parts, Limits(min_size=6))
    assert check_parts(record, parts, Limits(min_size=5)) == parts  # the last may be smaller


def test_the_names_of_segments_tell_their_parts_and_never_repeat():
    names = {segment_name(7, 1 << 40) for _ in range(100)}
    assert len(names) == 100
    assert {read_segment(name) for name in names} == {(7, 1 << 40)}
    for other in ("00000001", "x", "00000001-5-zzzzzzzz", "1-2-0123abcd"):
        assert read_segment(other) is None
    part = Part(7, 5, 3, "abc-0123abcd")
    assert (named(part), etag(part)) == ("00000007-5-0123abcd", "abc")
    assert len(stem("k" * 1024, fresh_id()).encode()) + 40 < 1024


def test_the_etag_of_a_manifest_is_that_of_the_etags():
    parts = [
        Part(0, 0, 1, "0cc175b9c0f1b6a831c399e269772661-0"),
        Part(1, 1, 1, "92eb5ffee6ae2fec3ad71c777531578f-1"),
    ]
    assert joined_etag(parts) == "3bc22fb7aaebe9c8c5d7de312b876bb8"


@pytest.mark.parametrize(
    "segment,own",
    [
        ("/images/key-00001", True),
        ("/images_segments/key/slo/1.5/10/5/00000000", True),
        ("images_segments/key/0123/00000000-0-0123abcd", True),
        ("/images_segments/key2/00000000", False),
        ("/images_segments/other/key/0", False),
        ("/elsewhere/key/0", False),
        ("/images_segments/key", False),
    ],
)
def test_whose_a_segment_is_stands_in_its_name(segment, own):
    assert is_own("key", "images", segment) is own


def test_tokens_are_split_and_nonsense_is_no_upload():
    upload = fresh_id()
    assert split(f"{upload}/a/b") == (upload, "a/b")
    for bad in ("", "kit-no-such-upload", f"{upload}", f"{upload}/", f"{upload[:-1]}/a", f"{'g' * 32}/a"):
        with pytest.raises(UploadLostError):
            split(bad)


def reply(status=200, **fields):
    return Reply(1, status, tuple((name.replace("_", "-"), value) for name, value in fields.items()))


@pytest.mark.parametrize("given", ["abc", '"abc"'])
def test_versions_join_the_etag_and_the_time(given):
    made = stamped(reply(Etag=given, X_Timestamp="1.50000"))
    assert made.value("etag") == '"abc@1.50000"'
    assert expecting('"abc@1.50000"') == ("If-Match", '"abc"')
    assert tagged(reply(ETAG=given, X_Timestamp="1.5")).value("etag") == '"abc"'
    assert stamped(reply(Etag=given)).value("etag") == '"abc"'
    assert expecting('"abc"') == ("If-Match", '"abc"')


@pytest.mark.parametrize("etag", ["", "a b", "a@b", 'a"b', "W/\\x"])
def test_what_is_no_etag_makes_no_version(etag):
    assert stamped(reply(Etag=etag, X_Timestamp="1.5")).value("etag") in (None, '"W/\\x@1.5"')


@pytest.mark.parametrize(
    "version", ["", "abc", '"a@b"', '"a@1.5', "a@1.5", '"a b@1.5"', '"@1.5"', '"a@1\r\nX: 1"']
)
def test_what_is_no_version_is_never_sent(version):
    if version == '"a@1.5':  # the quote at the end is not looked for: what is sent is whole
        assert expecting(version) == ("If-Match", '"a"')
        return
    with pytest.raises(VersionChangedError):
        expecting(version)


def numbered(*names):
    return [dynamic.Segment(name, 1, "e") for name in names]


@pytest.mark.parametrize("names", [("a-00001", "a-00002"), ("x/00000000",), ("p1/0", "p1/1")])
def test_rows_of_numbers_have_no_gap(names):
    dynamic._check_numbers(numbered(*names))


@pytest.mark.parametrize(
    "names,missing",
    [((), None), (("a-2", "a-3"), 0), (("a-1", "a-3"), 2), (("a-0", "a-2"), 1), (("a-1", "a-2", "a-5"), 3)],
)
def test_gaps_show(names, missing):
    told = "no segments" if missing is None else f"segment {missing} of the image is missing"
    with pytest.raises(BadReplyError, match=told):
        dynamic._check_numbers(numbered(*names))


@pytest.mark.parametrize("names", [("a", "b"), ("a1", "b2"), ("a-1", "a-1x")])
def test_names_without_a_row_of_numbers_prove_nothing(names):
    with pytest.raises(UnpinnableError):
        dynamic._check_numbers(numbered(*names))


@pytest.mark.parametrize(
    "status,kind",
    [
        (400, PermanentError), (401, AuthenticationError), (403, PermissionDeniedError), (404, NotFoundError),
        (408, UnavailableError), (409, UnavailableError), (411, BadReplyError), (412, AlreadyExistsError),
        (413, NoSpaceError), (422, BadReplyError), (429, ThrottledError), (498, ThrottledError),
        (500, UnavailableError), (503, UnavailableError), (507, NoSpaceError), (302, BadReplyError),
    ],
)  # fmt: skip
def test_what_refusals_mean(status, kind):
    error = translate(RefusedError(reply(status, X_Trans_Id="tx1", X_Auth_Token=canary.TOKEN), b"body"))
    assert type(error) is kind
    assert error.request_id == "tx1"
    assert str(status) in str(error)
    assert not canary.found(repr(error))


def test_a_refusal_tells_when_to_come_back():
    assert translate(RefusedError(reply(503, Retry_After="7"))).retry_after == 7


@pytest.mark.parametrize(
    "name,kind",
    [
        ("Unauthorized", AuthenticationError), ("Forbidden", PermissionDeniedError),
        ("EndpointNotFound", ConfigError), ("EmptyCatalog", ConfigError), ("NotFound", ConfigError),
        ("SSLError", TlsError), ("ConnectTimeout", TimedOutError), ("ServiceUnavailable", UnavailableError),
        ("TooManyRequests", ThrottledError), ("BadRequest", PermanentError),
        ("ConnectFailure", ConnectionLostError),
    ],
)  # fmt: skip
def test_what_the_exceptions_of_keystoneauth_mean(name, kind):
    from keystoneauth1 import exceptions

    # a release for an older Python may not have it yet
    module = {"__module__": exceptions.__name__}
    kind_of = getattr(exceptions, name, None) or type(name, (exceptions.HTTPClientError,), module)
    exc = kind_of(f"POST https://k/v3?x={canary.TOKEN}")
    error = translate(exc)
    assert isinstance(error, kind)
    assert not canary.found(f"{error!r}{error.__cause__!r}")


def test_what_nobody_knows_is_no_weather():
    class NotFound(Exception):  # noqa: N818  # a namesake from elsewhere
        pass

    error = translate(NotFound("x"))
    assert type(error) is PermanentError
    assert isinstance(error.__cause__, NotFound)


def test_containers_of_images_and_of_segments_are_never_the_same():
    """Access to one image would be access to another."""
    layout = Layout("tenants", per_image=True)
    keys = ["a", "a_segments", "a%5Fsegments", "_segments", "a_segments_segments", "a/b"]
    places = [layout.place(key) for key in keys]
    assert len({*places, *map(segments_of, places)}) == 2 * len(keys)
    assert [layout.key_of(place) for place in places] == keys
    listed = SimpleNamespace(containers=lambda **_: sorted([*places, *map(segments_of, places)]))
    assert sorted(layout.containers(listed, NO_CALL)) == sorted(places)
    assert sorted(layout.segment_containers(listed, NO_CALL)) == sorted(map(segments_of, places))
