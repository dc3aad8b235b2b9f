"""Configured stores at work: secrets renewed, forks, threads, layers."""

from __future__ import annotations

import io
import os
import threading
from base64 import b64decode

import pytest

from imgstore.config import load, open_stores
from imgstore.errors import AuthenticationError, ConfigError, RetriesExhaustedError
from imgstore.testing.server import Cut, ScriptedServer, Status
from tests import canary

IMAGE = bytes(range(256)) * 1024


@pytest.fixture
def server():
    with ScriptedServer() as running:
        running.put("/disk", IMAGE, etag='"v1"')
        yield running


@pytest.fixture
def configured(tmp_path, server):
    """Gives what opens a store of the server and one of files, with further lines for the first."""

    def made(*lines, defaults=(), **options):
        path = tmp_path / "imgstore.conf"
        text = [
            "[imgstore]",
            "enabled_stores = web:http, disks:filesystem",
            "default_store = web",
            "[store_defaults]",
            *defaults,
            "[store_disks]",
            f"data_dir = {tmp_path / 'images'}",
            "create_data_dir = true",
            "[store_web]",
            f"url = {server.url('/')}",
            *lines,
        ]
        path.write_text("\n".join(text))
        return open_stores(load(str(path)), **options)

    return made


def read(store, **options):
    with store.get("disk", **options) as stream:
        return stream.read()


def password(exchange):
    return b64decode(exchange.header("Authorization").removeprefix("Basic ")).decode().partition(":")[2]


# Secrets


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(f"{canary.PASSWORD}\n")
    return path


def test_a_password_that_is_renewed_in_its_file_counts_after_a_401(configured, server, secret):
    good = {canary.PASSWORD}
    server.guard("/disk", lambda request: password(request) in good, Status(401))
    with configured("username = u", f"password_file = {secret}") as stores:
        assert read(stores.default) == IMAGE
        good.clear()
        with pytest.raises(AuthenticationError) as caught:
            read(stores.default)
        assert not canary.found(f"{caught.value!r} {caught.value.__cause__!r}")
        assert len(server.log) == 2, "the same password is not sent again"

        def renew(request):
            secret.write_text("new")
            return password(request) == "new"

        server.guard("/disk", renew, Status(401))
        assert read(stores.default) == IMAGE
    assert [password(each) for each in server.log] == [
        canary.PASSWORD,
        canary.PASSWORD,
        canary.PASSWORD,
        "new",
    ]


def test_a_password_file_that_is_gone_by_then(configured, server, secret):
    with configured("username = u", f"password_file = {secret}") as stores:
        secret.unlink()
        with pytest.raises(ConfigError, match=f"the password_file '{secret}' cannot be read: No such file"):
            read(stores.default)
        assert len(server.log) == 0


# Layers


def test_every_layer_is_at_work(configured, server):
    server.script("/disk", [Cut(at=100_000), Status(503)])
    told = []
    defaults = ["max_streams = 1", "rate_limit = 1e9", "resume_attempts = 4"]
    with configured(defaults=defaults, observe=told.append) as stores:
        assert read(stores.default) == IMAGE
    kinds = [event.kind for event in told]
    assert kinds.count("resumed") == 1
    assert {"opened", "delivered", "failed"} <= set(kinds)
    assert {event.store for event in told} == {"web"}
    assert len(server.log) == 3


def test_settings_of_the_layers_count(configured, server):
    server.script("/disk", then=Status(503))
    with configured(defaults=["resume_attempts = 2"]) as stores, pytest.raises(RetriesExhaustedError):
        read(stores.default)
    assert len(server.log) == 2


def test_stores_are_shared_by_threads(configured, server):
    results = []
    with configured(defaults=["max_streams = 3"]) as stores:

        def work():
            stores["disks"].writer.put(threading.current_thread().name, io.BytesIO(IMAGE))
            results.append(
                read(stores["web"]) == IMAGE == stores["disks"].get(threading.current_thread().name).read()
            )

        threads = [threading.Thread(target=work, name=f"image-{number}") for number in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert results == [True] * 8


# Forks


def in_a_child(work):
    """Runs `work` in a fork of this process; gives what it said."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(theirs, str(work()).encode())
        except BaseException as exc:
            os.write(theirs, repr(exc).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


FORKS = pytest.mark.filterwarnings(
    "ignore:.*fork.*:DeprecationWarning"
)  # of Python 3.12: it is what is tested


@FORKS
@pytest.mark.parametrize("used", [False, True], ids=["before", "after"])
def test_stores_may_be_opened_before_a_fork(configured, server, used):
    """As uWSGI does: loaded once, forked many times; a connection of the parent is never the child's."""
    with configured(defaults=["max_streams = 1"]) as stores:

        def everything():
            version = stores["web"].stat("disk").version
            whole = read(stores["web"]) + read(stores["web"], offset=5, length=10, version=version)
            stores["disks"].writer.put("image", io.BytesIO(IMAGE), overwrite=True)
            mine = stores["disks"].get("image").read()
            return whole == IMAGE + IMAGE[5:15] and mine == IMAGE

        if used:
            assert everything()
        before = {each.connection for each in server.log}
        assert in_a_child(everything) == "True"
        childs = {each.connection for each in server.log} - before
        assert in_a_child(everything) == "True"
        assert everything()
        assert in_a_child(stores.close) == "None"
        assert everything()
        assert childs
        assert before.isdisjoint(childs)


@FORKS
def test_a_permit_that_is_held_at_a_fork_is_not_the_childs(configured, server):
    with configured(defaults=["max_streams = 1"]) as stores, stores["web"].get("disk") as stream:
        first = stream.read(1000)
        assert in_a_child(lambda: read(stores["web"]) == IMAGE) == "True"
        assert first + stream.read() == IMAGE
