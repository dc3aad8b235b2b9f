"""The wire rules of ranged reads, each boundary on both sides."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import FrozenInstanceError

import pytest

from imgstore.backends._http_range import (
    Framing,
    Reply,
    check_encoding,
    check_version,
    content_length,
    describe,
    framing,
    http_date,
    judge,
    precondition,
    range_header,
    unsatisfied,
    version_of,
)
from imgstore.errors import BadReplyError, UnsupportedError, VersionChangedError
from imgstore.model import ANY, ByteRange

OLD = "Sun, 06 Nov 1994 08:49:37 GMT"
OLD_TIME = 784111777.0
NO_LENGTH = "the server gives no length for this image: it can only be read from its start to its end"
LARGEST = (1 << 63) - 1


def reply(status=206, *fields, minor=1, **named):
    pairs = [*fields, *((name.replace("_", "-"), value) for name, value in named.items())]
    return Reply(minor, status, tuple(pairs))


def dated(seconds_later):
    """A Last-Modified and a Date that many seconds after it."""
    minutes, seconds = divmod(37 + seconds_later, 60)
    return {"Last_Modified": OLD, "Date": f"Sun, 06 Nov 1994 08:{49 + minutes:02}:{seconds:02} GMT"}


def refused(call, *args, match=None, kind=BadReplyError):
    """The error of a call; all that it says, or how it starts, is `match` behind the words all have."""
    with pytest.raises(kind) as caught:
        call(*args)
    assert type(caught.value) is kind
    said = str(caught.value).removeprefix("the server sent ")
    assert match is None or said == match or (match.endswith("...") and said.startswith(match[:-3])), said
    return caught.value


# Fields


def test_names_are_compared_in_any_case_and_values_kept_in_order():
    head = reply(200, ("ETag", "b"), ("etag", "a"), ("Other", "c"))
    assert head.values("etag") == ["b", "a"]
    assert head.values("missing") == []


def test_one_value_or_the_same_twice():
    assert reply(200).value("a") is None
    assert reply(200, ("a", "x")).value("a") == "x"
    assert reply(200, ("a", "x"), ("A", "x")).value("a") == "x"
    error = refused(reply(200, ("a", "x"), ("a", "y"), ("x-trans-id", "tx1")).value, "a")
    assert str(error) == "the server sent two different a headers"
    assert error.request_id == "tx1"


def test_a_field_that_must_be_the_only_one():
    assert reply(200).single("a") is None
    assert reply(200, ("A", "x")).single("a") == "x"
    assert reply(200, ("A", "x"), ("a", "x")).single("a") is None


def test_values_do_not_change():
    for value in (Reply(1, 200), Framing(chunked=False, length=0), judge(reply(200), "k", 0, None, None)):
        for name in value.__slots__:
            with pytest.raises(FrozenInstanceError):
                setattr(value, name, None)
        assert not hasattr(value, "__dict__")


def test_fields_are_none_by_default():
    assert Reply(1, 200).fields == ()


@pytest.mark.parametrize(
    "name",
    [
        "X-Request-Id",
        "x-amz-request-id",
        "x-amzn-RequestId",
        "X-Trans-Id",
        "x-openstack-request-id",
        "x-ms-request-id",
        "x-goog-request-id",
        "CF-RAY",
    ],
)
def test_the_providers_name_of_the_exchange(name):
    assert reply(200, ("other", "x"), (name, "tx-123")).request_id == "tx-123"


@pytest.mark.parametrize("value", ["", "two words", "a\x7f", "\xe9", "a" * 129])
def test_what_is_no_request_id_is_not_repeated(value):
    assert reply(200, ("x-request-id", value)).request_id is None
    assert reply(200, ("x-request-id", value), ("cf-ray", "good")).request_id == "good"


def test_request_ids_may_be_long():
    assert reply(200, ("x-request-id", "a" * 128)).request_id == "a" * 128


def test_the_first_kind_of_request_id_counts():
    assert reply(200, ("cf-ray", "b"), ("x-request-id", "a")).request_id == "a"


# What is asked


@pytest.mark.parametrize(
    "start,stop,text",
    [(0, None, "bytes=0-"), (7, None, "bytes=7-"), (0, 1, "bytes=0-0"), (5, 7, "bytes=5-6")],
)
def test_every_request_has_a_range(start, stop, text):
    assert range_header(start, stop) == text


@pytest.mark.parametrize("tag", ['"v1"', '""', '"!#~\x80\xff"', '"W/"'])
def test_a_strong_tag_is_sent_as_it_is(tag):
    assert precondition(tag) == ("If-Match", tag)


def test_a_strong_date_is_sent_as_it_is():
    assert precondition(f"modified:{OLD}") == ("If-Unmodified-Since", OLD)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "v1",
        'W/"v1"',
        '"v1',
        'v1"',
        '"v1"\r\nHost: evil',
        '"v1" ',
        '"a b"',
        '"a"b"',
        '"\x7f"',
        '"\u0100"',
        OLD,
        "modified:",
        f"modified:{OLD}\r\nHost: evil",
        "modified:Sunday, 06-Nov-94 08:49:37 GMT",
        f"modified:modified:{OLD}",
        f"Modified:{OLD}",
    ],
)
def test_a_version_that_no_server_gave_never_reaches_the_wire(token):
    error = refused(precondition, token, kind=VersionChangedError)
    assert str(error) == "no image of a web server has the version that was asked for"


# Where a body ends


def test_framing():
    assert framing(reply(200)) == Framing(chunked=False, length=None)
    assert framing(reply(200, Content_Length="0")) == Framing(chunked=False, length=0)
    assert framing(reply(200, Transfer_Encoding="Chunked")) == Framing(chunked=True, length=None)
    assert framing(reply(200, Content_Length="7", minor=0)) == Framing(chunked=False, length=7)


@pytest.mark.parametrize(
    "head",
    [
        reply(200, Transfer_Encoding="gzip, chunked"),
        reply(200, Transfer_Encoding="identity"),
        reply(200, Transfer_Encoding=""),
        reply(200, ("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")),
        reply(200, Transfer_Encoding="chunked", minor=0),
    ],
)
def test_other_transfer_encodings_are_refused(head):
    refused(framing, head, match="a Transfer-Encoding other than chunked over HTTP/1.1")


def test_length_and_chunks_together_are_refused():
    refused(
        framing,
        reply(200, Transfer_Encoding="chunked", Content_Length="5"),
        match="both a Content-Length and a Transfer-Encoding",
    )
    refused(
        framing,
        reply(200, Transfer_Encoding="gzip", Content_Length="0"),
        match="both a Content-Length and a Transfer-Encoding",
    )


@pytest.mark.parametrize("text,length", [("0", 0), ("5", 5), ("007", 7), (str(LARGEST), LARGEST)])
def test_content_length(text, length):
    assert content_length(reply(200, Content_Length=text)) == length
    assert content_length(reply(200, ("Content-Length", text), ("content-length", text))) == length


def test_no_content_length():
    assert content_length(reply(200)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-5",
        "+5",
        "5,6",
        "5, 5",
        "5 ",
        "0x5",
        "1_0",
        "5.0",
        "\u0665",
        "\xb2",
        str(LARGEST + 1),
        "9" * 19,
        "0" * 20,
        "9" * 5000,
    ],
)
def test_what_is_no_length(text):
    error = refused(
        content_length, reply(200, Content_Length=text), match="a Content-Length that is no length: ..."
    )
    assert str(error).endswith(f": {text[:40]!r}")
    assert len(str(error)) < 120


def test_two_lengths():
    refused(
        content_length,
        reply(200, ("Content-Length", "5"), ("Content-Length", "6")),
        match="two different content-length headers",
    )


# Versions


@pytest.mark.parametrize("tag", ['"v1"', '""', '"W/x"', '"\x80"', '"!"', '"#"', '"~"', '"\xff"'])
def test_a_strong_tag_is_a_version(tag):
    assert version_of(reply(200, ETag=tag)) == tag
    assert version_of(reply(200, ("ETag", tag), ("etag", tag))) == tag
    assert version_of(reply(200, ETag=tag, **dated(600))) == tag


@pytest.mark.parametrize(
    "tag", ['W/"v1"', "v1", "", '"v1', '"a"b"', '"a b"', '"\x7f"', '"\x20"', '"a", "b"', '"a" ']
)
def test_any_other_tag_is_none(tag):
    assert version_of(reply(200, ETag=tag)) is None
    assert version_of(reply(200, ETag=tag, **dated(60))) == f"modified:{OLD}"


def test_two_tags_are_none():
    assert version_of(reply(200, ("ETag", '"a"'), ("ETag", '"b"'))) is None


@pytest.mark.parametrize("later,strong", [(0, False), (59, False), (60, True), (61, True), (600, True)])
def test_a_date_is_strong_a_minute_later(later, strong):
    assert version_of(reply(200, **dated(later))) == (f"modified:{OLD}" if strong else None)


@pytest.mark.parametrize(
    "fields",
    [
        {"Last_Modified": OLD},
        {"Date": OLD},
        {"Last_Modified": "Sunday, 06-Nov-94 08:49:37 GMT", "Date": "Mon, 07 Nov 1994 08:49:37 GMT"},
        {"Last_Modified": OLD, "Date": "yesterday"},
        {"Last_Modified": "Sun, 31 Feb 1994 08:49:37 GMT", "Date": "Mon, 07 Nov 1994 08:49:37 GMT"},
        {"Last_Modified": f"{OLD}x", "Date": "Mon, 07 Nov 1994 08:49:37 GMT"},
    ],
)
def test_a_date_without_proof_is_no_version(fields):
    assert version_of(reply(200, **fields)) is None


def test_two_dates_are_no_version():
    later = ("Date", "Mon, 07 Nov 1994 08:49:37 GMT")
    assert version_of(reply(200, ("Last-Modified", OLD), later)) == f"modified:{OLD}"
    assert version_of(reply(200, ("Last-Modified", OLD), ("Last-Modified", OLD), later)) is None
    assert version_of(reply(200, ("Last-Modified", OLD), later, later)) is None


def test_the_pinned_version_and_no_other():
    check_version(reply(200, ETag='"v1"'), '"v1"')
    check_version(reply(200, **dated(60)), f"modified:{OLD}")
    for free in (None, ANY):
        check_version(reply(200), free)
        check_version(reply(200, ETag='"v2"'), free)


@pytest.mark.parametrize(
    "told",
    [
        {"ETag": '"v2"'},
        {"ETag": 'W/"v1"'},
        {"ETag": "v1"},
        {"ETag": '"v1-gzip"'},
        {"ETag": '"V1"'},
        dated(600),
        dated(1),
    ],
)
def test_another_version_is_a_change(told):
    error = refused(
        check_version,
        reply(206, x_request_id="r1", **told),
        '"v1"',
        kind=VersionChangedError,
        match="the server holds another version of the image",
    )
    assert error.request_id == "r1"


def test_another_date_is_a_change_even_while_it_is_weak():
    pinned = "modified:Sat, 05 Nov 1994 08:49:37 GMT"
    refused(check_version, reply(206, **dated(1)), pinned, kind=VersionChangedError)
    refused(check_version, reply(206, ETag='"new"', **dated(90)), f"modified:{OLD}", kind=VersionChangedError)


def test_a_reply_without_any_version_is_somebody_elses():
    refused(check_version, reply(200), '"v1"', match="no version with the image, though one was asked for")
    # The same date, but not shown to be strong; the same tag, but beside another.
    refused(
        check_version,
        reply(200, **dated(59)),
        f"modified:{OLD}",
        match="no version with the image, though one was asked for",
    )
    refused(
        check_version,
        reply(200, ("ETag", '"v1"'), ("ETag", '"v2"')),
        '"v1"',
        match="no version with the image, though one was asked for",
    )


# 206


def part(value, *fields, **named):
    return reply(206, ("Content-Range", value), *fields, **named)


@pytest.mark.parametrize(
    "value,start,served,size",
    [
        ("bytes 0-9/10", 0, (0, 10), 10),
        ("bytes 0-0/1", 0, (0, 1), 1),
        ("bytes 5-9/10", 5, (5, 10), 10),
        ("bytes 5-5/10", 5, (5, 6), 10),
        ("bytes 0-9/10", 9, (0, 10), 10),
        ("bytes 4-6/10", 5, (4, 7), 10),
        ("bytes 5-6/10", 6, (5, 7), 10),
        (f"bytes 0-{LARGEST - 1}/{LARGEST}", 0, (0, LARGEST), LARGEST),
    ],
)
def test_a_part_that_begins_where_it_should(value, start, served, size):
    got = judge(part(value, ETag='"v1"'), "k", start, None, None)
    assert (got.range, got.info.size) == (ByteRange(*served), size)
    assert (got.info.key, got.info.version) == ("k", '"v1"')


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes 0-9/*",
        "bytes */10",
        "bytes 0-10/10",
        "bytes 9-8/10",
        "bytes 1-0/10",
        "bytes -9/10",
        "bytes 0-/10",
        "bytes 0-9/",
        "bytes 0-9",
        "bytes=0-9/10",
        "bytes  0-9/10",
        " bytes 0-9/10",
        "bytes 0-9/10 ",
        "bytes 0 - 9/10",
        "Bytes 0-9/10",
        "octets 0-9/10",
        "0-9/10",
        "bytes 0x0-0x9/10",
        "bytes a-b/c",
        "bytes +0-9/10",
        "bytes \u0660-9/10",
        f"bytes 0-9/{LARGEST + 1}",
        f"bytes 0-{LARGEST + 1}/{LARGEST + 1}",
        f"bytes {LARGEST + 1}-{LARGEST + 1}/{LARGEST + 2}",
        "bytes 0-9/" + "9" * 20,
        "bytes " + "0" * 20 + "-9/10",
        "bytes 0-9/10, bytes 0-9/10",
    ],
)
def test_a_part_that_makes_no_sense(value):
    error = refused(judge, part(value), "k", 0, None, None, match="Content-Range ...")
    assert str(error) == f"the server sent Content-Range {value[:80]!r}"


def test_a_long_content_range_is_cut_short():
    assert str(refused(judge, part("x" * 100), "k", 0, None, None)).endswith(f" {'x' * 80!r}")


def test_a_part_without_content_range():
    refused(judge, reply(206), "k", 0, None, None, match="a part without a Content-Range")


def test_two_content_ranges():
    head = part("bytes 0-9/10", ("Content-Range", "bytes 1-9/10"))
    refused(judge, head, "k", 0, None, None, match="two different content-range headers")
    same = part("bytes 0-9/10", ("Content-Range", "bytes 0-9/10"))
    assert judge(same, "k", 0, None, None).range == ByteRange(0, 10)


@pytest.mark.parametrize(
    "value,start", [("bytes 6-9/10", 5), ("bytes 0-4/10", 5), ("bytes 1-1/10", 0), ("bytes 3-4/10", 8)]
)
def test_a_part_that_misses_the_start(value, start):
    first, last = value.removeprefix("bytes ").removesuffix("/10").split("-")
    said = f"bytes {first} to {last}, though it was asked for those from {start} on"
    refused(judge, part(value), "k", start, None, None, match=said)


@pytest.mark.parametrize(
    "length,stop", [("5", 10), ("6", 10), ("4", 9), ("1", 6), ("0", 5), (str(LARGEST), 10)]
)
def test_the_shorter_of_range_and_length_is_delivered(length, stop):
    got = judge(part("bytes 5-9/10", Content_Length=length), "k", 5, None, None)
    assert got.range == ByteRange(5, stop)
    assert got.info.size == 10


def test_a_part_in_chunks_or_to_the_close():
    assert judge(part("bytes 5-9/10", Transfer_Encoding="chunked"), "k", 5, 7, None).range == ByteRange(5, 10)
    assert judge(part("bytes 5-9/10", minor=0), "k", 5, 7, None).range == ByteRange(5, 10)


def test_a_part_with_a_bad_length():
    refused(
        judge,
        part("bytes 0-9/10", Content_Length="-1"),
        "k",
        0,
        None,
        None,
        match="a Content-Length that is no length: '-1'",
    )


@pytest.mark.parametrize("kind", ["multipart/byteranges; boundary=x", "Multipart/ByteRanges"])
def test_several_parts(kind):
    head = part("bytes 0-9/10", Content_Type=kind)
    refused(judge, head, "k", 0, None, None, match="several ranges, though one was asked for")
    plain = part("bytes 0-9/10", Content_Type="multipart/mixed")
    assert judge(plain, "k", 0, None, None).info.size == 10


# 200


@pytest.mark.parametrize("start,stop", [(0, None), (0, 5), (3, None), (3, 5), (99, None)])
def test_the_whole_with_a_length(start, stop):
    got = judge(reply(200, Content_Length="10"), "k", start, stop, None)
    assert (got.range, got.info.size) == (ByteRange(0, 10), 10)


def test_an_empty_image():
    got = judge(reply(200, Content_Length="0"), "k", 0, None, None)
    assert (got.range, got.info.size) == (ByteRange(0, 0), 0)


@pytest.mark.parametrize("fields", [{}, {"Transfer_Encoding": "chunked"}])
def test_the_whole_without_a_length(fields):
    head = reply(200, ETag='"v1"', x_request_id="r1", **fields)
    for version in (None, ANY, '"v1"'):
        got = judge(head, "k", 0, None, version)
        assert (got.range, got.info.size) == (ByteRange(0, None), None)
    for start, stop in ((1, None), (0, 1), (1, 2)):
        for version in (ANY, '"v1"'):
            assert judge(head, "k", start, stop, version).range == ByteRange(0, None)
        error = refused(judge, head, "k", start, stop, None, kind=UnsupportedError)
        assert str(error) == NO_LENGTH
        assert error.request_id == "r1"


@pytest.mark.parametrize("status", [100, 199, 201, 203, 204, 205, 207, 226, 300, 304, 404, 500])
def test_any_other_status_is_no_image(status):
    error = refused(judge, reply(status, Content_Length="10"), "k", 0, None, None)
    assert str(error) == f"the server sent status {status}, which answers no question that was asked"


# Both


@pytest.mark.parametrize("coding", ["gzip", "br", "x-gzip", "gzip, gzip", "identity, gzip", "deflate"])
@pytest.mark.parametrize("status", [200, 206])
def test_encodings_are_refused(status, coding):
    head = reply(status, Content_Encoding=coding, Content_Range="bytes 0-9/10")
    said = f"the image in the encoding {coding!r}, though identity was asked for"
    refused(judge, head, "k", 0, None, None, match=said)


def test_identity_is_no_encoding():
    for coding in ("identity", "Identity", ""):
        check_encoding(reply(200, Content_Encoding=coding))
    check_encoding(reply(200))
    twice = reply(200, ("Content-Encoding", "identity"), ("Content-Encoding", "gzip"))
    refused(check_encoding, twice, match="the image in the encoding 'gzip', though identity was asked for")
    assert str(refused(check_encoding, reply(200, Content_Encoding="x" * 50))).count("x") == 40


@pytest.mark.parametrize("status", [200, 206])
def test_the_version_is_judged_before_anything_is_delivered(status):
    good = {"Content_Range": "bytes 0-9/10", "Content_Length": "10"}
    assert judge(reply(status, ETag='"v1"', **good), "k", 0, None, '"v1"').info.version == '"v1"'
    refused(judge, reply(status, ETag='"v2"', **good), "k", 0, None, '"v1"', kind=VersionChangedError)
    refused(
        judge,
        reply(status, **good),
        "k",
        0,
        None,
        '"v1"',
        match="no version with the image, though one was asked for",
    )
    assert judge(reply(status, ETag='"v2"', **good), "k", 0, None, ANY).info.version == '"v2"'


# What is told of an image


def digest_field(name, data=b"image", encode=base64.b64encode):
    value = encode(hashlib.new(name.replace("-", ""), data).digest()).decode()
    return f"{name}=:{value}:"


SHA256 = hashlib.sha256(b"image").hexdigest()
SHA512 = hashlib.sha512(b"image").hexdigest()


@pytest.mark.parametrize(
    "values,digests",
    [
        ([], {}),
        ([digest_field("sha-256")], {"sha256": SHA256}),
        ([digest_field("sha-512")], {"sha512": SHA512}),
        (
            [f"{digest_field('sha-512')} ,\t{digest_field('sha-256')}"],
            {"sha256": SHA256, "sha512": SHA512},
        ),
        ([digest_field("sha-512"), digest_field("sha-256")], {"sha256": SHA256, "sha512": SHA512}),
        (["md5=:1B2M2Y8AsgTpgAmY7PhCfg==:"], {}),
        (["sha-256=1234"], {}),
        (["sha-256=::"], {}),
        (["sha-256=:AAAA:"], {}),
        ([digest_field("sha-512").replace("512", "256")], {}),
        ([digest_field("sha-256").replace("=:", "=:!")], {}),
        ([digest_field("sha-256").replace("=:", "=:A", 1)], {}),
        ([digest_field("sha-256").upper()], {}),
        (["x" + digest_field("sha-256")], {}),
        (["X" + digest_field("sha-256")], {}),
        ([digest_field("sha-256") + "x"], {}),
        ([f" \t {digest_field('sha-256')}\t"], {"sha256": SHA256}),
        ([f"\n{digest_field('sha-256')}"], {}),
        (["nonsense", digest_field("sha-256")], {"sha256": SHA256}),
        (["sha-512=:AAAAA:", digest_field("sha-256")], {"sha256": SHA256}),
    ],
)
def test_digests_of_the_whole_image(values, digests):
    head = reply(206, *(("Repr-Digest", value) for value in values))
    assert describe(head, "k", 5).digests == digests


def test_a_description():
    info = describe(reply(200, ETag='"v1"', Last_Modified=OLD), "k", 5)
    assert (info.key, info.size, info.version, info.modified) == ("k", 5, '"v1"', OLD_TIME)
    bare = describe(reply(200), "k", None)
    assert (bare.size, bare.version, bare.modified, bare.digests) == (None, None, None, {})


def test_two_times_of_change_are_none():
    assert describe(reply(200, ("Last-Modified", OLD), ("Last-Modified", OLD)), "k", 5).modified is None


# 416


@pytest.mark.parametrize("size", [0, 1, 10, LARGEST])
def test_a_416_tells_the_size(size):
    assert unsatisfied(reply(416, Content_Range=f"bytes */{size}")) == size


def test_a_416_may_tell_nothing():
    assert unsatisfied(reply(416)) is None


@pytest.mark.parametrize(
    "value", ["", "bytes */*", "bytes 0-9/10", "bytes */-1", "*/10", "bytes */10x", f"bytes */{LARGEST + 1}"]
)
def test_a_416_that_makes_no_sense(value):
    refused(unsatisfied, reply(416, Content_Range=value), match=f"Content-Range {value!r} with status 416")


def test_a_long_416_is_cut_short():
    said = f"Content-Range {'x' * 80!r} with status 416"
    refused(unsatisfied, reply(416, Content_Range="x" * 100), match=said)


# Dates


@pytest.mark.parametrize(
    "text,seconds",
    [
        (OLD, OLD_TIME),
        ("Sunday, 06-Nov-94 08:49:37 GMT", OLD_TIME),
        ("Sun Nov  6 08:49:37 1994", OLD_TIME),
        ("Sun, 06 Nov 1994 10:49:37 +0200", OLD_TIME),
        (None, None),
        ("", None),
        ("yesterday", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:60 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 +9999", None),
        ("Sun, 06 Nov 99999 08:49:37 GMT", None),
        ("1000000000", None),
    ],
)
def test_dates(text, seconds):
    assert http_date(text) == seconds


def test_dates_do_not_depend_on_where_we_are(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert http_date("Sun Nov  6 08:49:37 1994") == http_date(OLD) == OLD_TIME
    finally:
        monkeypatch.undo()
        time.tzset()
