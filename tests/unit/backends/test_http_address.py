"""URLs: sent to the letter, shown without secrets, refused in one line."""

from __future__ import annotations

import pytest

from imgstore.backends._http.address import key_of, parse, redirected
from imgstore.errors import ConfigError, UnsafeLocationError
from imgstore.model import check_key
from tests import canary

SECRET = canary.PRESIGNED_QUERY


def address(url):
    return parse(url, "the URL")[0]


@pytest.mark.parametrize(
    "url,host,port,target",
    [
        ("http://h/a", "h", 80, "/a"),
        ("https://h/a", "h", 443, "/a"),
        ("HTTPS://Example.ORG/A", "example.org", 443, "/A"),
        ("http://h", "h", 80, "/"),
        ("http://h?x=1", "h", 80, "/?x=1"),
        ("http://h:8080/a", "h", 8080, "/a"),
        ("http://h:/a", "h", 80, "/a"),
        ("http://h:1/", "h", 1, "/"),
        ("http://h:65535/", "h", 65535, "/"),
        ("http://[::1]:8080/a", "::1", 8080, "/a"),
        ("http://[FE80::1%25eth0]/a", "fe80::1%eth0", 80, "/a"),
        ("http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1", 80, "/"),
        ("http://127.0.0.1/", "127.0.0.1", 80, "/"),
        ("http://a_b.c-d./x", "a_b.c-d.", 80, "/x"),
        ("http://h/a?", "h", 80, "/a?"),
        ("http://h/a;p?q", "h", 80, "/a;p?q"),
        ("http://h/a#frag?x", "h", 80, "/a"),
        ("http://h//a//b/", "h", 80, "//a//b/"),
        ("http://h/a/../b/./c", "h", 80, "/a/../b/./c"),
        ("http://h/%41%2f%2F%zz%", "h", 80, "/%41%2f%2F%zz%"),
        ("http://h/a?X-Sig=a%2Fb+c&d={e}|[f]", "h", 80, "/a?X-Sig=a%2Fb+c&d={e}|[f]"),
        ("http://h/a@b", "h", 80, "/a@b"),
        ("http://h/\xe9\u20ac", "h", 80, "/%C3%A9%E2%82%AC"),
        ("http://b\xfccher.example/", "xn--bcher-kva.example", 80, "/"),
    ],
)
def test_a_url_is_taken_apart_and_left_alone(url, host, port, target):
    got = address(url)
    assert (got.host, got.port, got.target) == (host, port, target)


@pytest.mark.parametrize(
    "url,authority",
    [
        ("http://h/", "h"),
        ("http://h:80/", "h"),
        ("http://h:443/", "h:443"),
        ("https://h:443/", "h"),
        ("https://h:80/", "h:80"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("http://[fe80::1%25eth0]/", "[fe80::1]"),
    ],
)
def test_the_host_header(url, authority):
    assert address(url).authority == authority


@pytest.mark.parametrize(
    "url,said",
    [
        ("", "no http or https URL"),
        ("h/a", "no http or https URL"),
        ("ftp://h/a", "no http or https URL"),
        ("file:///etc/shadow", "no http or https URL"),
        ("http:/h/a", "no http or https URL"),
        ("http:h", "no http or https URL"),
        (" http://h/", "no http or https URL"),
        ("http://h/a b", "space or a control character"),
        ("http://h/a\r\nHost: evil", "space or a control character"),
        ("http://h/a\n", "space or a control character"),
        ("http://h/\x00", "space or a control character"),
        ("http://h/\x7f", "space or a control character"),
        ("http://h\t/", "space or a control character"),
        ("http:///a", "no valid host"),
        ("http://", "no valid host"),
        ("http://:80/", "no valid host"),
        ("http://user@/", "no valid host"),
        ("http://a..b/", "no valid host"),
        ("http://-%41/", "no valid host"),
        ("http://h\\@evil/", "no valid host"),
        ("http://good\\.evil/", "no valid host"),
        ("http://" + "a" * 64 + "/", "no valid host"),
        ("http://" + "a." * 130 + "b/", "no valid host"),
        ("http://[h]/", "no valid host"),
        ("http://[::1%25a/b]/", "no valid"),
        ("http://[]/", "no valid port"),
        ("http://[::1/", "no valid port"),
        ("http://[::1]x/", "no valid port"),
        ("http://::1/", "no valid port"),
        ("http://h:80x/", "no valid port"),
        ("http://h:-1/", "no valid port"),
        ("http://h:+1/", "no valid port"),
        ("http://h:80:80/", "no valid port"),
        ("http://h:\u0661/", "no valid port"),
        ("http://h:0/", "none of 1 to 65535"),
        ("http://h:65536/", "none of 1 to 65535"),
        ("http://h:000080/", "none of 1 to 65535"),
        ("http://h:99999999999999999999/", "none of 1 to 65535"),
    ],
)
def test_nonsense_gets_one_line(url, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse(url, "the option 'url'")
    text = str(caught.value)
    assert text.startswith("the option 'url' ")
    assert "\n" not in text


@pytest.mark.parametrize(
    "url",
    [
        "http://user:{}@h:x/",
        "http://user:{}@/a",
        "http://h:x/a?sig={}",
        "ftp://user:{}@h/",
        "user:{}@h/",
        "http:/user:{}@h/",
        "http://user:{}/x@h/",
        "http://user:x/{}@h/",
        "http://h/ ?{}",
        "http://{} @h/",
    ],
)
def test_nonsense_is_not_repeated_with_its_secrets(url):
    with pytest.raises(ConfigError) as caught:
        address(url.format(SECRET))
    assert SECRET not in repr(caught.value)


def test_user_and_password_are_taken_out():
    got, user = parse("http://us%40er:p%3Aw%2f@h/a", "x")
    assert (user.name, user.password) == ("us@er", "p:w/")
    assert got.url == "http://h/a"
    assert parse("http://user@h/", "x")[1].password == ""
    assert parse("http://a@b@h/", "x")[1].name == "a@b"
    assert parse("http://h/", "x")[1] is None
    _, secret = parse(f"http://u:{SECRET}@h/", "x")
    assert SECRET not in repr(secret)


def test_an_address_shows_no_query():
    got = address(f"https://h:8443/a/b?sig={SECRET}")
    assert str(got) == "https://h:8443/a/b?..."
    assert repr(got) == "<Address https://h:8443/a/b?...>"
    assert got.url == f"https://h:8443/a/b?sig={SECRET}"


def test_the_origin_is_scheme_host_and_port():
    assert address("http://H/a").origin == address("http://h:80/b").origin == ("http", "h", 80)
    assert address("https://h:80/").origin != address("http://h:80/").origin


@pytest.mark.parametrize(
    "base,key,target",
    [
        ("http://h/", "a.img", "/a.img"),
        ("http://h", "a.img", "/a.img"),
        ("http://h/d", "a/b.img", "/d/a/b.img"),
        ("http://h/d/", "a b?c#d%e", "/d/a%20b%3Fc%23d%25e"),
        ("http://h/d/?sas=1&x", "k", "/d/k?sas=1&x"),
        ("http://h/d?", "k", "/d/k?"),
        ("http://h/", "\xe9\r\nHost: evil", "/%C3%A9%0D%0AHost%3A%20evil"),
        ("http://h/", "a;b=c,d+e&f~", "/a%3Bb%3Dc%2Cd%2Be%26f~"),
    ],
)
def test_keys_go_below_the_base(base, key, target):
    assert address(base).below(key).target == target


@pytest.mark.parametrize(
    "url,key",
    [
        ("http://h/a/disk.img", "a/disk.img"),
        ("http://h/disk.img?x=1", "disk.img"),
        ("http://h/my%20disk.img", "my disk.img"),
        ("http://h/%C3%A9.img", "\xe9.img"),
        ("http://h/a/", "a"),
        ("http://h/", "h"),
        ("http://h/?a/b", "h"),
        ("http://h//", "h"),
        ("http://h/a//b.img", "b.img"),
        ("http://h/a/../b.img", "b.img"),
        ("http://h/..", "h"),
        ("http://h/%2e%2e/%2e%2e", "h"),
        ("http://h/a%0Ab", "a%0Ab"),
        ("http://h/a%00b", "a%00b"),
        ("http://h/a%2Fb", "a/b"),
        ("http://[::1]/", "::1"),
        ("http://h/" + "a" * 2000 + "/b", "b"),
        ("http://h/" + "a" * 1025, "h"),
        ("http://h/" + "a" * 1024, "a" * 1024),
    ],
)
def test_a_url_gives_a_legal_key(url, key):
    assert check_key(key_of(address(url))) == key
    assert key.isprintable()


@pytest.mark.parametrize(
    "location,url",
    [
        ("/b?c", "https://h:8443/b?c"),
        ("b", "https://h:8443/a/b"),
        ("?c", "https://h:8443/a/x?c"),
        ("//other/b", "https://other/b"),
        ("https://other/%41?", "https://other/%41?"),
        ("http://other:81/b#f", "http://other:81/b"),
        ("https://u:p@other/b", "https://other/b"),
        ("/a b", "https://h:8443/a%20b"),
        ("/\xc3\xa9", "https://h:8443/%C3%A9"),
        ("", "https://h:8443/a/x?old"),
    ],
)
def test_where_a_location_leads(location, url):
    assert redirected(address("https://h:8443/a/x?old"), location).url == url


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/shadow",
        "ftp://h/",
        "gopher://h/",
        "data:text/plain,x",
        "javascript:alert(1)",
        "http://",
        "http:///x",
        "http://h:99999/",
        "//[x",
        "http://h\r\n/",
    ],
)
def test_where_no_location_may_lead(location):
    with pytest.raises(UnsafeLocationError, match="redirects to what may not be followed"):
        redirected(address(f"https://h/a?{SECRET}"), location)
