"""Redirects on sockets: where they lead, with what, and where nothing must be sent (G5 to G7)."""

from __future__ import annotations

import socket

import pytest

from imgstore.backends.http import HttpStore
from imgstore.errors import BadReplyError, ImgstoreError, UnsafeLocationError, VersionChangedError
from imgstore.testing.server import Redirect, ScriptedServer, Status
from tests import canary

IMAGE = bytes(range(256)) * 64
PATH = "/disk.img"
KEY = "disk.img"


@pytest.fixture
def server():
    with ScriptedServer() as running:
        running.put(PATH, IMAGE, etag='"v1"')
        running.put("/real.img", IMAGE, etag='"v1"')
        yield running


@pytest.fixture
def other():
    """A second server of this machine: to a redirect, one of the loopback addresses."""
    with ScriptedServer() as running:
        running.put(PATH, IMAGE, etag='"v1"')
        yield running


def read(store, offset=0, length=None, **options):
    with store.get(KEY, offset, length, **options) as stream:
        return stream.read()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_with_everything_it_needs(server, status):
    server.script(PATH, then=Redirect("/real.img", status))
    with HttpStore(url=server.url("/"), headers=["X-Key: k"], username="u") as store:
        assert read(store, 5, 10, version='"v1"') == IMAGE[5:15]
        last = server.log[-1]
        assert (last.path, last.method) == ("/real.img", "GET")
        assert last.header("Range") == "bytes=5-14"
        assert last.header("If-Match") == '"v1"'
        assert last.header("X-Key") == "k"
        assert last.header("Authorization")
        assert store.stat(KEY).size == len(IMAGE)
        assert server.log[-1].method == "HEAD"


def test_each_open_starts_from_the_beginning(server):
    server.script(PATH, [Redirect("/real.img"), Redirect("/gone.img"), None])
    with HttpStore(url=server.url("/")) as store:
        assert read(store) == IMAGE
        with pytest.raises(ImgstoreError):
            read(store)
        assert read(store) == IMAGE


def test_the_version_is_demanded_of_the_target(server):
    server.script(PATH, then=Redirect("/real.img"))
    server.put("/real.img", IMAGE, etag='"other"')
    with HttpStore(url=server.url("/")) as store, pytest.raises(VersionChangedError):
        store.get(KEY, version='"v1"')


@pytest.mark.parametrize("limit,followed", [(5, True), (4, False), (0, False)])
def test_five_hops(server, limit, followed):
    for number in range(4):
        server.script(f"/{number}", then=Redirect(f"/{number + 1}"))
    server.script("/4", then=Redirect("/real.img"))
    with HttpStore(url=server.url("/"), max_redirects=limit) as store:
        if followed:
            with store.get("0") as stream:
                assert stream.read() == IMAGE
        else:
            with pytest.raises(UnsafeLocationError, match=f"more than {limit} redirects"):
                store.get("0")
        assert len(server.log) == limit + 1


def test_a_loop(server):
    server.script(PATH, then=Redirect(PATH))
    with HttpStore(url=server.url("/")) as store, pytest.raises(UnsafeLocationError, match="more than 5"):
        store.get(KEY)
    assert len(server.log) == 6


@pytest.mark.parametrize(
    "location",
    ["file:///etc/shadow", "ftp://127.0.0.1/", "gopher://x/", "data:,x", "http://", "http://h:0/", "https:"],
)
def test_other_schemes(server, location):
    server.script(PATH, then=Redirect(location))
    with HttpStore(url=server.url("/")) as store, pytest.raises(UnsafeLocationError) as caught:
        store.get(KEY)
    assert not caught.value.retryable
    assert len(server.log) == 1


def test_a_redirect_without_a_location(server):
    server.script(PATH, then=Status(302))
    with HttpStore(url=server.url("/")) as store, pytest.raises(BadReplyError, match="without a Location"):
        store.get(KEY)


def names(ip):
    def resolve(host, port):
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        sockaddr = (ip, port, 0, 0) if ":" in ip else (ip, port)
        return [(family, socket.SOCK_STREAM, 6, "", sockaddr)]

    return resolve


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0177.0.0.1", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_no_stranger_leads_to_this_machine(server, other, host):
    server.script(PATH, then=Redirect(f"http://{host}:{other.port}{PATH}"))
    with HttpStore(url=server.url("/")) as store:
        with pytest.raises(UnsafeLocationError, match="nothing was sent there") as caught:
            store.get(KEY)
        assert not isinstance(caught.value, OSError)
        with pytest.raises(UnsafeLocationError):
            store.stat(KEY)
    assert other.log.connections == 0


@pytest.mark.parametrize(
    "ip", ["10.0.0.1", "192.168.1.1", "169.254.169.254", "::1", "fe80::1", "::ffff:10.0.0.1", "0.0.0.0"]
)
def test_names_that_stand_for_inner_addresses(server, ip):
    server.script(PATH, then=Redirect("http://images.test/x"))
    with HttpStore(url=server.url("/")) as store:
        store.resolve = names(ip)
        with pytest.raises(UnsafeLocationError, match=r"images\.test"):
            store.get(KEY)


def test_a_kept_connection_to_an_inner_address_is_judged_too(server, other):
    """The same connection may have been opened by somebody who is trusted."""
    server.script(PATH, then=Redirect(f"http://inner.test:{other.port}{PATH}"))
    with HttpStore(url=server.url("/"), redirect_hosts=["inner.test"]) as store:
        store.resolve = names("127.0.0.1")
        assert read(store, version='"v1"') == IMAGE
        assert other.log.connections == 1
        requester = store._requester()
        requester._policy = type(requester._policy)()
        with pytest.raises(UnsafeLocationError):
            store.get(KEY, version='"v1"')
    assert len(other.log) == 1


@pytest.mark.parametrize("options", [{"allow_private": True}, {"redirect_hosts": ["127.0.0.1"]}])
def test_what_the_operator_allows(server, other, options):
    server.script(PATH, then=Redirect(other.url(PATH)))
    with HttpStore(url=server.url("/"), **options) as store:
        assert read(store) == IMAGE
        assert store.stat(KEY).size == len(IMAGE)


def test_a_host_and_port_that_are_listed(server, other):
    server.script(PATH, then=Redirect(other.url(PATH)))
    for listed, allowed in ((other.port, True), (server.port, False)):
        with HttpStore(url=server.url("/"), redirect_hosts=[f"127.0.0.1:{listed}"]) as store:
            if allowed:
                assert read(store) == IMAGE
            else:
                with pytest.raises(UnsafeLocationError):
                    store.get(KEY)


def test_secrets_stay_at_home(server, other):
    server.script(PATH, then=Redirect(f"{other.url(PATH)}?sig={canary.PRESIGNED_QUERY}"))
    options = {"headers": {"X-Key": canary.HEADER}, "token": canary.TOKEN, "allow_private": True}
    with HttpStore(url=server.url("/"), **options) as store:
        assert read(store) == IMAGE
    sent = other.log[0]
    assert sent.target == f"{PATH}?sig={canary.PRESIGNED_QUERY}"
    assert sent.header("Authorization") is None
    assert sent.header("X-Key") is None
    assert sent.header("Host") == f"127.0.0.1:{other.port}"
    assert server.log[0].header("X-Key") == canary.HEADER


def test_secrets_do_not_come_back_by_a_detour(server, other):
    server.script(PATH, then=Redirect(other.url(PATH)))
    other.script(PATH, then=Redirect(server.url("/real.img")))
    with HttpStore(url=server.url("/"), token=canary.TOKEN, allow_private=True) as store:
        assert read(store) == IMAGE
    assert server.log[0].header("Authorization") == f"Bearer {canary.TOKEN}"
    assert server.log[1].header("Authorization") is None


def test_a_query_is_in_no_error(server, other):
    server.script(PATH, then=Redirect(f"{other.url(PATH)}?sig={canary.PRESIGNED_QUERY}"))
    store, key = HttpStore.at(f"{server.url(PATH)}?sig={canary.PRESIGNED_QUERY}")
    with store, pytest.raises(UnsafeLocationError) as caught:
        store.get(key)
    error = caught.value
    assert not canary.found(f"{error!r} {error.__cause__!r} {error.__context__!r}")


def test_the_url_goes_out_to_the_letter(server):
    target = "/a%2fB//c/../%41?x=%2F&&y=a+b'(*)!~|{}&sig=" + canary.PRESIGNED_QUERY
    store, key = HttpStore.at(server.url(target))
    with store, pytest.raises(ImgstoreError):
        store.get(key)
    assert server.log[0].target == target
