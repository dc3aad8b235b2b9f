"""Locations as they are typed."""

from __future__ import annotations

import pytest

from imgstore.cli.location import in_store, parse, same_file, unknown_store
from imgstore.errors import ConfigError
from tests import canary


@pytest.mark.parametrize(
    "text", ["a.img", "./a:b", "/var/a.img", "dir/a:b", "../x", "~/x", "a b", "-x", "caf\udce9", "/a://b"]
)
def test_paths(text):
    found = parse(text)
    assert (found.kind, found.text, found.shown) == ("path", text, text)


def test_the_standard_streams():
    assert parse("-").kind == "standard"


@pytest.mark.parametrize(
    "text, shown",
    [
        ("http://host/disk.img", "http://host/disk.img"),
        ("HTTPS://Host:8443/a%20b.img", "https://Host:8443/a%20b.img"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("https://u:{TOKEN}@host/x?X-Amz-Signature={PRESIGNED_QUERY}#f", "https://host/x?..."),
    ],
)
def test_urls(text, shown):
    text = text.format_map(canary.SECRETS)
    found = parse(text)
    assert (found.kind, found.text, found.shown) == ("url", text, shown)


@pytest.mark.parametrize(
    "text, store, key, name",
    [
        ("fast:disk.img", "fast", "disk.img", "disk.img"),
        ("a:b:c", "a", "b:c", "b:c"),
        ("c:", "c", "", ""),
        ("a:b/c", "a", "b/c", "c"),
        ("a:b/", "a", "b/", ""),
        ("_1-x:/", "_1-x", "/", ""),
        (f"{'a' * 64}:x", "a" * 64, "x", "x"),
    ],
)
def test_places_in_stores(text, store, key, name):
    found = parse(text)
    assert (found.kind, found.store, found.key, found.shown) == ("store", store, key, text)
    assert found.name == name
    assert in_store(store, key) == found


@pytest.mark.parametrize(
    "text, name",
    [
        ("a.img", "a.img"),
        ("/var/a:b", "a:b"),
        ("dir/", ""),
        ("http://host/images/a%20b.img?x=/y", "a b.img"),
        ("https://host/", ""),
        ("-", ""),
    ],
)
def test_what_a_copy_would_be_called(text, name):
    assert parse(text).name == name


def test_an_unknown_store_names_the_known_ones():
    assert unknown_store("fast", "x", ["cold", "disks"]) == (
        "there is no store 'fast' (there are: cold, disks); a path with a colon is written ./fast:x"
    )
    assert "there are" not in unknown_store("u", f"{canary.PASSWORD}@host", ["cold"])
    assert not canary.found(unknown_store("u", f"{canary.PASSWORD}@host", ["cold"]))


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "empty; it is a path, a URL or -"),
        (":x", "no store ''; a path with a colon is written ./:x"),
        ("C:x", "no store 'C'; a path with a colon is written ./C:x"),
        ("-c:x", "written ./-c:x"),
        (f"{'a' * 65}:x", "written ./aaa"),
        ("User:{PASSWORD}@host/x", "neither a URL nor a path"),
        ("a b:x?{PRESIGNED_QUERY}", "neither a URL nor a path"),
        ("http:disk.img", "neither a URL nor a path; a URL is written https://HOST/PATH"),
        ("https:/disk.img", "neither a URL nor a path; a URL is written https://HOST/PATH"),
        ("ftp://host/x", "FTP is not supported; use an http"),
        ("file:///images/../../etc/shadow", "named by their path, without file://"),
        ("gopher://host/x", "the schemes are http:// and https://"),
        ("data://x", "the schemes are http:// and https://"),
        ("http://", "the URL names no host"),
        ("http:///path", "the URL names no host"),
        ("http://:80/", "the URL names no host"),
        ("http://host:0/", "the URL names no port"),
        ("http://host:99999/", "host or port is malformed"),
        ("http://host:x/", "host or port is malformed"),
        ("http://[::1/", "host or port is malformed"),
        ("http://host/a b", "holds no ' '; write it percent-encoded"),
        ("http://host/a\r\nHost: evil", r"holds no '\r'"),
        ("http://host/a\x00", r"holds no '\x00'"),
        ("http://host/\x1b[31m", r"holds no '\x1b'"),
        ("http://host/\u202e", r"holds no '\u202e'"),
    ],
)
def test_what_makes_no_sense_says_what_would_do(text, said):
    with pytest.raises(ConfigError) as failure:
        parse(text.format_map(canary.SECRETS))
    assert said in str(failure.value)
    assert not canary.found(str(failure.value))


@pytest.mark.parametrize(
    "text",
    [
        "http://u:{TOKEN}@host:x/",
        "http://u:{TOKEN}@host:99999/?sig={PRESIGNED_QUERY}",
        "ftp://u:{TOKEN}@host/",
        "http://host/a b?sig={PRESIGNED_QUERY}",
        "http://u:{TOKEN}@/",
    ],
)
def test_no_secret_is_repeated(text):
    with pytest.raises(ConfigError) as failure:
        parse(text.format_map(canary.SECRETS))
    assert not canary.found(str(failure.value))


def test_one_file_has_many_names(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "hard").hardlink_to(tmp_path / "a")
    (tmp_path / "b").touch()
    name = str(tmp_path / "a")
    assert same_file(name, f"{tmp_path}/./a")
    assert same_file(name, f"{tmp_path}/link")
    assert same_file(name, f"{tmp_path}/hard")
    assert not same_file(name, f"{tmp_path}/b")
    assert not same_file(name, f"{tmp_path}/missing")


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("https://h/a?X-Amz-Signature=1&X-Amz-Date=2", "https://h/a?X-Amz-Signature=3", True),
        ("https://h/a?id=1&sig=x&se=2", "https://h/a?sig=y&id=1", True),
        ("https://h/a?temp_url_sig=1&temp_url_expires=2", "https://h/a", True),
        ("https://u:p@h/a#f", "https://h/a", True),
        ("https://h/a?id=1", "https://h/a?id=2", False),
        ("https://h/a?id", "https://h/a", False),
        ("https://h/a", "http://h/a", False),
        ("https://h:1/a", "https://h:2/a", False),
        ("https://h/a", "https://h/b", False),
        ("disks:a", "cold:a", False),
        ("./x/../a.img", "a.img", True),
        ("s3://b/a", "s3://b/c", False),
    ],
)
def test_a_place_is_the_same_whoever_asks_and_when(one, other, same):
    assert (parse(one).place == parse(other).place) is same
