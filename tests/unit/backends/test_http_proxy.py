"""Which proxy a request takes."""

from __future__ import annotations

import pytest

from imgstore.backends._http.address import parse
from imgstore.backends._http.proxy import Proxies
from imgstore.errors import ConfigError
from tests import canary


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def chosen(url, proxy=None, *, trust_env=True):
    got = Proxies(proxy, trust_env=trust_env).choose(parse(url, "the URL")[0])
    return None if got is None else got.address.url


def test_none_by_default():
    assert chosen("http://h/") is None


def test_the_option_counts_for_both_schemes():
    for url in ("http://h/", "https://h/"):
        assert chosen(url, "http://p:3128") == "http://p:3128/"
        assert chosen(url, "https://p", trust_env=False) == "https://p/"


@pytest.mark.parametrize("trust_env", [True, False])
def test_an_option_that_is_asked_for_counts_at_once(trust_env):
    answers = ["http://one", "http://two\n", "nonsense://"]
    proxies = Proxies(lambda: answers.pop(0), trust_env=trust_env)
    address = parse("http://h/", "the URL")[0]
    assert proxies.choose(address).address.url == "http://one/"
    assert proxies.choose(address).address.url == "http://two/"
    with pytest.raises(ConfigError, match="the option 'proxy'"):
        proxies.choose(address)


def test_the_environment(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://plain:1")
    monkeypatch.setenv("HTTPS_PROXY", "tls:2")
    assert chosen("http://h/") == "http://plain:1/"
    assert chosen("https://h/") == "http://tls:2/"
    assert chosen("https://h/", "http://option") == "http://option/"
    assert chosen("https://h/", trust_env=False) is None


def test_all_proxy_comes_last(monkeypatch):
    monkeypatch.setenv("all_proxy", "http://all")
    monkeypatch.setenv("http_proxy", "http://plain")
    assert chosen("http://h/") == "http://plain/"
    assert chosen("https://h/") == "http://all/"


@pytest.mark.parametrize(
    "no_proxy,url,direct",
    [
        ("h", "http://h/", True),
        ("h:80", "http://h/", True),
        ("h:81", "http://h/", False),
        (".example.org", "http://a.example.org/", True),
        ("example.org", "http://a.example.org/", True),
        ("example.org", "http://badexample.org/", False),
        ("*", "http://h/", True),
        ("127.0.0.1", "http://127.0.0.1:8080/", True),
        ("::1", "http://[::1]:8080/", True),
        ("other", "http://h/", False),
    ],
)
def test_no_proxy_holds_for_both_sources(monkeypatch, no_proxy, url, direct):
    monkeypatch.setenv("no_proxy", no_proxy)
    assert chosen(url, "http://option") == (None if direct else "http://option/")
    assert chosen(url, "http://option", trust_env=False) == "http://option/"


def test_a_proxy_that_makes_no_sense(monkeypatch):
    with pytest.raises(ConfigError, match="the option 'proxy' is no http or https URL"):
        Proxies("socks5://p", trust_env=False)
    monkeypatch.setenv("https_proxy", "socks5h://p")
    with pytest.raises(ConfigError, match="the environment's https_proxy is no http or https URL"):
        chosen("https://h/")


def test_credentials_of_a_proxy_are_sent_and_not_shown():
    proxy = Proxies(f"http://u:{canary.TOKEN}@p:3128", trust_env=False).choose(parse("http://h/", "x")[0])
    assert proxy.headers["Proxy-Authorization"].startswith("Basic ")
    assert repr(proxy) == "<Proxy http://p:3128/>"
