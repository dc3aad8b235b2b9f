"""Every operation of every facet meets each kind of weather once, and succeeds; in all layers."""

from __future__ import annotations

import io

import pytest

from tests.faults.s3_rig import IMAGE, PART, SMALL, rig
from tests.faults.s3_server import Fault

WEATHER = {
    "refusals": ["ServiceUnavailable", "TooManyRequests", "SlowDown", "InternalError"],
    "breaks": [Fault(reset=True), Fault(lose=True), Fault(stall=True)],
}


def stat(store):
    assert store.stat("small").size == len(SMALL)


def read(store):
    with store.get("small", 1000) as stream:
        assert stream.read() == SMALL[1000:]


def put_small(store):
    store.writer.put("new", io.BytesIO(SMALL), len(SMALL))


def put_large(store):
    store.writer.put("new", io.BytesIO(IMAGE), len(IMAGE))


def delete(store):
    store.writer.delete("small")


def listing(store):
    assert [info.key for info in store.lister.list()] == ["large", "small"]


def upload(store):
    uploader = store.uploader
    token = uploader.begin("new", len(IMAGE))
    views = [memoryview(IMAGE)[at : at + PART] for at in range(0, len(IMAGE), PART)]
    for number, view in enumerate(views):
        uploader.put_part(token, number, number * PART, view)
    assert {each.key for each in uploader.uploads()} == {"new"}
    uploader.complete(token, uploader.parts(token))


def abort(store):
    token = store.uploader.begin("new", len(IMAGE))
    store.uploader.put_part(token, 0, 0, memoryview(IMAGE)[:PART])
    store.uploader.abort(token)


# What each act asks of the service, in its order
ACTS = {
    stat: ["HeadObject"],
    read: ["GetObject"],
    put_small: ["HeadObject", "PutObject"],
    put_large: ["HeadObject", "PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload",
                "DeleteObject"],
    delete: ["HeadObject", "DeleteObject"],
    listing: ["ListObjectsV2"],
    upload: ["HeadObject", "PutObject", "CreateMultipartUpload", "UploadPart", "ListObjectsV2", "GetObject",
             "ListMultipartUploads", "ListParts", "CompleteMultipartUpload", "DeleteObject"],
    abort: ["AbortMultipartUpload", "DeleteObject"],
}  # fmt: skip
CASES = [(act, operation) for act, operations in ACTS.items() for operation in operations]


@pytest.mark.wide
@pytest.mark.parametrize("weather", WEATHER)
@pytest.mark.parametrize("act,operation", CASES, ids=[f"{a.__name__}-{o}" for a, o in CASES])
def test_weather_is_ridden_out(act, operation, weather):
    faults = [each if isinstance(each, Fault) else Fault(refuse=each) for each in WEATHER[weather]]
    with rig() as made:
        made.server.put("small", SMALL)
        made.server.put("large", IMAGE)
        store = made.store(resume_attempts=8, open_timeout=0.3, receive_timeout=0.3, finish_timeout=1.0)
        made.server.script(operation, *faults)
        act(store)
        # a record that cannot be removed is left to who reaps: the image is stored
        tried_once = operation == "DeleteObject" and act is not delete
        assert made.server.count(operation) >= (1 if tried_once else 2)
        images = made.server.images()
        assert ("small" in images) is (act is not delete)
        assert ("new" in images) is (act in {put_small, put_large, upload})
        assert images.get("new", IMAGE) == (SMALL if act is put_small else IMAGE)
        # what a reply that was lost left behind
        assert made.reap(store) == ([], [])
        assert made.server.images() == images
