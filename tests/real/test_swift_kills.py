"""Real Swift and radosgw, disturbed in mid-read and mid-upload; and a client that is killed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from imgstore.backends.swift import SwiftStore
from imgstore.errors import NotFoundError, RetriesExhaustedError, UploadLostError, VersionChangedError
from imgstore.model import NO_CALL
from imgstore.stack import LayerSettings, build
from tests import canary
from tests.real.test_swift_conformance import first_version

SEGMENT = 4 << 20
SIZE = 6 * SEGMENT  # more than all the buffers on the way hold, so that a server is caught in mid-body
DATA = random.Random(2026).randbytes(SIZE)
WHOLE = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module", params=["swift", "radosgw"])
def server(request):
    """A server, and the names of the daemon that answers and of the one that holds the bytes."""
    if request.param == "swift":
        swift = request.getfixturevalue("swift")
        return swift, swift.tester, "proxy", "object"
    ceph = request.getfixturevalue("ceph")
    return ceph, ceph.account, "rgw", "osd"


def driver(account, **options):
    return first_version(
        account,
        container="kills",
        segment_size=SEGMENT,
        **{"receive_timeout": 1.0, "open_timeout": 3.0, **options},
    )


@pytest.fixture
def made(server):
    """The driver, and the same in its layers."""
    bare = driver(server[1])
    store = build(bare, LayerSettings(stall_timeout=1.0, resume_attempts=12))
    with store:
        yield bare, store


def put(bare, key, data=DATA, **options):
    bare.writer.put(key, io.BytesIO(data), len(data), overwrite=True, **options)
    return key


def rest_of(stream, head):
    digest = hashlib.sha256(head)
    for view in stream.chunks():
        digest.update(view)
    return digest.hexdigest()


@pytest.mark.parametrize("which", ["front", "disk"])
def test_killed_in_mid_read(server, made, which):
    machine, _, front, disk = server
    bare, store = made
    key = put(bare, f"killed {which}")
    daemon = front if which == "front" else disk
    with store.get(key) as stream:
        head = stream.read(1 << 20)
        machine.kill9(daemon)
        machine.up(daemon)
        assert rest_of(stream, head) == WHOLE


@pytest.mark.parametrize("which", ["front", "disk"])
def test_paused_beyond_the_stall_window_in_mid_read(server, made, which):
    machine, _, front, disk = server
    bare, store = made
    key = put(bare, f"paused {which}")
    daemon = front if which == "front" else disk
    with store.get(key) as stream:
        head = stream.read(1 << 20)
        machine.pause(daemon)
        wake = threading.Timer(2.5, machine.cont, [daemon])
        wake.start()
        try:
            assert rest_of(stream, head) == WHOLE
        finally:
            wake.join()


@pytest.mark.parametrize("size", [SEGMENT, SIZE], ids=["plain", "static"])
def test_overwritten_in_mid_read(server, made, size):
    machine, _, front, _ = server
    bare, store = made
    key = put(bare, f"overwritten {size}", DATA[:size])
    with store.get(key) as stream:
        head = stream.read(1000)
        put(bare, key, DATA[:size][::-1])
        machine.kill9(front)
        machine.up(front)
        with contextlib.suppress(VersionChangedError, NotFoundError):
            head += stream.read()  # all of a plain one may be on its way already
            assert len(head) == size
    assert head == DATA[: len(head)]


def test_deleted_in_mid_read(server, made):
    machine, _, front, _ = server
    bare, store = made
    key = put(bare, "deleted")
    with store.get(key) as stream:
        stream.read(1 << 20)
        bare.writer.delete(key)
        machine.kill9(front)
        machine.up(front)
        with pytest.raises(NotFoundError) as caught:
            rest_of(stream, b"")
    assert caught.value.offset >= 1 << 20


def test_a_segment_removed_under_its_manifest(server, made):
    """Swift cuts the body, radosgw stalls for 65 seconds: neither says why."""
    disk = server[3]
    bare, _ = made
    key = put(bare, "segment removed")
    gone = sorted(
        str(entry["name"]) for entry in bare.service.objects("kills_segments", call=NO_CALL, prefix=f"{key}/")
    )[3]
    bare.service.delete("kills_segments", gone, call=NO_CALL)
    store = build(driver(server[1]), LayerSettings(stall_timeout=1.0, resume_attempts=3))
    began = time.monotonic()
    with store, store.get(key) as stream, pytest.raises((NotFoundError, RetriesExhaustedError)) as caught:
        rest_of(stream, b"")
    assert time.monotonic() - began < 20
    assert caught.value.offset == 3 * SEGMENT
    assert isinstance(caught.value, NotFoundError) or disk == "osd"
    bare.writer.delete(key)


def test_a_segment_replaced_under_its_manifest(server, made):
    """Swift compares it; radosgw serves what is there, which the driver compares before a byte is given."""
    bare, _ = made
    key = put(bare, "segment replaced")
    names = [
        entry["name"] for entry in bare.service.objects("kills_segments", call=NO_CALL, prefix=f"{key}/")
    ]
    bare.service.put("kills_segments", str(min(names)), bytes(SEGMENT), call=NO_CALL)
    with driver(server[1]) as store, pytest.raises(VersionChangedError), store.get(key) as stream:
        rest_of(stream, b"")
    bare.writer.delete(key)


def test_a_dynamic_large_object_without_a_segment(server, made):
    bare, store = made
    for number in range(3):
        bare.service.put("kills_segments", f"dynamic/{number:08}", DATA[number * 1000 :][:1000], call=NO_CALL)
    fields = {"X-Object-Manifest": "kills_segments/dynamic/"}
    bare.service.put("kills", "dynamic", b"", call=NO_CALL, headers=fields)
    with store.get("dynamic", 500) as stream:
        assert stream.info.size == 3000
        assert stream.read() == DATA[500:3000]
    bare.service.delete("kills_segments", "dynamic/00000001", call=NO_CALL)
    with pytest.raises(Exception, match="segment 1 of the image is missing"):
        bare.get("dynamic")
    bare.writer.delete("dynamic")
    held = list(bare.service.objects("kills_segments", call=NO_CALL, prefix="dynamic/"))
    assert not held


def test_tokens_that_end_in_mid_read_and_in_mid_upload(swift):
    bare = driver(swift.tester)
    with build(bare, LayerSettings(stall_timeout=1.0, resume_attempts=12)) as store:
        key = put(bare, "token")
        with store.get(key) as stream:
            head = stream.read(1 << 20)
            swift.forget_tokens()
            swift.kill9("proxy")
            swift.up("proxy")
            assert rest_of(stream, head) == WHOLE
        token = store.uploader.begin("token uploaded", SIZE)
        parts = []
        for number in range(6):
            view = memoryview(DATA)[number * SEGMENT : (number + 1) * SEGMENT]
            parts.append(store.uploader.put_part(token, number, number * SEGMENT, view))
            swift.forget_tokens()
        store.uploader.complete(token, parts)
        with store.get("token uploaded") as stream:
            assert rest_of(stream, b"") == WHOLE


@pytest.mark.parametrize("disturb", ["killed", "paused"])
@pytest.mark.parametrize("which", ["front", "disk"])
def test_disturbed_in_mid_upload(server, made, which, disturb):
    machine, _, front, disk = server
    bare, store = made
    daemon = front if which == "front" else disk
    key = f"upload {which} {disturb}"
    token = store.uploader.begin(key, SIZE)
    parts = []
    for number in range(6):
        if number == 2 and disturb == "killed":
            machine.kill9(daemon)
            threading.Timer(0.3, machine.up, [daemon]).start()
        elif number == 2:
            machine.pause(daemon)
            threading.Timer(2.0, machine.cont, [daemon]).start()
        view = memoryview(DATA)[number * SEGMENT : (number + 1) * SEGMENT]
        parts.append(store.uploader.put_part(token, number, number * SEGMENT, view))
    store.uploader.complete(token, parts)
    with store.get(key) as stream:
        assert rest_of(stream, b"") == WHOLE
    named = list(bare.service.objects("kills_segments", call=NO_CALL, prefix=f"{key}/"))
    assert len(named) == 6
    store.writer.delete(key)
    assert not list(store.uploader.uploads())


CLIENT = """
import json, sys, time
from imgstore.backends.swift import SwiftStore
from imgstore.stack import LayerSettings, build
told = json.load(sys.stdin)
data = open(told["source"], "rb").read()
size = told["segment"]
store = build(SwiftStore(**told["options"]), LayerSettings())
up = store.uploader
token = told["token"] or up.begin("client", len(data))
print(json.dumps({"token": token}), flush=True)
held = {part.number: part for part in up.parts(token)}
for number in range(-(-len(data) // size)):
    if number not in held:
        print(json.dumps({"sends": number}), flush=True)
        view = memoryview(data)[number * size : (number + 1) * size]
        held[number] = up.put_part(token, number, number * size, view)
print(json.dumps({"size": up.complete(token, list(held.values())).size}), flush=True)
"""


def client(account, source, token=None):
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    options = {
        "auth_url": account.auth,
        "auth_version": "1",
        "user": account.user,
        "password": account.key,
        "container": "kills",
        "create_container": True,
    }
    told = {"options": options, "source": str(source), "segment": SEGMENT, "token": token}
    process.stdin.write(json.dumps(told))
    process.stdin.close()
    return process


def test_a_client_killed_in_mid_upload_goes_on(server, made, tmp_path):
    bare, store = made
    source = tmp_path / "source"
    source.write_bytes(DATA)
    sent, token = [], None
    for stop in (1, 3, None):
        with client(server[1], source, token) as process:
            for line in process.stdout:
                told = json.loads(line)
                token = told.get("token", token)
                if "sends" in told:
                    sent.append(told["sends"])
                    if told["sends"] == stop:
                        process.send_signal(signal.SIGKILL)
                        break
            process.wait(60)
    assert process.returncode == 0
    assert sorted(set(sent)) == list(range(6))
    assert len(sent) - 6 <= 2, f"of two kills each costs one part at most: {sent}"
    with store.get("client") as stream:
        assert rest_of(stream, b"") == WHOLE
    named = list(bare.service.objects("kills_segments", call=NO_CALL, prefix="client/"))
    assert len(named) == 6
    assert not list(store.uploader.uploads())
    store.writer.delete("client")


def test_what_a_killed_client_leaves_is_reaped(server, made, tmp_path):
    bare, store = made
    source = tmp_path / "source"
    source.write_bytes(DATA)
    with client(server[1], source) as process:
        for line in process.stdout:
            if json.loads(line).get("sends") == 3:
                process.send_signal(signal.SIGKILL)
                break
    pending = [each for each in store.uploader.uploads() if each.key == "client"]
    assert len(pending) == 1
    store.uploader.abort(pending[0].token)
    assert not list(bare.service.objects("kills_segments", call=NO_CALL, prefix="client/"))
    with pytest.raises(UploadLostError):
        store.uploader.parts(pending[0].token)
    with pytest.raises(NotFoundError):
        store.stat("client")


def test_an_application_credential_logs_in(swift_keystone):
    keystone = swift_keystone.keystone
    name, secret = keystone.credential
    store = SwiftStore(
        auth_url=keystone.auth.removesuffix("/v3"),
        application_credential_id=name,
        application_credential_secret=secret,
        container="credential",
        create_container=True,
    )
    with store:
        put(store, "image", DATA[:1000])
        with store.get("image", 5, 10) as stream:
            assert stream.read() == DATA[5:15]
        store.writer.delete("image")
    assert canary.PASSWORD not in repr(vars(store))
