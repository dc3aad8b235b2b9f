"""`imgstore cp` onto a path, ended and run again: what it says, what it costs the server, what it leaves."""

from __future__ import annotations

import fcntl
import hashlib
import random

import pytest

from imgstore import stack
from imgstore.manifest import write_metalink
from imgstore.testing.server import Cut, Header, ScriptedServer, Stall, Status, Throttle
from tests import canary
from tests.faults.cli import IMAGE, PATH, ended, names, run_here, start
from tests.faults.halves import small_parts
from tests.faults.test_cli_process import wait_for
from tests.manifests import manifest_of

N = len(IMAGE)
PART = 256 << 10
K = 11 * PART + 999  # where it is broken off
HELD = 11 * PART
OTHER = IMAGE[::-1]
SHA256 = hashlib.sha256(IMAGE).hexdigest()
LEFT = ["new.img.part", "new.img.part.journal"]


@pytest.fixture(autouse=True)
def small(request):
    if "large" in request.fixturenames:
        yield
        return
    with small_parts(part=PART):
        yield


@pytest.fixture
def server():
    with ScriptedServer() as server:
        server.put(PATH, IMAGE, etag='"v1"')
        yield server


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def imgstore(capfdbinary, folder):
    return lambda *argv: run_here(capfdbinary, *argv)


def broken_off(imgstore, server, *argv, at=K, status=7):
    """Runs a copy whose server breaks off and lets nobody in again, until now."""
    server.script(PATH, [Cut(at=at)], then=Status(403))
    ran = imgstore("cp", *argv)
    assert ran.status == status, ran.err
    server.script(PATH)
    return ran


def spent(server):
    server.log.wait_idle()
    return server.log.body_bytes(PATH)


def test_the_same_command_goes_on(imgstore, server, folder):
    url = server.url(PATH)
    ran = broken_off(imgstore, server, url, "new.img", "--json")
    told, error = ran.err.splitlines()
    assert told == f"imgstore: {HELD} bytes are kept beside new.img; the same command goes on from there"
    assert "403" in error
    assert ran.told["error"]["resumable"] is True
    assert names(folder) == LEFT
    before = spent(server)
    assert before == K
    ran = imgstore("cp", url, "new.img", "--json")
    assert (ran.status, ran.err) == (0, "")
    assert {name: ran.told[name] for name in ("bytes", "held", "received", "attempts", "digests")} == {
        "bytes": N,
        "held": HELD,
        "received": N - HELD,
        "attempts": 1,
        "digests": {"sha256": SHA256},
    }
    assert server.log.exchanges(PATH)[-1].range_asked == f"bytes={HELD}-"
    assert (folder / "new.img").read_bytes() == IMAGE
    assert names(folder) == ["new.img"]
    assert spent(server) == N + K - HELD


def test_p3_ten_drops_at_nine_tenths(imgstore, server, folder, promise, monkeypatch):
    monkeypatch.setitem(stack.build.__kwdefaults__, "jitter", lambda: 0.0)
    image = IMAGE * 2  # a hundredth of it is more than what makes a try no failure
    server.put(PATH, image)
    server.script(PATH, [Cut(at=len(image) * (90 + number) // 100) for number in range(10)])
    assert imgstore("cp", server.url(PATH), "new.img").status == 0
    assert (folder / "new.img").read_bytes() == image
    promise("P3", "bytes sent for a download onto a path, of the size", spent(server) / len(image), 1.02)


def test_a_deadline_keeps_what_came(imgstore, server, folder):
    server.script(PATH, then=Stall(at=K))
    ran = imgstore("cp", server.url(PATH), "new.img", "--timeout", "1")
    assert ran.status == 6
    assert "kept beside new.img" in ran.err
    assert names(folder) == LEFT


def test_b4_a_changed_source_is_told_in_a_line(imgstore, server, folder):
    broken_off(imgstore, server, server.url(PATH), "new.img")
    server.put(PATH, OTHER, etag='"v2"')
    ran = imgstore("cp", server.url(PATH), "new.img")
    assert (ran.status, ran.line) == (
        0,
        "the image has changed since the copy to new.img was begun; it begins anew",
    )
    assert (folder / "new.img").read_bytes() == OTHER


def test_no_resume_starts_over_and_keeps_nothing(imgstore, server, folder):
    broken_off(imgstore, server, server.url(PATH), "new.img")
    ran = broken_off(imgstore, server, server.url(PATH), "new.img", "--no-resume", status=6)
    assert "kept" not in ran.line
    assert names(folder) == []
    assert [each.range_asked for each in server.log.exchanges(PATH)][-1] == "bytes=0-"


def test_i4_a_second_copy_to_the_same_path_is_refused(imgstore, server, folder):
    broken_off(imgstore, server, server.url(PATH), "new.img")
    with open("new.img.part.journal", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        requests = server.log.requests(PATH)
        ran = imgstore("cp", server.url(PATH), "new.img")
    assert (ran.status, ran.line) == (11, "another copy to new.img is running; wait for it, or end it")
    assert server.log.requests(PATH) == requests
    assert names(folder) == LEFT


def test_another_signature_is_the_same_place_and_none_is_written_down(imgstore, server, folder):
    url = server.url(PATH)
    broken_off(imgstore, server, f"{url}?X-Amz-Signature={canary.PRESIGNED_QUERY}", "new.img")
    assert canary.found((folder / LEFT[1]).read_text()) == set()
    before = spent(server)
    assert imgstore("cp", f"{url}?X-Amz-Signature=renewed&X-Amz-Expires=60", "new.img").status == 0
    assert spent(server) - before == N - HELD


def test_another_place_begins_anew(imgstore, server, folder):
    """Unless a manifest proves that it is the same image."""
    server.put("/copy.img", IMAGE, etag='"v1"')
    broken_off(imgstore, server, server.url(PATH), "new.img")
    assert imgstore("cp", server.url("/copy.img"), "new.img").status == 0
    assert server.log.body_bytes("/copy.img") == N


def test_under_a_manifest_another_place_goes_on(imgstore, server, folder):
    with open("m.meta4", "wb") as file:
        write_metalink(manifest_of(IMAGE, PART, key="disk.img"), file)
    server.put("/copy.img", IMAGE, etag='"v2"')
    broken_off(imgstore, server, server.url(PATH), "new.img", "--manifest", "m.meta4")
    ran = imgstore("cp", server.url("/copy.img"), "new.img", "--manifest", "m.meta4", "--json", "--read-back")
    assert ran.status == 0, ran.err
    assert ran.told["digests"]["sha256"] == SHA256
    assert (folder / "new.img").read_bytes() == IMAGE
    server.log.wait_idle()
    assert server.log.body_bytes("/copy.img") == N - HELD


@pytest.mark.parametrize("status, kept", [(404, False), (403, True), (401, True)])
def test_what_is_final_leaves_nothing(imgstore, server, folder, status, kept):
    broken_off(imgstore, server, server.url(PATH), "new.img")
    server.script(PATH, then=Status(status))
    assert imgstore("cp", server.url(PATH), "new.img").status in {3, 7}
    assert names(folder) == LEFT * kept


def test_p14_a_digest_of_the_server_counts_after_a_resume(imgstore, server, folder):
    wrong = Header("Repr-Digest", "sha-256=:" + "A" * 43 + "=:")
    broken_off(imgstore, server, server.url(PATH), "new.img")
    server.script(PATH, then=wrong)
    ran = imgstore("cp", server.url(PATH), "new.img")
    assert ran.status in {4, 5}, ran.err
    assert not (folder / "new.img").exists()


@pytest.fixture
def large():
    """An image above the size from which a copy can be gone on with."""
    return random.Random(9).randbytes((66 << 20) + 17)


# What a process was given by the kernel and had not read when it was killed: docs/limits.md#kernel-buffers.
with open("/proc/sys/net/ipv4/tcp_rmem", encoding="ascii") as settings:
    UNREAD = int(settings.read().split()[2])


@pytest.mark.parametrize(
    "options",
    [
        [],
        pytest.param(["--force"], marks=pytest.mark.wide),
        pytest.param(["--parallel", "4"], marks=pytest.mark.wide),
    ],
    ids=str,
)
def test_p6_p12_the_command_killed_and_run_again(large, folder, promise, options):
    """As a user has it: whole parts, a process of its own, kill -9, a server that counts."""
    old = ["new.img"] * ("--force" in options)
    for name in old:
        (folder / name).write_bytes(b"old")
    most = int(options[-1]) if "--parallel" in options else 1
    kills = 2
    with ScriptedServer() as server:
        server.put(PATH, large)
        server.script(PATH, then=Throttle(48 << 20))
        for number in range(kills):
            with start("cp", *options, server.url(PATH), "new.img") as process:
                goal = (number + 1) * (20 << 20)
                wait_for(lambda goal=goal: server.log.body_bytes(PATH) > goal)
                process.kill()
                ended(process)
            assert names(folder) == old + LEFT
        server.script(PATH)
        with start("cp", *options, server.url(PATH), "new.img", "--json") as process:
            ran = ended(process)
        server.log.wait_idle()
        spent = server.log.body_bytes(PATH)
    assert ran.status == 0, ran.err
    assert (folder / "new.img").read_bytes() == large
    assert names(folder) == ["new.img"]
    beyond = (spent - len(large)) / kills / most
    what = "bytes sent beyond the image for each kill -9 and connection, unread ones in the kernel with them"
    promise("P6", what, beyond, (4 << 20) + UNREAD)
    promise("P12", "files left after a kill, beside the target", len(LEFT), 2)
