"""The command line as tests run it: in this process where that is enough, else as a user's shell does."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
from dataclasses import dataclass

from imgstore.cli import main

IMAGE = random.Random(7).randbytes((4 << 20) + 17)
PATH = "/disk.img"


@dataclass
class Ran:
    """How a command ended. `told` is the JSON object that it printed last."""

    status: int
    out: bytes
    err: str

    @property
    def told(self):
        return json.loads(self.out.splitlines()[-1])

    @property
    def line(self):
        """The one line on standard error."""
        (line,) = self.err.splitlines()
        assert line.startswith("imgstore: ")
        return line.removeprefix("imgstore: ")


def run_here(capfdbinary, *argv):
    """Runs the command in this process."""
    capfdbinary.readouterr()
    status = main([str(each) for each in argv])
    taken = capfdbinary.readouterr()
    return Ran(status, taken.out, taken.err.decode())


def start(*argv, **options):
    """Starts the command in a process of its own."""
    # As a user's shell has it: without buffers, a write that fails could not be put off till the end.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipe = subprocess.PIPE
    options = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, "env": env, **options}
    return subprocess.Popen([sys.executable, "-m", "imgstore.cli", *map(str, argv)], **options)


def ended(process, data=None, timeout=30):
    """Waits for a started command."""
    out, err = process.communicate(data, timeout=timeout)
    return Ran(process.returncode, out, (err or b"").decode())


def run(*argv, data=None, **options):
    """Runs the command in a process of its own."""
    if data is not None:
        options["stdin"] = subprocess.PIPE
    with start(*argv, **options) as process:
        return ended(process, data)


def without_configuration(monkeypatch, home):
    """Leaves the store `local` below `home`, whatever the configuration of whoever runs the tests."""
    for name in ("IMGSTORE_CONFIG", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))


def configure(monkeypatch, path, text):
    """Writes a configuration and makes it the one that counts."""
    path.write_text(textwrap.dedent(text))
    monkeypatch.setenv("IMGSTORE_CONFIG", str(path))
    return path


def names(folder):
    return sorted(os.listdir(folder))
