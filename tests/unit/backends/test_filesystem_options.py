"""The options of the filesystem driver, its reserved names, and the search for zeros."""

from __future__ import annotations

import inspect
import io

import pytest

from imgstore.backends.filesystem import FilesystemStore, names, options
from imgstore.errors import ConfigError, UnsafeLocationError
from imgstore.testing.faults import SimClock


def test_options_are_the_arguments():
    wanted = {
        name: each.default
        for name, each in inspect.signature(FilesystemStore).parameters.items()
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert {each.dest: each.default for each in FilesystemStore.OPTIONS} == wanted
    assert all(len(each.help) > 80 for each in FilesystemStore.OPTIONS)


@pytest.mark.parametrize(
    "given_, path, priority",
    [
        ("/a", "/a", 0),
        ("/a:7", "/a", 7),
        ("/a:-7", "/a", -7),
        ("/a:b:0", "/a:b", 0),
        ("/a,b", "/a,b", 0),
        ("/a:b:3", "/a:b", 3),
        ("rel:1", "/here/rel", 1),
        ("../a/../b", "/here/../a/../b", 0),  # a link is not passed by
        ("~/a:1", "/home/me/a", 1),
        ("./~", "/here/./~", 0),
        ("/a/~", "/a/~", 0),
    ],
)
def test_a_directory_and_its_priority(monkeypatch, given_, path, priority):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr("os.getcwd", lambda: "/here")
    (found,) = options.directories(None, [given_], create=True)
    assert (found.path, found.priority, found.create) == (path, priority, True)
    if ":" not in given_:
        (found,) = options.directories(given_, None, create=False)
        assert (found.path, found.priority, found.create) == (path, 0, False)


def test_a_process_that_goes_elsewhere_keeps_its_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = FilesystemStore(data_dir="images", create_data_dir=True)
    store.clock = SimClock()
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    store.writer.put("a", io.BytesIO(b"disk"))
    assert (tmp_path / "images/a").read_bytes() == b"disk"


def test_a_process_that_is_nowhere(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match=r"^data_dir: 'images' is relative, and where this"):
        FilesystemStore(data_dir="images")
    FilesystemStore(data_dir="/images")


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({}, "either data_dir or data_dirs is needed"),
        ({"data_dir": ""}, "either data_dir or data_dirs is needed"),
        ({"data_dirs": []}, "either data_dir or data_dirs is needed"),
        ({"data_dir": "/a", "data_dirs": ["/b"]}, "data_dir and data_dirs exclude each other"),
        ({"data_dir": "~no-such-user/a"}, "data_dir: '~no-such-user/a' begins with a home directory that"),
        ({"data_dirs": ["~no-such-user/a:5"]}, "data_dirs: '~no-such-user/a' begins with a home"),
        ({"data_dirs": [":5"]}, "':5' has no path"),
        ({"data_dirs": ["/a:1, /b:2"]}, "'/a:1, /b:2' is one folder; the option is given once for each"),
        (
            {"data_dirs": ["/a:high"]},
            "'/a:high' does not end in a whole number, its priority",
        ),
        ({"data_dirs": ["/a:"]}, "'/a::0' would do"),
        ({"data_dirs": ["/a", ""]}, "'' has no path"),
        ({"data_dirs": ["/a:5", "/b", "/a/"]}, "names /a more than once"),
        ({"data_dir": "/a", "file_mode": "rw"}, "file_mode is 'rw'; it is octal"),
        ({"data_dir": "/a", "file_mode": "0999"}, "file_mode is '0999'"),
        ({"data_dir": "/a", "file_mode": "1777"}, "at most 777"),
        ({"data_dir": "/a", "file_mode": "-1"}, "file_mode is '-1'"),
        ({"data_dir": "/a", "file_mode": "0240"}, "lets the owner read"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, said):
    with pytest.raises(ConfigError) as failure:
        FilesystemStore(**arguments)
    assert said in str(failure.value)


@pytest.mark.parametrize("given_, bits", [(None, None), ("0640", 0o640), ("600", 0o600), ("0o400", 0o400)])
def test_the_mode_is_octal(given_, bits):
    assert options.mode(given_) == bits


def test_building_does_no_input_or_output(monkeypatch):
    for name in ("open", "stat", "lstat", "mkdir", "makedirs", "statvfs", "scandir"):
        monkeypatch.setattr(f"os.{name}", None)
    FilesystemStore(data_dirs=["/nowhere/a:1", "/nowhere/b"], create_data_dir=True, file_mode="0600")


@pytest.mark.parametrize(
    "key",
    [
        ".imgstore",
        ".imgstore/lock",
        ".imgstore/uploads/x",
        ".disk.0123456789abcdef.part",
        "a/.disk.0123456789abcdef.part",
        ".disk.0123456789abcdef.part/b",
        "x" * 256,
        "a/" + "\N{EURO SIGN}" * 86,
    ],
)
def test_reserved_and_overlong_names_are_no_keys(key):
    with pytest.raises(UnsafeLocationError) as failure:
        names.split(key)
    assert failure.value.key == key


@pytest.mark.parametrize(
    "key",
    ["a/.imgstore", ".imgstores", ".disk.0123456789abcde.part", "disk.0123456789abcdef.part", "x" * 255],
)
def test_what_only_looks_like_one_is_a_key(key):
    folders, name = names.split(key)
    assert "/".join([*folders, name]) == key
