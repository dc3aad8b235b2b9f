"""Stores of the configuration as a command opens them; nothing is connected to."""

from __future__ import annotations

import pytest

# urllib3 binds a socket when it is imported, which no unit test may do: here, none has begun.
import imgstore.backends.http  # noqa: F401
from imgstore.cli.configured import driver_of, every, needed
from imgstore.cli.location import parse
from imgstore.cli.output import Terminal
from imgstore.errors import ConfigError
from imgstore.layers.limit import LimitLayer
from imgstore.layers.resume import ResumeLayer
from tests import canary


@pytest.fixture
def terminal(tmp_path):
    terminal = Terminal()
    terminal.config_file = str(tmp_path / "imgstore.conf")
    return terminal


def write(tmp_path, *stores, defaults=""):
    lines = ["[imgstore]", f"enabled_stores = {', '.join(f'{name}:{kind}' for name, kind, _ in stores)}"]
    lines += ["[store_defaults]", defaults]
    for name, _, options in stores:
        lines += [f"[store_{name}]", options.format_map(canary.SECRETS)]
    (tmp_path / "imgstore.conf").write_text("\n".join(lines))


def test_nothing_is_read_for_those_who_name_no_store(terminal):
    with needed([parse("a.img"), parse("-"), parse("http://h/x")], terminal) as stores:
        assert not stores
    assert terminal.conf is None


def test_a_store_that_is_not_there(terminal, tmp_path):
    write(tmp_path, ("a", "memory", ""), ("b", "memory", ""))
    with (
        pytest.raises(ConfigError, match=r"no store 'c' \(there are: a, b\)"),
        needed([parse("c:x")], terminal),
    ):
        pass


def test_the_stores_are_closed_at_the_end(terminal, tmp_path):
    write(tmp_path, ("a", "memory", ""))
    with needed([parse("a:x")], terminal) as stores:
        assert terminal.stores == {"a"}
    with pytest.raises(ValueError, match="closed"):
        stores["a"].stat("x")


def layers(store):
    found = {}
    while store is not driver_of(store):
        found[type(store)] = store
        store = store.inner
    return found


def test_settings_of_a_run_go_first_and_to_the_named_store_only(terminal, tmp_path):
    options = "stall_timeout = 3\nresume_attempts = 5"
    write(tmp_path, ("a", "memory", options), ("b", "memory", options), defaults="rate_limit = 1000")
    settings = {"stall_timeout": 7.0, "rate_limit": 99}
    with needed([parse("a:x")], terminal, settings) as stores:
        own, other = layers(stores["a"]), layers(stores["b"])
        assert own[ResumeLayer]._window == 7
        assert other[ResumeLayer]._window == 3
        assert own[LimitLayer] is not None
    with needed([parse("a:x")], terminal, {"resume_attempts": 0}) as stores:
        assert ResumeLayer not in layers(stores["a"])
        assert ResumeLayer in layers(stores["b"])


@pytest.mark.parametrize(
    "options, name",
    [
        ("username = me\npassword = {PASSWORD}", "PASSWORD"),
        ("token = {TOKEN}", "TOKEN"),
        ("headers = X-Other: 1\nheaders = X-Key: {HEADER}", "HEADER"),
    ],
)
def test_secrets_of_the_configuration_are_never_shown(terminal, tmp_path, options, name):
    write(tmp_path, ("web", "http", f"url = http://h/\n{options}"))
    with every(terminal):
        assert terminal.scrubbed(f"sent {canary.SECRETS[name]}!") == "sent ...!"


def test_nor_are_those_in_files_and_in_the_defaults(terminal, tmp_path):
    (tmp_path / "password").write_text(f"{canary.PASSWORD}\n")
    write(
        tmp_path,
        ("web", "http", f"url = http://h/\nusername = me\npassword_file = {tmp_path}/password"),
        defaults=f"proxy = http://me:{canary.TOKEN}@proxy/",
    )
    with every(terminal):
        assert terminal.scrubbed(f"sent {canary.PASSWORD}!") == "sent ...!"
        assert canary.TOKEN not in terminal.scrubbed(f"by http://me:{canary.TOKEN}@proxy/")
