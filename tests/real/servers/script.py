"""A server that one of the scripts in this folder runs, as the tests hold it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests import canary

HERE = Path(__file__).parent
# The virtualenv of the servers that come from PyPI; tools/real-servers makes it.
VENV = Path(os.environ.get("SERVERS_VENV", HERE.parents[2] / ".venv-servers"))
# Debian keeps servers out of an ordinary user's PATH.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def traces(folder: Path) -> list[str]:
    """Gives what there is of a server in `folder`: the folder itself, and processes that work on it."""
    found = [str(folder)] if folder.exists() else []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            where = os.readlink(process / "cwd").removesuffix(" (deleted)")
        except OSError:
            continue  # ended, or a stranger's
        if any(f"{folder}/" in f"{word}/" for word in [*words, where]) and process.name != str(os.getpid()):
            found.append(f"process {process.name}: {' '.join(words).strip()}")
    return found


def demand(reason: str) -> None:
    """Skips for that reason; fails instead in CI and under IMGSTORE_REAL=required."""
    if os.environ.get("CI") == "true" or os.environ.get("IMGSTORE_REAL") == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def need(*programs: str, package: str) -> None:
    """Skips, or fails, where a program is missing that a package of Debian's has."""
    if missing := [program for program in programs if shutil.which(program, path=PATH) is None]:
        demand(f"{' and '.join(missing)} not installed: apt-get install {package}")


def need_of_venv(*programs: str) -> None:
    """Skips, or fails, where a program of the servers' own virtualenv is missing."""
    if missing := [program for program in programs if not os.access(VENV / "bin" / program, os.X_OK)]:
        demand(f"{' and '.join(missing)} not installed in {VENV.name}: tools/real-servers")


@dataclass(frozen=True)
class Server:
    """A running server, all of it below `folder` and on 127.0.0.1.

    `env` is how to reach it, by the names that the script's own `env` prints; each class of server gives the
    most useful of them as attributes. It ends with this process, whatever ends that.
    """

    folder: Path
    env: dict[str, str] = field(default_factory=dict, repr=False)
    # What a test killed or paused and didn't bring back
    disturbed: set[str] = field(default_factory=set, repr=False, compare=False)

    name: ClassVar[str]
    password: ClassVar[str] = canary.PASSWORD

    @classmethod
    def need(cls) -> None:
        """Skips, or fails, where what it is made of is missing."""

    @classmethod
    def start(cls, folder: Path, **environment: str) -> Any:
        """Starts one in an empty or new folder; `environment` is its script's."""
        cls.need()
        server = cls(folder)
        server.run("start", **environment)
        for line in (folder / "env").read_text().splitlines():
            server.env.update(word.split("=", 1) for word in shlex.split(line)[1:])
        return server

    def up(self, daemon: str) -> None:
        """Starts a daemon again, on the same ports; returns when it answers."""
        self.run("up", daemon)
        self.disturbed.discard(daemon)

    def kill9(self, daemon: str) -> None:
        """Kills a daemon outright: its connections are cut, new ones refused until `up`."""
        self.disturbed.add(daemon)
        self.run("kill9", daemon)

    def pause(self, daemon: str) -> None:
        """Stops a daemon in its tracks: connections stay open and fall silent until `cont`."""
        self.disturbed.add(daemon)
        self.run("pause", daemon)

    def cont(self, daemon: str) -> None:
        """Lets a paused daemon go on."""
        self.run("cont", daemon)
        self.disturbed.discard(daemon)

    def stop(self) -> None:
        """Ends every process and keeps the data: `come_back` brings all of it up again."""
        self.disturbed.add("all")
        self.run("stop")

    def come_back(self) -> None:
        """Brings up what is down and wakes what is paused; does nothing where nothing is."""
        if self.disturbed:
            self.run("start")
            self.disturbed.clear()

    def wipe(self) -> None:
        """Ends every process and removes the folder."""
        self.run("wipe")

    def processes(self) -> dict[str, int]:
        """Gives the ids of the processes that lead each daemon, also of those that are gone."""
        found = (self.folder / "run").glob("*.pid")
        return {file.stem: int(file.read_text().split()[0]) for file in found}

    def run(self, command: str, *arguments: str, **environment: str) -> None:
        """Gives the script a command; what it complains of fails the test."""
        done = subprocess.run(
            [HERE / f"{self.name}.sh", command, self.folder, *arguments],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            env={
                **os.environ,
                "PATH": PATH,
                "SERVERS_VENV": str(VENV),
                "SERVER_PASSWORD": self.password,
                "SERVER_OWNER": str(os.getpid()),
                **environment,
            },
        )
        if done.returncode:
            pytest.fail(f"{self.name}.sh {command}: {done.stderr.strip()}", pytrace=False)


class Servers:
    """The servers of a session: started when they are first asked for, wiped at its end."""

    def __init__(self) -> None:
        self.running: list[Server] = []
        self.seconds: dict[str, float] = {}

    def start(self, kind: type[Server], folder: Path, **environment: str) -> Any:
        """Starts one for the session, and notes how long that took."""
        before = time.monotonic()
        server = kind.start(folder, **environment)
        self.seconds[folder.name] = time.monotonic() - before
        self.running.append(server)
        return server

    def come_back(self) -> None:
        """Has every server up again after a test that killed, paused or stopped one."""
        for server in self.running:
            server.come_back()

    def wipe(self) -> None:
        """Ends them all, the last first; fails if anything is left of them."""
        left = []
        while self.running:
            server = self.running.pop()
            server.wipe()
            left += traces(server.folder)
        if left:
            pytest.fail(f"left behind: {', '.join(left)}", pytrace=False)
