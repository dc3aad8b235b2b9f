"""The S3 driver while radosgw is killed or silent, an image replaced or deleted, its own process killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from imgstore.errors import NotFoundError, VersionChangedError
from imgstore.model import Call
from imgstore.stack import LayerSettings, build
from tests.real.test_s3_kit import store_at

BUCKET = "kills"
PART = 5 << 20
SIZE = 24 << 20  # more than the socket buffers of both ends hold, so that a server can be caught in mid-body
DATA = random.Random(2013).randbytes(SIZE)
WHOLE = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def s3(ceph):
    return ceph.s3


@pytest.fixture
def client(s3):
    made = s3.client()
    made.create_bucket(Bucket=BUCKET)
    yield made
    made.close()


@pytest.fixture
def stack_at(s3):
    """Gives what makes stores in all their layers, closed at the end."""
    made = []

    def make(**options):
        driver = store_at(s3, BUCKET, receive_timeout=1.0, open_timeout=2.0, **options)
        made.append(build(driver, LayerSettings(stall_timeout=1.0, resume_attempts=12)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def image(client):
    client.put_object(Bucket=BUCKET, Key="disk.img", Body=DATA)
    return "disk.img"


def rest_of(stream, head=b""):
    digest = hashlib.sha256(head)
    for piece in stream.chunks():
        digest.update(piece)
    return digest.hexdigest()


def test_kill_9_and_restart_in_mid_read(ceph, image, stack_at):
    events = []
    with stack_at().get(image, call=Call(observe=events.append)) as stream:
        head = stream.read(1 << 20)
        ceph.kill9("rgw")
        ceph.up("rgw")
        assert rest_of(stream, head) == WHOLE
    assert Counter(event.kind for event in events)["resumed"] >= 1
    assert sum(event.count for event in events if event.kind == "delivered") == SIZE


def test_sigstop_beyond_the_stall_window(ceph, image, stack_at):
    events = []
    with stack_at().get(image, call=Call(observe=events.append)) as stream:
        head = stream.read(1 << 20)
        ceph.pause("rgw")
        wake = threading.Timer(2.5, ceph.cont, ["rgw"])
        wake.start()
        assert rest_of(stream, head) == WHOLE
        wake.join()
    assert Counter(event.kind for event in events)["resumed"] >= 1


def test_replaced_in_mid_read_by_one_of_the_same_size(ceph, image, client, stack_at):
    with stack_at().get(image) as stream:
        head = stream.read(1 << 20)
        client.put_object(Bucket=BUCKET, Key=image, Body=DATA[::-1])
        ceph.kill9("rgw")
        ceph.up("rgw")
        with pytest.raises(VersionChangedError) as raised:
            for piece in stream.chunks():
                head += bytes(piece)
    assert head == DATA[: len(head)]
    assert raised.value.offset == len(head)


def test_deleted_in_mid_read(ceph, image, client, stack_at):
    with stack_at().get(image) as stream:
        stream.read(1 << 20)
        client.delete_object(Bucket=BUCKET, Key=image)
        ceph.kill9("rgw")
        ceph.up("rgw")
        with pytest.raises(NotFoundError) as raised:
            rest_of(stream)
    assert raised.value.offset >= 1 << 20


class Slow:
    """A source that rewinds, and calls `between` once, when half of it was read."""

    def __init__(self, between):
        self._at = 0
        self._between = between

    def read(self, size):
        if self._at >= SIZE // 2 and self._between is not None:
            between, self._between = self._between, None
            between()
        piece = DATA[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def seekable(self):
        return True

    def tell(self):
        return self._at

    def seek(self, offset):
        self._at = offset


@pytest.mark.parametrize("how", ["kill -9", "SIGSTOP"])
def test_the_server_goes_away_in_mid_put(ceph, client, stack_at, how):
    def kill():
        ceph.kill9("rgw")
        threading.Timer(0.5, ceph.up, ["rgw"]).start()

    def pause():
        ceph.pause("rgw")
        threading.Timer(2.5, ceph.cont, ["rgw"]).start()

    store = stack_at()
    store.writer.put("put", Slow(kill if how == "kill -9" else pause), SIZE, overwrite=True)
    with store.get("put") as stream:
        assert rest_of(stream) == WHOLE
    for pending in list(store.uploader.uploads()):
        store.uploader.abort(pending.token)
    assert pending_of(client) == []


def pending_of(client):
    listed = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
    records = client.list_objects_v2(Bucket=BUCKET, Prefix=".imgstore/").get("Contents", ())
    return [each["Key"] for each in (*listed, *records)]


# Uploads DATA in parts by a token that it keeps in a file; what the service holds already is not sent again.
PROGRAM = """
import json, os, sys
from pathlib import Path
from tests.real.servers.s3 import S3
from tests.real.test_s3_kills import BUCKET, DATA, PART, SIZE
from tests.real.test_s3_kit import store_at

url, access_key, journal, stop_at = sys.argv[1:]
store = store_at(S3(url, access_key, os.environ["SECRET"]), BUCKET)
uploader, journal = store.uploader, Path(journal)
if journal.exists():
    token = journal.read_text()
    parts = {part.number: part for part in uploader.parts(token)}
else:
    token, parts = uploader.begin("resumed", SIZE, overwrite=True), {}
    journal.write_text(token)
for number, at in enumerate(range(0, SIZE, PART)):
    if number in parts:
        continue
    if number == int(stop_at):
        print("ready", flush=True)
    parts[number] = uploader.put_part(token, number, at, memoryview(DATA)[at : at + PART])
    print(f"sent {number}", flush=True)
uploader.complete(token, list(parts.values()))
"""


def test_the_client_is_killed_in_mid_upload_and_run_again(s3, client, tmp_path, stack_at):
    def run(stop_at):
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, s3.url, s3.access_key, tmp_path / "journal", str(stop_at)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "SECRET": s3.secret_key},
        )

    with run(3) as first:
        sent = []
        for line in first.stdout:
            if line == "ready\n":
                time.sleep(0.005)  # in the middle of its part, or so
                first.send_signal(signal.SIGKILL)
                break
            sent.append(line)
        sent += first.stdout.readlines()
    with run(99) as second:
        again = second.stdout.readlines()
    assert second.returncode == 0
    assert len(sent) + len(again) <= len(range(0, SIZE, PART)) + 1
    assert sent[:3] == [f"sent {number}\n" for number in range(3)]
    with stack_at().get("resumed") as stream:
        assert rest_of(stream) == WHOLE
    assert pending_of(client) == []


def test_what_a_killed_put_left_is_reaped(s3, client, stack_at):
    program = PROGRAM.replace("if journal.exists()", "if False").replace("journal.write_text(token)", "pass")
    with subprocess.Popen(
        [sys.executable, "-c", program, s3.url, s3.access_key, "none", "2"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "SECRET": s3.secret_key},
    ) as child:
        assert "ready\n" in iter(child.stdout.readline, "")
        child.send_signal(signal.SIGKILL)
    assert len(pending_of(client)) == 2
    uploader = stack_at().uploader
    for pending in list(uploader.uploads()):
        assert json.loads(json.dumps(pending.token)) == pending.token
        uploader.abort(pending.token)
    assert pending_of(client) == []
