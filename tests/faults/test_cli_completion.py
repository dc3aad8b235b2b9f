"""What shells offer for stores and images: bounded, quick, and silent whatever goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imgstore.cli import main
from imgstore.testing.server import HeaderDelay, ScriptedServer
from tests import canary
from tests.faults.cli import configure, run, run_here, without_configuration
from tests.thinning import thinned

CODE = "import sys; sys.argv[0] = 'imgstore'; from imgstore.cli import main; sys.exit(main())"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    without_configuration(monkeypatch, tmp_path / "home")
    (tmp_path / "disks/debian").mkdir(parents=True)
    for key in ("debian/11.raw", "debian/12.raw", "a b.img", "odd\nname", "x.img"):
        (tmp_path / "disks" / key).write_bytes(b"")
    (tmp_path / "work/dir").mkdir(parents=True)
    (tmp_path / "work/disk.img").write_bytes(b"")
    monkeypatch.chdir(tmp_path / "work")
    configure(
        monkeypatch,
        tmp_path / "imgstore.conf",
        f"""\
        [imgstore]
        enabled_stores = disks:filesystem, cold:filesystem
        [store_disks]
        data_dir = {tmp_path}/disks
        [store_cold]
        data_dir = {tmp_path}/missing
        """,
    )
    return tmp_path


@pytest.fixture
def offered(folder, monkeypatch, capfdbinary):
    """Asks what the shell is told that the last word may become."""

    def ask(shell, *words):
        with monkeypatch.context() as patch:
            patch.setenv("_IMGSTORE_COMPLETE", f"{shell}_complete")
            patch.setenv("COMP_WORDS", " ".join(words))
            patch.setenv("COMP_CWORD", str(len(words) - 1) if shell != "fish" else words[-1])
            patch.setattr(sys, "argv", ["imgstore"])
            capfdbinary.readouterr()
            status, taken = main(), capfdbinary.readouterr()
        assert (status, taken.err) == (0, b"")
        return list(filter(None, taken.out.decode().split("\n")))

    return ask


@pytest.mark.parametrize(
    "words, values",
    thinned(
        [
            # Bash ends a word at a colon
            (["ls", "d"], ["disks:"]),
            (["ls", ""], ["disks:", "cold:"]),
            (["ls", "disks", ":"], ["a b.img", "debian/11.raw", "debian/12.raw", "x.img"]),
            (["ls", "disks", ":", "deb"], ["debian/11.raw", "debian/12.raw"]),
            (["cat", "--offset", "1", "disks", ":", "debian/12"], ["debian/12.raw"]),
            (["cp", "disks", ":", "x.img", "cold", ":"], []),
            (["rm", "disks", ":", "x.img", "disks", ":", "a"], ["a b.img"]),
            (["check", "co"], ["cold"]),
            (["check", "disks", ":", "x"], ["x.img"]),
            (["cat", "di"], ["disks:", "dir/", "disk.img"]),
            (["ls", "nowhere", ":"], []),
            (["rm", "wor"], []),
            (["reap", "di"], ["disks", "dir/"]),
        ],
        3,
    ),
)
def test_bash(folder, offered, words, values):
    assert offered("bash", "imgstore", *words) == [f"plain,{value}" for value in values]


def test_bash_leaves_paths_to_itself(folder, offered):
    assert offered("bash", "imgstore", "cat", "wor") == ["file,wor"]
    assert offered("bash", "imgstore", "cat", "./x") == ["file,./x"]
    assert offered("bash", "imgstore", "cp", "x", "./a", ":") == ["file,"]


def test_zsh_and_fish_have_whole_words(folder, offered):
    assert offered("zsh", "imgstore", "ls", "disks:deb")[1::3] == [
        "disks:debian/11.raw",
        "disks:debian/12.raw",
    ]
    assert [line.split(",")[1] for line in offered("fish", "imgstore ls", "disks:x")] == ["disks:x.img"]


def test_an_option_before_says_which_configuration(folder, offered, monkeypatch):
    monkeypatch.delenv("IMGSTORE_CONFIG")
    assert offered("bash", "imgstore", "ls", "di") == []
    file = str(folder / "imgstore.conf")
    for words in (["--config-file", file, "ls", "di"], ["ls", "--config-file", file, "di"]):
        assert offered("bash", "imgstore", *words) == ["plain,disks:"]


def test_no_more_than_one_can_read(folder, offered):
    for number in range(300):
        (folder / f"disks/many-{number}").write_bytes(b"")
    assert len(offered("bash", "imgstore", "ls", "disks", ":", "many")) == 100


@pytest.mark.parametrize(
    "text",
    [
        "[imgstore",
        "[imgstore]\nenabled_stores = x:nfs\n",
        "[imgstore]\nenabled_stores = web:http\n[store_web]\nurl = {TOKEN}\n",
    ],
)
def test_a_broken_configuration_is_silent(folder, offered, monkeypatch, text):
    configure(monkeypatch, folder / "broken.conf", text.format_map(canary.SECRETS))
    assert offered("bash", "imgstore", "ls", "d") == []
    assert offered("bash", "imgstore", "ls", "disks", ":") == []
    assert offered("bash", "imgstore", "cat", "d") == ["file,d"]


def test_warnings_are_silent_too(folder, offered):
    with open(folder / "imgstore.conf", "a") as file:
        file.write("[store_switched_off]\ndata_dir = /x\n")
    assert "counts for nothing" in run("ls", "disks:").err
    assert offered("bash", "imgstore", "ls", "d") == ["plain,disks:"]


def test_a_store_that_does_not_list_is_asked_nothing(folder, offered, monkeypatch):
    with ScriptedServer() as server:
        server.script("/", then=HeaderDelay(60))
        configure(
            monkeypatch,
            folder / "web.conf",
            f"[imgstore]\nenabled_stores = web:http\n[store_web]\nurl = {server.url('/')}\n",
        )
        began = time.monotonic()
        assert offered("bash", "imgstore", "cat", "web", ":", "d") == []
        assert time.monotonic() - began < 10
        assert server.log.connections == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    "line, replies",
    [
        ("imgstore l", "ls"),
        ("imgstore ls disks : deb", "debian/11.raw debian/12.raw"),
        ("imgstore ls disks : a", r"a\ b.img"),
        ("imgstore cat co", "cold:"),
    ],
)
def test_the_script_in_a_real_bash(folder, line, replies):
    words = line.split()
    script = (
        'eval "$(imgstore completion bash)"; '
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        '_imgstore_completion imgstore 2>/dev/null; echo "${COMPREPLY[*]}"; complete -p imgstore'
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [replies, "complete -o nosort -F _imgstore_completion imgstore"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_one_that_click_would_give(folder, capfdbinary, shell):
    ran = run_here(capfdbinary, "completion", shell)
    assert (ran.status, ran.err) == (0, "")
    assert f"_IMGSTORE_COMPLETE={shell}_complete" in ran.out.decode()
    env = {**os.environ, "_IMGSTORE_COMPLETE": f"{shell}_source"}
    other = subprocess.run([sys.executable, "-c", CODE], env=env, capture_output=True, check=False)
    assert other.stdout.strip() == ran.out.strip()


def test_another_shell_is_refused(folder, capfdbinary):
    ran = run_here(capfdbinary, "completion", "csh")
    assert ran.status == 2
    assert "'csh' is not one of 'bash', 'zsh', 'fish'" in ran.line
