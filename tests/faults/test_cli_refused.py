"""What makes no sense gets one clear line naming it and what would do; nothing is touched."""

from __future__ import annotations

import os
import shlex
import socket

import pytest

from tests import canary
from tests.faults.cli import configure, names, run, run_here, without_configuration

OLD = b"what was there before"


@pytest.fixture
def folder(tmp_path, tmp_path_factory, monkeypatch):
    # elsewhere, since stevedore keeps its cache of entry points there
    without_configuration(monkeypatch, tmp_path_factory.mktemp("home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.img").write_bytes(OLD)
    (tmp_path / "b.img").write_bytes(OLD)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("b.img")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "hard").hardlink_to(tmp_path / "a.img")
    (tmp_path / "odd\x1b[31m\nname").write_bytes(OLD)
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        yield tmp_path


def state(folder):
    found = {}
    for name in names(folder):
        path = folder / name
        found[name] = (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
    return found


# Nothing listens there: a case that got as far as a request would end with 6.
URL = "http://127.0.0.1:9/x.img"

CASES = [
    # the target
    ("cp a.img b.img", 10, "b.img exists already; --force replaces it"),
    ("cp a.img link", 9, "link is a symbolic link; name the file it leads to, or remove it"),
    ("cp a.img dangling --force", 9, "dangling is a symbolic link"),
    ("cp a.img folder", 2, "folder is a folder; name the file in it, such as folder/a.img"),
    ("cp a.img .", 2, "such as ./a.img"),
    (f"cp {URL}?s={{PRESIGNED_QUERY}} folder/", 2, "such as folder/x.img"),
    ("cp - folder", 2, "such as folder/NAME"),
    ("cp a.img fifo", 9, "fifo is a FIFO, socket or device"),
    ("cp a.img fifo --force", 9, "fifo is a FIFO, socket or device"),
    ("cp a.img socket --force", 9, "socket is a FIFO, socket or device"),
    ("cp a.img /dev/null --force", 9, "/dev/null is a FIFO, socket or device"),
    ("cp a.img missing/new.img", 2, "there is no folder missing to put new.img in; create it first"),
    ("cp a.img b.img/new.img", 2, "b.img is not a folder"),
    ("cp a.img new.img/", 2, "'new.img/' names no file"),
    (f"cp a.img {'x' * 256}", 9, "File name too long"),
    (f"cp a.img {URL}", 2, "copies go to a path or -"),
    ("cp a.img http://u:{TOKEN}@h/x?s={PRESIGNED_QUERY}", 2, "http://h/x?...: copies go to a path or -"),
    ("cp a.img fast:disk", 2, "no store 'fast'"),
    ("cp a.img ''", 2, "a location is empty"),
    # both
    ("cp a.img a.img", 2, "a.img and a.img are one file"),
    ("cp a.img ./a.img --force", 2, "a.img and ./a.img are one file"),
    ("cp a.img hard --force", 2, "a.img and hard are one file"),
    ("cp link b.img --force", 2, "link and b.img are one file"),
    # the source
    ("cp missing.img new.img", 3, "there is no file missing.img"),
    ("cp a.img/x new.img", 3, "there is no file a.img/x"),
    ("cp dangling new.img", 3, "there is no file dangling"),
    ("cp folder new.img", 9, "folder is a folder; name a file in it"),
    ("cp fifo new.img", 9, "read it as standard input: - < fifo"),
    ("cp socket new.img", 9, "socket is a pipe or socket"),
    ("cp /dev/zero new.img", 9, "read it as standard input: - < /dev/zero"),
    ("cat /proc/version", 9, "holds more than its size"),
    ("stat /dev/null", 9, "/dev/null is a device"),
    ("cat ''", 2, "a location is empty"),
    ("cat fast:disk", 2, "a path with a colon is written ./fast:disk"),
    ("cat ./fast:disk", 3, "there is no file ./fast:disk"),
    ("stat s3://u:{TOKEN}@bucket/key", 2, "an s3:// URL holds no credentials"),
    ("stat s3://bucket/key?X-Amz-Signature={PRESIGNED_QUERY}", 2, "holds a query"),
    ("stat swift://container/object", 2, "the environment names no account: set OS_CLOUD"),
    ("stat ftp://h/x", 2, "FTP is not supported"),
    ("stat file:///images/../../etc/shadow", 2, "without file://"),
    ("stat http:///x", 2, "names no host"),
    ("stat http://h:x/", 2, "host or port is malformed"),
    ("stat http://u:{TOKEN}@h:x/?s={PRESIGNED_QUERY}", 2, "<url>: not a URL"),
    ("stat 'http://h/a b'", 2, "percent-encoded"),
    ("stat u:{PASSWORD}@h/x", 2, "neither a URL nor a path"),
    ("stat https//h/x?s={PRESIGNED_QUERY}", 2, "neither a URL nor a path"),
    ("stat http:/h/x?s={PRESIGNED_QUERY}", 2, "neither a URL nor a path"),
    ("stat -", 2, "standard input has nothing to show"),
    ("cp 'odd\x1b[31m\nname/x' new.img", 3, r"there is no file odd\x1b[31m\nname/x"),
    # ranges
    ("cat a.img --offset 22", 2, "offset 22 lies behind the end"),
    ("cat a.img --offset 21", 2, "offset 21 lies behind the end"),
    ("cat empty --offset 1", 2, "offset 1 lies behind the end"),
    ("cat a.img --offset -1", 2, "'-1': a size is a number"),
    ("cat a.img --offset 1e3", 2, "'1e3': a size is a number"),
    ("cat a.img --length 0", 2, "'0': it is above 0"),
    ("cat a.img --length 0.5", 2, "'0.5': that is no whole number of bytes"),
    ("cat a.img --length", 2, "'--length' requires an argument"),
    ("cat - --offset 1", 2, "standard input has no ranges; use head -c and tail -c"),
    # options
    ("cp a.img new.img --limit-rate 0", 2, "'0': it is above 0"),
    ("cp a.img new.img --limit-rate fast", 2, "'fast': a size is a number"),
    ("cp a.img new.img --timeout 0", 2, "'0': it is above 0"),
    ("cp a.img new.img --timeout soon", 2, "'soon': a time is a number of seconds"),
    ("cp a.img new.img --stall-timeout -1", 2, "a time is a number of seconds"),
    ("cp a.img new.img --progress loud", 2, "'loud' is not one of 'auto', 'bar', 'json', 'none'"),
    ("cp a.img new.img --frobnicate", 2, "--frobnicate"),
    ("cp a.img - --force", 2, "--force replaces a file"),
    ("cp a.img - --json", 2, "both go to standard output"),
    ("cp - new.img --limit-rate 1M", 2, "--limit-rate does nothing for standard input"),
    ("cp - new.img --no-resume", 2, "--no-resume does nothing for standard input"),
    ("cp - new.img --stall-timeout 1", 2, "--stall-timeout does nothing for standard input"),
    ("cp a.img new.img --header 'A: b'", 2, "--header is for http and https; a.img is neither"),
    ("cp a.img new.img --token-file empty", 2, "--token-file is for http and https"),
    ("cp - new.img --allow-private", 2, "--allow-private is for http and https"),
    (f"cat {URL} --header '{{HEADER}}'", 2, "--header is written 'NAME: VALUE'"),
    (f"cat {URL} --header 'Authorization Bearer {{TOKEN}}'", 2, "--header is written 'NAME: VALUE'"),
    (f"cat {URL} --header Authorization: Bearer {{TOKEN}}", 2, "too many arguments"),
    (f"cat {URL} --header 'Range: bytes=0-'", 2, "Range"),
    (f"cat {URL} --header 'X: a\r\nHost: {{HEADER}}'", 2, "header"),
    (f"cat {URL} --header @missing", 2, "--header: cannot read missing: No such file"),
    (f"cat {URL} --user me", 2, "--user me has no password; give --password-file or set IMGSTORE_PASSWORD"),
    (f"cat {URL} --user me:{{PASSWORD}}", 2, "--user takes a name"),
    (f"cat {URL} --user me --password-file missing", 2, "--password-file: cannot read missing"),
    (f"cat {URL} --user me --password-file empty", 2, "--password-file empty is empty"),
    (f"cat {URL} --user me --password-file folder", 2, "is a directory"),
    (f"cat {URL} --password-file a.img", 2, "--password-file goes with --user"),
    (f"cat {URL} --client-key a.img", 2, "--client-key needs --client-cert"),
    (f"cat {URL} --proxy ftp://me:{{PASSWORD}}@h/", 2, "proxy"),
    (f"cat {URL} --url-command '\"'", 2, "--url-command"),
    # the command
    ("", 2, "missing command (see imgstore --help)"),
    ("frobnicate", 2, "no such command 'frobnicate'"),
    ("cp", 2, "missing argument 'DST' (see imgstore cp --help)"),
    ("cp a.img", 2, "missing argument 'DST'"),
    ("stat a.img new.img", 2, "too many arguments"),
    ("cp -r folder new", 3, "there is no image in folder"),
    ("--config-file x cp a.img new.img", 2, "'--config-file': File 'x' does not exist"),
]


def words(line):
    return [word.format_map(canary.SECRETS) for word in shlex.split(line)]


@pytest.mark.parametrize("line, status, said", CASES, ids=[case[0] for case in CASES])
def test_one_line_and_nothing_touched(folder, capfdbinary, monkeypatch, line, status, said):
    monkeypatch.delenv("IMGSTORE_PASSWORD", raising=False)
    before = state(folder)
    ran = run_here(capfdbinary, *words(line))
    assert ran.status == status
    assert said in ran.line
    assert ran.out == b""
    assert not canary.found(ran.err)
    assert ran.err.removesuffix("\n").isprintable()
    assert state(folder) == before


@pytest.mark.parametrize(
    "line, status, said", [case for case in CASES if case[0].startswith(("cp a.img", "stat"))]
)
def test_json_tells_it_too(folder, capfdbinary, line, status, said):
    if line == "cp a.img - --json":
        return
    before = state(folder)
    ran = run_here(capfdbinary, *words(line), "--json")
    assert ran.status == status
    if line.startswith("cp a.img -"):
        assert ran.out == b""
    else:
        assert ran.told["error"]["status"] == status
        assert ran.told["error"]["message"]
        assert not canary.found(ran.out.decode())
    assert state(folder) == before


def test_a_name_that_is_no_utf8_goes_through_standard_input(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "caf\udce9.img").write_bytes(OLD)
    ran = run_here(capfdbinary, "cp", "caf\udce9.img", "new.img")
    assert ran.status == 9
    assert ran.line == r"caf\udce9.img is no UTF-8; read it as standard input: - < FILE"
    assert run_here(capfdbinary, "cp", "./new.img", "caf\udce9.img").status == 3
    assert names(tmp_path) == ["caf\udce9.img"]


def test_a_target_that_is_no_utf8_is_fine(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.img").write_bytes(OLD)
    for options in ([], ["--force"]):
        assert run_here(capfdbinary, "cp", "a.img", "caf\udce9.img", *options).status == 0
    assert (tmp_path / "caf\udce9.img").read_bytes() == OLD


def test_standard_output_that_is_the_source_is_refused(tmp_path):
    (tmp_path / "a.img").write_bytes(OLD)
    for command in (["cat"], ["cp"]):
        with open(tmp_path / "a.img", "ab") as out:
            ran = run(*command, tmp_path / "a.img", *["-"] * (command == ["cp"]), stdout=out)
        assert ran.status == 2
        assert "is the file that standard output goes to" in ran.line
    assert (tmp_path / "a.img").read_bytes() == OLD


def test_a_misspelt_option_in_a_file_is_not_taken_for_a_flag(folder, monkeypatch, capfdbinary):
    path = configure(
        monkeypatch,
        folder / "imgstore.conf",
        """\
        [imgstore]
        enabled_stores = web:http
        [store_web]
        url = http://127.0.0.1:9/
        usrname = me
        """,
    )
    ran = run_here(capfdbinary, "ls", "web:")
    assert ran.status == 2
    assert ran.line == f"{path}: [store_web] has no option 'usrname' (did you mean 'username'?)"
    ran = run_here(capfdbinary, "cat", "web:x", "--limit-rate", "1M")
    assert "'username'" in ran.line
