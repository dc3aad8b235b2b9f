"""Options and constructor: one list of names, and one line for each mistake."""

from __future__ import annotations

import inspect
import subprocess
import sys
from urllib.parse import quote

import pytest

from imgstore.backends.http import HttpStore
from imgstore.backends.http.options import OPTIONS
from imgstore.errors import ConfigError, NotFoundError
from tests import canary

PARAMETERS = inspect.signature(HttpStore.__init__).parameters


def test_options_are_the_keyword_only_arguments():
    ours = {name: each for name, each in PARAMETERS.items() if name != "self"}
    assert {each.kind for each in ours.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert [each.dest for each in OPTIONS] == list(ours)
    for option in OPTIONS:
        default = ours[option.dest].default
        assert option.default == (list(default) if isinstance(default, tuple) else default), option.dest
        assert len(option.help) > 40, option.dest


def test_what_is_secret_is_marked():
    secret = {each.dest for each in OPTIONS if each.secret}
    assert secret == {"url", "password", "token", "headers", "proxy"}


def test_the_interface_needs_no_oslo():
    code = "import sys, imgstore; sys.exit('oslo_config' in sys.modules or 'urllib3' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "options,said",
    [
        ({}, "one of the options 'url', 'url_file' and 'url_command' is needed, and no two"),
        ({"url": "http://h", "url_command": "x"}, "and no two"),
        ({"url": "h"}, "the option 'url' is no http or https URL"),
        ({"url": "http://u:p@h/", "username": "x"}, "a user stands in 'url'"),
        ({"url": "http://u:p@h/", "token": "x"}, "exclude each other"),
        ({"url": "http://h/", "client_key": "x"}, "'client_key' needs 'client_cert'"),
        ({"url": "http://h/", "open_timeout": 0}, "'open_timeout' is 0"),
        ({"url": "http://h/", "connect_timeout": -1}, "'connect_timeout' is -1"),
        ({"url": "http://h/", "receive_timeout": float("nan")}, "'receive_timeout' is nan"),
        ({"url": "http://h/", "max_redirects": -1}, "'max_redirects' is -1"),
        ({"url": "http://h/", "proxy": "socks5://p"}, "the option 'proxy'"),
        ({"url_command": ""}, "'url_command' is empty"),
        ({"url_command": []}, "'url_command' is empty"),
        ({"url_command": "a 'b"}, "'url_command' is no command line"),
        ({"url": "http://h/", "headers": ["Range: x"]}, "belongs to the driver"),
    ],
)
def test_mistakes_get_one_line(options, said):
    with pytest.raises(ConfigError, match=said) as caught:
        HttpStore(**options)
    assert "\n" not in str(caught.value)


def test_building_does_no_io(tmp_path):
    missing = str(tmp_path / "missing")
    HttpStore(
        url="https://nowhere.invalid/",
        token_file=missing,
        netrc=missing,
        ca_file=missing,
        client_cert=missing,
    ).close()
    assert list(tmp_path.iterdir()) == []


def test_at_holds_one_image():
    store, key = HttpStore.at(
        f"http://u:{quote(canary.PASSWORD, safe='')}@h/a/disk.img?sig={canary.PRESIGNED_QUERY}"
    )
    assert key == "a/disk.img"
    assert not canary.found(f"{store!r} {vars(store)!r} {key}")
    with pytest.raises(NotFoundError, match="holds one image"):
        store.get("other.img")


def test_at_names_the_url():
    with pytest.raises(ConfigError, match=r"^the URL is no http or https URL; https://host/path would do$"):
        HttpStore.at("nonsense")


def test_a_closed_store():
    store = HttpStore(url="http://h/")
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.get("k")
