"""`imgstore cp` into real stores, killed again and again in mid-part: one image, and nothing beside it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PART = 5 << 20
MIB = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where the image goes, what `reap` is told of it, and the environment that leads there."""

    target: str
    store: str
    environment: dict[str, str]


@pytest.fixture
def key():
    return f"{os.urandom(8).hex()}.img"


@pytest.fixture
def on_radosgw(ceph, key):
    client = ceph.s3.client()
    client.create_bucket(Bucket="uploads")
    client.close()
    environment = {
        "AWS_ENDPOINT_URL_S3": ceph.s3.url,
        "AWS_ACCESS_KEY_ID": ceph.s3.access_key,
        "AWS_SECRET_ACCESS_KEY": ceph.s3.secret_key,
        "AWS_DEFAULT_REGION": ceph.s3.region,
    }
    return Place(f"s3://uploads/{key}", f"s3://uploads/{key}", environment)


@pytest.fixture
def on_swift(swift, key):
    client = swift.tester.client()
    client.put_container("uploads")
    client.close()
    environment = {"ST_AUTH": swift.tester.auth, "ST_USER": swift.tester.user, "ST_KEY": swift.tester.key}
    return Place(f"swift://uploads/{key}", f"swift://uploads/{key}", environment)


@pytest.fixture
def on_rbd(rbd_ceph, key):
    environment = {"CEPH_CONF": str(rbd_ceph.conf), "CEPH_ARGS": f"--id {rbd_ceph.user}"}
    return Place(f"rbd://images/{key}", f"rbd://images/{key}", environment)


@pytest.fixture
def on_files(tmp_path, key):
    return Place(f"local:{key}", "local", {"XDG_DATA_HOME": str(tmp_path / "data")})


class Run:
    """Copies of one image to one place, each by a process of its own."""

    def __init__(self, place, folder, size, part):
        self._place, self._folder, self._part = place, folder, part
        self._log = folder / "log"
        self._log.touch()
        self.count = -(-size // part)
        self.image = folder / "disk.img"
        block = random.Random(size).randbytes(8 * MIB)
        with self.image.open("wb") as file:
            for at in range(0, size, len(block)):
                file.write(at.to_bytes(8, "big") + block[: min(len(block), size - at) - 8])
        state = {
            "XDG_STATE_HOME": str(folder / "state"),
            "HOME": str(folder),
            "UPLOADING_LOG": str(self._log),
        }
        self._environment = {**os.environ, **state, **place.environment}

    def start(self, *argv):
        program = [sys.executable, "-m", "tests.faults.uploading", str(self._part), "0", "0"]
        return subprocess.Popen(
            [*program, *map(str, argv)],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def done(self, *argv):
        """Runs a command to its end, and gives what it printed last."""
        with self.start(*argv) as process:
            out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        return out

    def sent(self):
        """Gives the number of each part that was begun to be sent, in their order."""
        return [int(line) for line in self._log.read_text().split()]

    def killed(self, wanted):
        """Copies until `wanted` parts more were begun, and kills it in their midst."""
        before = len(self.sent())
        with self.start("cp", self.image, self._place.target) as process:
            while len(self.sent()) < before + wanted:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.communicate()

    def copied(self):
        told = json.loads(self.done("cp", self.image, self._place.target, "--json").splitlines()[-1])
        digest = hashlib.sha256()
        with self.image.open("rb") as file:
            while block := file.read(8 * MIB):
                digest.update(block)
        assert told["digests"] == {"sha256": digest.hexdigest()}
        self.done("cp", self._place.target, self._folder / "back.img")
        assert subprocess.run(["cmp", self.image, self._folder / "back.img"], check=False).returncode == 0

    def reaped(self):
        """Gives what of uploads was left."""
        told = json.loads(self.done("reap", "--older-than", "0", "--json", self._place.store))
        assert told["failed"] == []
        return [each["location"] for each in told["removed"]]


def held_to(run, kills, promise):
    """Kills it so often, each time after some progress, and compares what comes of it in the end."""
    for number in range(kills):
        left = run.count - len(set(run.sent()))
        run.killed(max(1, min(run.count // (kills + 2), left - 1)) + (number > 0))
    run.copied()
    sent = run.sent()
    assert set(sent) == set(range(run.count))
    promise("P18", "parts sent twice, for each kill of an upload", (len(sent) - run.count) / kills, 1)
    promise("P12", "uploads left when one that was killed is complete", len(run.reaped()), 0)
    promise("P18", "kills of uploads", kills)


@pytest.mark.parametrize("where", ["on_radosgw", "on_swift", "on_rbd", "on_files"])
def test_d8_killed_in_mid_part_again_and_again(request, tmp_path, promise, where):
    held_to(Run(request.getfixturevalue(where), tmp_path, 8 * PART - 17, PART), 3, promise)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("where", ["on_radosgw", "on_swift", "on_rbd"])
def test_d8_a_gibibyte_killed_ten_times(request, tmp_path, promise, where):
    held_to(Run(request.getfixturevalue(where), tmp_path, 1024 * MIB, 16 * MIB), 10, promise)


@pytest.mark.parametrize("where", ["on_radosgw", "on_swift", "on_rbd", "on_files"])
def test_i10_what_was_killed_and_given_up_is_reaped(request, tmp_path, where):
    run = Run(request.getfixturevalue(where), tmp_path, 3 * PART, PART)
    run.killed(2)
    limit = time.monotonic() + 60
    while not run.reaped():  # RBD keeps the lock of a process that was killed for some seconds
        assert time.monotonic() < limit
    assert run.reaped() == []
