"""`--parallel`: what commands read over several connections is what they read over one."""

from __future__ import annotations

import pytest

from imgstore.testing.server import Cut, ScriptedServer
from tests.faults.cli import IMAGE, PATH, configure, run_here, without_configuration

N = len(IMAGE)
PART = 64 << 10


@pytest.fixture
def server():
    with ScriptedServer() as server:
        server.put(PATH, IMAGE)
        yield server


@pytest.fixture
def imgstore(tmp_path, monkeypatch, capfdbinary, server):
    without_configuration(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    configure(
        monkeypatch,
        tmp_path / "imgstore.conf",
        f"""
        [imgstore]
        enabled_stores = web:http
        [store_web]
        url = {server.url("/")}
        part_size = {PART}
        """,
    )
    return lambda *argv: run_here(capfdbinary, *argv)


def test_an_image_is_read_in_parts(imgstore, server):
    server.trap(PATH, Cut(at=5 * PART + 100))
    ran = imgstore("cat", "web:disk.img", "--parallel", 4)
    assert (ran.status, ran.out) == (0, IMAGE)
    # The one that broke may be halved while it pauses: then what it had asked for is sent once more.
    assert server.log.requests(PATH) > -(-N // PART)
    assert N <= server.log.body_bytes(PATH) <= N + PART


def test_it_is_digested_and_verified_in_parts(imgstore, server, tmp_path):
    manifest = tmp_path / "disk.meta4"
    ran = imgstore("digest", "web:disk.img", "-o", manifest, "--chunk-size", PART, "--parallel", 4)
    assert ran.status == 0, ran.err
    server.log.wait_idle()
    assert server.log.requests(PATH) >= -(-N // PART)
    before = server.log.requests(PATH)
    ran = imgstore("verify", "web:disk.img", "--manifest", manifest, "--parallel", 4, "--json")
    assert ran.status == 0, ran.err
    assert server.log.requests(PATH) - before >= -(-N // PART)


def test_no_connection_is_a_mistake(imgstore, server):
    ran = imgstore("cat", "web:disk.img", "--parallel", 0)
    assert ran.status == 2
    assert "--parallel" in ran.err
    assert server.log.requests() == 0
