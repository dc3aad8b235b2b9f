"""Rows G1, G3, G5-G9 and G12: places that lead astray, bombs, and secrets."""

from __future__ import annotations

import io
import os
import pickle
import socket
import traceback
import tracemalloc

import pytest

from imgstore import stack
from imgstore.backends.filesystem import FilesystemStore
from imgstore.backends.http import HttpStore
from imgstore.backends.memory import MemoryStore
from imgstore.errors import (
    ConfigError,
    ImgstoreError,
    NotFoundError,
    ProtocolViolationError,
    UnsafeLocationError,
    VersionChangedError,
)
from imgstore.testing import server as wire
from tests import canary
from tests.faults import rows
from tests.faults.rows import IMAGE, PATH, TRIES, K

rig = rows.rig
secure = rows.secure
authority = rows.authority

NO_KEYS = {
    "climbs": "../../etc/shadow",
    "climbs within": "images/../../etc/shadow",
    "absolute": "/etc/shadow",
    "absolute twice": "//etc/shadow",
    "dot": "images/./disk",
    "dots alone": "..",
    "empty segment": "images//disk",
    "empty": "",
    "trailing slash": "images/",
    "NUL": "disk\0.img",
    "half a character": "disk\udc80",
    "overlong": "x" * 1025,
    "overlong in bytes": "\N{EURO SIGN}" * 342,
}


@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS)
def test_g1_what_is_no_key_is_refused_before_anything_is_sent(rig, tmp_path, key):
    web = HttpStore(url=rig.server.url("/"), trust_env=False)
    for driver in (web, MemoryStore(), FilesystemStore(data_dir=tmp_path)):
        with stack.build(driver, clock=rig.clock) as store:
            for ask in (store.get, store.stat):
                with pytest.raises(UnsafeLocationError):
                    ask(key)
    assert rig.log.connections == 0


LITERAL = [
    "%2e%2e/etc/shadow",
    "..%2fetc",
    "\N{TWO DOT LEADER}/x",
    "\N{FULLWIDTH FULL STOP}" * 2 + "/x",
    "~root",
]


@pytest.mark.parametrize("key", LITERAL)
def test_g1_what_only_looks_like_a_way_out_is_a_name_like_any_other(rig, tmp_path, key):
    memory = MemoryStore()
    memory.writer.put(key, io.BytesIO(IMAGE))
    web = HttpStore(url=rig.server.url("/images"), trust_env=False)
    with stack.build(memory) as store:
        assert rows.read(store, key) == IMAGE
    for driver in (web, FilesystemStore(data_dir=tmp_path)):
        with stack.build(driver, clock=rig.clock) as store, pytest.raises(NotFoundError):
            store.get(key)
    assert rig.log[0].target.startswith("/images/")
    assert ".." not in rig.log[0].target.split("/")
    assert "%2e%2e" not in rig.log[0].target.lower().split("/")


@pytest.mark.parametrize(
    "url",
    [
        "file:///images/../../etc/shadow",
        "ftp://host/x",
        "/etc/shadow",
        "http://",
        "http://a b/",
        "http://h:0/",
    ],
)
def test_g1_what_is_no_web_address_is_refused(url):
    with pytest.raises(ConfigError):
        HttpStore.at(url)


def odd(kind, path):
    """Puts something at `path` that is no regular file; gives what has to be closed."""
    if kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "proc file":
        path.symlink_to("/proc/self/environ")
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.fspath(path))
        return listener
    return io.BytesIO()


@pytest.mark.parametrize("kind", ["FIFO", "folder", "socket", "device", "link", "proc file"])
def test_g3_what_is_no_regular_file_is_refused_at_once(tmp_path, monkeypatch, kind):
    refusal = NotFoundError if kind == "folder" else UnsafeLocationError
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with odd(kind, tmp_path / "disk"), stack.build(FilesystemStore(data_dir=tmp_path)) as store:
        for ask in (store.get, store.stat):
            with pytest.raises(refusal):
                ask("disk")


SCHEMES = [
    "file:///etc/shadow",
    "ftp://127.0.0.1/x",
    "gopher://127.0.0.1:70/_x",
    "data:text/plain,x",
    "javascript:x",
    "unix:///run/docker.sock",
    "http+unix://%2Frun/x",
    "http://",
    "http:///x",
    "http://host:99999/",
    "http://[::1/",
]


@pytest.mark.parametrize("location", SCHEMES)
@pytest.mark.parametrize("at", [0, K])
def test_g5_a_redirect_to_no_web_address_is_refused(rig, location, at):
    rig.script(*([wire.Cut(at=at)] if at else []), then=wire.Redirect(location))
    assert len(rig.fails(UnsafeLocationError, allow_private=True).data) == at
    assert rig.log.requests() == 1 + bool(at)


INSIDE = [
    "http://127.0.0.1:{port}/",
    "http://127.8.8.8:{port}/",
    "http://2130706433:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0x7f.1:{port}/",
    "http://127.1:{port}/",
    "http://0.0.0.0:{port}/",
    "http://0:{port}/",
    "http://localhost:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[fc00::1]:{port}/",
    "http://[ff02::1]:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
]


@pytest.mark.parametrize("location", INSIDE)
def test_g6_a_redirect_into_this_network_is_refused_before_it_is_asked(rig, location):
    inside = rig.another()
    rig.script(then=wire.Redirect(location.format(port=inside.port)))
    rig.fails(UnsafeLocationError)
    assert (rig.requests, inside.log.connections) == (1, 0)


def test_g6_a_name_is_judged_by_where_it_leads_each_time(rig):
    inside = rig.another()
    inside.put(PATH, IMAGE, etag='"v1"')

    def resolve(host, port):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    target = f"http://rebound.test:{inside.port}{PATH}"
    rig.script(then=wire.Redirect(target))
    rig.fails(UnsafeLocationError, resolve=resolve)
    assert inside.log.connections == 0
    assert rig.read(resolve=resolve, redirect_hosts=["rebound.test"]) == IMAGE


def test_g6_an_address_that_was_configured_is_trusted(rig):
    assert rig.read(url=rig.server.url(PATH, host="localhost")) == IMAGE


def test_g7_a_loop_ends_after_five_redirects(rig):
    rig.script(then=wire.Redirect(PATH))
    rig.fails(UnsafeLocationError)
    assert rig.requests == 6


@pytest.mark.parametrize("hops", [1, 5])
def test_g7_five_are_followed(rig, hops):
    rig.script(*[wire.Redirect(PATH)] * hops)
    assert rig.read() == IMAGE
    assert rig.requests == hops + 1


def test_g7_without_a_location_it_is_a_bad_reply(rig):
    rig.script(then=wire.Status(302))
    rig.fails(ProtocolViolationError)
    assert rig.requests == TRIES


def test_g7_https_is_not_left_for_http(secure, authority):
    plain = secure.another()
    plain.put(PATH, IMAGE, etag='"v1"')
    secure.script(then=wire.Redirect(plain.url(PATH)))
    secure.fails(UnsafeLocationError, ca_file=str(authority.ca), allow_private=True)
    assert plain.log.connections == 0


WHO = {
    "token": {"token": canary.TOKEN},
    "password": {"username": "user", "password": canary.PASSWORD},
    "header": {"headers": {"X-Api-Key": canary.HEADER, "Cookie": "session=" + canary.TOKEN}},
}


@pytest.mark.parametrize("who", WHO.values(), ids=WHO)
def test_g7_credentials_stay_with_the_origin_they_are_for(rig, who):
    other = rig.another()
    other.put(PATH, IMAGE, etag='"v1"')
    other.script(PATH, [wire.Redirect(rig.server.url("/back.img"))], then=None)
    rig.server.put("/back.img", IMAGE, etag='"v1"')
    rig.script(then=wire.Redirect(other.url(PATH)))
    assert rig.read(allow_private=True, **who) == IMAGE
    shown = [canary.found(str(each.headers)) != set() for each in (rig.log[0], other.log[0], rig.log[1])]
    assert shown == [True, False, False]


@pytest.mark.parametrize("layers", [1, 20])
def test_g8_a_bomb_is_not_unpacked(rig, layers):
    bomb = wire.Bomb(1 << 24, layers)
    rig.script(then=rows.refused(bomb))
    store, key = rig.store()
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolViolationError):
            store.get(key)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # the server makes its bomb in this process
    assert peak < 8 << 20
    assert (rig.requests, rig.sent) == (TRIES, 0)


SMUGGLED = [
    "a\r\nX-Evil: 1",
    "a\nX-Evil: 1",
    "a HTTP/1.1\r\nHost: evil\r\n\r\nGET /b",
    "a\tb",
    "a b",
    "a?b=c#d",
    "a%0d%0aX-Evil: 1",
]


@pytest.mark.parametrize("key", SMUGGLED)
def test_g9_a_key_is_a_path_and_nothing_else(rig, key):
    web = HttpStore(url=rig.server.url("/images"), trust_env=False)
    with stack.build(web, clock=rig.clock) as store, pytest.raises(NotFoundError):
        store.get(key)
    (only,) = rig.log
    assert only.target == "/images/" + wire_form(key)
    assert only.header("X-Evil") is None
    assert only.header("Host") == f"127.0.0.1:{rig.server.port}"


def wire_form(key):
    kept = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/"
    return "".join(each if each in kept else f"%{ord(each):02X}" for each in key)


@pytest.mark.parametrize(
    "line",
    [
        "X-A: 1\r\nX-Evil: 1",
        "X-A: 1\nX-Evil: 1",
        "X A: 1",
        ": 1",
        "X-A: \0",
        "Host: evil",
        "Range: bytes=0-0",
    ],
)
def test_g9_an_option_is_one_header_and_no_more(line):
    with pytest.raises(ConfigError):
        HttpStore(url="http://images.test/", headers=[line])


@pytest.mark.parametrize(
    "url", ["http://h/a\r\nX-Evil: 1", "http://h\r\n/", "http://h/a b", "http://u:p\n@h/"]
)
def test_g9_an_address_is_one_line(url):
    with pytest.raises(ConfigError):
        HttpStore.at(url)


def test_g9_a_version_is_sent_only_where_it_may_be_one(rig):
    rig.fails(VersionChangedError, version='"v1"\r\nX-Evil: 1')
    assert rig.requests == 0


FAILURES = {
    "not found": wire.Status(404, {"X-Request-Id": "id-1"}),
    "refused": wire.Status(403),
    "unauthorised": wire.Status(401),
    "unavailable": wire.Status(503),
    "no HTTP": wire.RawReply(b"hello"),
    "cut": wire.Cut(head_at=5),
    "bad length": wire.Header("Content-Length", "x"),
    "redirect": wire.Redirect(f"http://user:{canary.PASSWORD}@127.0.0.1:1/?sig={canary.PRESIGNED_QUERY}"),
    "redirect to nowhere": wire.Redirect(f"file://{canary.TOKEN}/"),
    "other version": wire.ReplaceValidator('"v9"'),
}


@pytest.mark.parametrize("fault", FAILURES.values(), ids=FAILURES)
def test_g12_no_failure_shows_a_secret(rig, caplog, fault):
    rig.script(then=fault)
    url = rig.server.url(PATH).replace("://", "://user:CANARY-SECRET%2Fpassword%2B4uGm@")
    store, key = rig.store(
        url=f"{url}?X-Amz-Signature={canary.PRESIGNED_QUERY}", headers=["X-Key: " + canary.HEADER]
    )
    with pytest.raises(ImgstoreError) as raised:
        rows.read(store, key, version='"v1"')
    error = raised.value
    shown = [str(error), repr(error), repr(store), repr(vars(store)), caplog.text, repr(rig.events)]
    shown += traceback.format_exception(error)
    shown += [pickle.dumps(error).decode("latin-1"), repr(pickle.loads(pickle.dumps(error)))]
    assert canary.found("\n".join(shown)) == set()
    # the server did get them
    assert canary.found(str(rig.log[0].target)) == {"PRESIGNED_QUERY"}
    assert canary.found(str(rig.log[0].headers)) == {"PASSWORD", "HEADER"}


@pytest.mark.parametrize(
    "url", ["http://user:{}@h:x/", "http://user:{}@/", "ftp://user:{}@h/", "http://user:{} x@h/", "{}://h/"]
)
def test_g12_nor_does_an_address_that_is_none(url):
    with pytest.raises(ConfigError) as raised:
        HttpStore.at(url.format(canary.PASSWORD))
    assert canary.found("".join(traceback.format_exception(raised.value))) == set()
