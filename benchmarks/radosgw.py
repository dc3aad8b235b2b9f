"""A real Ceph with radosgw on free ports of 127.0.0.1, which ends with the block."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT, BrokenRunError
from benchmarks.nginx import PATH

_SCRIPT = ROOT / "tests" / "real" / "servers" / "ceph.sh"


@dataclass(frozen=True)
class S3:
    """Where it is and with which keys; what is measured is in `bucket`."""

    url: str
    access_key: str
    secret_key: str
    conf: str
    bucket: str = "bench"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[S3]:
    """Gives an S3 whose data is in `folder`, with an empty bucket."""
    with running(folder) as found:
        keys = found["RGW_S3_ACCESS_KEY"], found["RGW_S3_SECRET_KEY"]
        s3 = S3(found["RGW_URL"], *keys, found["CEPH_CONF"])
        make_bucket(s3)
        yield s3


@contextlib.contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """Gives a Ceph whose data is in `folder`: how to reach it, by the names that ceph.sh gives."""
    try:
        _run("start", folder)
        words = [shlex.split(line)[1:] for line in (folder / "env").read_text().splitlines()]
        yield dict(word.split("=", 1) for line in words for word in line)
    finally:
        _run("wipe", folder)


def make_bucket(s3: S3) -> None:
    from benchmarks.objects import client

    client(s3.url, s3.access_key, s3.secret_key).create_bucket(Bucket=s3.bucket)


def collect(conf: str) -> None:
    """Gives back the room of objects that were removed.

    radosgw lets them lie for two hours: a dozen of 1 GiB would fill the disk, and every write then hang.
    """
    argv = ["radosgw-admin", "--conf", conf, "gc", "process", "--include-all"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BrokenRunError(f"radosgw-admin gc: {done.stderr.strip()}")


def _run(command: str, folder: Path) -> None:
    done = subprocess.run(
        [_SCRIPT, command, folder],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": PATH, "SERVER_OWNER": str(os.getpid()), "SERVER_PASSWORD": "bench"},
    )
    if done.returncode:
        raise BrokenRunError(f"ceph.sh {command}: {done.stderr.strip()}")
