"""A Metalink of ours in the hands of the real aria2, which downloads, verifies and repairs by it."""

from __future__ import annotations

import hashlib
import random
import subprocess

import pytest

from imgstore.manifest import ALGORITHMS, ChunkDigests, Manifest, SourceUrl, write_metalink
from tests.real.conftest import Nginx, need

CHUNK = 1 << 20
DATA = random.Random(5854).randbytes(5 * CHUNK + 4321)


@pytest.fixture(autouse=True)
def aria2():
    need("aria2c", package="aria2")


def made(algorithm, sources, key="disks/root.img", digests=True):
    parts = [DATA[at : at + CHUNK] for at in range(0, len(DATA), CHUNK)]
    chunks = b"".join(hashlib.new(algorithm, part).digest() for part in parts)
    whole = {"sha256": hashlib.sha256(DATA).hexdigest()} if digests else {}
    return Manifest(
        len(DATA),
        CHUNK,
        algorithm,
        ChunkDigests(chunks, ALGORITHMS[algorithm]),
        whole,
        key=key,
        version='"5-6"',
        sources=tuple(sources),
    )


def download(manifest, folder, *options):
    with open(folder / "image.meta4", "wb") as file:
        write_metalink(manifest, file)
    command = ["aria2c", "--no-conf", "--dir", str(folder), "--file-allocation=none", "--max-tries=1", "-x4"]
    command += ["--check-integrity=true", "--console-log-level=notice", *options]
    return subprocess.run(
        [*command, "-M", str(folder / "image.meta4")],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512", "sha1", "md5"])
@pytest.mark.parametrize("digests", [True, False])
def test_aria2_downloads_and_verifies(nginx: Nginx, tmp_path, algorithm, digests):
    nginx.put("aria2.img", DATA)
    manifest = made(algorithm, [SourceUrl(nginx.url("files", "aria2.img"), 1, "de")], digests=digests)
    run = download(manifest, tmp_path)
    assert run.returncode == 0, run.stdout
    assert (tmp_path / "disks/root.img").read_bytes() == DATA


@pytest.mark.parametrize("digests", [True, False])
def test_aria2_finds_a_flipped_byte(nginx: Nginx, tmp_path, digests):
    at = 3 * CHUNK + 17
    nginx.put("flipped.img", DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 :])
    sources = [SourceUrl(nginx.url("files", "flipped.img"))]
    run = download(made("sha256", sources, digests=digests), tmp_path)
    assert run.returncode != 0, run.stdout
    assert "Invalid checksum index=3" in run.stdout


def test_aria2_repairs_the_chunk_that_our_digest_names(nginx: Nginx, tmp_path):
    nginx.put("aria2.img", DATA)
    (tmp_path / "disks").mkdir()
    at = 3 * CHUNK + 17
    (tmp_path / "disks/root.img").write_bytes(DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 :])
    manifest = made("sha256", [SourceUrl(nginx.url("files", "aria2.img"))])
    run = download(manifest, tmp_path, "--hash-check-only=false", "--allow-overwrite=true")
    assert run.returncode == 0, run.stdout
    assert (tmp_path / "disks/root.img").read_bytes() == DATA


def test_aria2_takes_the_better_source_first(nginx: Nginx, tmp_path):
    nginx.put("aria2.img", DATA)
    sources = [SourceUrl(nginx.url("files", "missing.img"), 2), SourceUrl(nginx.url("files", "aria2.img"), 1)]
    run = download(made("sha256", sources), tmp_path, "--split=1")
    assert run.returncode == 0, run.stdout
    assert "missing.img" not in run.stdout


def test_name_of_what_has_no_key(nginx: Nginx, tmp_path):
    nginx.put("aria2.img", DATA)
    run = download(made("sha256", [SourceUrl(nginx.url("files", "aria2.img"))], key=None), tmp_path)
    assert run.returncode == 0, run.stdout
    assert (tmp_path / "image").read_bytes() == DATA
