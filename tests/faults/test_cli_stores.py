"""`imgstore ls`, `rm`, `stores`, and `cp`, `cat` and `stat` with images in configured stores."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import resource
import select
import shlex
import signal
import subprocess
import sys
import time

import pytest

from imgstore.backends.filesystem import FilesystemStore
from imgstore.backends.memory import MemoryStore
from imgstore.cli import configured
from imgstore.config import Stores
from imgstore.errors import InUseError, PermissionDeniedError
from imgstore.model import ObjectInfo
from imgstore.stack import build
from imgstore.testing.server import Cut, ScriptedServer, Stall, Status, Swap
from tests import canary
from tests.faults.cli import (
    IMAGE,
    PATH,
    Ran,
    configure,
    ended,
    names,
    run,
    run_here,
    start,
    without_configuration,
)
from tests.faults.mounts import small_disk

N = len(IMAGE)
SHA256 = hashlib.sha256(IMAGE).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two filesystem stores, `disks` (the default) and `cold`, and an image outside."""
    without_configuration(monkeypatch, tmp_path / "home")
    for name in ("disks", "cold", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "a.img").write_bytes(IMAGE)
    configure(
        monkeypatch,
        tmp_path / "imgstore.conf",
        f"""\
        [imgstore]
        enabled_stores = disks:filesystem, cold:filesystem
        default_store = disks
        [store_disks]
        data_dir = {tmp_path}/disks
        [store_cold]
        data_dir = {tmp_path}/cold
        """,
    )
    return tmp_path


@pytest.fixture
def imgstore(capfdbinary, folder):
    return lambda *argv: run_here(capfdbinary, *argv)


@pytest.fixture
def server():
    with ScriptedServer() as server:
        server.put(PATH, IMAGE)
        yield server


@pytest.fixture
def web(server, folder, monkeypatch):
    """A store `web` of the server, with a password, beside `disks`."""
    configure(
        monkeypatch,
        folder / "web.conf",
        f"""\
        [imgstore]
        enabled_stores = disks:filesystem, web:http
        [store_defaults]
        resume_attempts = 2
        [store_disks]
        data_dir = {folder}/disks
        [store_web]
        url = {server.url("/")}
        username = me
        password = {canary.PASSWORD}
        headers = X-Key: {canary.HEADER}
        """,
    )
    return server


def test_a_key_that_has_a_password_in_it_is_told_as_it_is(imgstore, folder, monkeypatch):
    configure(
        monkeypatch,
        folder / "web.conf",
        f"""\
        [imgstore]
        enabled_stores = disks:filesystem, web:http
        [store_disks]
        data_dir = {folder}/disks
        [store_web]
        url = http://127.0.0.1:9/
        username = me
        password = debian
        """,
    )
    (folder / "disks/debian").write_bytes(IMAGE)
    assert imgstore("ls", "disks:", "--json").told["key"] == "debian"
    told = imgstore("stat", "disks:debian", "--json").told
    assert (told["location"], told["key"]) == ("disks:debian", "debian")
    assert b"disks:debian" in imgstore("stat", "disks:debian").out
    assert imgstore("rm", "disks:debian", "--json").told["removed"] == ["disks:debian"]


@pytest.mark.parametrize("option", [["--limit-rate", "1G"], ["--stall-timeout", "5"], ["--no-resume"]])
def test_an_option_that_a_copy_inside_a_store_would_not_heed(imgstore, folder, option):
    (folder / "disks/a").write_bytes(IMAGE)
    ran = imgstore("cp", "disks:a", "disks:b", *option)
    assert ran.status == 2
    assert ran.line == (
        f"{option[0]} does nothing for a copy inside the store disks, which moves no bytes through here;"
        " leave it out"
    )
    assert names(folder / "disks") == ["a"]
    assert imgstore("cp", "disks:a", "cold:b", *option).status == 0


def test_into_a_store_out_of_it_and_between_two(imgstore, folder):
    assert imgstore("cp", "a.img", "disks:debian/12.raw") == Ran(0, b"", "")
    assert (folder / "disks/debian/12.raw").read_bytes() == IMAGE
    ran = imgstore("cp", "disks:debian/12.raw", "cold:x", "--json")
    assert ran.status == 0, ran.err
    assert (
        ran.told.items()
        >= {
            "bytes": N,
            "received": N,
            "attempts": 1,
            "sources": {"disks": N},
            "digests": {"sha256": SHA256},
        }.items()
    )
    assert imgstore("cp", "cold:x", "b.img").status == 0
    assert (folder / "work/b.img").read_bytes() == (folder / "cold/x").read_bytes() == IMAGE
    ran = imgstore("cat", "cold:x", "--offset", "1000", "--length", "10")
    assert (ran.status, ran.out, ran.err) == (0, IMAGE[1000:1010], "")
    told = imgstore("stat", "cold:x", "--json").told
    assert (told["location"], told["key"], told["size"]) == ("cold:x", "x", N)


def test_a_copy_inside_a_store_moves_no_byte_through_here(imgstore, folder):
    imgstore("cp", "a.img", "disks:a")
    told = imgstore("cp", "disks:a", "disks:b", "--json").told
    assert told.items() >= {"bytes": N, "received": 0, "sources": {}, "digests": {}}.items()
    assert (folder / "disks/b").read_bytes() == IMAGE


def test_holes_stay_holes(imgstore, folder):
    with open("sparse.img", "wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(IMAGE)
    for source, target in (("sparse.img", "disks:a"), ("disks:a", "cold:b"), ("cold:b", "cold:c")):
        assert imgstore("cp", source, target).status == 0
    for path in ("disks/a", "cold/b", "cold/c"):
        found = (folder / path).stat()
        assert found.st_size == 64 << 20
        assert N <= found.st_blocks * 512 <= 2 * N
    assert imgstore("cat", "cold:c").out == (folder / "work/sparse.img").read_bytes()


@pytest.mark.parametrize(
    "source, target, key",
    [
        ("a.img", "disks:", "a.img"),
        ("./a.img", "disks:x/", "x/a.img"),
        ("cold:deep/b.raw", "disks:", "b.raw"),
        ("cold:deep/b.raw", "disks:deep/", "deep/b.raw"),
        ("{url}?s=1", "disks:x/", "x/disk.img"),
    ],
)
def test_a_target_without_a_name_gets_that_of_the_source(imgstore, folder, server, source, target, key):
    (folder / "cold/deep").mkdir()
    (folder / "cold/deep/b.raw").write_bytes(IMAGE)
    ran = imgstore("cp", source.format(url=server.url(PATH)), target)
    assert ran.status == 0, ran.err
    assert (folder / "disks" / key).read_bytes() == IMAGE


def test_an_image_that_is_there_is_replaced_by_force_only(imgstore, folder):
    (folder / "disks/a.img").write_bytes(b"old")
    for target in ("disks:a.img", "disks:"):
        ran = imgstore("cp", "a.img", target)
        assert (ran.status, ran.line) == (10, "disks:a.img exists already; --force replaces it")
        assert (folder / "disks/a.img").read_bytes() == b"old"
    assert imgstore("cp", "a.img", "disks:a.img", "--force").status == 0
    assert (folder / "disks/a.img").read_bytes() == IMAGE
    assert names(folder / "disks") == ["a.img"]


def test_a_target_that_is_taken_costs_no_byte(imgstore, web, folder):
    (folder / "disks/x").write_bytes(b"old")
    assert imgstore("cp", "web:disk.img", "disks:x").status == 10
    assert web.log.requests() == 0


def test_a_broken_download_into_a_store_goes_on(imgstore, web, folder):
    web.script(PATH, [Cut(at=1000), Cut(at=1_000_000)])
    told = imgstore("cp", "web:disk.img", "disks:x", "--json").told
    assert told.items() >= {"bytes": N, "received": N, "resumes": 2, "digests": {"sha256": SHA256}}.items()
    assert (folder / "disks/x").read_bytes() == IMAGE


def test_options_of_a_run_go_before_the_configuration(imgstore, web, folder):
    web.script(PATH, [Cut(at=5000)])
    ran = imgstore("cp", "web:disk.img", "disks:x", "--no-resume", "--json")
    assert ran.status == 6
    assert ran.line.startswith("web:disk.img: ")
    assert web.log.requests(PATH) == 1
    assert names(folder / "disks") == []
    web.script(PATH, [Stall(at=5000)])
    began = time.monotonic()
    assert imgstore("cp", "web:disk.img", "disks:x", "--stall-timeout", "0.4").status == 0
    assert time.monotonic() - began < 5
    began = time.monotonic()
    assert imgstore("cat", "web:disk.img", "--limit-rate", "8M").out == IMAGE
    assert time.monotonic() - began > 0.2


def test_a_refused_put_does_not_say_it_was_the_source(imgstore, folder, monkeypatch):
    ran = imgstore("cp", "a.img", f"disks:{'x' * 256}")
    assert ran.status == 9
    assert ran.line.startswith(f"disks:{'x' * 256}: ")


@pytest.mark.parametrize(
    "faults, status",
    [
        ([Status(404)], 3),
        ([Status(401)], 7),
        ([Status(403)], 7),
        ([Cut(at=5000), Swap(IMAGE[::-1])], 5),
        ([Status(503, {"Retry-After": "0"})] * 3, 6),
    ],
)
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_failing_source_leaves_nothing_and_tells_no_secret(imgstore, web, folder, faults, status, debug):
    web.script(PATH, faults)
    ran = imgstore(*debug, "cp", "web:disk.img", "disks:x", "--json")
    assert ran.status == status
    last = ran.err.splitlines()[-1]
    assert last.startswith("imgstore: web:disk.img: ")
    assert ran.told["error"]["status"] == status
    assert not canary.found(ran.err + ran.out.decode())
    assert names(folder / "disks") == []


def test_a_digest_that_does_not_match_publishes_nothing(folder, capfdbinary, monkeypatch):
    class Liar(MemoryStore):
        def _stat(self, key, call):
            info = super()._stat(key, call)
            return type(info)(info.key, info.size, info.version, digests={"sha256": "0" * 64})

        def _open(self, key, start, stop, version, call):
            opened = super()._open(key, start, stop, version, call)
            return type(opened)(opened.raw, self._stat(key, call), opened.range)

    (folder / "target").mkdir()
    liar, target = Liar(), FilesystemStore(data_dir=str(folder / "target"))
    liar.store_id, target.store_id = "liar", "target"
    with open("a.img", "rb") as source:
        liar.writer.put("a", source)
    stores = Stores({"liar": build(liar), "target": build(target)}, {}, None)
    monkeypatch.setattr(configured, "every", every_of(stores))
    ran = run_here(capfdbinary, "cp", "liar:a", "target:a")
    assert ran.status == 4
    assert not list(target.lister.list())


def every_of(stores):
    """Stands in for the configuration: stores that no file can describe."""

    @contextlib.contextmanager
    def every(terminal, settings=None):
        terminal.stores = frozenset(stores)
        yield stores

    return every


@pytest.mark.parametrize(
    "line, status, said",
    [
        ("cp a.img nowhere:x", 2, "there is no store 'nowhere' (there are: disks, cold); a path with"),
        ("cat nowhere:x", 2, "./nowhere:x"),
        ("ls nowhere:", 2, "there is no store 'nowhere'"),
        ("rm disks:x nowhere:x", 2, "there is no store 'nowhere'"),
        ("check nowhere", 2, "there is no store 'nowhere'"),
        ("cat disks:", 2, "disks: names no image; imgstore ls disks: shows the ones there are"),
        ("stat disks:x/", 2, "disks:x/ names no image"),
        ("rm disks:", 2, "disks: names no image"),
        ("cp - disks:", 2, "disks: names no image, and - has no name to give it"),
        ("cp http://127.0.0.1:9/ disks:x/", 2, "has no name to give it"),
        ("cp disks:a disks:a", 2, "disks:a and disks:a are one image"),
        ("cp disks:x/a disks:x/", 2, "are one image"),
        ("cp disks:missing b.img", 3, "disks:missing: "),
        ("cp disks:missing cold:b", 3, "disks:missing: "),
        ("cp disks:missing disks:b", 3, "disks:missing: "),
        ("cat disks:../work/a.img", 9, "'..' segment"),
        ("cp a.img disks:/x", 9, "leading '/'"),
        ("cp a.img disks:a//b", 9, "empty"),
        ("rm disks:missing", 3, "disks:missing: "),
        ("rm", 2, "missing argument 'STORE:KEY...'"),
        ("rm a.img", 2, "a.img is not in a store; what is, is written STORE:KEY"),
        ("rm http://u:{TOKEN}@h/x", 2, "http://h/x is not in a store"),
        ("rm disks:a disks:b --version 1", 2, "--version goes with one image"),
        ("ls disks", 2, "disks is not in a store"),
        ("ls -", 2, "- is not in a store"),
        ("check ./disks:x", 2, "./disks:x is no store"),
        ("cat disks:x --header 'A: b'", 2, "--header is for http and https; disks:x is neither"),
        ("cp disks:x b.img --token-file a.img", 2, "--token-file is for http and https"),
        ("cp disks:x b.img --user me", 2, "--user is for http and https"),
        ("cat unknown:{PASSWORD}@h/x", 2, "neither a URL nor a path"),
        ("cat unknown:x?s={PRESIGNED_QUERY}", 2, "neither a URL nor a path"),
    ],
)
def test_what_makes_no_sense_says_so_in_one_line(imgstore, folder, line, status, said):
    ran = imgstore(*(word.format_map(canary.SECRETS) for word in shlex.split(line)))
    assert ran.status == status
    assert said in ran.line
    assert ran.out == b""
    assert not canary.found(ran.err)
    assert names(folder / "disks") == names(folder / "cold") == []
    assert names(folder / "work") == ["a.img"]


@pytest.mark.parametrize(
    "text, said",
    [
        ("[imgstore\n", "line 1"),
        ("[imgstore]\nenabled_stores = disks:nfs\n", "driver 'nfs'"),
        ("[imgstore]\nenabled_stores = disks:filesystem\n", "data_dir"),
        ("[imgstore]\nenabled_stores = disks:filesystem\n[store_disks]\ndata_dri = /x\n", "data_dri"),
        ("[imgstore]\nenabled_stores = disks:http\n[store_disks]\nurl = {TOKEN}\n", "'url'"),
    ],
)
@pytest.mark.parametrize("command", [["ls"], ["stores"], ["cat", "disks:x"], ["cp", "a.img", "disks:x"]])
def test_a_broken_configuration_is_one_line(imgstore, folder, command, text, said):
    (folder / "broken.conf").write_text(text.format_map(canary.SECRETS))
    for options in (
        ["--config-file", folder / "broken.conf", *command],
        [*command, "--config-file", folder / "broken.conf"],
    ):
        ran = imgstore(*options)
        assert ran.status == 2
        assert said in ran.line
        assert "--ca-file" not in ran.line
        assert ran.out == b""


def test_a_broken_configuration_is_no_matter_for_paths(imgstore, folder, monkeypatch):
    configure(monkeypatch, folder / "broken.conf", "[imgstore")
    assert imgstore("cp", "a.img", "b.img").status == 0


def test_the_file_on_the_command_line_goes_first(imgstore, folder, monkeypatch):
    configure(monkeypatch, folder / "broken.conf", "[imgstore")
    assert imgstore("--config-file", folder / "imgstore.conf", "ls").status == 0
    monkeypatch.setenv("IMGSTORE_CONFIG", str(folder / "missing.conf"))
    ran = imgstore("ls")
    assert ran.status == 2
    assert "missing.conf cannot be read: No such file" in ran.line


def test_without_any_configuration_there_is_a_store(imgstore, folder, monkeypatch):
    without_configuration(monkeypatch, folder / "home")
    assert imgstore("stores", "--config").out == b"no file: there is the store 'local', by itself\n"
    assert imgstore("cp", "a.img", "local:").status == 0
    assert imgstore("ls", "--json").told["key"] == "a.img"
    assert (folder / "home/.local/share/imgstore/images/a.img").read_bytes() == IMAGE


def seed(folder, **images):
    for key, data in images.items():
        path = folder / "disks" / key.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (1_000_000_000, 1_000_000_000))


def test_a_listing(imgstore, folder):
    seed(folder, b=b"x" * 1536, a=b"", dir__c=b"y" * 5)
    ran = imgstore("ls")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.decode() == (
        "       0 B  2001-09-09 01:46:40 UTC  a\n"
        "   1.5 KiB  2001-09-09 01:46:40 UTC  b\n"
        "       5 B  2001-09-09 01:46:40 UTC  dir/c\n"
    )
    assert imgstore("ls", "disks:").out == ran.out
    assert imgstore("ls", "disks:dir/").out.endswith(b" dir/c\n")
    assert imgstore("ls", "disks:di").out.count(b"\n") == 1
    told = [json.loads(line) for line in imgstore("ls", "--json", "disks:b").out.splitlines()]
    version = imgstore("stat", "--json", "disks:b").told["version"]
    assert told == [{"key": "b", "size": 1536, "version": version, "modified": 1_000_000_000, "digests": {}}]
    assert imgstore("ls", "-l", "disks:b").out.decode().split() == [
        "1536",
        "2001-09-09",
        "01:46:40",
        "UTC",
        version,
        "b",
    ]


@pytest.mark.parametrize("options", [[], ["--json"], ["-l"]])
def test_nothing_is_listed_as_nothing(imgstore, options):
    for place in ("disks:", "disks:no-such"):
        ran = imgstore("ls", place, *options)
        assert (ran.status, ran.out, ran.err) == (0, b"", "")


def test_a_key_cannot_steer_the_terminal(imgstore, folder):
    (folder / "disks/odd\x1b[31m\nname").write_bytes(b"")
    ran = imgstore("ls")
    assert ran.out.count(b"\n") == 1
    assert rb"odd\x1b[31m\nname" in ran.out
    assert json.loads(imgstore("ls", "--json").out)["key"] == "odd\x1b[31m\nname"


class Fading(MemoryStore):
    """Lists without end, or until the connection is gone."""

    def __init__(self, count):
        super().__init__()
        self.lister = self
        self.asked = 0
        self.count = count

    def list(self, prefix="", *, call=None):
        while self.asked < self.count:
            self.asked += 1
            yield ObjectInfo(f"{prefix}{self.asked:07}", 1, None)
        raise PermissionDeniedError("enough", store=self.store_id)


def test_what_was_listed_before_a_failure_is_told(folder, capfdbinary, monkeypatch):
    store = Fading(3)
    store.store_id = "far"
    monkeypatch.setattr(configured, "every", every_of(Stores({"far": store}, {}, "far")))
    ran = run_here(capfdbinary, "ls", "far:x", "--json")
    assert ran.status == 7
    assert ran.line == "far: enough"
    lines = [json.loads(line) for line in ran.out.splitlines()]
    assert [line["key"] for line in lines[:3]] == ["x0000001", "x0000002", "x0000003"]
    assert lines[3]["error"]["status"] == 7


def test_a_listing_ends_with_its_reader():
    """The reader of a pipe takes a line and goes: the listing stops there, quietly."""
    code = """
import sys
from tests.faults.test_cli_stores import Fading, every_of
from imgstore.cli import configured, main
from imgstore.config import Stores
store = Fading(10_000_000)
configured.every = every_of(Stores({"far": store}, {}, "far"))
status = main(["ls", "far:"])
sys.stderr.write(str(store.asked))
sys.exit(status)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline().endswith(b"  0000001\n")
        process.stdout.close()
        process.stdout = None
        ran = ended(process)
    assert ran.status == 0
    assert int(ran.err) < 100_000


def test_a_full_standard_output_ends_a_listing(folder):
    seed(folder, a=b"")
    with open("/dev/full", "wb") as out:
        ran = run("ls", "disks:", stdout=out)
    assert ran.status == 8


def test_removing(imgstore, folder):
    seed(folder, a=b"1", b=b"2", dir__c=b"3")
    ran = imgstore("rm", "disks:a", "disks:missing", "disks:dir/c", "--json")
    assert ran.status == 3
    assert ran.line.startswith("disks:missing: ")
    told = ran.told
    assert told["removed"] == ["disks:a", "disks:dir/c"]
    assert [(each["location"], each["error"]["status"]) for each in told["failed"]] == [("disks:missing", 3)]
    assert [path.name for path in (folder / "disks").iterdir() if path.is_file()] == ["b"]
    ran = imgstore("rm", "-f", "disks:missing", "disks:b", "--json")
    assert (ran.status, ran.err) == (0, "")
    assert ran.told == {"removed": ["disks:b"], "missing": ["disks:missing"], "failed": []}


def test_removing_a_version(imgstore, folder):
    seed(folder, a=b"1")
    version = imgstore("stat", "disks:a", "--json").told["version"]
    ran = imgstore("rm", "disks:a", "--version", "1-2-3-4")
    assert ran.status == 5
    assert (folder / "disks/a").exists()
    assert imgstore("rm", "disks:a", "--version", version).status == 0
    assert not (folder / "disks/a").exists()


def test_the_status_of_several_failures_is_the_highest(folder, capfdbinary, monkeypatch):
    store = MemoryStore()
    store.store_id = "busy"
    store.writer.put("used", io.BytesIO(b"1"))
    delete = store.writer.delete

    def in_use(key, **options):
        if key == "used":
            raise InUseError("a snapshot holds it", key=key, store="busy")
        delete(key, **options)

    monkeypatch.setattr(store.writer, "delete", in_use)
    monkeypatch.setattr(configured, "every", every_of(Stores({"busy": store}, {}, None)))
    ran = run_here(capfdbinary, "rm", "busy:used", "busy:missing")
    assert ran.status == 11
    assert ran.err.splitlines()[0] == "imgstore: busy:used: a snapshot holds it"


def test_nothing_is_removed_where_one_store_is_only_read(imgstore, web, folder):
    seed(folder, a=b"1")
    ran = imgstore("rm", "disks:a", "web:disk.img")
    assert ran.status == 1
    assert ran.line == "web: the store is only read; nothing is removed"
    assert (folder / "disks/a").exists()
    ran = imgstore("cp", "a.img", "web:x")
    assert (ran.status, ran.line) == (1, "web: the store is only read; it takes no images")
    ran = imgstore("ls", "web:")
    assert (ran.status, ran.line) == (1, "web: this store cannot list its images")
    assert web.log.requests() == 0


def test_the_table_of_stores(imgstore, web, folder):
    ran = imgstore("stores")
    assert (ran.status, ran.err) == (0, "")
    header, disks, line = ran.out.decode().splitlines()
    assert header.split() == ["NAME", "DRIVER", "LOCATION", "CAN"]
    assert disks.split(maxsplit=3) == [
        "disks",
        "filesystem",
        f"{folder}/disks",
        "read, write, upload in parts, list, holes, copy, space",
    ]
    assert line.split() == ["web", "http", web.url("/"), "read"]
    told = imgstore("stores", "--json").told
    assert told["files"] == [str(folder / "web.conf")]
    assert told["default"] is None
    assert told["stores"][1] == {"name": "web", "driver": "http", "location": web.url("/"), "facets": []}
    assert imgstore("stores", "--config").out.decode() == f"{folder}/web.conf\n"
    assert web.log.connections == 0


def test_the_default_store_has_a_mark(imgstore, folder):
    lines = imgstore("stores").out.decode().splitlines()
    assert [line[0] for line in lines] == [" ", "*", " "]
    assert imgstore("stores", "--json").told["default"] == "disks"


def wait_for(what, seconds=20.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
@pytest.mark.parametrize("old", [None, b"the old image"])
def test_a_signal_leaves_nothing_in_the_store(web, folder, number, old):
    web.script(PATH, then=Stall(at=2 << 20))
    if old is not None:
        (folder / "disks/x").write_bytes(old)
    with start("cp", "--force", "--json", "web:disk.img", "disks:x") as process:
        wait_for(lambda: web.log.body_bytes(PATH) == 2 << 20)
        began = time.monotonic()
        process.send_signal(number)
        ran = ended(process)
    assert time.monotonic() - began < 3
    assert ran.status == 130
    assert ran.line == "interrupted"
    assert ran.told["error"]["type"] == "OperationCancelledError"
    assert ran.told["bytes"] <= 2 << 20
    assert names(folder / "disks") == ["x"] * (old is not None)
    assert old is None or (folder / "disks/x").read_bytes() == old


def test_a_signal_during_a_pipe_into_a_store(folder):
    silent, held = os.pipe()
    os.write(held, b"begun")
    try:
        with start("cp", "-", "disks:x", stdin=silent) as process:
            wait_for(lambda: not readable(silent))
            process.send_signal(signal.SIGINT)
            ran = ended(process)
    finally:
        os.close(silent)
        os.close(held)
    assert (ran.status, ran.line) == (130, "interrupted")
    assert names(folder / "disks") == []


def readable(descriptor):
    return select.select([descriptor], [], [], 0)[0]


def test_a_pipe_into_a_store(folder):
    ran = run("cp", "-", "disks:x", "--json", data=IMAGE)
    assert ran.status == 0, ran.err
    assert ran.told.items() >= {"bytes": N, "received": N, "digests": {"sha256": SHA256}}.items()
    assert (folder / "disks/x").read_bytes() == IMAGE


def test_a_full_store(imgstore, folder):
    (folder / "disks").rmdir()
    with small_disk(folder / "disks", "size=1m"):
        (folder / "disks/old").write_bytes(b"kept")
        ran = imgstore("cp", "a.img", "disks:x")
        assert ran.status == 8
        assert ran.line.startswith("disks:x: ")
        ran = run("cp", "-", "disks:x", data=IMAGE)
        assert ran.status == 8
        assert ran.line.startswith("disks:x: ")
        assert names(folder / "disks") == ["old"]


def test_a_store_that_is_mounted_read_only(imgstore, folder):
    (folder / "disks").rmdir()
    with small_disk(folder / "disks", "ro"):
        ran = imgstore("cp", "a.img", "disks:x")
        assert ran.status == 7
        assert ran.line.startswith("disks:x: ")
        assert "Read-only file system" in ran.line


def loaded_by(*argv):
    """Gives the modules that a command imports."""
    code = f"""
import sys
from imgstore.cli import main
try:
    main({argv!r})
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    return set(ran.stderr.decode().split())


def test_stores_are_loaded_for_those_who_name_one(folder):
    heavy = {"oslo_config", "stevedore", "imgstore.config"}
    for line in (["--help"], ["ls", "--help"], ["cp", "a.img", "b.img"], ["cat", "b.img"]):
        loaded = loaded_by(*line)
        assert "imgstore.cli.app" in loaded
        assert not heavy & loaded, line
    loaded = loaded_by("ls")
    assert heavy <= loaded
    assert not {"urllib3", "ssl", "rich"} & loaded


def test_the_help_comes_at_once(folder):
    """Measured in seconds of a processor, of which others that run here take none."""
    before = _spent_by_children()
    assert run("--help").status == 0
    assert _spent_by_children() - before < 0.6  # 0.2 and threefold slack


def _spent_by_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_a_copy_into_memory_would_be_lost(imgstore, folder):
    (folder / "imgstore.conf").write_text("[imgstore]\nenabled_stores = mine:memory\n")
    (folder / "a.img").write_bytes(b"image")
    ran = imgstore("--config-file", folder / "imgstore.conf", "cp", folder / "a.img", "mine:a.img")
    assert ran.status == 2
    assert ran.line.endswith("is in the memory of this command alone; what is copied there is lost")
