"""The machine and the versions that figures come from."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata

from benchmarks.nginx import PATH

_PACKAGES = ("imgstore", "urllib3", "requests", "obstore", "fsspec", "aiohttp", "smart_open", "glance_store")
_PROGRAMS = {
    "curl": ["curl", "--version"],
    "rclone": ["rclone", "version"],
    "nginx": ["nginx", "-v"],
    "cp": ["cp", "--version"],
}


def described() -> dict[str, object]:
    """Gives what a reader needs to judge the figures by."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / (1 << 20):.0f} GiB",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "python": sys.version.split()[0],
        "commit": _said(["git", "rev-parse", "--short", "HEAD"]),
        "versions": {
            **{name: metadata.version(name) for name in _PACKAGES},
            **{name: _said(argv) for name, argv in _PROGRAMS.items()},
        },
    }


def load() -> float:
    """Gives the load of the last minute: figures from a busy machine are worth less."""
    return os.getloadavg()[0]


def _field(path: str, name: str) -> str:
    with open(path) as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return "?"


def _said(argv: list[str]) -> str:
    """Gives the first line that a program says of itself."""
    try:
        done = subprocess.run(
            argv, check=False, capture_output=True, text=True, env={**os.environ, "PATH": PATH}
        )
    except OSError:
        return "not installed"
    return next(iter((done.stdout + done.stderr).splitlines()), "?")
