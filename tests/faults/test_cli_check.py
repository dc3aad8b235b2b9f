"""`imgstore check`: each fault of a store is told apart from the others, with what would help."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from email.utils import formatdate

import pytest

from imgstore import errors
from imgstore.backends.http import HttpStore
from imgstore.backends.memory import MemoryStore
from imgstore.cli import check as command
from imgstore.config import Stores
from imgstore.steps import TEST_PREFIX
from imgstore.testing.server import Header, HeaderDelay, PlaintextOnTls, ScriptedServer, Status
from imgstore.testing.server.certificates import make_authority
from tests import canary
from tests.faults.cli import (
    IMAGE,
    PATH,
    configure,
    ended,
    names,
    run_here,
    start,
    without_configuration,
)
from tests.faults.mounts import small_disk

STEPS = ["configuration", "folder", "list", "read", "write", "delete", "space"]
WEB_STEPS = [
    "configuration",
    "name lookup",
    "connect",
    "TLS",
    "request",
    "clock",
    "authentication",
    "list",
    "read",
    "write",
    "delete",
    "space",
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    without_configuration(monkeypatch, tmp_path / "home")
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    (tmp_path / "disks").mkdir()
    configure(
        monkeypatch,
        tmp_path / "imgstore.conf",
        f"[imgstore]\nenabled_stores = disks:filesystem\n[store_disks]\ndata_dir = {tmp_path}/disks\n",
    )
    return tmp_path


@pytest.fixture
def imgstore(capfdbinary, folder):
    return lambda *argv: run_here(capfdbinary, *argv)


@pytest.fixture
def web(monkeypatch, folder):
    """Configures a store `web` at a URL."""

    def configured(url, *lines):
        text = "\n".join(["[imgstore]", "enabled_stores = web:http", "[store_web]", f"url = {url}", *lines])
        configure(monkeypatch, folder / "web.conf", text)

    return configured


@pytest.fixture
def server():
    with ScriptedServer() as server:
        server.put(PATH, IMAGE)
        yield server


def results(ran):
    return {step["name"]: step["result"] for step in ran.told["steps"]}


def failed(ran):
    """The one step that failed."""
    (step,) = [step for step in ran.told["steps"] if step["result"] == "failed"]
    assert step["error"]["status"] == ran.status == ran.told["status"]
    assert step["advice"] or step["name"] == "configuration"
    return step


def test_a_store_that_is_not_there(imgstore, folder):
    ran = imgstore("check", "nowhere")
    assert ran.status == 2
    assert ran.line.startswith("there is no store 'nowhere' (there are: ")
    assert ran.line.endswith(")")  # no path was typed
    assert imgstore("check", "nowhere:x").line.endswith("; a path with a colon is written ./nowhere:x")


def test_a_store_that_works(imgstore, folder):
    ran = imgstore("check", "disks")
    assert (ran.status, ran.err) == (0, "")
    lines = [line.split(maxsplit=2) for line in ran.out.decode().splitlines()]
    assert [line[0] for line in lines] == STEPS
    assert [line[1] for line in lines] == ["ok", "ok", "ok", "skipped", "ok", "ok", "ok"]
    assert names(folder / "disks") == []
    (folder / "disks/a.img").write_bytes(IMAGE)
    ran = imgstore("check", "disks:", "--json")
    assert ran.status == ran.told["status"] == 0
    assert results(ran) == dict.fromkeys(STEPS, "ok")
    assert (
        ran.told.items()
        >= {
            "store": "disks",
            "driver": "filesystem",
            "location": str(folder / "disks"),
        }.items()
    )
    assert names(folder / "disks") == ["a.img"]


def test_read_only_writes_nothing(imgstore, folder):
    before = os.stat(folder / "disks").st_mtime_ns
    ran = imgstore("check", "disks", "--read-only", "--json")
    assert ran.status == 0
    told = results(ran)
    assert (told["write"], told["delete"], told["space"]) == ("skipped", "skipped", "ok")
    assert os.stat(folder / "disks").st_mtime_ns == before


def test_an_image_that_is_named_is_the_one_that_is_read(imgstore, folder):
    ran = imgstore("check", "disks:missing", "--json")
    assert failed(ran)["name"] == "read"
    assert ran.status == 3
    assert results(ran)["write"] == "ok"


def test_a_folder_that_is_not_there(imgstore, folder):
    (folder / "disks").rmdir()
    ran = imgstore("check", "disks", "--json")
    told = {step["name"]: step for step in ran.told["steps"]}
    assert told["folder"]["result"] == "failed"
    assert "set create_data_dir" in told["folder"]["advice"]
    assert {told[name]["result"] for name in ("list", "read", "write", "delete", "space")} == {"skipped"}
    assert ran.status == 1
    assert "may be left" not in ran.err
    assert not (folder / "disks").exists()


def test_a_folder_that_is_made_at_first_use(imgstore, folder, monkeypatch):
    without_configuration(monkeypatch, folder / "home")
    ran = imgstore("check", "local", "--json")
    assert ran.status == 0
    assert results(ran)["folder"] == "skipped"
    assert names(folder / "home/.local/share/imgstore/images") == []


def test_a_file_system_that_is_mounted_read_only(imgstore, folder):
    (folder / "disks").rmdir()
    with small_disk(folder / "disks", "ro"):
        ran = imgstore("check", "disks", "--json")
        step = failed(ran)
        assert step["name"] == "write"
        assert step["advice"].startswith("mount the file system for writing")
        assert ran.status == 7
        assert "read-only" in ran.told["steps"][1]["said"]
        assert imgstore("check", "disks", "--read-only").status == 0


def test_a_full_file_system(imgstore, folder):
    (folder / "disks").rmdir()
    with small_disk(folder / "disks", "size=1m"):
        with contextlib.suppress(OSError), open(folder / "disks/filler", "wb", buffering=0) as filler:
            while True:
                filler.write(bytes(65536))
        ran = imgstore("check", "disks", "--json")
        assert ran.status == 8
        told = {step["name"]: step for step in ran.told["steps"]}
        assert told["write"]["result"] == told["space"]["result"] == "failed"
        assert told["write"]["advice"].startswith("make room")
        assert told["delete"]["result"] == "skipped"
        assert names(folder / "disks") == ["filler"]
        assert "may be left" not in ran.err


@pytest.mark.parametrize(
    "text, said",
    [("[imgstore", "line 1"), ("[imgstore]\nenabled_stores = disks:nfs\n", "no driver of that name")],
)
def test_a_broken_configuration_is_a_step(imgstore, folder, monkeypatch, text, said):
    configure(monkeypatch, folder / "broken.conf", text)
    ran = imgstore("check", "disks", "--json")
    step = failed(ran)
    assert (step["name"], ran.status) == ("configuration", 2)
    assert said in step["said"]
    assert len(ran.told["steps"]) == 1


def test_a_web_server_that_works(imgstore, server, web):
    web(server.url("/"), "username = me", f"password = {canary.PASSWORD}")
    ran = imgstore("check", "web:disk.img", "--json")
    assert ran.status == 0, ran.out
    told = results(ran)
    assert list(told) == WEB_STEPS
    done = ["configuration", "name lookup", "connect", "request", "clock", "authentication", "read"]
    assert [name for name, result in told.items() if result == "ok"] == done
    assert ran.told["location"] == server.url("/")
    assert not canary.found(ran.out.decode())
    # a name that no image has is not found, which is an answer as well
    ran = imgstore("check", "web", "--json")
    assert (ran.status, results(ran)["read"]) == (0, "skipped")


def test_a_name_that_does_not_resolve(imgstore, web, monkeypatch):
    def unknown(host, port):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(HttpStore, "resolve", staticmethod(unknown))
    web("http://images.example/")
    ran = imgstore("check", "web", "--json")
    step = failed(ran)
    assert (step["name"], ran.status) == ("name lookup", 6)
    assert "images.example" in step["said"]
    assert step["advice"].startswith("correct the host")
    assert set(results(ran).values()) == {"ok", "failed", "skipped"}
    assert ran.told["steps"][2]["said"] == "name lookup failed"


def test_a_server_that_is_down(imgstore, web):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        web(f"http://127.0.0.1:{free.getsockname()[1]}/")
        ran = imgstore("check", "web", "--json")
    step = failed(ran)
    assert (step["name"], ran.status) == ("connect", 6)
    assert "refused" in step["said"]
    assert step["advice"].startswith("start the server")


def test_a_proxy_that_is_down_is_named_as_one(imgstore, server, web):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        web(server.url("/"), f"proxy = http://me:{canary.TOKEN}@127.0.0.1:{port}/")
        step = failed(imgstore("check", "web", "--json"))
        ran = imgstore("cat", "web:disk.img", "--no-resume")
    assert step["name"] == "connect"
    assert f"cannot connect to the proxy 127.0.0.1 port {port}" in step["said"]
    assert ran.status == 6
    assert f"cannot connect to the proxy 127.0.0.1 port {port}: connection refused" in ran.line


@pytest.mark.parametrize(
    "which, host, trusted, advice",
    [
        ("expired", "127.0.0.1", True, "have the server's certificate renewed"),
        ("wrong_host", "127.0.0.1", True, "have one made for this address"),
        ("wrong_host", "localhost", True, "have one made for this name"),
        ("self_signed", "127.0.0.1", True, "signed by itself: name it in ca_file"),
        ("good", "127.0.0.1", False, "ca_file"),
    ],
)
def test_a_server_that_cannot_prove_who_it_is(imgstore, web, authority, which, host, trusted, advice):
    with ScriptedServer(tls=authority.context(getattr(authority, which))) as server:
        web(server.url("/", host=host), *[f"ca_file = {authority.ca}"] * trusted)
        ran = imgstore("check", "web", "--json")
    step = failed(ran)
    assert (step["name"], ran.status) == ("TLS", 1)
    assert "could not prove its identity" in step["said"]
    assert advice in step["advice"]


def test_a_server_that_proves_who_it_is(imgstore, web, authority):
    with ScriptedServer(tls=authority.context()) as server:
        server.put(PATH, IMAGE)
        web(server.url("/"), f"ca_file = {authority.ca}")
        ran = imgstore("check", "web:disk.img", "--json")
        assert (ran.status, results(ran)["TLS"]) == (0, "ok")
        assert "TLS 1.3, with a certificate that is valid until 20" in ran.told["steps"][3]["said"]
        web(server.url("/"), "verify_tls = false")
        ran = imgstore("check", "web:disk.img", "--json")
        assert "verify_tls is off" in ran.told["steps"][3]["said"]


def test_a_port_that_speaks_no_tls(imgstore, web, authority):
    with ScriptedServer(tls=authority.context()) as server:
        # the first connection is the step `connect`, which says nothing
        server.greet([None, PlaintextOnTls()])
        web(server.url("/"))
        ran = imgstore("check", "web", "--json")
    step = failed(ran)
    assert step["name"] == "TLS"
    assert "speaks TLS" in step["advice"]


@pytest.mark.parametrize(
    "lines, status, name, code, advice",
    [
        ([], 401, "authentication", 7, "give username and password"),
        (["token = {TOKEN}"], 401, "authentication", 7, "or renew it"),
        (["username = me", "password = {PASSWORD}"], 403, "authentication", 7, "let this user"),
        ([], 503, "request", 6, "look into the server's log"),
        ([], 429, "request", 6, "try again later"),
    ],
)
def test_a_server_that_refuses(imgstore, server, web, lines, status, name, code, advice):
    server.script(PATH, then=Status(status))
    web(server.url("/"), *(line.format_map(canary.SECRETS) for line in lines))
    ran = imgstore("--debug", "check", "web:disk.img", "--json")
    told = {step["name"]: step for step in ran.told["steps"]}
    assert told[name]["result"] == "failed"
    assert str(status) in told[name]["said"]
    assert advice in told[name]["advice"]
    assert told["read"]["result"] == "skipped"
    assert ran.status == code
    assert not canary.found(ran.out.decode() + ran.err)


def test_a_server_that_answers_too_late(imgstore, server, web):
    server.script(PATH, then=HeaderDelay(60))
    web(server.url("/"))
    began = time.monotonic()
    ran = imgstore("check", "web:disk.img", "--json", "--timeout", "0.4")
    assert time.monotonic() - began < 5
    assert (failed(ran)["name"], ran.status) == ("request", 6)


@pytest.mark.parametrize(
    "off, said", [(301, "ahead of"), (3600, "ahead of"), (-305, "behind"), (-3600, "behind")]
)
def test_a_clock_that_is_wrong(imgstore, server, web, off, said):
    server.script(PATH, then=Header("Date", formatdate(time.time() - off, usegmt=True)))
    web(server.url("/"))
    ran = imgstore("check", "web:disk.img", "--json")
    step = failed(ran)
    assert step["name"] == "clock"
    assert said in step["said"]
    assert "NTP" in step["advice"]
    # what comes after it may work all the same
    assert results(ran)["authentication"] == results(ran)["read"] == "ok"


@pytest.mark.parametrize("off", [0, 290, -290])
def test_a_clock_that_is_good_enough(imgstore, server, web, off):
    server.script(PATH, then=Header("Date", formatdate(time.time() - off, usegmt=True)))
    web(server.url("/"))
    assert imgstore("check", "web:disk.img").status == 0


def test_a_reply_from_a_cache_says_nothing_of_clocks(imgstore, server, web):
    old = Header("Date", formatdate(time.time() - 9999, usegmt=True))
    server.script(PATH, then=(old, Header("Age", "9999")))
    web(server.url("/"))
    assert results(imgstore("check", "web:disk.img", "--json"))["clock"] == "skipped"


def test_urls_from_a_command(imgstore, server, folder, monkeypatch):
    program = folder / "presign"
    program.write_text(f"#!/bin/sh\necho '{server.url(PATH)}?s={canary.PRESIGNED_QUERY}'\n")
    program.chmod(0o755)
    configure(
        monkeypatch,
        folder / "web.conf",
        f"[imgstore]\nenabled_stores = web:http\n[store_web]\nurl_command = {program} {canary.TOKEN}\n",
    )
    ran = imgstore("check", "web:disk.img", "--json")
    assert ran.status == 0, ran.out
    assert ran.told["location"] == f"what {program} gives"
    assert results(ran)["read"] == "ok"
    ran = imgstore("check", "web", "--json")
    assert (ran.status, results(ran)["name lookup"]) == (0, "skipped")
    program.write_text("#!/bin/sh\nexit 3\n")
    ran = imgstore("check", "web:disk.img", "--json")
    assert (failed(ran)["name"], ran.status) == ("name lookup", 7)
    assert "by hand" in failed(ran)["advice"]
    assert b"CANARY" not in imgstore("stores").out


class Sticky(MemoryStore):
    """Stores what it is given, and then fails as told."""

    def __init__(self, error):
        super().__init__()
        self.error = error
        self.writer = Sticky.Writer(self, self.writer)

    class Writer:
        def __init__(self, store, inner):
            self.store, self.inner, self.deleted = store, inner, []

        def put(self, *args, **options):
            self.inner.put(*args, **options)
            raise self.store.error

        def delete(self, key, **options):
            self.deleted.append(key)
            self.inner.delete(key, **options)


def opened_as(monkeypatch, store):
    store.store_id = "mine"

    @contextlib.contextmanager
    def every(terminal, settings):
        assert settings == {"mine": {"resume_attempts": 0}}
        terminal.stores = frozenset({"mine"})
        yield Stores({"mine": store}, {"mine": "memory"}, None)

    monkeypatch.setattr(command, "every", every)
    monkeypatch.setattr(command, "config_files", lambda terminal: [])


@pytest.mark.parametrize(
    "error, status",
    [(errors.ConnectionLostError("the reply was lost"), 6), (KeyboardInterrupt(), 130), (ValueError(), 1)],
)
def test_what_was_written_is_removed_whatever_happens(capfdbinary, folder, monkeypatch, error, status):
    store = Sticky(error)
    opened_as(monkeypatch, store)
    ran = run_here(capfdbinary, "check", "mine", "--json")
    assert ran.status == status
    (key,) = store.writer.deleted
    assert key.startswith(TEST_PREFIX)
    assert not list(store.lister.list())
    assert results(ran).get("delete", "skipped") == "skipped"


def test_what_cannot_be_removed_is_named(capfdbinary, folder, monkeypatch):
    store = MemoryStore()
    opened_as(monkeypatch, store)

    def refuse(key, **options):
        raise errors.PermissionDeniedError("the store refuses", key=key)

    monkeypatch.setattr(store.writer, "delete", refuse)
    ran = run_here(capfdbinary, "check", "mine", "--json")
    assert failed(ran)["name"] == "delete"
    assert ran.status == 7
    (left,) = store.lister.list()
    assert f"imgstore: warning: '{left.key}' may be left in the store: the store refuses" in ran.err


def test_what_was_refused_is_not_said_to_be_left(capfdbinary, folder, monkeypatch):
    store = MemoryStore()
    opened_as(monkeypatch, store)

    def refuse(*args, **options):
        raise errors.PermissionDeniedError("the store refuses")

    monkeypatch.setattr(store.writer, "put", refuse)
    monkeypatch.setattr(store.writer, "delete", refuse)
    ran = run_here(capfdbinary, "check", "mine", "--json")
    assert failed(ran)["name"] == "write"
    assert "may be left" not in ran.err


@pytest.mark.parametrize(
    "free, said",
    [
        (1, "1 bytes are free"),
        (1023, "1023 bytes are free"),
        (1024, "1024 bytes (1.0 KiB) are free"),
        (3 << 29, "1610612736 bytes (1.5 GiB) are free"),
        (1 << 60, "1152921504606846976 bytes (1.0 EiB) are free"),
    ],
)
def test_how_much_is_free(capfdbinary, folder, monkeypatch, free, said):
    store = MemoryStore()
    opened_as(monkeypatch, store)
    monkeypatch.setattr(store.space, "free", lambda **_: free)
    told = run_here(capfdbinary, "check", "mine", "--json").told
    assert told["steps"][-1]["said"] == said


def test_a_store_that_gives_back_something_else(capfdbinary, folder, monkeypatch):
    store = MemoryStore()
    opened_as(monkeypatch, store)
    real = store._open

    def damaged(*args):
        opened = real(*args)
        opened.raw._left = memoryview(bytes(len(opened.raw._left)))
        return opened

    monkeypatch.setattr(store, "_open", damaged)
    ran = run_here(capfdbinary, "check", "mine", "--json")
    assert (failed(ran)["name"], ran.status) == ("write", 4)
    assert not list(store.lister.list())


def test_a_signal_in_the_middle(server, web, folder):
    server.script(PATH, then=HeaderDelay(60))
    web(server.url("/"))
    with start("check", "web:disk.img", "--json") as process:
        end = time.monotonic() + 20
        while not server.log.requests(PATH) and time.monotonic() < end:
            time.sleep(0.01)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        ran = ended(process)
    assert time.monotonic() - began < 3
    assert (ran.status, ran.line) == (130, "interrupted")
    assert ran.told["error"]["type"] == "OperationCancelledError"
    assert ran.told["steps"][2]["name"] == "connect"
