"""`imgstore cp` into stores: uploads that break, are killed, and go on; and what `reap` takes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import threading
import time
from dataclasses import replace

import pytest

from imgstore.backends.s3 import copier
from imgstore.clock import SystemClock
from imgstore.publish import pending_name
from imgstore.testing.server import ScriptedServer
from imgstore.transfer import resumable
from imgstore.transfer.notes import Notes
from tests import canary
from tests.faults.cli import ended, run_here, start
from tests.faults.s3_server import Fault, S3Server
from tests.faults.swift_server import SwiftServer
from tests.faults.uploading import COUNT, OnFiles, OnS3, OnSwift
from tests.thinning import thinned

POINTS = 2 * (COUNT + 2)  # before and after begin, each part, and complete


@pytest.fixture
def s3(tmp_path, monkeypatch):
    server = S3Server().start()
    yield OnS3(tmp_path, monkeypatch, server)
    server.stop()


@pytest.fixture
def swift(tmp_path, monkeypatch):
    server = SwiftServer(secret=canary.PASSWORD).start()
    yield OnSwift(tmp_path, monkeypatch, server)
    server.stop()


@pytest.fixture
def files(tmp_path, monkeypatch):
    return OnFiles(tmp_path, monkeypatch)


@pytest.fixture
def imgstore(capfdbinary):
    return lambda *argv: run_here(capfdbinary, *argv)


def swept(*few):
    """Gives every point of an upload for each kind of store, a few of them in every run."""
    return [
        pytest.param(kind, point, marks=[] if (kind, point) in few else pytest.mark.wide)
        for kind in ("s3", "swift", "files")
        for point in range(1, POINTS + 1)
    ]


@pytest.mark.parametrize(
    "kind, point", swept(("s3", 5), ("swift", POINTS), ("files", 2), ("files", 6), ("files", POINTS))
)
def test_d8_killed_at_any_point_the_same_command_goes_on(request, imgstore, kind, point):
    place = request.getfixturevalue(kind)
    assert place.killed_at(point, "cp", place.file, "to:disk.img")
    ran = imgstore("cp", place.file, "to:disk.img", "--json")
    assert ran.status == 0
    assert place.image() == place.data
    assert ran.told["digests"] == {"sha256": hashlib.sha256(place.data).hexdigest()}
    assert place.sent() <= COUNT + 1
    assert place.notes() == []
    # Of an upload that was just begun the store alone knows.
    assert bool(place.left()) == (point == 2)
    assert imgstore("reap", "--older-than", "0").status == 0
    assert place.left() == []
    assert place.image() == place.data


def test_d8_interrupted_it_says_how_it_goes_on(s3, imgstore):
    with s3.start(5, "cp", s3.file, "to:disk.img", number=signal.SIGINT) as process:
        ran = ended(process)
    assert ran.status == 130
    *_, kept, said = ran.err.splitlines()
    assert kept.endswith(f" of {len(s3.data)} bytes are stored, and the same command goes on from there")
    assert said == "imgstore: interrupted"
    assert s3.image() is None
    ran = imgstore("cp", s3.file, "to:disk.img")
    assert ran.status == 0
    assert "the upload goes on: " in ran.err
    assert (s3.image(), s3.left(), s3.notes()) == (s3.data, [], [])
    assert s3.sent() <= COUNT + 1


def test_of_many_images_it_says_which_goes_on(files, imgstore):
    with files.start(5, "cp", "-r", files.file, "to:", number=signal.SIGINT) as process:
        *_, kept, rest, said = ended(process).err.splitlines()
    assert kept.startswith("imgstore: to:disk.img: ")
    assert (
        rest == "imgstore: 1 of 1 image not copied yet; with --skip-existing the same command takes the rest"
    )
    assert said == "imgstore: interrupted"
    assert imgstore("cp", "-r", files.file, "to:").err.startswith(
        "imgstore: to:disk.img: the upload goes on: "
    )
    assert (files.image(), files.left(), files.notes()) == (files.data, [], [])


def test_d8_interrupted_in_a_silence_it_ends_within_two_seconds(s3, imgstore):
    begun = threading.Event()
    s3.server.script("UploadPart", None, Fault(stall=True))
    s3.server.before = lambda operation, key: s3.sent() == 2 and begun.set()
    with s3.start(0, "cp", s3.file, "to:disk.img") as process:
        assert begun.wait(30)
        process.send_signal(signal.SIGINT)
        since = time.monotonic()
        assert ended(process).status == 130
        assert time.monotonic() - since < 3 * 2
    assert s3.image() is None
    assert imgstore("cp", s3.file, "to:disk.img").status == 0
    assert (s3.image(), s3.left(), s3.notes()) == (s3.data, [], [])
    assert s3.sent() <= COUNT + 1


@pytest.mark.parametrize("fault", thinned([Fault(lose=True), Fault(reset=True)], 2))
def test_d1_d2_a_part_that_breaks_is_sent_once_more(s3, imgstore, fault):
    s3.server.script("UploadPart", None, fault)
    assert imgstore("cp", s3.file, "to:disk.img").status == 0
    assert s3.sent() == COUNT + 1
    assert (s3.image(), s3.left(), s3.notes()) == (s3.data, [], [])


def without_retries(place):
    with (place.folder / "imgstore.conf").open("a") as conf:
        conf.write("[store_defaults]\nresume_attempts = 0\n")


def test_d1_where_nothing_is_tried_again_the_next_run_goes_on(s3, imgstore):
    without_retries(s3)
    s3.server.script("UploadPart", None, Fault(refuse="SlowDown"))
    ran = imgstore("cp", s3.file, "to:disk.img")
    assert ran.status == 6
    assert "the same command goes on from there" in ran.err
    assert imgstore("cp", s3.file, "to:disk.img").status == 0
    assert (s3.image(), s3.left(), s3.notes()) == (s3.data, [], [])


@pytest.mark.parametrize(
    "fault",
    thinned([Fault(lose=True), Fault(body=b""), Fault(body=b"<Error><Code>InternalError</Code></Error>")], 1),
)
def test_d3_d4_complete_without_a_good_answer_makes_one_image(s3, imgstore, fault):
    s3.server.script("CompleteMultipartUpload", fault)
    ran = imgstore("cp", s3.file, "to:disk.img")
    assert ran.status == 0
    assert s3.server.count("AbortMultipartUpload") == 0
    assert (s3.image(), s3.left(), s3.notes()) == (s3.data, [], [])


def test_i7_what_may_have_been_published_is_not_aborted_but_asked_for(s3, imgstore):
    without_retries(s3)
    s3.server.script("CompleteMultipartUpload", Fault(lose=True))
    s3.server.before = lambda operation, key: (
        operation == "CompleteMultipartUpload" and s3.server.script("HeadObject", *[Fault(reset=True)] * 9)
    )
    assert imgstore("cp", s3.file, "to:disk.img").status == 6
    assert s3.server.count("AbortMultipartUpload") == 0
    s3.server.script("HeadObject")
    ran = imgstore("cp", s3.file, "to:disk.img")
    assert ran.status == 0
    assert s3.sent() == COUNT
    assert (s3.image(), s3.left(), s3.notes()) == (s3.data, [], [])


@pytest.mark.parametrize("sent", thinned([COUNT, 1], 2))
def test_d5_an_upload_that_the_service_forgot_begins_anew(s3, imgstore, sent):
    assert s3.killed_at(2 + 2 * sent, "cp", s3.file, "to:disk.img")
    s3.server.uploads.clear()
    ran = imgstore("cp", s3.file, "to:disk.img")
    assert ran.status == 0
    (said,) = [line for line in ran.err.splitlines() if "begins anew" in line]
    assert said.startswith("imgstore: the upload that was under way is gone, and begins anew")
    assert (s3.image(), s3.left(), s3.notes()) == (s3.data, [], [])


def test_d6_a_source_that_changed_is_an_error_until_it_is_to_start_over(s3, imgstore):
    assert s3.killed_at(6, "cp", s3.file, "to:disk.img")
    s3.file.write_bytes(s3.data[::-1])
    ran = imgstore("cp", s3.file, "to:disk.img")
    assert ran.status == 5
    assert ran.line.endswith("bytes are stored; --no-resume drops that and starts over")
    assert s3.image() is None
    assert imgstore("cp", "--no-resume", s3.file, "to:disk.img").status == 0
    assert (s3.image(), s3.left(), s3.notes()) == (s3.data[::-1], [], [])


def test_d6_a_source_that_changes_while_it_is_read_leaves_nothing(files, imgstore, monkeypatch):
    fill = resumable.fill

    def changing(stream, view):
        fill(stream, view)
        os.truncate(files.file, files.part // 2)

    monkeypatch.setattr(resumable, "fill", changing)
    ran = imgstore("cp", files.file, "to:disk.img")
    assert ran.status == 5
    assert (files.image(), files.left(), files.notes()) == (None, [], [])


def test_d7_a_source_that_fails_leaves_nothing(files, imgstore, monkeypatch):
    def failing(stream, view):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(resumable, "fill", failing)
    assert imgstore("cp", files.file, "to:disk.img").status == 1
    assert (files.image(), files.left(), files.notes()) == (None, [], [])


def test_d9_the_image_of_whoever_was_first_stays(s3, imgstore):
    s3.server.before = lambda operation, key: (
        operation == "CompleteMultipartUpload" and s3.server.put("disk.img", b"theirs")
    )
    ran = imgstore("cp", s3.file, "to:disk.img")
    assert ran.status == 10
    assert (s3.image(), s3.left(), s3.notes()) == (b"theirs", [], [])


@pytest.mark.parametrize("held", thinned([b"x" * (5 << 20), b""], 2), ids=["other bytes", "less"])
def test_d14_what_the_store_holds_counts_where_it_fits_and_is_proven(s3, imgstore, held):
    assert s3.killed_at(6, "cp", s3.file, "to:disk.img")
    (pending,) = s3.server.uploads.values()
    if held:
        number = min(pending.parts)
        pending.parts[number] = (held, hashlib.md5(held).hexdigest(), *pending.parts[number][2:])
    else:
        pending.parts.clear()
    ran = imgstore("cp", s3.file, "to:disk.img", "--json")
    assert ran.status == 0
    assert (s3.image(), s3.left(), s3.notes()) == (s3.data, [], [])


def test_c13_a_part_that_was_stored_wrong_is_not_gone_on_with(s3, imgstore):
    """Its sender was told so, and ended before the part was sent again."""
    without_retries(s3)
    s3.server.checks = False
    s3.server.script("UploadPart", None, Fault(flip=True))
    ran = imgstore("cp", s3.file, "to:disk.img")
    assert ran.status == 6
    assert "stored other bytes than were sent" in ran.err
    assert imgstore("cp", s3.file, "to:disk.img").status == 0
    assert (s3.image(), s3.left(), s3.notes()) == (s3.data, [], [])


def test_d15_i10_of_two_at_once_the_second_is_told_and_reap_leaves_the_first(files, imgstore):
    with files.start(5, "cp", files.file, "to:disk.img", number=signal.SIGSTOP) as process:
        try:
            stopped(process)
            ran = imgstore("cp", files.file, "to:disk.img")
            assert ran.status == 11
            assert "another process is at this upload" in ran.line
            assert imgstore("cp", "--no-resume", files.file, "to:disk.img").status == 11
            ran = imgstore("reap", "--older-than", "0", "--json")
            (live,) = ran.told["live"]
            assert (ran.status, live["location"], ran.told["removed"]) == (0, "to:disk.img", [])
            process.send_signal(signal.SIGCONT)
            assert ended(process).status == 0
        finally:
            process.kill()
    assert (files.image(), files.left(), files.notes()) == (files.data, [], [])


def test_i10_an_upload_that_is_not_noted_yet_is_live_too(files, imgstore):
    with files.start(2, "cp", files.file, "to:disk.img", number=signal.SIGSTOP) as process:
        try:
            stopped(process)
            assert len(imgstore("reap", "--older-than", "0", "--json").told["live"]) == 1
            process.send_signal(signal.SIGCONT)
            assert ended(process).status == 0
        finally:
            process.kill()
    assert (files.image(), files.left(), files.notes()) == (files.data, [], [])


def test_i10_an_upload_in_one_go_is_live_while_its_process_is(s3, imgstore):
    with (s3.folder / "imgstore.conf").open("a") as conf:
        conf.write(f"[store_to]\nupload_part_size = {s3.part}\n")
    begun, go_on = threading.Event(), threading.Event()

    def hold(operation, key):
        if operation == "UploadPart":
            begun.set()
            go_on.wait(60)

    s3.server.before = hold
    with s3.file.open("rb") as data, start("cp", "-", "to:disk.img", stdin=data) as process:
        try:
            assert begun.wait(30)
            ran = imgstore("reap", "--older-than", "0", "--json")
            (live,) = ran.told["live"]
            assert (ran.status, live["location"], ran.told["removed"]) == (0, "to:disk.img", [])
            go_on.set()
            assert ended(process).status == 0
        finally:
            go_on.set()
            process.kill()
    assert (s3.image(), s3.left(), s3.notes()) == (s3.data, [], [])


def test_i10_a_copy_inside_s3_is_live_while_its_process_is(s3, imgstore, monkeypatch):
    monkeypatch.setattr(copier, "COPY_LIMIT", s3.part)
    monkeypatch.setattr(copier, "_PART", s3.part)
    s3.server.put("disk.img", s3.data)
    reaped = []

    def look(operation, key):
        if operation == "UploadPartCopy" and not reaped:
            with start("reap", "--older-than", "0", "--json") as process:
                reaped.append(ended(process).told)

    s3.server.before = look
    assert imgstore("cp", "to:disk.img", "to:copy.img").status == 0
    ((live,), removed) = reaped[0]["live"], reaped[0]["removed"]
    assert (live["location"], removed) == ("to:copy.img", [])
    assert s3.server.images()["copy.img"] == s3.data
    assert (s3.left(), s3.notes()) == ([], [])


def stopped(process):
    """Waits until the process has stopped itself."""
    while True:
        with open(f"/proc/{process.pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "T":
                return
        assert process.poll() is None
        time.sleep(0.01)


def test_i10_reap_leaves_what_is_not_old_yet(files, imgstore, monkeypatch):
    assert files.killed_at(6, "cp", files.file, "to:disk.img")
    assert imgstore("reap").out == b"nothing to remove\n"
    assert imgstore("reap", "--older-than", "1h", "to").out == b"nothing to remove\n"
    ran = imgstore("reap", "--dry-run", "--older-than", "0", "--json")
    (found,) = ran.told["found"]
    assert (found["location"], found["held"]) == ("to:disk.img", None)
    assert files.left() != []
    real = SystemClock.time
    monkeypatch.setattr(SystemClock, "time", lambda self: real(self) + 8 * 86400)
    row, total = imgstore("reap").out.decode().splitlines()
    assert row.split()[0] == "removed"
    assert row.endswith("  to:disk.img")
    assert total == "1 removed"
    assert (files.image(), files.left(), files.notes()) == (None, [], [])


@pytest.mark.parametrize("parts, more", thinned([(0, 0), (2, 0), (1, 1), (0, 1), (1, -1), (1, 0), (2, 1)], 3))
def test_d17_every_size_goes_in_legal_parts(files, imgstore, parts, more):
    data = files.data[: parts * files.part + more]
    files.file.write_bytes(data)
    assert imgstore("cp", files.file, "to:disk.img").status == 0
    assert (files.image(), files.left(), files.notes()) == (data, [], [])


@pytest.mark.parametrize("option", ["--read-back", "--store-manifest"])
def test_p14_what_proves_an_upload_proves_one_that_goes_on(files, imgstore, option):
    assert files.killed_at(6, "cp", files.file, "to:disk.img", option)
    assert imgstore("cp", files.file, "to:disk.img", option).status == 0
    assert (files.image(), files.left(), files.notes()) == (files.data, [], [])
    if option == "--store-manifest":
        assert imgstore("verify", "to:disk.img").status == 0


@pytest.mark.parametrize("source", thinned(["url", "store"], 2))
def test_from_a_store_or_a_url_it_goes_on_too(s3, imgstore, source):
    with ScriptedServer() as web:
        web.put("/disk.img", s3.data, etag='"v1"')
        url = web.url("/disk.img")
        if source == "store":
            (s3.folder / "from").mkdir()
            os.rename(s3.file, s3.folder / "from/disk.img")
        place = "from:disk.img" if source == "store" else url
        assert s3.killed_at(5, "cp", place, "to:disk.img")
        held = len(s3.server.uploads[next(iter(s3.server.uploads))].parts) * s3.part
        ran = imgstore("cp", place, "to:disk.img", "--progress", "none")
        assert ran.status == 0
        assert f"{held} of {len(s3.data)} bytes are stored" in ran.line
        assert s3.sent() <= COUNT + 1
        assert (s3.image(), s3.left(), s3.notes()) == (s3.data, [], [])


def test_parallel_sends_parts_at_once(s3, imgstore):
    together = threading.Barrier(COUNT)
    s3.server.before = lambda operation, key: operation == "UploadPart" and together.wait(30)
    assert imgstore("cp", "--parallel", COUNT, s3.file, "to:disk.img").status == 0
    assert (s3.image(), s3.left(), s3.notes(), s3.sent()) == (s3.data, [], [], COUNT)


def test_a_source_that_cannot_be_told_again_is_put_as_before(s3, imgstore):
    with ScriptedServer() as web:
        web.put("/disk.img", s3.data, etag=None)
        assert imgstore("cp", web.url("/disk.img"), "to:disk.img").status == 0
    assert (s3.image(), s3.sent()) == (s3.data, 0)


def test_that_nothing_is_there_yet_is_no_failure(files, imgstore):
    lines = imgstore("cp", "--progress", "json", files.file, "to:disk.img").err.splitlines()
    assert {json.loads(line)["event"] for line in lines} == {"progress"}


def test_without_a_place_for_notes_it_is_put_as_before(s3, imgstore, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(s3.file))  # a file, and no folder
    ran = imgstore("cp", s3.file, "to:disk.img")
    assert ran.status == 0
    assert "a copy that is ended will begin anew, as no note of it can be kept" in ran.line
    assert (s3.image(), s3.sent()) == (s3.data, 0)


def test_where_notes_cannot_be_read_nothing_is_taken_for_dead(files, imgstore):
    assert files.killed_at(6, "cp", files.file, "to:disk.img")
    notes = files.folder / "home/.local/state/imgstore/uploads"
    notes.rename(notes.with_name("aside"))
    notes.symlink_to(notes)
    ran = imgstore("reap", "--older-than", "0", "to")
    assert ran.status == 9
    assert "cannot tell which uploads are live" in ran.err
    assert files.left() != []


def test_i10_reap_leaves_the_note_of_an_upload_that_is_begun_meanwhile(files, imgstore, monkeypatch):
    assert files.killed_at(5, "cp", files.file, "to:disk.img")
    paths = Notes.paths

    def another_begins(notes):
        found = paths(notes)
        ((token, path),) = found.items()
        with notes.at(path) as note:
            note.begin(replace(note.begun, token=f"{token}x"))
        return found

    monkeypatch.setattr(Notes, "paths", another_begins)
    assert imgstore("reap", "--older-than", "0").out.endswith(b"1 removed\n")
    assert (files.left(), len(files.notes())) == ([], 1)


def test_half_images_in_a_folder_are_reaped(files, imgstore):
    folder = files.folder / "work"
    folder.mkdir()
    dead, live = (folder / pending_name("copy.img") for _ in range(2))
    for each in (dead, live, folder / "disk.img"):
        each.write_bytes(b"x" * 5000)
    with live.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert imgstore("reap", f"{folder}/").out == b"nothing to remove\n", "it is of today"
        for more, result in ([["--dry-run"], "found"], [[], "removed"]):
            row, total = imgstore("reap", "--older-than", "0", *more, folder).out.decode().splitlines()
            assert row.split()[0] == result
            assert row.endswith(f"8.0 KiB  {dead}")
            assert total == f"1 {result}; 8.0 KiB in folders"
    assert sorted(os.listdir(folder)) == sorted([live.name, "disk.img"])


def test_what_cannot_be_reaped_does_not_keep_the_rest(s3, imgstore):
    for _ in range(2):
        assert s3.killed_at(6, "cp", s3.file, "to:disk.img")
        os.unlink(s3.folder / "home/.local/state/imgstore/uploads" / s3.notes()[0])
    s3.server.script("AbortMultipartUpload", Fault(refuse="AccessDenied"))
    ran = imgstore("reap", "--older-than", "0", "--json", f"{s3.folder}/nowhere", "to")
    assert ran.status == 7
    assert [each["location"] for each in ran.told["failed"]] == [f"{s3.folder}/nowhere", "to:disk.img"]
    assert len(ran.told["removed"]) == 1
    assert imgstore("reap", "--older-than", "0").status == 0
    assert s3.left() == []


@pytest.mark.parametrize(
    "place, said",
    [
        ("nowhere", "there is no store 'nowhere' (there are: to); a folder is written ./nowhere"),
        ("to:disk.img", "to:disk.img is neither a store nor a folder; a folder is written with a /"),
        ("https://example.org/", "https://example.org/ is neither a store nor a folder"),
    ],
)
def test_what_reap_cannot_mean(files, imgstore, place, said):
    ran = imgstore("reap", place)
    assert ran.status == 2
    assert ran.line.startswith(said)


def test_the_service_of_a_url_is_reaped_of_what_the_url_names(s3, imgstore, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", canary.PASSWORD)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(s3.folder / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(s3.folder / "none"))
    assert s3.killed_at(6, "cp", s3.file, "s3://images/a/disk.img")
    for place in ("s3://images/a/disk", "s3://images/disk.img", "s3://images/a", "s3://images/b/"):
        assert imgstore("reap", "--older-than", "0", place).out == b"nothing to remove\n"
    for place in ("s3://images", "s3://images/", "s3://images/a/"):
        (found,) = imgstore("reap", "--older-than", "0", "--dry-run", "--json", place).told["found"]
        assert found["location"] == "s3://images/a/disk.img"
    assert imgstore("reap", "--older-than", "0", "s3://images/a/disk.img").out.endswith(b"\n1 removed\n")
    assert (s3.image(), s3.left(), s3.notes()) == (None, [], [])
