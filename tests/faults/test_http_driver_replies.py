"""The driver alone, with no layer above it: what it makes of replies, honest and other (FAULTS.md A, B)."""

from __future__ import annotations

import contextlib
import threading

import pytest

from imgstore import ANY
from imgstore.backends.http import HttpStore
from imgstore.errors import (
    AuthenticationError,
    BadReplyError,
    ConnectionLostError,
    ImgstoreError,
    NotFoundError,
    PermissionDeniedError,
    RangeNotSatisfiableError,
    ThrottledError,
    TruncatedError,
    UnavailableError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.testing.server import (
    CloseDelimited,
    ContentEncoding,
    ContentRange,
    Cut,
    EarlyResponse,
    ExtraBytes,
    Header,
    HeaderFlood,
    Interim,
    Multipart,
    NoLength,
    NoValidators,
    RawReply,
    Reset,
    ScriptedServer,
    ShiftRange,
    Status,
    Swap,
    WholeInstead,
    WrongLength,
)

IMAGE = bytes(range(256)) * 1024
SIZE = len(IMAGE)
PATH = "/disk.img"
KEY = "disk.img"


@pytest.fixture
def server():
    with ScriptedServer() as running:
        running.put(PATH, IMAGE, etag='"v1"')
        yield running


@pytest.fixture
def store(server):
    with HttpStore(url=server.url("/")) as made:
        yield made


def read(store, offset=0, length=None, **options):
    with store.get(KEY, offset, length, **options) as stream:
        return stream.read()


def broken(store, *args, **options):
    """The bytes that were delivered before the error, and the error."""
    got = bytearray()
    view = memoryview(bytearray(1 << 16))
    with pytest.raises(ImgstoreError) as caught, store.get(KEY, *args, **options) as stream:
        while count := stream.readinto(view):
            got += view[:count]
    return bytes(got), caught.value


# The honest server


@pytest.mark.parametrize(
    "offset,length",
    [(0, None), (0, 1), (0, SIZE), (1, None), (1000, 10), (SIZE - 1, None), (SIZE - 1, 100), (0, SIZE + 1)],
)
def test_every_byte_of_the_range_and_no_other(store, server, offset, length):
    with store.get(KEY, offset, length) as stream:
        assert stream.read() == IMAGE[offset:][:length]
        assert (stream.info.size, stream.info.version) == (SIZE, '"v1"')
        assert stream.lead == 0
    server.log.wait_idle()
    assert server.log.body_bytes() == len(IMAGE[offset:][:length])


def test_what_goes_out(store, server):
    read(store, 5, 10, version='"v1"')
    sent = server.log[0]
    names = [name.lower() for name, _ in sent.headers]
    assert len(names) == len(set(names))
    assert (sent.method, sent.target) == ("GET", PATH)
    assert sent.header("Range") == "bytes=5-14"
    assert sent.header("If-Match") == '"v1"'
    assert sent.header("Accept-Encoding") == "identity"
    assert sent.header("Want-Repr-Digest") == "sha-256=10, sha-512=5"
    assert sent.header("Host") == f"127.0.0.1:{server.port}"
    read(store)
    read(store, version=ANY)
    for sent in server.log[1:]:
        assert sent.header("Range") == "bytes=0-"
        assert sent.header("If-Match") is None


def test_one_connection_for_one_after_the_other(store, server):
    for offset in (0, 10, 20):
        read(store, offset, 5, version='"v1"')
    assert server.log.connections == 1
    # What no version vouches for comes over a connection that nothing else was on.
    store.stat(KEY)
    read(store)
    assert server.log.connections == 3
    store.close()
    server.log.wait_closed()


def test_behind_the_end(store):
    for offset in (SIZE, SIZE + 1, 1 << 62):
        with pytest.raises(RangeNotSatisfiableError):
            store.get(KEY, offset)


def test_an_empty_image(store, server):
    server.put(PATH, b"", etag='"empty"')
    for version in (None, ANY, '"empty"'):
        with store.get(KEY, version=version) as stream:
            assert (stream.read(), stream.info.size, stream.info.version) == (b"", 0, '"empty"')
    assert store.stat(KEY).size == 0
    with pytest.raises(VersionChangedError):
        store.get(KEY, version='"v1"')
    with pytest.raises(RangeNotSatisfiableError):
        store.get(KEY, 1)


def test_an_empty_image_with_a_200(store, server):
    server.put(PATH, b"", etag='"empty"')
    server.script(PATH, then=WholeInstead())
    for _ in range(2):
        assert read(store, version='"empty"') == b""
    assert server.log.connections == 1


def test_a_date_as_version(store, server):
    server.put(PATH, IMAGE, etag=None, last_modified=784111777.0)
    version = store.stat(KEY).version
    assert version == "modified:Sun, 06 Nov 1994 08:49:37 GMT"
    assert read(store, 5, 5, version=version) == IMAGE[5:10]
    assert server.log[-1].header("If-Unmodified-Since") == "Sun, 06 Nov 1994 08:49:37 GMT"
    server.put(PATH, IMAGE, etag=None, last_modified=784111778.0)
    with pytest.raises(VersionChangedError):
        store.get(KEY, version=version)


def test_no_image(store, server):
    for call in (store.get, store.stat):
        with pytest.raises(NotFoundError, match="404") as caught:
            call("missing.img")
        assert caught.value.key == "missing.img"


# stat


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_head_refused_is_no_obstacle(store, server, status):
    server.script(PATH, then=Status(status), method="HEAD")
    info = store.stat(KEY)
    assert (info.size, info.version) == (SIZE, '"v1"')
    assert server.log[-1].header("Range") == "bytes=0-0"


@pytest.mark.parametrize(
    "fault", [NoLength(), Status(204), Status(206, keep=True), Header("Content-Encoding", "gzip")]
)
def test_head_without_a_usable_length(store, server, fault):
    server.script(PATH, then=fault, method="HEAD")
    assert store.stat(KEY).size == SIZE


def test_stat_of_an_empty_image_without_head(store, server):
    server.put(PATH, b"", etag='"empty"')
    server.script(PATH, then=Status(405), method="HEAD")
    assert store.stat(KEY).size == 0


def test_stat_where_no_length_is_to_be_had(store, server):
    server.script(PATH, then=(WholeInstead(), NoLength()))
    assert store.stat(KEY).size is None


@pytest.mark.parametrize(
    "status,kind",
    [(404, NotFoundError), (401, AuthenticationError), (503, UnavailableError), (304, BadReplyError)],
)
def test_stat_that_fails(store, server, status, kind):
    server.script(PATH, then=Status(status))
    with pytest.raises(kind):
        store.stat(KEY)


# A1 to A6: ends


@pytest.mark.parametrize("at", [0, 1, 65535, 65536, 65537, SIZE - 1])
@pytest.mark.parametrize("fault,kind", [(Cut, TruncatedError), (Reset, ConnectionLostError)])
def test_a_cut_loses_no_byte_that_arrived(store, server, at, fault, kind):
    server.script(PATH, [fault(at=at)])
    got, error = broken(store)
    assert type(error) is kind
    assert error.retryable
    assert got == IMAGE[:at]
    assert error.offset == at
    assert read(store) == IMAGE


def test_a_cut_before_the_head_ends(store, server):
    server.script(PATH, [Cut(head_at=0), Cut(head_at=20), Reset(head_at=0)])
    for _ in range(3):
        with pytest.raises(ConnectionLostError):
            store.get(KEY)


def test_chunks(store, server):
    server.script(PATH, then=NoLength(chunk=1000))
    assert read(store) == IMAGE
    assert read(store, 500, 2000) == IMAGE[500:2500]


def test_chunks_without_the_last(store, server):
    server.script(PATH, then=(WholeInstead(), NoLength(chunk=1000, last=False)))
    got, error = broken(store)
    assert got == IMAGE
    assert type(error) is TruncatedError


def test_chunks_cut(store, server):
    server.script(PATH, then=(NoLength(chunk=1000), Cut(at=1500)))
    got, error = broken(store)
    assert got == IMAGE[:1500]
    assert type(error) is TruncatedError


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_an_end_without_proof_is_never_success(store, server, version):
    server.script(PATH, then=(WholeInstead(), CloseDelimited(version)))
    got, error = broken(store)
    assert got == IMAGE
    assert type(error) is TruncatedError
    assert error.retryable
    assert error.unprovable
    with pytest.raises(UnsupportedError, match="gives no length"):
        store.get(KEY, 1)
    with pytest.raises(UnsupportedError, match="gives no length"):
        store.get(KEY, 0, 10)
    assert read(store, 10, 20, version='"v1"') == IMAGE[10:30]
    assert read(store, 10, 20, version=ANY) == IMAGE[10:30]
    got, error = broken(store, 10, version='"v1"')
    assert got == IMAGE[10:]
    assert error.retryable


def test_a_part_to_the_close_has_its_end_in_content_range(store, server):
    server.script(PATH, then=CloseDelimited())
    assert read(store, 10) == IMAGE[10:]


@pytest.mark.parametrize(
    "faults",
    [ExtraBytes(), EarlyResponse(), (NoLength(), ExtraBytes()), WrongLength(-5), EarlyResponse(status=206)],
)
def test_surplus_is_never_delivered_and_never_met_again(store, server, faults):
    server.script(PATH, [faults])
    with contextlib.suppress(TruncatedError):
        assert read(store) == IMAGE
    assert read(store, 5, 5) == IMAGE[5:10]
    assert server.log.connections == 2
    server.log.wait_idle()
    # By now the surplus is there; a moment earlier it might be met, and would be refused for its version.
    for _ in range(2):
        assert read(store, 5, 5, version='"v1"') == IMAGE[5:10]


def test_surplus_that_comes_late_is_met_before_the_next_request(store, server):
    server.script(PATH, [EarlyResponse()])
    assert read(store, 0, 5) == IMAGE[:5]
    server.log.wait_idle()
    assert read(store, 7, 5, version='"v1"') == IMAGE[7:12]


def test_surplus_that_comes_too_late_is_refused_for_its_version(store, server):
    """The worst case: the stray reply arrives when the next request is on its way."""
    server.script(PATH, [None, RawReply(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL")])
    assert read(store, 0, 5) == IMAGE[:5]
    with pytest.raises(BadReplyError, match="no version with the image"):
        store.get(KEY, 1, 5, version='"v1"')
    assert server.log.connections == 1


def test_an_abandoned_body_takes_its_connection_along(store, server):
    with store.get(KEY) as stream:
        stream.read(10)
    assert read(store, 5, 5, version='"v1"') == IMAGE[5:10]
    assert server.log.connections == 2


def test_an_open_stream_has_its_connection_to_itself(store, server):
    with store.get(KEY, version='"v1"') as one, store.get(KEY, version='"v1"') as two:
        assert one.read(100) == two.read(100) == IMAGE[:100]
    assert server.log.connections == 2


# A17 to A24: ranges


@pytest.mark.parametrize("offset,length", [(0, None), (1000, None), (1000, 50)])
def test_a_200_is_skipped_forward_and_never_appended(store, server, offset, length):
    server.script(PATH, then=WholeInstead())
    with store.get(KEY, offset, length) as stream:
        assert stream.lead == offset
        assert stream.read() == IMAGE[offset:][:length]


def test_a_200_shorter_than_the_offset(store, server):
    server.script(PATH, then=WholeInstead(size=500))
    with pytest.raises(RangeNotSatisfiableError):
        store.get(KEY, 1000)


@pytest.mark.parametrize("fault", [ShiftRange(-10, 0), ShiftRange(-10, +10), ShiftRange(0, +10)])
def test_a_superset_is_trimmed(store, server, fault):
    server.script(PATH, then=fault)
    assert read(store, 1000, 100) == IMAGE[1000:1100]


def test_a_subset_ends_early(store, server):
    server.script(PATH, then=ShiftRange(0, -60))
    got, error = broken(store, 1000, 100)
    assert got == IMAGE[1000:1040]
    assert type(error) is TruncatedError
    assert error.offset == 1040


@pytest.mark.parametrize(
    "fault",
    [
        ShiftRange(+1, 0),
        ShiftRange(-500, -500),
        ContentRange(None),
        ContentRange("bytes {start}-{last}/*"),
        ContentRange("bytes {last}-{start}/{size}"),
        ContentRange("bytes={start}-{last}/{size}"),
        ContentRange("octets {start}-{last}/{size}"),
        ContentRange("bytes {start}-{size}/{size}"),
        Multipart(),
        Header("Content-Length", "-5"),
        Header("Content-Length", "+100"),
        Header("Content-Length", "100,100"),
        Header("Content-Length", "100", "101"),
        Header("Content-Length", "9" * 24),
        Header("Transfer-Encoding", "chunked"),
        Header("Content-Encoding", "gzip"),
        ContentEncoding("gzip"),
        Status(204, keep=True),
        Status(205, keep=True),
        Status(304, keep=True),
        Status(203, keep=True),
        NoValidators(),
    ],
    ids=str,
)
def test_a_reply_that_contradicts_delivers_nothing(store, server, fault):
    server.script(PATH, [fault])
    got, error = broken(store, 1000, 100, version='"v1"')
    assert type(error) is BadReplyError
    assert got == b""
    assert read(store, 1000, 100) == IMAGE[1000:1100]


def test_identical_lengths_are_one(store, server):
    server.script(PATH, then=Header("Content-Length", str(SIZE), str(SIZE)))
    assert read(store) == IMAGE


@pytest.mark.parametrize("by", [-5, +5])
def test_the_shorter_of_length_and_range_is_trusted(store, server, by):
    server.script(PATH, [WrongLength(by)])
    if by > 0:
        assert read(store, 1000, 100) == IMAGE[1000:1100]
    else:
        got, error = broken(store, 1000, 100)
        assert got == IMAGE[1000:1095]
        assert type(error) is TruncatedError
    assert store.stat(KEY).size == SIZE


def status_416(content_range):
    return Status(416, {} if content_range is None else {"Content-Range": content_range})


@pytest.mark.parametrize(
    "content_range,offset,kind,requests",
    [
        (f"bytes */{SIZE}", SIZE, RangeNotSatisfiableError, 1),
        (f"bytes */{SIZE}", SIZE + 5, RangeNotSatisfiableError, 1),
        (f"bytes */{SIZE}", 5, BadReplyError, 1),
        ("bytes */3", 5, RangeNotSatisfiableError, 1),
        ("bytes */0", 5, RangeNotSatisfiableError, 1),
        ("bytes */*", 5, BadReplyError, 1),
        ("bytes 0-4/5", 5, BadReplyError, 1),
        (None, SIZE, RangeNotSatisfiableError, 2),
        (None, 5, BadReplyError, 2),
    ],
)
def test_a_416_is_asked_about_once_at_most(store, server, content_range, offset, kind, requests):
    server.script(PATH, then=status_416(content_range), method="GET")
    with pytest.raises(kind):
        store.get(KEY, offset)
    assert len(server.log) == requests


def test_a_416_that_nobody_explains(store, server):
    server.script(PATH, then=status_416(None))
    with pytest.raises(BadReplyError, match="a 416 that does not name"):
        store.get(KEY, 5)
    assert len(server.log) == 2


def test_a_416_of_another_version(store, server):
    server.script(PATH, [Status(416, {"Content-Range": "bytes */5", "ETag": '"v2"'})])
    with pytest.raises(VersionChangedError):
        store.get(KEY, 10, version='"v1"')


# A10, A28: heads


@pytest.mark.parametrize(
    "fault",
    [
        HeaderFlood(),
        HeaderFlood(count=1, size=1 << 20),
        HeaderFlood(count=2000, size=64),
        Interim(11),
        Interim(None, status=100),
        RawReply(b"garbage\r\n\r\n"),
        RawReply(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        RawReply(b"HTTP/0.9 200 OK\r\n\r\n"),
        RawReply(b"HTTP/1.1 200 OK\r\n folded\r\n\r\n"),
    ],
    ids=str,
)
def test_a_head_that_is_none(store, server, fault):
    server.script(PATH, [fault])
    with pytest.raises(BadReplyError):
        store.get(KEY)
    assert read(store, 0, 10) == IMAGE[:10]


@pytest.mark.parametrize("status", [100, 102, 103])
def test_ten_interim_replies_are_borne(store, server, status):
    server.script(PATH, [Interim(10, status=status)])
    assert read(store) == IMAGE


# Refusals: A16, A14


def test_a_refusal_is_one_request(store, server):
    for status, kind in [(401, AuthenticationError), (403, PermissionDeniedError), (410, NotFoundError)]:
        before = len(server.log)
        server.script(PATH, then=Status(status, {"X-Amz-Request-Id": "req-7"}))
        with pytest.raises(kind) as caught:
            store.get(KEY)
        assert caught.value.request_id == "req-7"
        assert not caught.value.retryable
        assert len(server.log) == before + 1


def test_when_to_come_back(store, server):
    server.script(PATH, [Status(429, {"Retry-After": "7"}), Status(503, {"Retry-After": "-7"})])
    with pytest.raises(ThrottledError) as caught:
        store.get(KEY)
    assert caught.value.retry_after == 7.0
    with pytest.raises(UnavailableError) as caught:
        store.get(KEY)
    assert caught.value.retry_after is None


# B1, B2, B8: versions


def test_a_replaced_image_is_refused_by_the_server(store, server):
    server.script(PATH, [Swap(IMAGE[::-1], etag='"v2"')])
    with pytest.raises(VersionChangedError):
        store.get(KEY, 10, version='"v1"')
    assert server.log[0].status == 412


@pytest.mark.parametrize("tag", ['"v2"', 'W/"v1"', "v1", '"v1-gzip"', '"V1"'])
def test_a_replaced_image_is_refused_by_us(store, server, tag):
    server.script(PATH, then=Header("ETag", tag))
    got, error = broken(store, 10, version='"v1"')
    assert (type(error), got) == (VersionChangedError, b"")
    assert server.log[0].status == 206


def test_a_page_of_somebody_else(store, server):
    page = Status(200, {"Content-Type": "text/html"}, body=b"<html>please log in</html>")
    server.script(PATH, then=page)
    got, error = broken(store, version='"v1"')
    assert (type(error), got) == (BadReplyError, b"")


# Lifetime


def test_a_dropped_stream_closes_its_connection(store, server):
    stream = store.get(KEY)
    stream.read(10)
    del stream
    server.log.wait_closed()


def test_a_store_that_is_closed_keeps_its_open_streams(store, server):
    with store.get(KEY) as stream:
        stream.read(10)
        store.close()
        assert stream.read() == IMAGE[10:]
    server.log.wait_closed()


def test_many_threads(store, server):
    wrong = []

    def work(number):
        for step in range(20):
            offset = (number * 20 + step) * 97
            if read(store, offset, 1000, version='"v1"') != IMAGE[offset : offset + 1000]:
                wrong.append(offset)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []
    assert server.log.connections <= 60
    store.close()
    server.log.wait_closed()


def test_nothing_listens(store, server):
    server.stop()
    for call in (store.get, store.stat):
        with pytest.raises(
            ConnectionLostError, match=r"cannot connect to 127\.0\.0\.1 port .*: connection refused"
        ):
            call(KEY)


def test_a_kept_connection_that_the_server_closed(store, server):
    read(store, 0, 5)
    server.stop()
    server.start()
    assert read(store, 0, 5, version='"v1"') == IMAGE[:5]


def test_the_size_of_every_receive(store):
    with store.get(KEY) as stream:
        view = memoryview(bytearray(SIZE * 2))
        assert 0 < stream.readinto(view) <= SIZE
