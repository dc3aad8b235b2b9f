"""Row G13: XML that does harm, as what S3 answers; with and without a break in the same call (P14)."""

from __future__ import annotations

import contextlib
import io
import tracemalloc

import pytest

from imgstore.errors import BadReplyError, ProtocolViolationError, RetriesExhaustedError
from tests.faults.s3_rig import IMAGE, SMALL, rig
from tests.faults.s3_server import Fault

MEMORY = 48 << 20  # of the largest page, what the server here and the driver hold for a moment

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))
BOMBS = {
    "billion laughs": f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "lol">{LAUGHS}]><x>&l8;</x>',
    "quadratic": f'<!DOCTYPE x [<!ENTITY a "{"a" * 50_000}">]><x>{"&a;" * 50_000}</x>',
    "a file": '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x>&f;</x>',
    "a document type elsewhere": '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><x/>',
    "one harmless entity": (
        '<!DOCTYPE x [<!ENTITY k "disk">]><ListBucketResult><Contents><Key>&k;</Key></Contents>'
        "</ListBucketResult>"
    ),
}
DOCUMENTS = {name: text.encode() for name, text in BOMBS.items()}
DOCUMENTS["in UTF-16"] = BOMBS["one harmless entity"].encode("utf-16")
DOCUMENTS["without an end"] = b"<x>" + b"a" * (9 << 20)
DOCUMENTS["deep"] = b"<x>" * 100_001
DOCUMENTS["wide"] = b"<ListBucketResult>" + b"<a/>" * 200_000 + b"</ListBucketResult>"

both = pytest.mark.parametrize("drop", [False, True], ids=["whole", "broken"])


def each(*names):
    return pytest.mark.parametrize("document", [DOCUMENTS[name] for name in names], ids=names)


@pytest.fixture
def s3():
    with rig() as made:
        yield made


@contextlib.contextmanager
def bounded():
    """Sees that nothing that is sent is worth more memory than a few times what may be read of it."""
    tracemalloc.start(1)
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


def script(s3, operation, *faults, drop):
    s3.server.script(operation, *[Fault(reset=True)] * drop, *faults)


def refused(s3, act):
    """Acts, expecting the error of a reply that is none; gives what it says."""
    with pytest.raises((BadReplyError, ProtocolViolationError, RetriesExhaustedError)) as raised:
        act(s3.store(resume_attempts=2))
    assert "root:" not in str(raised.value)
    assert "lollol" not in str(raised.value)
    return raised.value


def listing(store):
    return [info.key for info in store.lister.list()]


@both
@each(*DOCUMENTS)
def test_g13_a_listing_that_is_a_bomb_is_refused(s3, document, drop):
    s3.server.put("disk", SMALL)
    script(s3, "ListObjectsV2", *[Fault(body=document)] * 9, drop=drop)
    with bounded():
        refused(s3, listing)


@both
def test_g13_what_a_passing_proxy_sent_is_outlived(s3, drop):
    s3.server.put("disk", SMALL)
    script(s3, "ListObjectsV2", Fault(body=DOCUMENTS["billion laughs"]), drop=drop)
    assert listing(s3.store()) == ["disk"]


@both
@each("billion laughs", "a file", "in UTF-16", "deep")
def test_g13_an_error_that_is_a_bomb_is_an_error(s3, document, drop):
    script(s3, "GetObject", *[Fault(body=document, status=503)] * 9, drop=drop)
    refused(s3, lambda store: store.get("disk"))


@both
def test_g13_an_error_has_no_mebibyte(s3, drop):
    long = b"<Error><Code>SlowDown</Code><Message>" + b"a" * (1 << 20) + b"</Message></Error>"
    script(s3, "GetObject", *[Fault(body=long, status=503)] * 9, drop=drop)
    assert "above 1048576 bytes" in str(refused(s3, lambda store: store.get("disk")))


@both
@each("one harmless entity")
def test_g13_no_upload_completes_by_a_bomb(s3, document, drop):
    script(s3, "CompleteMultipartUpload", *[Fault(body=document, skip=True)] * 9, drop=drop)
    refused(s3, lambda store: store.writer.put("disk", io.BytesIO(IMAGE), len(IMAGE)))
    assert s3.server.images() == {}


def test_g13_an_image_may_hold_what_a_document_may_not(s3):
    data = DOCUMENTS["billion laughs"]
    store = s3.store()
    store.writer.put("disk", io.BytesIO(data))
    with store.get("disk") as stream:
        assert stream.read() == data
