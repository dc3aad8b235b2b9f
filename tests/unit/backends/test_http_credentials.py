"""Credentials and extra headers: checked, kept out of sight, sent home only."""

from __future__ import annotations

from base64 import b64decode

import pytest

from imgstore.backends._http.address import parse
from imgstore.backends.http.credentials import basic, credentials, read_headers
from imgstore.errors import ConfigError
from tests import canary

HERE = parse("https://h/a", "the URL")[0]
OTHER = parse("https://other/a", "the URL")[0]

NOTHING = {
    "username": None,
    "password": None,
    "token": None,
    "token_file": None,
    "netrc": None,
    "headers": None,
}


def made(**options):
    return credentials(**{**NOTHING, **options})


def told(fields):
    kind, _, value = fields["Authorization"].partition(" ")
    return kind, b64decode(value).decode() if kind == "Basic" else value


def test_nothing_is_sent_by_default():
    assert made().fields(HERE, home=True) == {}


def test_basic():
    assert told({"Authorization": basic("us\xe9r", "p:w")}) == ("Basic", "us\xe9r:p:w")
    asked = made(username="u", password=canary.PASSWORD)
    assert told(asked.fields(HERE, home=True)) == ("Basic", f"u:{canary.PASSWORD}")
    assert told(made(username="u").fields(HERE, home=True)) == ("Basic", "u:")
    assert asked.fields(OTHER, home=False) == {}
    assert not canary.found(repr(asked))


def test_bearer():
    asked = made(token=f" {canary.TOKEN}\n")
    assert told(asked.fields(HERE, home=True)) == ("Bearer", canary.TOKEN)
    assert asked.fields(HERE, home=False) == {}
    assert not canary.found(repr(asked))


def test_a_token_file_is_read_each_time(tmp_path):
    path = tmp_path / "token"
    path.write_text("one\n")
    asked = made(token_file=str(path))
    assert told(asked.fields(HERE, home=True)) == ("Bearer", "one")
    path.write_text("two")
    assert told(asked.fields(HERE, home=True)) == ("Bearer", "two")
    path.unlink()
    assert asked.fields(HERE, home=False) == {}
    with pytest.raises(ConfigError, match=r"token_file .* cannot be read: No such file"):
        asked.fields(HERE, home=True)


def test_a_token_file_in_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").write_text("one")
    assert told(made(token_file="~/token").fields(HERE, home=True)) == ("Bearer", "one")


@pytest.mark.parametrize("text", ["", "  ", "two words", "t\r\nHost: evil", "\xe9", "a\x00b"])
def test_what_is_no_token(text, tmp_path):
    with pytest.raises(ConfigError, match="'token' gives no token"):
        made(token=text)
    (tmp_path / "token").write_text(text)
    with pytest.raises(ConfigError, match=r"'token_file' gives no token|token_file .* is empty or"):
        made(token_file=str(tmp_path / "token")).fields(HERE, home=True)


@pytest.mark.parametrize(
    "options",
    [
        {"username": "u", "token": "t"},
        {"username": "u", "token_file": "f"},
        {"token": "t", "token_file": "f"},
    ],
)
def test_one_kind_of_credential(options):
    with pytest.raises(ConfigError, match="exclude each other"):
        made(**options)


def test_credentials_that_cannot_be_sent():
    with pytest.raises(ConfigError, match="'password' needs 'username'"):
        made(password="p")
    with pytest.raises(ConfigError, match="colon"):
        made(username="a:b")


@pytest.mark.parametrize(
    "name,told_before,told_after",
    [
        ("password", ("Basic", "u:one"), ("Basic", "u:two")),
        ("token", ("Bearer", "one"), ("Bearer", "two")),
    ],
)
def test_a_secret_that_is_asked_for_counts_at_once(name, told_before, told_after):
    answers = ["one", "two"]
    user = {"username": "u"} if name == "password" else {}
    asked = made(**user, **{name: lambda: answers.pop(0)})
    assert told(asked.fields(HERE, home=True)) == told_before
    assert told(asked.fields(HERE, home=True)) == told_after
    assert asked.fields(OTHER, home=False) == {}
    assert answers == []


def test_headers_that_are_asked_for_are_lines():
    answers = [f"X-Key: {canary.HEADER}\n\nX-Other: b\n", "Range: x", "no header"]
    asked = made(headers=lambda: answers.pop(0))
    assert asked.fields(OTHER, home=False) == {}
    assert asked.fields(HERE, home=True) == {"X-Key": canary.HEADER, "X-Other": "b"}
    with pytest.raises(ConfigError, match="belongs to the driver"):
        asked.fields(HERE, home=True)
    with pytest.raises(ConfigError, match="no header; 'Name: value' would do"):
        asked.fields(HERE, home=True)


# Headers


def test_extra_headers_go_home_only():
    asked = made(headers={"x-api-key": canary.HEADER}, token="t")
    assert asked.fields(HERE, home=True) == {"X-Api-Key": canary.HEADER, "Authorization": "Bearer t"}
    assert asked.fields(HERE, home=False) == {}
    assert not canary.found(repr(asked))


@pytest.mark.parametrize(
    "headers,read",
    [
        ({}, {}),
        ([], {}),
        ("A: b", {"A": "b"}),
        (["A: b:c ", "d-e:\tf"], {"A": "b:c", "D-E": "f"}),
        ({"A": ""}, {"A": ""}),
        (["A: \xe9"], {"A": "\xe9"}),
        (["a: 1", "A: 2"], {"A": "2"}),
    ],
)
def test_header_lines(headers, read):
    assert read_headers(headers) == read


@pytest.mark.parametrize(
    "headers",
    [
        ["no colon\r"],
        [": b"],
        ["a b: c"],
        {"A": "b\r\nHost: evil"},
        {"A\r\n": "b"},
        {"A": "\x00"},
        {"A": "\u20ac"},
        {"": "x"},
    ],
)
def test_what_is_no_header(headers):
    with pytest.raises(ConfigError, match="no header; 'Name: value' would do"):
        read_headers(headers)


@pytest.mark.parametrize(
    "name", ["Range", "hOST", "If-Match", "accept-encoding", "Content-Length", "Connection"]
)
def test_headers_that_the_driver_owns(name):
    with pytest.raises(ConfigError, match=f"sets {name}, which belongs to the driver"):
        read_headers({name: "x"})


# netrc


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".netrc"
    path.write_text(
        f"machine h login u password {canary.PASSWORD}\nmachine other login o password p\n"
        "default login d password q\n"
    )
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("option", [True, "true", "Yes", "on", "1"])
def test_the_users_netrc(home, option):
    assert told(made(netrc=option).fields(HERE, home=True)) == ("Basic", f"u:{canary.PASSWORD}")


@pytest.mark.parametrize("option", [None, False, "", "false", "No", "off", "0"])
def test_no_netrc(home, option):
    assert made(netrc=option).fields(HERE, home=True) == {}


def test_abroad_an_entry_must_name_its_host(home):
    asked = made(netrc=str(home))
    assert told(asked.fields(OTHER, home=False)) == ("Basic", "o:p")
    third = parse("https://third/", "the URL")[0]
    assert asked.fields(third, home=False) == {}
    assert told(asked.fields(third, home=True)) == ("Basic", "d:q")


def test_other_credentials_go_before_netrc(home):
    assert told(made(netrc=True, token="t").fields(HERE, home=True)) == ("Bearer", "t")


def test_a_netrc_that_cannot_be_used(tmp_path):
    missing = str(tmp_path / "missing")
    with pytest.raises(ConfigError, match="does not exist"):
        made(netrc=missing).fields(HERE, home=True)
    with pytest.raises(ConfigError, match="cannot be read"):
        made(netrc=str(tmp_path)).fields(HERE, home=True)
    broken = tmp_path / "broken"
    broken.write_text(f"machine h login u passwrd {canary.PASSWORD}\n")
    with pytest.raises(ConfigError, match="malformed") as caught:
        made(netrc=str(broken)).fields(HERE, home=True)
    assert not canary.found(repr(caught.value) + repr(caught.value.__cause__))
