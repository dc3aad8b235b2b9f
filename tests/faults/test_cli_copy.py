"""`imgstore cp`, `cat` and `stat` over connections that break; the server's log is the truth."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import re
import time

import pytest

from imgstore import stack
from imgstore.cli import meter
from imgstore.testing.server import (
    CloseDelimited,
    Cut,
    Flip,
    Header,
    HeaderDelay,
    NoLength,
    NoRanges,
    Redirect,
    Reset,
    ScriptedServer,
    Stall,
    Status,
    Swap,
    Throttle,
)
from tests import canary
from tests.faults.cli import IMAGE, PATH, names, run_here
from tests.faults.disk import Disk, install

N = len(IMAGE)
OTHER = IMAGE[::-1]
SHA256 = hashlib.sha256(IMAGE).hexdigest()


@pytest.fixture
def server():
    with ScriptedServer() as server:
        server.put(PATH, IMAGE)
        yield server


@pytest.fixture
def url(server):
    return server.url(PATH)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def imgstore(capfdbinary, folder):
    return lambda *argv: run_here(capfdbinary, *argv)


def test_a_clean_copy_is_one_request_and_says_nothing(imgstore, server, url, folder):
    ran = imgstore("cp", url, "new.img")
    assert (ran.status, ran.out, ran.err) == (0, b"", "")
    assert (folder / "new.img").read_bytes() == IMAGE
    assert names(folder) == ["new.img"]
    assert server.log.requests(PATH) == 1


def test_the_report(imgstore, url):
    ran = imgstore("cp", url, "new.img", "--json")
    assert ran.status == 0
    told = ran.told
    assert told.pop("seconds") < 30
    assert told == {
        "bytes": N,
        "held": 0,
        "received": N,
        "refetched": 0,
        "attempts": 1,
        "resumes": 0,
        "stalls": 0,
        "repaired_chunks": 0,
        "repaired": 0,
        "sources": {url: N},
        "failures": [],
        "digests": {"sha256": SHA256},
    }


@pytest.mark.parametrize(
    "faults, expected",
    [
        ([Cut(at=1000), Cut(at=1_000_000), Cut(at=N - 1)], {"attempts": 4, "resumes": 3}),
        ([Status(503), Cut(at=5), Status(429, {"Retry-After": "0"})], {"attempts": 4, "resumes": 1}),
        ([Cut(at=0)], {"attempts": 2, "resumes": 1}),
        ([Stall(at=70_000)], {"attempts": 2, "resumes": 1, "stalls": 1}),
        ([Cut(at=300_000), NoRanges()], {"attempts": 2, "resumes": 1, "refetched": 300_000}),
        ([Cut(body_at=0), Cut(body_at=0), Reset(body_at=0)], {"attempts": 4}),
    ],
    ids=["cuts", "refusals", "nothing", "stall", "whole", "heads"],
)
def test_what_a_broken_copy_cost_is_what_the_server_sent(imgstore, server, url, folder, faults, expected):
    server.script(PATH, faults)
    ran = imgstore("cp", url, "new.img", "--json", "--stall-timeout", "0.5")
    assert ran.status == 0, ran.err
    told = ran.told
    assert (folder / "new.img").read_bytes() == IMAGE
    assert {name: told[name] for name in expected} == expected
    server.log.wait_idle()
    assert told["received"] == server.log.body_bytes(PATH) == N + told["refetched"]
    assert told["attempts"] == server.log.requests(PATH)
    assert told["digests"] == {"sha256": SHA256}


@pytest.mark.parametrize(
    "faults, status, said",
    [
        ([Status(404)], 3, "no such image"),
        ([Status(401)], 7, "status 401"),
        ([Status(403)], 7, "status 403"),
        ([Cut(at=5000), Swap(OTHER)], 5, "version"),
        ([Cut(at=5000), Status(404)], 3, "at byte 5000"),
        ([Redirect("http://127.0.0.2:9/x")], 9, "--allow-private"),
        ([Redirect("file:///etc/shadow")], 9, "no http or https URL"),
        (
            [Header("Repr-Digest", f"sha-256=:{base64.b64encode(hashlib.sha256(OTHER).digest()).decode()}:")],
            4,
            "sha256",
        ),
    ],
)
@pytest.mark.parametrize("old", [None, b"the old image"])
def test_a_failure_leaves_the_target_alone_and_says_why(
    imgstore, server, url, folder, faults, status, said, old
):
    server.script(PATH, faults)
    if old is not None:
        (folder / "new.img").write_bytes(old)
    ran = imgstore("cp", url, "new.img", "--json", "--force")
    assert ran.status == status
    assert said in ran.line
    assert url in ran.line
    assert names(folder) == ["new.img"] * (old is not None)
    assert old is None or (folder / "new.img").read_bytes() == old
    assert ran.told["error"]["status"] == status
    assert ran.told["digests"] == {}


def test_a_server_that_never_answers_well_exhausts_the_tries(imgstore, server, url, folder, monkeypatch):
    monkeypatch.setitem(stack.build.__kwdefaults__, "jitter", lambda: 0.0)
    server.script(PATH, then=Status(503, {"Retry-After": "0"}))
    ran = imgstore("cp", url, "new.img", "--json", "--no-progress")
    assert ran.status == 6
    assert "8 tries" in ran.line
    assert "503" in ran.line
    assert ran.told["attempts"] == server.log.requests(PATH) == 8
    assert ran.told["error"]["type"] == "RetriesExhaustedError"
    assert names(folder) == []


def test_the_deadline_ends_it(imgstore, server, url, folder):
    server.script(PATH, then=HeaderDelay(60))
    began = time.monotonic()
    ran = imgstore("cp", url, "new.img", "--timeout", "0.5")
    assert time.monotonic() - began < 3
    assert ran.status == 6
    assert "deadline" in ran.line
    assert names(folder) == []


def test_without_resume_the_first_break_ends_it(imgstore, server, url, folder):
    server.script(PATH, [Cut(at=5000)])
    ran = imgstore("cp", url, "new.img", "--no-resume", "--json")
    assert ran.status == 6
    assert "5000" in ran.line
    assert server.log.requests(PATH) == 1
    assert ran.told["bytes"] == ran.told["error"]["offset"] == 5000
    assert names(folder) == []


def test_an_unknown_size_ends_with_the_last_chunk(imgstore, server, url, folder):
    server.script(PATH, [(NoRanges(), NoLength())])
    ran = imgstore("cp", url, "new.img", "--json")
    assert ran.status == 0, ran.err
    assert ran.told["bytes"] == N
    assert (folder / "new.img").read_bytes() == IMAGE


@pytest.mark.parametrize("fault", [(NoRanges(), CloseDelimited()), (NoRanges(), NoLength(last=False))])
def test_an_unknown_size_without_a_proof_is_no_success(imgstore, server, url, folder, fault):
    server.script(PATH, then=fault)
    ran = imgstore("cp", url, "new.img", "--no-resume")
    assert ran.status in {1, 6}
    assert names(folder) == []


@pytest.mark.parametrize("size", [0, 1])
def test_the_smallest_images(imgstore, server, folder, size):
    server.put("/small", IMAGE[:size])
    assert imgstore("cp", server.url("/small"), "new.img").status == 0
    assert (folder / "new.img").read_bytes() == IMAGE[:size]


def test_an_existing_file_costs_no_request(imgstore, server, url, folder):
    (folder / "old.img").write_bytes(b"old")
    ran = imgstore("cp", url, "old.img")
    assert ran.status == 10
    assert ran.line == "old.img exists already; --force replaces it"
    assert server.log.requests() == 0
    assert server.log.connections == 0
    assert (folder / "old.img").read_bytes() == b"old"


def test_a_file_that_came_meanwhile_stays(imgstore, server, url, folder):
    server.guard(PATH, lambda request: bool((folder / "new.img").write_bytes(b"theirs")))
    ran = imgstore("cp", url, "new.img")
    assert ran.status == 10
    assert "exists" in ran.line
    assert (folder / "new.img").read_bytes() == b"theirs"
    assert names(folder) == ["new.img"]


def test_force_replaces_the_file_when_the_new_one_is_whole(imgstore, server, url, folder):
    (folder / "old.img").write_bytes(b"old")
    (folder / "old.img").chmod(0o600)
    server.script(PATH, [Cut(at=100)])
    seen = []
    server.guard(PATH, lambda request: seen.append((folder / "old.img").read_bytes()) is None)
    assert imgstore("cp", "--force", url, "old.img").status == 0
    assert seen == [b"old", b"old"]
    assert (folder / "old.img").read_bytes() == IMAGE
    assert (folder / "old.img").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "code, status", [(errno.ENOSPC, 8), (errno.EDQUOT, 8), (errno.EIO, 1), (errno.EFBIG, 8), (errno.EROFS, 7)]
)
@pytest.mark.parametrize("function", ["write", "fsync"])
def test_a_failing_disk(imgstore, url, folder, monkeypatch, code, status, function):
    def plan(name, number):
        return OSError(code, os.strerror(code)) if (name, number) == (function, 1) else None

    install(monkeypatch, Disk(plan))
    (folder / "old.img").write_bytes(b"old")
    ran = imgstore("cp", url, "old.img", "--force")
    assert ran.status == status
    assert os.strerror(code) in ran.line
    assert "old.img" in ran.line
    assert names(folder) == ["old.img"]
    assert (folder / "old.img").read_bytes() == b"old"


def test_an_interrupt_after_publishing_says_so(imgstore, url, folder, monkeypatch):
    def plan(name, number):
        return KeyboardInterrupt() if (name, number) == ("fsync", 2) else None

    install(monkeypatch, Disk(plan))
    ran = imgstore("cp", url, "new.img")
    assert ran.status == 130
    assert ran.line == "interrupted when new.img was complete"
    assert (folder / "new.img").read_bytes() == IMAGE


@pytest.mark.parametrize(
    "refused, said",
    [(".", "cannot create new.img: Permission denied"), ("a.img", "Permission denied")],
    ids=["folder", "file"],
)
def test_a_folder_or_file_without_permission(imgstore, folder, monkeypatch, refused, said):
    real = os.open

    def denied(path, *args, **options):
        if path == refused:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *args, **options)

    (folder / "a.img").write_bytes(b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", denied)
        ran = imgstore("cp", "a.img", "new.img")
    assert ran.status == 7
    assert said in ran.line
    assert names(folder) == ["a.img"]


def test_a_file_is_copied_too(imgstore, folder):
    (folder / "a:b").write_bytes(IMAGE)
    (folder / "link").symlink_to("a:b")
    for source in ("./a:b", "link", folder / "a:b"):
        ran = imgstore("cp", source, "new.img", "--json", "--force")
        assert ran.status == 0, ran.err
        assert (folder / "new.img").read_bytes() == IMAGE
        assert ran.told["sources"] == {str(source): N}
        assert ran.told["received"] == N


def test_the_kernel_copies_a_file_to_a_file(imgstore, folder, monkeypatch):
    hole = 1 << 20
    with open(folder / "a.img", "wb") as file:
        file.write(IMAGE)
        file.seek(hole, os.SEEK_CUR)
        file.write(b"end")

    def refused(*_):
        raise AssertionError("the bytes passed through here")

    monkeypatch.setattr(os, "preadv", refused)
    ran = imgstore("cp", "a.img", "new.img", "--no-progress")
    assert (ran.status, ran.out, ran.err) == (0, b"", "")
    assert (folder / "new.img").read_bytes() == IMAGE + bytes(hole) + b"end"
    assert (folder / "new.img").stat().st_blocks * 512 < N + hole
    assert names(folder) == ["a.img", "new.img"]


def test_a_file_that_changes_while_the_kernel_copies_it(imgstore, folder, monkeypatch):
    (folder / "a.img").write_bytes(IMAGE)
    real = os.copy_file_range

    def copy_file_range(*args, **more):
        os.utime(folder / "a.img", ns=(0, 0))
        return real(*args, **more)

    monkeypatch.setattr(os, "copy_file_range", copy_file_range)
    ran = imgstore("cp", "a.img", "new.img")
    assert ran.status == 5
    assert ran.line == "'a.img' was written to while it was being read"
    assert names(folder) == ["a.img"]


@pytest.mark.parametrize("option", ["--json", "--progress=json", "--limit-rate=1G", "--stall-timeout=9"])
def test_who_looks_at_the_bytes_gets_them(imgstore, folder, monkeypatch, option):
    (folder / "a.img").write_bytes(IMAGE)
    seen, real = [], os.preadv
    monkeypatch.setattr(os, "preadv", lambda *args: seen.append(args) or real(*args))
    assert imgstore("cp", "a.img", "new.img", option).status == 0
    assert seen
    assert (folder / "new.img").read_bytes() == IMAGE


def test_a_file_that_changes_while_it_is_copied(imgstore, folder, monkeypatch):
    (folder / "a.img").write_bytes(IMAGE)
    real = os.preadv

    def preadv(descriptor, buffers, at):
        os.utime(folder / "a.img", ns=(0, at))
        return real(descriptor, buffers, at)

    monkeypatch.setattr(os, "preadv", preadv)
    ran = imgstore("cp", "a.img", "new.img", "--limit-rate", "1G")
    assert ran.status == 5
    assert ran.line == "'a.img' was written to while it was being read (at byte 4194304)"
    assert names(folder) == ["a.img"]


@pytest.mark.parametrize(
    "options, start, stop",
    [
        ([], 0, None),
        (["--offset", "10"], 10, None),
        (["--length", "1K"], 0, 1024),
        (["--offset", "1MiB", "--length", "7"], 1 << 20, (1 << 20) + 7),
        (["--offset", str(N - 1), "--length", "5"], N - 1, N),
        (["--offset", "0", "--length", "1G"], 0, None),
    ],
)
def test_cat_gives_the_range(imgstore, server, url, folder, options, start, stop):
    (folder / "a.img").write_bytes(IMAGE)
    server.script(PATH, [Cut(body_at=3)])
    for source in (url, "a.img"):
        ran = imgstore("cat", source, *options)
        assert (ran.status, ran.err) == (0, "")
        assert ran.out == IMAGE[start:stop]


def test_a_copy_to_standard_output(imgstore, server, url):
    server.script(PATH, [Cut(at=100_000)])
    ran = imgstore("cp", url, "-")
    assert (ran.status, ran.out, ran.err) == (0, IMAGE, "")


def test_what_cat_wrote_before_an_error_was_exact(imgstore, server, url):
    server.script(PATH, [Cut(at=100_000), Swap(OTHER)])
    ran = imgstore("cat", url)
    assert ran.status == 5
    assert ran.out == IMAGE[:100_000]
    assert "at byte 100000" in ran.line


def test_stat_of_a_url(imgstore, server, url):
    server.put(PATH, IMAGE, etag='"v1"', last_modified=1_000_000_000)
    ran = imgstore("stat", f"{url}?X-Amz-Signature={canary.PRESIGNED_QUERY}")
    assert ran.out.decode() == (
        f"location  {url}?...\n"
        f"size      {N} bytes (4.0 MiB)\n"
        'version   "v1"\n'
        "modified  2001-09-09 01:46:40 UTC\n"
    )
    assert imgstore("stat", url, "--json").told == {
        "location": url,
        "key": "disk.img",
        "size": N,
        "version": '"v1"',
        "modified": 1_000_000_000,
        "digests": {},
    }
    assert server.log.body_bytes() == 0


def test_stat_of_a_file(imgstore, folder):
    (folder / "a.img").write_bytes(b"x" * 5)
    found = (folder / "a.img").stat()
    told = imgstore("stat", "a.img", "--json").told
    assert (told["location"], told["size"], told["modified"]) == ("a.img", 5, found.st_mtime)
    assert told["version"]
    assert b"size      5 bytes\n" in imgstore("stat", "a.img").out


@pytest.mark.parametrize("command", ["stat", "cat"])
def test_a_failure_without_a_file(imgstore, server, command):
    ran = imgstore(command, server.url("/nowhere"))
    assert ran.status == 3
    assert ran.out == b""
    assert server.url("/nowhere") in ran.line


def test_a_failed_stat_with_json(imgstore, server):
    ran = imgstore("stat", server.url("/nowhere"), "--json")
    assert ran.status == ran.told["error"]["status"] == 3
    assert ran.told["error"]["type"] == "NotFoundError"


def authorized(server, value):
    server.guard(PATH, lambda request: request.header("Authorization") == value)


BASIC = "Basic " + base64.b64encode(f"me:{canary.PASSWORD}".encode()).decode()


@pytest.mark.parametrize("way", ["file", "environment", "url", "netrc"])
def test_a_password_never_stands_on_the_command_line(imgstore, server, url, folder, monkeypatch, way):
    authorized(server, BASIC)
    (folder / "secret").write_text(f"{canary.PASSWORD}\n")
    (folder / "netrc").write_text(f"machine 127.0.0.1 login me password {canary.PASSWORD}\n")
    (folder / "netrc").chmod(0o600)
    if way == "environment":
        monkeypatch.setenv("IMGSTORE_PASSWORD", canary.PASSWORD)
    options = {
        "file": ["--user", "me", "--password-file", "secret"],
        "environment": ["--user", "me"],
        "url": [],
        "netrc": ["--netrc-file", "netrc"],
    }[way]
    if way == "url":
        url = url.replace("http://", f"http://me:{canary.PASSWORD.replace('/', '%2F')}@")
    ran = imgstore("cp", url, "new.img", "--json", *options)
    assert ran.status == 0, ran.err
    assert list(ran.told["sources"]) == [server.url(PATH)]


def test_a_token_and_headers(imgstore, server, url, folder):
    authorized(server, f"Bearer {canary.TOKEN}")
    (folder / "token").write_text(canary.TOKEN)
    assert imgstore("cat", url, "--token-file", "token").status == 0
    (folder / "headers").write_text(f"Authorization: Bearer {canary.TOKEN}\n\nX-Other: {canary.HEADER}\n")
    assert imgstore("cat", url, "--header", "@headers").status == 0
    assert server.log.exchanges(PATH)[-1].header("X-Other") == canary.HEADER
    assert imgstore("cat", url, "--header", f"authorization:Bearer {canary.TOKEN}").status == 0
    assert imgstore("cat", url).status == 7


def test_a_presigned_url_that_expires_is_renewed(imgstore, server, url, folder):
    command = folder / "presign"
    command.write_text(f"#!/bin/sh\necho \"$1\" >> asked\necho '{url}?signature='$(wc -l < asked)\n")
    command.chmod(0o755)
    server.script(PATH, [Cut(at=5000)])

    def valid(request):
        # the first is for the first request alone
        return request.target.endswith("=2" if server.log.requests(PATH) > 1 else "=1")

    server.guard(PATH, valid)
    ran = imgstore("cp", url, "new.img", "--url-command", f"{command}", "--json")
    assert ran.status == 0, ran.err
    assert (folder / "asked").read_text().split() == ["disk.img", "disk.img"]
    assert (folder / "new.img").read_bytes() == IMAGE


def test_a_limited_rate(imgstore, url):
    began = time.monotonic()
    assert imgstore("cp", url, "new.img", "--limit-rate", "8M").status == 0
    assert 0.2 < time.monotonic() - began < 3


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(meter, "_FIRST", 0.05)
    for face in (meter._Lines, meter._Json, meter._Bar):
        monkeypatch.setattr(face, "interval", 0.05)


def slow(server, *first):
    server.script(PATH, [(Throttle(16 << 20), *each) for each in first], then=Throttle(16 << 20))


def test_lines_where_there_is_no_terminal(imgstore, server, url, quick):
    slow(server, [Cut(at=1 << 20)])
    lines = imgstore("cp", url, "new.img").err.splitlines()
    assert len(lines) > 2
    assert all(line.startswith("imgstore: disk.img: ") for line in lines)
    assert [line for line in lines if re.search(r"\d%, \d.* of 4.0 MiB, .*/s, .* left", line)]
    assert lines[-2].endswith(", 1 resume")
    assert re.fullmatch(r"imgstore: disk.img: 4.0 MiB in .*, .*/s, 1 resume", lines[-1])


@pytest.mark.parametrize(
    "options", [["--no-progress"], ["--progress", "none"], ["--progress", "bar", "--no-progress"]]
)
def test_no_progress_is_silent(imgstore, server, url, quick, options):
    slow(server)
    assert imgstore("cp", url, "new.img", *options).err == ""


def test_json_progress(imgstore, server, url, quick):
    slow(server, [Cut(at=1 << 20)])
    ran = imgstore("cp", url, "new.img", "--progress", "json", "--json")
    lines = [json.loads(line) for line in ran.err.splitlines()]
    assert {"event": "resumed", "offset": 1 << 20, "attempt": 2, "error": "TruncatedError"} in lines
    told = [line for line in lines if line["event"] == "progress"]
    assert len(told) > 2
    assert [line["bytes"] for line in told] == sorted(line["bytes"] for line in told)
    assert told[-1]["bytes"] == told[-1]["total"] == ran.told["bytes"] == N
    assert all(line["rate"] >= 0 for line in told)


def test_json_progress_ends_with_a_line_however_short_the_copy(imgstore, url):
    (line,) = imgstore("cp", url, "new.img", "--progress", "json").err.splitlines()
    assert json.loads(line).items() >= {"event": "progress", "bytes": N, "total": N}.items()


def test_json_progress_ends_with_a_line_after_a_failure_too(imgstore, server, url):
    server.script(PATH, [Cut(at=5000), Swap(OTHER)])
    lines = imgstore("cp", url, "new.img", "--progress", "json").err.splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    assert told[-1].items() >= {"event": "progress", "bytes": 5000, "total": N}.items()


def test_a_bar(imgstore, server, url, quick, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    slow(server, [Cut(at=1 << 20)])
    ran = imgstore("cp", url, "new.img", "--progress", "bar")
    assert "disk.img" in ran.err
    assert "of 4.0 MiB" in ran.err
    assert "1 resume" in ran.err
    assert re.search(r"imgstore: disk.img: 4.0 MiB in .*, .*/s, 1 resume$", ran.err.splitlines()[-1])
    assert "\x1b[2K" in ran.err


def test_warnings_stand_above_the_bar(imgstore, server, url, quick, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    slow(server, [Cut(at=1 << 20)])
    ran = imgstore("--debug", "cp", url, "new.img", "--progress", "bar")
    assert ran.status == 0
    assert "imgstore: warning: store" in ran.err


def test_a_failure_after_a_bar_is_still_one_line(imgstore, server, url, quick):
    server.script(PATH, [(Throttle(16 << 20), Cut(at=3 << 20)), Swap(OTHER)])
    ran = imgstore("cp", url, "new.img", "--progress", "bar")
    assert ran.status == 5
    last = ran.err.splitlines()[-1].rpartition("\x1b[2K")[2]
    assert last.startswith(f"imgstore: {url}: ")
    assert last.endswith("(at byte 3145728)")


def test_flipped_bytes_without_a_digest_are_not_seen_and_with_one_are(imgstore, server, url, folder):
    honest = f"sha-256=:{base64.b64encode(hashlib.sha256(IMAGE).digest()).decode()}:"
    server.script(PATH, [(Flip(at=1000), Header("Repr-Digest", honest))])
    ran = imgstore("cp", url, "new.img")
    assert ran.status == 4
    assert names(folder) == []
