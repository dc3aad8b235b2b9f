"""Credentials on sockets: renewed once, by one for all, and never shown."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from base64 import b64decode
from urllib.parse import quote

import pytest

from imgstore import Call, CancelToken
from imgstore.backends.http import HttpStore
from imgstore.errors import (
    AuthenticationError,
    ConfigError,
    OperationCancelledError,
    PermissionDeniedError,
    TimedOutError,
    UnsafeLocationError,
)
from imgstore.testing.server import ScriptedServer, Status
from tests import canary

IMAGE = bytes(range(256)) * 64
PATH = "/disk.img"
KEY = "disk.img"


@pytest.fixture
def server():
    with ScriptedServer() as running:
        running.put(PATH, IMAGE, etag='"v1"')
        yield running


def read(store, key=KEY, **options):
    with store.get(key, **options) as stream:
        return stream.read()


def told(exchange):
    kind, _, value = exchange.header("Authorization").partition(" ")
    return b64decode(value).decode() if kind == "Basic" else value


def test_user_and_password_in_the_url(server):
    url = server.url(PATH).replace("//", f"//us%40er:{quote(canary.PASSWORD, safe='')}@")
    store, key = HttpStore.at(url)
    with store:
        assert read(store, key) == IMAGE
    sent = server.log[0]
    assert told(sent) == f"us@er:{canary.PASSWORD}"
    assert sent.header("Host") == f"127.0.0.1:{server.port}"
    assert sent.target == PATH


def test_netrc(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login u password {canary.PASSWORD}\n")
    (tmp_path / ".netrc").chmod(0o600)
    with HttpStore(url=server.url("/"), netrc="true") as store:
        assert read(store) == IMAGE
    assert told(server.log[0]) == f"u:{canary.PASSWORD}"


def test_a_token_that_was_renewed_in_its_file(server, tmp_path):
    path = tmp_path / "token"
    path.write_text("old")
    good = {"old"}
    server.guard(PATH, lambda request: request.header("Authorization")[7:] in good, Status(401))
    with HttpStore(url=server.url("/"), token_file=str(path)) as store:
        assert read(store) == IMAGE
        good.clear()
        with pytest.raises(AuthenticationError):
            store.get(KEY)
        assert len(server.log) == 2
        path.write_text("new")
        good.add("new")
        assert read(store) == IMAGE
        assert len(server.log) == 3


def test_a_token_that_is_renewed_between_request_and_refusal(server, tmp_path):
    path = tmp_path / "token"
    path.write_text("old")

    def refuse(request):
        path.write_text("new")
        return request.header("Authorization") == "Bearer new"

    server.guard(PATH, refuse, Status(401))
    with HttpStore(url=server.url("/"), token_file=str(path)) as store:
        assert read(store) == IMAGE
    assert [told(each) for each in server.log] == ["old", "new"]


@pytest.mark.parametrize("option", ["password", "headers"])
def test_other_secrets_that_are_renewed_between_request_and_refusal(server, option):
    held = ["old"]
    secret = (lambda: f"X-Key: {held[0]}") if option == "headers" else (lambda: held[0])
    user = {"username": "u"} if option == "password" else {}

    def shown(exchange):
        return exchange.header("X-Key") if option == "headers" else told(exchange).removeprefix("u:")

    def refuse(request):
        held[0] = "new"
        return shown(request) == "new"

    server.guard(PATH, refuse, Status(401))
    with HttpStore(url=server.url("/"), **user, **{option: secret}) as store:
        assert read(store) == IMAGE
    assert [shown(each) for each in server.log] == ["old", "new"]


def test_a_403_is_no_reason_to_read_the_token_again(server, tmp_path):
    (tmp_path / "token").write_text("t")
    server.script(PATH, then=Status(403))
    store = HttpStore(url=server.url("/"), token_file=str(tmp_path / "token"))
    with store, pytest.raises(PermissionDeniedError):
        store.get(KEY)
    assert len(server.log) == 1


def test_secrets_are_in_no_error(server):
    server.script(PATH, then=Status(401, {"WWW-Authenticate": "Bearer"}))
    options = {"token": canary.TOKEN, "headers": [f"X-Key: {canary.HEADER}"]}
    with HttpStore(url=f"{server.url('/')}?sas={canary.PRESIGNED_QUERY}", **options) as store:
        with pytest.raises(AuthenticationError) as caught:
            store.get(KEY)
        assert not canary.found(f"{store!r} {vars(store)!r} {caught.value!r} {caught.value.__cause__!r}")
    assert server.log[0].target == f"{PATH}?sas={canary.PRESIGNED_QUERY}"


# A command for URLs


class Command:
    """A program that prints a URL with a new signature each time, and counts how often it ran."""

    def __init__(self, folder, url, body=""):
        self.runs = folder / "runs"
        self.runs.touch()
        script = folder / "presign"
        script.write_text(
            f"""#!{sys.executable}
import os, sys, time
with open({str(self.runs)!r}, "a") as file:
    file.write("x")
number = os.path.getsize({str(self.runs)!r})
key = sys.argv[1]
{body}
print({url!r} + key + "?sig={canary.PRESIGNED_QUERY}-" + str(number))
"""
        )
        script.chmod(0o700)
        self.line = str(script)

    @property
    def count(self):
        return self.runs.stat().st_size

    def wait(self, runs):
        """Waits until it has begun so many times."""
        end = time.monotonic() + 20
        while self.count < runs:
            assert time.monotonic() < end, f"it began {self.count} times"
            time.sleep(0.01)


def signature(request):
    return int(request.query.rpartition("-")[2])


def test_a_command_for_urls(server, tmp_path):
    command = Command(tmp_path, server.url("/"))
    valid = {1}
    server.guard(PATH, lambda request: signature(request) in valid)
    with HttpStore(url_command=command.line) as store:
        assert read(store) == read(store) == IMAGE
        assert store.stat(KEY).size == len(IMAGE)
        assert command.count == 1
        assert {each.method for each in server.log} == {"GET"}
        valid.clear()
        valid.add(2)
        assert read(store) == IMAGE
        assert command.count == 2


def test_a_real_refusal_is_no_loop(server, tmp_path):
    command = Command(tmp_path, server.url("/"))
    server.script(PATH, then=Status(403))
    with HttpStore(url_command=command.line) as store:
        with pytest.raises(PermissionDeniedError) as caught:
            store.get(KEY)
        assert (command.count, len(server.log)) == (2, 2)
        assert not canary.found(f"{caught.value!r} {caught.value.__cause__!r} {vars(store)!r}")


def test_one_run_for_all_who_wait(server, tmp_path):
    """H6: the URL has expired, eight readers see it at once, the command runs once."""
    command = Command(tmp_path, server.url("/"), "time.sleep(0.3)")
    expired = threading.Event()
    barrier = threading.Barrier(8)
    server.guard(PATH, lambda request: signature(request) == (2 if expired.is_set() else 1))
    results = []

    def work():
        barrier.wait()
        results.append(read(store))

    def crowd():
        results.clear()
        threads = [threading.Thread(target=work) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert results == [IMAGE] * 8

    with HttpStore(url_command=[command.line]) as store:
        crowd()
        assert command.count == 1
        expired.set()
        crowd()
        assert command.count == 2


def test_one_failure_for_all_who_wait(server, tmp_path):
    command = Command(tmp_path, server.url("/"), "time.sleep(0.5); sys.exit(3)")
    errors = []

    def work():
        with pytest.raises(AuthenticationError, match="ended with status 3") as caught:
            store.get(KEY)
        errors.append(caught.value)

    with HttpStore(url_command=command.line) as store:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert len(errors) == 4
    assert command.count <= 2


def test_each_key_has_its_own_url(server, tmp_path):
    server.put("/other.img", b"other")
    command = Command(tmp_path, server.url("/"))
    with HttpStore(url_command=command.line) as store:
        assert read(store) == IMAGE
        assert read(store, "other.img") == b"other"
        assert read(store) == IMAGE
        assert command.count == 2


@pytest.mark.parametrize(
    "body,kind,said",
    [
        ("sys.exit(3)", AuthenticationError, "ended with status 3; run it by hand"),
        ("os.kill(os.getpid(), 9)", AuthenticationError, "ended with status -9"),
        ("sys.exit(0)", ConfigError, "prints 0 lines"),
        ("print('http://h/')", ConfigError, "prints 2 lines"),
        (
            "print('secret'); os._exit(0) if sys.stdout.flush() is None else 0",
            ConfigError,
            "no http or https URL",
        ),
        ("sys.stdout.write('x' * 100000)", ConfigError, "prints more than a URL"),
        ("print('http://u:p@h/'); sys.stdout.flush(); os._exit(0)", ConfigError, "holds a user"),
    ],
)
def test_a_command_that_fails(tmp_path, body, kind, said):
    command = Command(tmp_path, "http://127.0.0.1:9/", body)
    with HttpStore(url_command=command.line) as store, pytest.raises(kind, match=said):
        store.get(KEY)


def test_a_command_that_is_not_there(tmp_path):
    store = HttpStore(url_command=str(tmp_path / "missing"))
    with store, pytest.raises(ConfigError, match=r"cannot be run: No such file"):
        store.get(KEY)


def test_a_key_that_looks_like_an_option(tmp_path):
    with (
        HttpStore(url_command="true") as store,
        pytest.raises(UnsafeLocationError, match="would be an option"),
    ):
        store.get("--delete")


@pytest.mark.parametrize("body", ["time.sleep(30)", "os.close(1); time.sleep(30)", "os.system('sleep 30')"])
def test_a_command_that_hangs(tmp_path, body):
    command = Command(tmp_path, "http://127.0.0.1:9/", body)
    with HttpStore(url_command=command.line, open_timeout=0.8) as store:
        began = time.monotonic()
        with pytest.raises(TimedOutError):
            store.get(KEY)
        assert time.monotonic() - began < 3 * (0.8 + 1)


def test_a_command_that_cannot_be_killed_is_left_to_end_by_itself(tmp_path, monkeypatch):
    spared = []

    def refuse(group, _):
        spared.append(group)
        raise PermissionError

    monkeypatch.setattr(os, "killpg", refuse)
    command = Command(tmp_path, "http://127.0.0.1:9/", "time.sleep(10)")
    with HttpStore(url_command=command.line, open_timeout=0.5) as store:
        began = time.monotonic()
        with pytest.raises(TimedOutError):
            store.get(KEY)
        assert time.monotonic() - began < 3
    os.kill(spared[0], signal.SIGKILL)
    for thread in threading.enumerate():
        if thread.name == "imgstore-reaper":
            thread.join()
    with pytest.raises(ChildProcessError):  # no zombie
        os.waitpid(spared[0], os.WNOHANG)


def test_who_waits_for_a_run_may_give_up_and_others_take_over(server, tmp_path):
    command = Command(tmp_path, server.url("/"), "time.sleep(0.8)")
    token = CancelToken()
    outcome = {}

    def first():
        try:
            store.get(KEY, call=Call(cancel=token))
        except OperationCancelledError as exc:
            outcome["first"] = exc

    with HttpStore(url_command=command.line) as store:
        thread = threading.Thread(target=first)
        thread.start()
        command.wait(1)
        threading.Timer(0.1, token.cancel).start()
        assert read(store) == IMAGE
        thread.join()
    assert "first" in outcome
    assert command.count == 2
