"""The rows of the fault matrix that name S3: uploads that break, lie and race; reads of what changes."""

from __future__ import annotations

import hashlib
import io
import threading
import time

import pytest

from imgstore.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BadReplyError,
    ConflictError,
    DigestMismatchError,
    NotFoundError,
    OperationCancelledError,
    PermissionDeniedError,
    RetriesExhaustedError,
    SourceChangedError,
    UnavailableError,
    UnsafeLocationError,
    UnsupportedError,
    UploadLostError,
    VersionChangedError,
)
from imgstore.model import Call, CancelToken
from tests import canary
from tests.faults.s3_rig import IMAGE, PART, SMALL, rig
from tests.faults.s3_server import Fault, Pending, RefusedError, _Handler

N = len(IMAGE)
OTHER = IMAGE[::-1]
VIEWS = [memoryview(IMAGE)[at : at + PART] for at in range(0, N, PART)]
ERROR = b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>sorry</Message></Error>'
BAD_DOCUMENTS = {"error": ERROR, "nothing": b"", "half": b"<?xml version='1.0'?><CompleteMultipartUploadRes"}


@pytest.fixture
def s3():
    with rig() as made:
        yield made


def put_parts(uploader, token, numbers=(0, 1, 2), data=IMAGE):
    return [
        uploader.put_part(token, n, n * PART, memoryview(data)[n * PART : (n + 1) * PART]) for n in numbers
    ]


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("fault", [Fault(reset=True), Fault(lose=True)], ids=["reset", "lost reply"])
def test_d1_d2_a_break_in_a_part_sends_that_part_once_more(s3, workers, fault):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    s3.server.script("UploadPart", None, fault)
    s3.store(max_concurrency=workers).writer.put("k", Pipe(IMAGE))
    assert s3.server.images() == {"k": IMAGE}
    assert s3.server.left() == ([], [])
    assert N < s3.server.sent["UploadPart"] <= N + PART


def test_d2_what_a_lost_reply_stored_is_told(s3):
    uploader = s3.driver().uploader
    token = uploader.begin("k", N)
    s3.server.script("UploadPart", None, Fault(lose=True))
    first = uploader.put_part(token, 0, 0, VIEWS[0])
    with pytest.raises(ConnectionError):
        uploader.put_part(token, 1, PART, VIEWS[1])
    held = uploader.parts(token)
    assert [part.number for part in held] == [0, 1]
    assert held[0] == first
    last = uploader.put_part(token, 2, 2 * PART, VIEWS[2])
    uploader.complete(token, [*held, last])
    assert s3.server.images() == {"k": IMAGE}
    assert s3.server.count("UploadPart") == 3


def test_d2_a_lost_reply_to_a_whole_put_is_asked_for(s3):
    s3.server.script("PutObject", Fault(lose=True))
    info = s3.driver().writer.put("k", io.BytesIO(SMALL))
    assert info.version == s3.server.current("k").etag
    assert s3.server.count("PutObject") == 1


def test_d2_what_a_put_left_that_nobody_could_ask_for_is_replaced(s3):
    driver = s3.driver()
    s3.server.script("PutObject", Fault(lose=True))
    s3.server.script("HeadObject", None, Fault(refuse="ServiceUnavailable"))
    with pytest.raises(ConnectionError):
        driver.writer.put("k", io.BytesIO(SMALL))
    driver.writer.put("k", io.BytesIO(SMALL))
    assert s3.server.images() == {"k": SMALL}
    with pytest.raises(AlreadyExistsError):
        driver.writer.put("k", io.BytesIO(SMALL))


def test_d2_somebody_elses_image_is_never_taken_for_such_a_left_over(s3):
    driver = s3.driver()
    s3.server.script("PutObject", Fault(reset=True))
    s3.server.script("HeadObject", None, Fault(refuse="ServiceUnavailable"))
    with pytest.raises(ConnectionError):
        driver.writer.put("k", io.BytesIO(SMALL))
    s3.server.put("k", OTHER)
    with pytest.raises(AlreadyExistsError):
        driver.writer.put("k", io.BytesIO(SMALL))
    assert s3.server.images() == {"k": OTHER}


def test_d2_a_put_that_comes_late_is_replaced_by_the_next_try(s3, monkeypatch):
    """Refused by a front that passed it on all the same: it is stored when the driver has looked for it."""
    late = []

    def put(handler, body):
        if late:
            return stored(handler, body)
        late.append((handler.key, body, handler._metadata()))
        raise RefusedError("ServiceUnavailable")

    def before(operation, _):
        if operation == "HeadObject" and late and s3.server.count("HeadObject") == 3:
            s3.server.put(*late[0])

    stored = _Handler.PutObject
    monkeypatch.setattr(_Handler, "PutObject", put)
    s3.server.before = before
    s3.store().writer.put("k", io.BytesIO(SMALL))
    assert s3.server.images() == {"k": SMALL}


def test_d2_an_overwrite_that_may_have_come_is_nothing_to_clear_away(s3):
    class Broken:
        def read(self, _):
            raise RuntimeError("broken")

    driver = s3.driver()
    driver.writer.put("k", io.BytesIO(b"first"))
    s3.server.script("PutObject", Fault(lose=True))
    s3.server.script("HeadObject", Fault(refuse="ServiceUnavailable"))
    with pytest.raises(ConnectionError):
        driver.writer.put("k", io.BytesIO(b"second"), overwrite=True)
    with pytest.raises(AlreadyExistsError):
        driver.writer.put("k", Broken())
    assert s3.server.images() == {"k": b"second"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_d3_a_lost_reply_to_complete_is_asked_for(s3, overwrite):
    uploader = s3.driver().uploader
    token = uploader.begin("k", N, overwrite=overwrite)
    parts = put_parts(uploader, token)
    s3.server.script("CompleteMultipartUpload", Fault(lose=True))
    info = uploader.complete(token, parts)
    assert (info.size, info.version) == (N, s3.server.current("k").etag)
    assert uploader.complete(token, parts) == info
    assert s3.server.images() == {"k": IMAGE}
    assert s3.server.left() == ([], [])
    assert s3.server.count("CompleteMultipartUpload") == 1


def test_d3_where_nobody_can_ask_it_is_asked_again_later(s3):
    uploader = s3.driver().uploader
    token = uploader.begin("k", N)
    parts = put_parts(uploader, token)
    s3.server.script("CompleteMultipartUpload", Fault(lose=True))
    s3.server.script("HeadObject", None, Fault(refuse="ServiceUnavailable"))
    with pytest.raises(ConnectionError):
        uploader.complete(token, parts)
    assert uploader.complete(token, parts).size == N
    with pytest.raises(AlreadyExistsError):  # it is an image as any other
        s3.server.script("HeadObject")
        uploader.begin("k", N)
    assert s3.server.images() == {"k": IMAGE}


def test_d4_an_image_that_was_joined_short_is_removed(s3, monkeypatch):
    def short(handler, body):
        reply = joined(handler, body)
        found = s3.server.current(handler.key)
        found.data = found.data[:-1]
        return reply

    joined = _Handler.CompleteMultipartUpload
    monkeypatch.setattr(_Handler, "CompleteMultipartUpload", short)
    with pytest.raises(BadReplyError, match=f"{N - 1} bytes of the {N}"):
        s3.driver().writer.put("k", io.BytesIO(IMAGE))
    assert s3.server.images() == {}
    assert s3.server.left() == ([], [])


@pytest.mark.parametrize("document", BAD_DOCUMENTS)
@pytest.mark.parametrize("done", [True, False])
def test_d4_a_success_that_is_none_is_resolved(s3, document, done):
    store = s3.store()
    token = store.uploader.begin("k", N)
    parts = put_parts(store.uploader, token)
    s3.server.script("CompleteMultipartUpload", Fault(body=BAD_DOCUMENTS[document], skip=not done))
    assert store.uploader.complete(token, parts).size == N
    assert s3.server.images() == {"k": IMAGE}
    assert s3.server.count("CompleteMultipartUpload") == (1 if done else 2)
    assert s3.server.left() == ([], [])


def test_d4_a_lasting_one_is_no_success(s3):
    store = s3.store(resume_attempts=2)
    s3.server.script("CompleteMultipartUpload", *[Fault(body=ERROR, skip=True)] * 9)
    with pytest.raises(RetriesExhaustedError):
        store.writer.put("k", io.BytesIO(IMAGE))
    assert s3.server.images() == {}
    assert s3.server.left() == ([], [])


@pytest.mark.parametrize("document", BAD_DOCUMENTS)
@pytest.mark.parametrize("done", [True, False])
def test_d4_a_copy_too(s3, document, done):
    s3.server.put("k", SMALL)
    s3.server.script("CopyObject", Fault(body=BAD_DOCUMENTS[document], skip=not done))
    copier = s3.driver().copier
    if done:
        assert copier.copy("k", "copy").size == len(SMALL)
    else:
        with pytest.raises((UnavailableError, BadReplyError)):
            copier.copy("k", "copy")
    assert ("copy" in s3.server.images()) is done


def test_d5_an_upload_that_the_service_forgot_is_lost(s3):
    uploader = s3.driver().uploader
    token = uploader.begin("k", N)
    parts = put_parts(uploader, token)
    s3.server.uploads.clear()
    for act in (
        lambda: uploader.put_part(token, 0, 0, VIEWS[0]),
        lambda: uploader.parts(token),
        lambda: uploader.complete(token, parts),
    ):
        with pytest.raises(UploadLostError):
            act()
    uploader.abort(token)
    assert s3.server.images() == {}
    assert s3.server.left() == ([], [])


def test_d6_a_part_that_changed_in_between_is_not_joined(s3):
    uploader = s3.driver().uploader
    token = uploader.begin("k", N)
    parts = put_parts(uploader, token)
    uploader.put_part(token, 1, PART, memoryview(OTHER)[PART : 2 * PART])
    with pytest.raises(UploadLostError, match="part 1"):
        uploader.complete(token, parts)
    with pytest.raises(SourceChangedError):
        uploader.complete(token, parts[:2])
    assert s3.server.images() == {}


@pytest.mark.parametrize("size", [N - 1, N + 1, 3 * PART])
def test_d6_d7_a_source_of_another_size_leaves_nothing(s3, size):
    with pytest.raises(SourceChangedError):
        s3.driver().writer.put("k", io.BytesIO(IMAGE), size)
    assert s3.server.images() == {}
    assert s3.server.left() == ([], [])


@pytest.mark.parametrize("workers", [1, 4])
def test_d7_what_a_source_raises_in_mid_part_is_raised(s3, workers):
    failure = RuntimeError("the source's own")

    class Source(io.BytesIO):
        def read(self, size):
            if self.tell() > PART + 1000:
                raise failure
            return super().read(size)

    with pytest.raises(RuntimeError) as raised:
        s3.driver(max_concurrency=workers).writer.put("k", Source(IMAGE))
    assert raised.value is failure
    assert s3.server.images() == {}
    assert s3.server.left() == ([], [])


@pytest.mark.parametrize("workers", [1, 4])
def test_d8_a_cancelled_put_ends_soon_and_leaves_nothing(s3, workers):
    token = CancelToken()
    s3.server.script("UploadPart", None, Fault(stall=True))
    arrived = iter(range(10))

    def before(operation, key):
        if operation == "UploadPart" and next(arrived) == 1:
            token.cancel()

    s3.server.before = before
    begun = s3.clock.now()
    with pytest.raises(OperationCancelledError):
        s3.driver(max_concurrency=workers).writer.put("k", io.BytesIO(IMAGE), call=Call(cancel=token))
    assert s3.clock.now() - begun < 2
    assert s3.server.images() == {}
    assert s3.server.left() == ([], [])


def test_d8_the_first_part_that_fails_ends_the_others(s3):
    s3.server.script("UploadPart", Fault(stall=True), Fault(refuse="AccessDenied"))
    begun = s3.clock.now()
    with pytest.raises(PermissionDeniedError):
        s3.driver(max_concurrency=4).writer.put("k", io.BytesIO(IMAGE))
    assert s3.clock.now() - begun < 3
    assert s3.server.left() == ([], [])


def test_d8_an_upload_whose_begin_was_lost_is_told_beside_another_of_its_key(s3):
    uploader = s3.driver().uploader
    s3.server.script("CreateMultipartUpload", Fault(lose=True))
    with pytest.raises(ConnectionError):
        uploader.begin("k", N)
    token = uploader.begin("k", N)
    told = [each.token for each in uploader.uploads()]
    assert told.count(token) == 1
    assert len(told) == 2
    for each in told:
        uploader.abort(each)
    assert s3.server.left() == ([], [])


def test_d8_an_upload_that_nobody_waited_for_is_reaped(s3, monkeypatch):
    def begin(handler, body):
        reply = begun(handler, body)
        token.cancel()
        return reply

    begun = _Handler.CreateMultipartUpload
    monkeypatch.setattr(_Handler, "CreateMultipartUpload", begin)
    s3.server.script("CreateMultipartUpload", Fault(stall=True))
    token, driver = CancelToken(), s3.driver()
    with pytest.raises(OperationCancelledError):
        driver.writer.put("k", io.BytesIO(IMAGE), call=Call(cancel=token))
    assert len(s3.server.left()[1]) == 1
    assert s3.reap(driver) == ([], [])


def test_d8_what_could_not_be_dropped_is_reaped(s3):
    s3.server.script("UploadPart", *[Fault(reset=True)] * 9)
    s3.server.script("AbortMultipartUpload", *[Fault(refuse="ServiceUnavailable")] * 9)
    driver = s3.driver()
    with pytest.raises(ConnectionError):
        driver.writer.put("k", io.BytesIO(IMAGE))
    assert len(s3.server.left()[1]) == 1
    s3.server.script("AbortMultipartUpload")
    assert s3.reap(driver) == ([], [])


def test_d8_uploads_of_others_are_left_alone(s3):
    s3.server.uploads["theirs"] = Pending("k", {})
    assert s3.reap(s3.driver()) == ([], ["theirs"])


def test_d8_uploads_of_others_that_begin_after_one_that_never_did(s3):
    driver = s3.driver()
    s3.server.script("CreateMultipartUpload", Fault(reset=True))
    with pytest.raises(ConnectionError):
        driver.uploader.begin("k", N)
    s3.server.uploads["theirs"] = Pending("k", {}, started=time.time() + 7000)
    assert s3.reap(driver) == ([], ["theirs"])


LISTED = (
    "<Contents><Key>a</Key><Size>1</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
)
MORE = "<IsTruncated>true</IsTruncated>"
TOKEN = "<NextContinuationToken>t</NextContinuationToken>"


@pytest.mark.parametrize(
    "told, named",
    [
        (LISTED + MORE, "does not go on"),
        (LISTED + MORE + TOKEN, "does not go on"),
        ("<Contents><Key>a</Key></Contents>", "lack Key, LastModified, Size"),
    ],
    ids=["nowhere", "the same page again", "no size"],
)
def test_a_listing_that_makes_no_sense_is_said_so(s3, told, named):
    page = f"<ListBucketResult>{told}<Prefix></Prefix></ListBucketResult>".encode()
    s3.server.script("ListObjectsV2", *[Fault(body=page)] * 9)
    with pytest.raises(BadReplyError, match=named):
        list(s3.driver().lister.list())
    assert s3.server.count("ListObjectsV2") <= 2


@pytest.mark.parametrize("operation", ["ListParts", "ListMultipartUploads"])
def test_a_list_of_uploads_that_leads_nowhere_is_said_so(s3, operation):
    uploader = s3.driver().uploader
    token = uploader.begin("k", N)
    s3.server.script(operation, Fault(body=f"<{operation}Result>{MORE}</{operation}Result>".encode()))
    with pytest.raises(BadReplyError, match="does not go on"):
        list(uploader.parts(token) if operation == "ListParts" else uploader.uploads())


@pytest.mark.parametrize("conditional", [True, False])
def test_d9_somebody_else_is_first_by_a_put(conditional):
    with rig(conditional=conditional) as s3:
        s3.server.before = lambda operation, key: (
            s3.server.put("k", OTHER) if operation == "PutObject" and key == "k" else None
        )
        writer = s3.driver().writer
        if conditional:
            with pytest.raises(AlreadyExistsError):
                writer.put("k", io.BytesIO(SMALL))
            assert s3.server.images() == {"k": OTHER}
        else:  # what docs/limits.md says of such services
            writer.put("k", io.BytesIO(SMALL))
            assert s3.server.images() == {"k": SMALL}


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
def test_d9_somebody_else_completes_first(s3, code):
    uploader = s3.driver().uploader
    token = uploader.begin("k", N)
    parts = put_parts(uploader, token)
    s3.server.script("CompleteMultipartUpload", Fault(refuse=code))
    s3.server.before = lambda operation, _: (
        s3.server.put("k", OTHER) if operation == "CompleteMultipartUpload" else None
    )
    with pytest.raises(ConflictError):
        uploader.complete(token, parts)
    assert s3.server.images() == {"k": OTHER}
    uploader.abort(token)
    assert s3.server.left() == ([], [])


def test_d9_a_service_without_conditions_is_asked_first():
    with rig(conditional=False) as s3:
        uploader = s3.driver().uploader
        token = uploader.begin("k", N)
        parts = put_parts(uploader, token)
        s3.server.put("k", OTHER)
        with pytest.raises(ConflictError):
            uploader.complete(token, parts)
        assert s3.server.images() == {"k": OTHER}
        assert s3.server.count("CompleteMultipartUpload") == 0


def test_d9_a_conflict_with_nobody_is_weather(s3):
    store = s3.store()
    token = store.uploader.begin("k", N)
    parts = put_parts(store.uploader, token)
    s3.server.script("CompleteMultipartUpload", Fault(refuse="ConditionalRequestConflict"))
    assert store.uploader.complete(token, parts).size == N


def test_d9_a_delete_whose_condition_is_always_refused(s3, monkeypatch):
    """As by Swift, for what was stored in parts; what is another by then is kept all the same."""

    def delete(handler, body):
        if "If-Match" in handler.headers:
            act()
            raise RefusedError("PreconditionFailed")
        return deleted(handler, body)

    deleted, act = _Handler.DeleteObject, lambda: None
    monkeypatch.setattr(_Handler, "DeleteObject", delete)
    driver = s3.driver()
    s3.server.put("k", IMAGE)
    driver.writer.delete("k")
    assert s3.server.images() == {}
    s3.server.put("k", IMAGE)
    act = lambda: s3.server.put("k", SMALL)  # noqa: E731  # what `delete` above calls by then
    with pytest.raises(VersionChangedError):
        driver.writer.delete("k")
    assert s3.server.images() == {"k": SMALL}


def test_d15_two_resumers_of_one_upload_make_one_image(s3):
    one, other = s3.driver().uploader, s3.driver().uploader
    token = one.begin("k", N)
    parts = put_parts(one, token, (0, 1))
    theirs = put_parts(other, token, (1, 2))
    (last,) = put_parts(one, token, (2,))
    first = one.complete(token, [*parts, last])
    assert other.complete(token, [parts[0], *theirs]) == first
    assert s3.server.images() == {"k": IMAGE}


def test_d15_of_two_with_other_bytes_the_older_gets_an_error(s3):
    one, other = s3.driver().uploader, s3.driver().uploader
    token = one.begin("k", N)
    parts = put_parts(one, token)
    theirs = put_parts(other, token, data=OTHER)
    with pytest.raises(UploadLostError):
        one.complete(token, parts)
    other.complete(token, theirs)
    assert s3.server.images() == {"k": OTHER}


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART])
@pytest.mark.parametrize("known", [True, False])
def test_d17_every_size_is_legal(s3, size, known):
    data = IMAGE[:size]
    s3.driver(max_concurrency=1).writer.put("k", io.BytesIO(data), size if known else None)
    assert s3.server.images() == {"k": data}
    assert s3.server.left() == ([], [])
    assert (s3.server.count("CreateMultipartUpload") == 0) is (size <= PART)


def test_d17_what_is_larger_than_any_object_is_refused_before_it_is_read(s3):
    store, source = s3.store(), io.BytesIO(IMAGE)
    with pytest.raises(UnsupportedError, match="larger than S3 takes: 5 TiB"):
        store.writer.put("disk.img", source, (5 << 40) + 1)
    with pytest.raises(UnsupportedError, match="larger than S3 takes: 5 TiB"):
        store.uploader.begin("disk.img", (5 << 40) + 1)
    assert source.tell() == 0
    assert s3.server.log == []
    assert store.uploader.begin("disk.img", 5 << 40)


@pytest.mark.parametrize("choice", ["when_supported", "when_required", "md5"])
@pytest.mark.parametrize("checks", [True, False])
def test_c13_a_part_stored_wrong_is_sent_again(choice, checks):
    with rig(checks=checks) as s3:
        s3.server.script("UploadPart", None, Fault(flip=True))
        store = s3.store(request_checksum_calculation=choice)
        store.writer.put("k", io.BytesIO(IMAGE))
        assert s3.server.images() == {"k": IMAGE}
        assert s3.server.count("UploadPart") == 4
        assert s3.server.count("CompleteMultipartUpload") == 1


@pytest.mark.parametrize("choice", ["when_supported", "when_required", "md5"])
@pytest.mark.parametrize("checks", [True, False])
def test_c13_a_whole_image_stored_wrong_is_taken_back(choice, checks):
    with rig(checks=checks) as s3:
        s3.server.script("PutObject", Fault(flip=True))
        driver = s3.driver(request_checksum_calculation=choice)
        with pytest.raises(BadReplyError):
            driver.writer.put("k", io.BytesIO(SMALL))
        assert s3.server.images() == {}
        s3.server.script("PutObject", Fault(flip=True))
        s3.store(request_checksum_calculation=choice).writer.put("k", io.BytesIO(SMALL))
        assert s3.server.images() == {"k": SMALL}


def test_c13_parts_in_any_order_are_read_back_for_their_digest(s3):
    uploader = s3.driver().uploader
    for data, wrong in ((IMAGE, False), (OTHER, True)):
        digests = {"sha256": hashlib.sha256(IMAGE).hexdigest()}
        token = uploader.begin("k", N, digests=digests, overwrite=True)
        parts = put_parts(uploader, token, (2, 0, 1), data)
        if wrong:
            with pytest.raises(DigestMismatchError):
                uploader.complete(token, parts)
        else:
            uploader.complete(token, parts)
        assert s3.server.images() == ({} if wrong else {"k": IMAGE})


def test_c13_a_record_stored_wrong_is_refused(s3):
    s3.server.script("PutObject", Fault(flip=True))
    with pytest.raises(BadReplyError):
        s3.driver().uploader.begin("k", N)
    assert s3.server.left() == ([], [])


def test_b11_an_etag_is_never_a_digest(s3):
    driver = s3.driver()
    info = driver.writer.put("k", io.BytesIO(SMALL), digests={"md5": hashlib.md5(SMALL).hexdigest()})
    with driver.get("k") as stream:
        assert (info.digests, stream.info.digests, driver.stat("k").digests) == ({}, {}, {})
        assert stream.info.version == f'"{hashlib.md5(SMALL).hexdigest()}"'
    with pytest.raises(VersionChangedError):
        driver.get("k", version=hashlib.md5(SMALL).hexdigest())


def test_b13_the_version_is_that_of_the_reply_to_get(s3):
    old = s3.server.put("k", SMALL)
    driver = s3.driver()
    told = driver.stat("k")
    new = s3.server.put("k", SMALL[::-1])
    with driver.get("k") as stream:
        assert (stream.info.version, stream.read()) == (new.etag, SMALL[::-1])
    with pytest.raises(VersionChangedError):
        driver.get("k", version=told.version)
    assert told.version == old.etag


def test_b13_an_image_that_does_not_show_yet_is_waited_for(s3):
    store = s3.store()
    token = store.uploader.begin("k", N)
    parts = put_parts(store.uploader, token)
    s3.server.script("HeadObject", None, Fault(refuse="NoSuchKey"), Fault(refuse="NoSuchKey"))
    assert store.uploader.complete(token, parts).size == N
    assert s3.server.count("CompleteMultipartUpload") <= 2
    assert s3.server.images() == {"k": IMAGE}


def test_a17_a_whole_image_for_a_range_is_skipped_forward(s3):
    s3.server.put("k", SMALL)
    s3.server.ranges = False
    with s3.store().get("k", 1000) as stream:
        assert stream.read() == SMALL[1000:]


@pytest.mark.parametrize("conditional", [True, False])
def test_b2_an_image_replaced_in_mid_read_is_never_mixed(conditional):
    with rig(conditional=conditional) as s3:
        s3.server.put("k", IMAGE)
        s3.server.script("GetObject", Fault(cut=PART))
        store = s3.store()
        with store.get("k") as stream:
            got = stream.read(1000)
            s3.server.put("k", OTHER)
            with pytest.raises(VersionChangedError) as raised:
                got += stream.read()
        assert raised.value.offset == PART
        assert s3.server.count("GetObject") == 2
        assert ("status 412" in raised.value.message) is conditional


def test_a_version_that_is_kept_is_read_to_its_end():
    with rig(versioned=True) as s3:
        s3.server.put("k", IMAGE)
        s3.server.script("GetObject", Fault(cut=PART))
        with s3.store().get("k") as stream:
            got = stream.read(1000)
            s3.server.put("k", OTHER)
            s3.server.remove("k")
            assert got + stream.read() == IMAGE


def test_a_version_of_another_id_is_another():
    with rig(versioned=True) as s3:
        s3.server.put("k", SMALL)
        driver = s3.driver()
        version = driver.stat("k").version
        s3.server.put("k", SMALL)
        s3.server.heeds_ids = False
        with pytest.raises(VersionChangedError):
            driver.get("k", version=version)


@pytest.mark.parametrize("key", ["a\r\nX-Injected: 1", "a\nb", 'a"b', "a b\r", "é\r\n"])
def test_g9_a_key_is_a_path_and_nothing_else(s3, key):
    driver = s3.driver()
    driver.writer.put(key, io.BytesIO(SMALL))
    driver.copier.copy(key, f"{key}-copy")
    assert set(s3.server.images()) == {key, f"{key}-copy"}
    assert [info.key for info in driver.lister.list()] == sorted(s3.server.images(), key=str.encode)
    assert driver.stat(key).size == len(SMALL)


def test_g9_the_drivers_own_keys_are_refused(s3):
    with pytest.raises(UnsafeLocationError):
        s3.driver().writer.put(".imgstore/uploads/x", io.BytesIO(b"x"))


def test_h6_keys_that_expired_are_read_again_once_for_each_worker(s3, tmp_path):
    s3.server.put("k", SMALL)
    token = tmp_path / "token"
    token.write_text("old")
    driver = s3.driver(session_token=token.read_text)
    s3.server.tokens = {"old"}
    with driver.get("k", 0, 10) as stream:
        stream.read()
    s3.server.tokens = {canary.TOKEN}
    s3.server.before = lambda *_: token.write_text(
        canary.TOKEN
    )  # renewed just as the service refuses the old ones
    with driver.get("k") as stream:
        assert stream.read() == SMALL
    assert s3.server.count("GetObject") == 3


def test_h6_a_head_that_tells_no_reason_is_asked_again_with_other_keys(s3, tmp_path):
    s3.server.put("k", SMALL)
    token = tmp_path / "token"
    token.write_text("old")
    driver = s3.driver(session_token=token.read_text)
    s3.server.tokens = {"new"}
    s3.server.before = lambda *_: token.write_text("new")
    assert driver.stat("k").size == len(SMALL)
    s3.server.denied = {"HeadObject"}
    with pytest.raises(PermissionDeniedError):
        driver.stat("k")
    assert s3.server.count("HeadObject") == 3


def test_h6_the_chain_is_asked_once_for_all_workers(s3, monkeypatch):
    from botocore.credentials import CredentialResolver, Credentials

    walks = []
    s3.server.put("k", SMALL)
    s3.server.tokens = {"1"}

    def load(_):
        time.sleep(0.05 * len(walks))  # the second time long enough for all to want keys
        walks.append(1)
        return Credentials(s3.server.access_key, canary.PASSWORD, str(len(walks)))

    monkeypatch.setattr(CredentialResolver, "load_credentials", load)
    driver = s3.driver(access_key=None, secret_key=None)
    driver.stat("k")
    s3.server.tokens = {"2"}
    barrier = threading.Barrier(8)
    got = []

    def work():
        barrier.wait()
        with driver.get("k") as stream:
            got.append(stream.read())

    workers = [threading.Thread(target=work) for _ in range(8)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert got == [SMALL] * 8
    assert len(walks) == 2
    s3.server.script("GetObject", Fault(refuse="RequestTimeTooSkewed"))
    with pytest.raises(AuthenticationError):
        driver.get("k")
    assert len(walks) == 2  # no other keys would help


def test_h6_a_lasting_refusal_is_one_error_and_no_loop(s3):
    s3.server.put("k", SMALL)
    s3.server.tokens = {"other"}
    with pytest.raises(AuthenticationError):
        s3.store().get("k")
    assert s3.server.count("GetObject") == 1
    s3.server.tokens, s3.server.denied = {None}, {"GetObject"}
    with pytest.raises(PermissionDeniedError):
        s3.store().get("k")
    assert s3.server.count("GetObject") == 2


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "NoSuchKey", "InvalidArgument"])
def test_a16_a_final_refusal_costs_no_further_request(s3, code):
    s3.server.put("k", SMALL)
    s3.server.script("GetObject", *[Fault(refuse=code)] * 5)
    with pytest.raises((PermissionDeniedError, AuthenticationError, NotFoundError, OSError)):
        s3.store().get("k")
    assert s3.server.count("GetObject") == 1


def test_a15_an_outage_costs_a_tenth_more_requests(s3):
    from imgstore import stack
    from imgstore.retry import TokenBucket

    for number in range(20):
        s3.server.put(f"k{number}", SMALL)
    bucket = TokenBucket()
    stores = [
        stack.build(s3.driver(), stack.LayerSettings(), clock=s3.clock, bucket=bucket) for _ in range(4)
    ]
    s3.server.script("HeadObject", *[Fault(refuse="InternalError")] * 1000)
    for store in stores * 10:
        with pytest.raises(RetriesExhaustedError):
            store.stat("k1")
    assert s3.server.count("HeadObject") <= 40 + TokenBucket.CAPACITY / TokenBucket.RETRY_COST


def test_what_a_listing_leaves_out_is_said_once(s3, caplog):
    """A copy of everything would be without it."""
    for name in ("a", "folder/", "x//y", "/abs", ".imgstore/own"):
        s3.server.put(name, b"" if name.endswith("/") else SMALL)
    assert [info.key for info in s3.driver().lister.list()] == ["a"]
    (said,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert "2 of the objects in" in said
    assert "no key is called '/abs'" in said
