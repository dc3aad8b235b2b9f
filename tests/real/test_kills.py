"""E1: SIGKILL at every system call by which a store or a path changes, from outside, by strace.

`tests/faults/test_crash_kills.py` needs no strace and sees what Python code calls; this sees what the kernel
is asked, memory and time included. How many system calls `strace -c` counts stands in the summary beside how
many of them a process was killed at: what comes only now and then (memory for Python) may be missed, but no
call that is about files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.killing import Killer
from tests.faults.strace import CHANGES, FILES, Strace, counted, kill_at
from tests.faults.ways import NEW, OLD, WAYS, tree
from tests.real.conftest import need


@pytest.fixture(scope="module")
def killer():
    need("strace", package="strace")
    with Killer() as killer:
        yield killer


@pytest.fixture(scope="module")
def told(request):
    """Takes the lines of a table, which is shown when all have run."""
    lines = ["| change | system calls | killed at | of files | killed at |", "|---|---:|---:|---:|---:|"]
    yield lines
    plugins = request.config.pluginmanager
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        print("", *lines, sep="\n")


def line(name, calls, killed):
    """Gives the line of the table for a change, and holds that no call about files was missed."""
    files = Counter({call: count for call, count in calls.items() if call in FILES})
    missed = files - killed
    assert not missed, f"not killed at {dict(missed)}"
    of_files = sum(files.values()), sum(count for call, count in killed.items() if call in FILES)
    return f"| {name} | {sum(calls.values())} | {sum(killed.values())} | {of_files[0]} | {of_files[1]} |"


@pytest.mark.timeout(600)  # a process for each of several hundred system calls
@pytest.mark.parametrize("name", WAYS)
def test_killed_at_every_system_call(killer, told, tmp_path, name):
    way, root, killed = WAYS[name], tmp_path / "root", Counter()

    def follow(option):
        shutil.rmtree(root, ignore_errors=True)
        way.lay(root)
        strace = Strace(tmp_path / "log", option)
        try:
            end = killer.under(name, root, strace.attach)
        finally:
            said = strace.wait()
        assert not end.refused
        way.judge(root, returned=end.returned)
        return end, said

    end, said = follow("-c")
    assert end.returned
    assert not end.killed
    way.sweep(way, root)
    clean, calls = tree(root), counted(said)
    calls.pop("rt_sigtimedwait", None)  # the wait for the word to begin, if it was entered anew
    for call, count in calls.items():
        for number in range(1, count + 1):
            end, _ = follow(kill_at(call, number))
            way.rerun(root)
            way.sweep(way, root)
            assert tree(root) == clean, f"killed at {call} number {number}"
            killed[call] += end.killed
    told.append(line(name, calls, killed))


@pytest.mark.parametrize("force", [False, True], ids=["cp", "cp --force"])
def test_the_command_killed_from_its_start(told, tmp_path, force):
    """The whole process, at each system call that changes a file."""
    need("strace", package="strace")
    source, folder, log, killed = tmp_path / "source.img", tmp_path / "a", tmp_path / "log", Counter()
    source.write_bytes(NEW)
    command = [sys.executable, "-m", "imgstore.cli", "cp", "--no-progress", source, folder / "disk.img"]
    command += ["--force"] * force
    quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # what is written is the image, each time

    def run(*options):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if force:
            (folder / "disk.img").write_bytes(OLD)
        strace = ["strace", "-f", "-o", log, *options, *command]
        return subprocess.run(strace, check=False, cwd=Path(__file__).parents[2], env=quiet).returncode

    assert run("-c", f"--trace={','.join(CHANGES)}") == 0
    calls = counted(log.read_text())
    for call, count in calls.items():
        for number in range(1, count + 1):
            status = run(kill_at(call, number))
            killed[call] += status != 0
            left = (folder / "disk.img").read_bytes() if (folder / "disk.img").exists() else None
            assert left == NEW or (status and left == (OLD if force else None))
            if left != NEW:
                assert subprocess.run(command, check=False).returncode == 0
            assert tree(folder) == ["disk.img"]
            assert (folder / "disk.img").read_bytes() == NEW
    told.append(line(f"{'cp --force' if force else 'cp'}, whole process", calls, killed))
