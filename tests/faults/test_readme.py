"""The tour of the README, run as it stands: every command, and the Python."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from imgstore.cli import main
from imgstore.testing import run_suite

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PLACE = "http://127.0.0.1:8000/"
EXPORT = re.compile(r"export (\w+)=(\S+)")
STATUS = re.compile(r"#\s*exit status (\d+)\s*$")


def blocks(kind: str) -> list[str]:
    return [text for each, text in BLOCK.findall(README.read_text()) if each == kind]


def commands() -> list[str]:
    return [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def place(tmp_path):
    """A folder with the image of the tour, served the way the README says."""
    folder = tmp_path / "tour"
    folder.mkdir()
    (folder / "disk.img").write_bytes(os.urandom(20_000_000))
    (configuration,) = blocks("ini")
    (folder / "imgstore.conf").write_text(configuration)
    serve = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(serve, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        try:
            port = int(re.search(rb"port (\d+)", server.stdout.readline())[1])
            yield folder, f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()


def by_a_shell(command: str) -> int:
    return subprocess.run(["bash", "-o", "pipefail", "-c", command], timeout=60, check=False).returncode


def in_this_process(command: str) -> int:
    """Spares the start of thirty interpreters; a pipeline is a shell's all the same."""
    name, *words = shlex.split(command, comments=True)
    return by_a_shell(command) if name != "imgstore" or "|" in words else main(words)


@pytest.mark.parametrize("run", [in_this_process, pytest.param(by_a_shell, marks=pytest.mark.wide)])
def test_the_commands_of_the_tour(place, run, monkeypatch):
    """One after the other; what one exports the later ones see."""
    folder, url = place
    (folder / "imgstore.conf").write_text((folder / "imgstore.conf").read_text().replace(PLACE, url))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    monkeypatch.setenv("HOME", str(folder / "home"))
    assert len(commands()) >= 18
    for command in commands():
        if exported := EXPORT.fullmatch(command):
            monkeypatch.setenv(exported[1], exported[2])
            continue
        expected = int(told[1]) if (told := STATUS.search(command)) else 0
        assert run(command.replace(PLACE, url)) == expected, command


@pytest.mark.parametrize("number", [0, 1])
def test_the_python_of_the_tour(place, number, monkeypatch):
    folder, url = place
    monkeypatch.chdir(folder)
    (configuration,) = blocks("ini")
    (folder / "imgstore.conf").write_text(configuration.replace(PLACE, url))
    code = [block for block in blocks("python") if "ReadSuite" not in block][number]
    try:
        exec(compile(code.replace(PLACE, url), str(README), "exec"), {})
    finally:
        (folder / "images" / "disk.img").unlink(missing_ok=True)


def test_the_suite_of_the_tour():
    code = next(block for block in blocks("python") if "ReadSuite" in block)
    names: dict = {"__name__": "tour"}
    exec(compile(code, str(README), "exec"), names)
    report = run_suite(names["TestMyDriver"])
    assert not report.red, str(report)
    assert len(report.outcomes) >= 30
