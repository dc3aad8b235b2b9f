"""The command line on RBD images: by URL, by configuration, and what `check` finds."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys

import pytest

from tests.real.conftest import Ceph
from tests.real.rbd import driver

DATA = random.Random(3).randbytes(3 << 20)


@pytest.fixture
def imgstore(rbd_ceph: Ceph, tmp_path):
    """Gives what runs a command; it gives its exit status, output and errors."""

    def run(*arguments: str, user: str = rbd_ceph.user, **options: str) -> tuple[int, str, str]:
        config = tmp_path / "imgstore.conf"
        given = {"user": user, "ceph_conf": str(rbd_ceph.conf), "op_timeout": "5", **options}
        lines = "\n".join(f"{name} = {value}" for name, value in given.items())
        config.write_text(f"[imgstore]\nenabled_stores = fast:rbd\n[store_fast]\n{lines}\n")
        environment = {
            **os.environ,
            "IMGSTORE_CONFIG": str(config),
            "CEPH_CONF": str(rbd_ceph.conf),
            "CEPH_ARGS": f"--id {user}",
        }
        done = subprocess.run(
            [sys.executable, "-m", "imgstore.cli", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env=environment,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_copies_by_url(imgstore, tmp_path, rbd_ceph):
    (tmp_path / "a.img").write_bytes(DATA)
    assert imgstore("cp", "a.img", "rbd://images/cli%20disk")[0] == 0
    assert imgstore("cp", "rbd://images/cli%20disk", "b.img")[0] == 0
    assert imgstore("cp", "rbd://images/cli%20disk@snap", "c.img")[0] == 0
    for name in ("b.img", "c.img"):
        assert (tmp_path / name).read_bytes() == DATA
    assert imgstore("cp", "a.img", "rbd://images/cli%20disk")[0] == 10
    status, out, _ = imgstore("stat", "--json", "rbd://images/cli%20disk")
    assert (status, json.loads(out)["size"]) == (0, len(DATA))
    assert imgstore("cp", "rbd://images/none", "d.img")[0] == 3
    assert imgstore("cp", "rbd://images", "d.img")[0] == 2
    assert imgstore("rm", "fast:cli disk")[0] == 0


def test_a_manifest_is_stored_with_an_image_and_never_listed(imgstore, tmp_path, rbd_ceph):
    (tmp_path / "a.img").write_bytes(DATA)
    assert imgstore("cp", "--store-manifest", "--read-back", "a.img", "fast:kept")[0] == 0
    assert imgstore("cp", "--store-manifest", "a.img", "rbd://images/kept2")[0] == 0
    for place in ("fast:kept", "fast:kept2"):
        assert imgstore("verify", place)[:2] == (0, "1 chunks looked at, 0 damaged\n")
    listed = imgstore("ls", "fast:kept")[1].split()
    assert [each for each in listed if each.startswith("kept")] == ["kept", "kept2"]
    assert imgstore("digest", "fast:kept", "-o", "fast:kept.meta4")[0] == 10
    assert imgstore("digest", "fast:kept", "-o", "fast:kept.meta4", "--force")[0] == 0
    assert imgstore("cp", "fast:kept.meta4", "m.meta4")[0] == 0
    assert imgstore("verify", "a.img", "--manifest", "m.meta4")[0] == 0
    assert imgstore("rm", "fast:kept", "fast:kept2")[0] == 0
    assert "imgstore.manifest" not in rbd_ceph.tool("rados", "-p", "images", "ls")


def test_check_tries_all_and_leaves_nothing(imgstore, rbd_ceph):
    status, out, _ = imgstore("check", "fast", "--json")
    told = json.loads(out)
    results = {each["name"]: each["result"] for each in told["steps"]}
    assert status == 0, told
    assert results["connect"] == results["list"] == results["write"] == results["delete"] == "ok"
    assert told["location"] == "rbd://images"
    assert "imgstore-check-" not in rbd_ceph.tool("rbd", "ls", "images")


def test_check_says_which_right_is_missing(imgstore, rbd_ceph):
    with driver(rbd_ceph) as store:
        store.writer.put("to-read", io.BytesIO(DATA))
    status, out, _ = imgstore("check", "fast:to-read", "--json", user=rbd_ceph.reader)
    steps = {each["name"]: each for each in json.loads(out)["steps"]}
    assert status == 7
    assert steps["list"]["result"] == steps["read"]["result"] == "ok"
    assert steps["write"]["result"] == "failed"
    assert "write" in steps["write"]["advice"]
    with driver(rbd_ceph) as store:
        store.writer.delete("to-read")


@pytest.mark.parametrize(
    "options, said",
    [
        ({"pool": "nowhere"}, "ceph osd pool create nowhere"),
        ({"user": "nobody"}, "put the key of client.nobody into a file"),
        ({"ceph_conf": "/none"}, "name the cluster's configuration file"),
    ],
)
def test_check_says_where_the_way_ends(imgstore, options, said):
    status, out, _ = imgstore("check", "fast", **options)
    assert status != 0
    assert said in out


def test_check_of_a_cluster_without_monitors(imgstore, rbd_ceph):
    rbd_ceph.kill9("mon")
    status, out, _ = imgstore("check", "fast", connect_timeout="2")
    assert status == 6
    assert "no monitor of the cluster answered within 2 seconds" in out
    assert "see whether the monitors run" in out
