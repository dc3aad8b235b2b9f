"""The policy of redirects: how many, where to, with what, and to which addresses."""

from __future__ import annotations

import pytest

from imgstore.backends._http.address import parse
from imgstore.backends._http_range import Reply
from imgstore.backends.http.redirect import REDIRECTS, RedirectPolicy, Trail, read_hosts, unsafe
from imgstore.errors import BadReplyError, UnsafeLocationError
from tests import canary


def address(url):
    return parse(url, "the URL")[0]


def redirect(location, *more):
    return Reply(1, 302, (("Location", location), ("x-request-id", "r1"), *more))


def trail(url="http://h/a", **policy):
    return Trail(RedirectPolicy(**policy), address(url))


def test_the_statuses_that_redirect():
    assert sorted(REDIRECTS) == [301, 302, 303, 307, 308]


def test_as_many_as_the_limit():
    way = trail(limit=2)
    way.follow(redirect("/b"))
    way.follow(redirect("/c"))
    assert way.here.url == "http://h/c"
    with pytest.raises(UnsafeLocationError, match="http://h/a leads through more than 2 redirects") as caught:
        way.follow(redirect("/d"))
    assert caught.value.request_id == "r1"


def test_none_at_all():
    with pytest.raises(UnsafeLocationError):
        trail(limit=0).follow(redirect("/b"))


def test_a_redirect_to_nowhere():
    with pytest.raises(BadReplyError, match="status 302 without a Location"):
        trail().follow(Reply(1, 302))
    with pytest.raises(BadReplyError, match="two different location"):
        trail().follow(redirect("/a", ("location", "/b")))


def test_no_downgrade_no_other_scheme():
    way = trail(f"https://h/a?{canary.PRESIGNED_QUERY}")
    with pytest.raises(UnsafeLocationError, match="from https to http is no way to go") as caught:
        way.follow(redirect(f"http://h/a?{canary.PRESIGNED_QUERY}"))
    assert not canary.found(repr(caught.value))
    assert caught.value.request_id == "r1"
    with pytest.raises(UnsafeLocationError):
        trail().follow(redirect("file:///etc/shadow"))
    up = trail("http://h/a")
    up.follow(redirect("https://h/a"))
    assert up.here.scheme == "https"


@pytest.mark.parametrize(
    "location,home",
    [
        ("/b", True),
        ("http://h:80/b", True),
        ("http://H/b", True),
        ("https://h/b", False),
        ("http://h:81/b", False),
        ("http://other/b", False),
        ("http://sub.h/b", False),
    ],
)
def test_what_is_still_home(location, home):
    way = trail()
    assert way.home
    way.follow(redirect(location))
    assert way.home is home


def test_home_once_left_is_left():
    way = trail()
    way.follow(redirect("http://other/"))
    way.follow(redirect("http://h/a"))
    assert not way.home


@pytest.mark.parametrize(
    "first,location,judged",
    [
        ("http://h/a", "/b", False),
        ("http://h:8080/a", "http://h:8080/b", False),
        ("http://h/a", "https://h/b", False),
        ("http://h:8080/a", "https://h/b", False),
        ("http://h/a", "http://h:6379/b", True),
        ("http://h:8080/a", "http://h/b", True),
        ("http://h/a", "http://other/b", True),
        ("http://h/a", "http://other:443/b", True),
        ("http://h/a", "http://listed/b", False),
        ("http://h/a", "http://listed:99/b", False),
        ("http://h/a", "http://port:99/b", False),
        ("http://h/a", "http://port/b", True),
    ],
)
def test_whose_address_is_judged(first, location, judged):
    way = trail(first, hosts=read_hosts([" Listed ", "port:99"]))
    assert way.admit is None
    way.follow(redirect(location))
    assert (way.admit is not None) is judged


def test_everything_may_be_allowed():
    way = trail(private=True)
    way.follow(redirect("http://other/"))
    assert way.admit is None


def test_the_judgement():
    way = trail()
    way.follow(redirect("http://evil/"))
    way.admit("8.8.8.8")
    with pytest.raises(
        UnsafeLocationError, match=r"leads to evil at 127\.0\.0\.1, a loopback address"
    ) as caught:
        way.admit("127.0.0.1")
    assert "redirect_hosts" in str(caught.value)


def test_listed_ipv6_hosts():
    assert read_hosts(["[::1]", "A"]) == {"::1", "a"}


@pytest.mark.parametrize(
    "ip,what",
    [
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("::ffff:0.0.0.0", "unspecified"),
        ("169.254.169.254", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("10.0.0.1", "private or reserved"),
        ("172.16.0.1", "private or reserved"),
        ("172.31.255.255", "private or reserved"),
        ("192.168.1.1", "private or reserved"),
        ("::ffff:10.0.0.1", "private or reserved"),
        ("64:ff9b::a00:1", "private or reserved"),
        ("2002:a00:1::", "private or reserved"),
        ("100.64.0.1", "private or reserved"),
        ("192.0.2.1", "private or reserved"),
        ("198.18.0.1", "private or reserved"),
        ("192.0.0.9", "private or reserved"),
        ("192.0.0.200", "private or reserved"),
        ("192.88.99.1", "private or reserved"),
        ("::ffff:192.88.99.1", "private or reserved"),
        ("240.0.0.1", "private or reserved"),
        ("255.255.255.255", "private or reserved"),
        ("fc00::1", "private or reserved"),
        ("fd12:3456::1", "private or reserved"),
        ("fec0::1", "private or reserved"),
        ("2001:db8::1", "private or reserved"),
        ("3fff::1", "private or reserved"),
        ("3fff:fff:ffff::1", "private or reserved"),
        ("100::1", "private or reserved"),
        ("not an address", "no IP address"),
        ("2130706433", "no IP address"),
        ("0177.0.0.1", "no IP address"),
        ("", "no IP address"),
    ],
)
def test_where_no_stranger_may_lead(ip, what):
    assert what in unsafe(ip)


@pytest.mark.parametrize(
    "ip",
    [
        "8.8.8.8",
        "1.1.1.1",
        "192.0.1.1",
        "192.88.98.255",
        "3ffe::1",
        "3fff:1000::1",
        "172.15.255.255",
        "172.32.0.1",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_the_public_internet(ip):
    assert unsafe(ip) is None
