"""strace at a process that runs already: its system calls counted, one of them met with a signal or error."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

# What changes files, and what is asked about them, of all that Linux has and this library uses.
CHANGES = (
    "write", "pwrite64", "copy_file_range", "ftruncate", "fchmod", "fsync", "fdatasync", "mkdirat", "linkat",
    "renameat", "renameat2", "unlinkat",
)  # fmt: skip
FILES = (
    *CHANGES, "openat", "newfstatat", "fstat", "fstatfs", "read", "pread64", "preadv2", "lseek", "flock",
    "ioctl", "dup", "close", "getdents64",
)  # fmt: skip

_COUNT = re.compile(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$")


class Strace:
    """Follows a process and its threads, from `attach` until they end."""

    def __init__(self, log: Path, *options: str) -> None:
        self._log = log
        self._options = options
        self._process: subprocess.Popen[str] | None = None

    def attach(self, pid: int) -> None:
        """Takes hold of the process `pid`; it has done nothing more when this returns."""
        command = ["strace", "-f", "-o", str(self._log), *self._options, "-p", str(pid)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        said = self._process.stderr.readline()
        assert "attached" in said, said + self._process.communicate()[1]

    def wait(self) -> str:
        """Waits for the end and gives what was logged."""
        self._process.communicate()
        return self._log.read_text()


def counted(summary: str) -> Counter[str]:
    """Gives how often each system call was made, of what `strace -c` told."""
    found = (_COUNT.fullmatch(line) for line in summary.splitlines())
    calls = Counter({match[2]: int(match[1]) for match in found if match})
    calls.pop("total", None)
    return calls


def kill_at(call: str, number: int) -> str:
    """Gives the option that kills a process when it enters the system call for the n-th time, from 1."""
    return f"--inject={call}:signal=KILL:when={number}"


def fail_at(call: str, number: int, code: str, *, on: bool = False) -> str:
    """Gives the option that fails the n-th system call of that name, from 1; with `on`, later ones too."""
    return f"--inject={call}:error={code}:when={number}{'+' if on else ''}"
