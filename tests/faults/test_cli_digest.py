"""`digest`, `verify` and `cp --manifest`: what is damaged is found, named and repaired, and nothing else."""

from __future__ import annotations

import hashlib
import os
import subprocess

import pytest

from imgstore.backends.filesystem import FilesystemStore
from imgstore.errors import VersionChangedError
from imgstore.manifest import read
from imgstore.testing.server import Flip, NoLength, NoRanges, ScriptedServer
from imgstore.transfer.progress import Report
from imgstore.transfer.verify import repair, sample, verify
from tests.faults.cli import IMAGE, PATH, configure, run_here
from tests.faults.mounts import small_disk

N = len(IMAGE)
SIZE = 1 << 20
BAD = 2 * SIZE + 5


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    (tmp_path / "a.img").write_bytes(IMAGE)
    return tmp_path


@pytest.fixture
def imgstore(folder, capfdbinary):
    return lambda *argv: run_here(capfdbinary, *argv)


@pytest.fixture
def manifest(imgstore, folder):
    assert imgstore("digest", "a.img", "-o", "a.meta4", "--chunk-size", "1M").status == 0
    return folder / "a.meta4"


@pytest.fixture
def server():
    with ScriptedServer() as running:
        running.put(PATH, IMAGE, etag='"v1"')
        yield running


def damaged(path, *places):
    data = bytearray(IMAGE)
    for place in places:
        data[place] ^= 1
    path.write_bytes(data)


def test_the_digests_of_an_image(imgstore):
    told = imgstore("digest", "a.img", "--algorithm", "sha512", "--algorithm", "md5", "--json").told
    assert told["size"] == N
    assert told["digests"] == {name: hashlib.new(name, IMAGE).hexdigest() for name in ("md5", "sha512")}
    assert (told["chunk_size"], told["chunks"]) == (4 << 20, 2)
    lines = dict(line.split(None, 1) for line in imgstore("digest", "a.img").out.decode().splitlines())
    assert lines["sha256"] == hashlib.sha256(IMAGE).hexdigest()


def test_a_manifest_is_written_and_replaced_only_when_asked(imgstore, folder, manifest):
    with open(manifest, "rb") as file:
        found = read(file)
    assert (found.size, found.chunk_size, found.key, found.version) == (N, SIZE, "a.img", None)
    assert found.chunks[1] == hashlib.sha256(IMAGE[SIZE : 2 * SIZE]).digest()
    assert imgstore("digest", "a.img", "-o", "a.meta4").status == 10
    assert imgstore("digest", "a.img", "-o", "a.meta4", "--force", "--url", "https://h/a.img").status == 0
    with open(manifest, "rb") as file:
        assert [source.url for source in read(file).sources] == ["https://h/a.img"]


@pytest.mark.parametrize("way", [["-o"], ["--profile"]])
@pytest.mark.parametrize("alias", ["a.img", "./a.img", "hard.img"])
def test_a_manifest_never_takes_the_place_of_its_image(imgstore, folder, way, alias):
    os.link("a.img", "hard.img")
    ran = imgstore("digest", "a.img", *way, alias, "--force")
    assert (ran.status, ran.line) == (2, f"{alias} is the image itself; a manifest is a file of its own")
    assert (folder / "a.img").read_bytes() == IMAGE


def test_a_manifest_never_takes_the_place_of_its_image_in_a_store(imgstore, folder):
    imgstore("cp", "a.img", "local:a.img")
    ran = imgstore("digest", "local:a.img", "-o", "local:a.img", "--force")
    assert (ran.status, ran.line) == (2, "local:a.img is the image itself; a manifest is a file of its own")
    assert imgstore("cat", "local:a.img").out == IMAGE


@pytest.mark.parametrize(
    "argv, status, said",
    [
        (["-o", "a.meta4"], 10, "a.meta4 exists already; --force replaces it"),
        (["-o", "none/a.meta4"], 2, "there is no folder none"),
        (["-o", "local:a.meta4"], 10, "local:a.meta4 exists already; --force replaces it"),
        (["-o", "web:a.meta4"], 2, "the store web is only read; write the manifest to a path"),
        (["--profile", "other.img"], 4, "other.img: YAML, line 1: the profile is not UTF-8"),
        (["--chunk-size", "300M"], 2, "--chunk-size is 314572800"),
        (["--url", "h/a.img"], 2, "'h/a.img' is no URL"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_image_is_read(
    imgstore, folder, manifest, server, monkeypatch, argv, status, said
):
    imgstore("cp", "a.meta4", "local:a.meta4")
    (folder / "other.img").write_bytes(IMAGE)
    if argv[1].startswith("web:"):
        configure(monkeypatch, folder / "conf", f"""
            [imgstore]
            enabled_stores = web:http
            [store_web]
            url = {server.url('/')}
        """)  # fmt: skip
    ran = imgstore("digest", server.url(PATH), *argv)
    assert ran.status == status, ran.err
    assert said in ran.line
    assert [each.method for each in server.log.exchanges(PATH) if each.method == "GET"] == []


def test_a_profile_gains_the_manifest_and_keeps_the_rest(imgstore, folder):
    profile = folder / "profile.yaml"
    profile.write_text("# ours\nimages:\n- name: a.img  # the disk\n  format: raw\n")
    profile.chmod(0o640)
    assert imgstore("digest", "a.img", "--profile", "profile.yaml").status == 0
    text = profile.read_text()
    assert text.startswith("# ours\nimages:\n- name: a.img  # the disk\n")
    assert "format: raw" in text
    assert profile.stat().st_mode & 0o777 == 0o640
    assert imgstore("verify", "a.img", "--manifest", "profile.yaml").status == 0


def test_one_of_several_images_in_a_profile_is_named(imgstore, folder):
    profile = folder / "profile.yaml"
    profile.write_text("images:\n- container_name: boot.img\n- container_name: root.img\n")
    (folder / "root.img").write_bytes(IMAGE[::-1])
    assert "the name of one would do" in imgstore("digest", "a.img", "--profile", profile).line
    for source, name in (("a.img", "boot.img"), ("root.img", "root.img")):
        assert imgstore("digest", source, "--profile", profile, "--name", name).status == 0
    assert "the name of one" in imgstore("verify", "a.img", "--manifest", profile).line
    for name, status in (("boot.img", 0), ("root.img", 4)):
        assert imgstore("verify", "a.img", "--manifest", profile, "--name", name).status == status
        copied = imgstore("cp", "--manifest", profile, "--name", name, "a.img", f"copy-of-{name}")
        assert (copied.status, (folder / f"copy-of-{name}").exists()) == (status, not status)
    assert "--manifest" in imgstore("cp", "a.img", "b.img", "--name", "x").line


def test_a_manifest_in_the_store_of_its_image_names_its_version(imgstore, folder):
    assert imgstore("cp", "a.img", "local:a.img").status == 0
    assert imgstore("digest", "local:a.img", "-o", "local:a.img.meta4").status == 0
    stat = imgstore("stat", "local:a.img", "--json").told
    assert imgstore("cp", "local:a.img.meta4", "m").status == 0
    with open(folder / "m", "rb") as file:
        assert read(file).version == stat["version"]


def test_an_image_that_is_whole(imgstore, manifest):
    ran = imgstore("verify", "a.img", "--manifest", manifest)
    assert (ran.status, ran.out, ran.err) == (0, b"5 chunks looked at, 0 damaged\n", "")


def test_what_is_damaged_is_named_by_its_range(imgstore, folder, manifest):
    damaged(folder / "b.img", 5, SIZE, N - 1)
    ran = imgstore("verify", "b.img", "--manifest", manifest)
    assert ran.status == 4
    assert ran.line == "3 of the 5 chunks of b.img that were looked at are damaged"
    assert ran.out.decode().splitlines() == [
        f"damaged: bytes 0 to {2 * SIZE}",
        f"damaged: bytes {4 * SIZE} to {N}",
        "5 chunks looked at, 3 damaged",
    ]


def test_a_sample_looks_at_no_more(imgstore, folder, manifest):
    told = imgstore("verify", "a.img", "--manifest", manifest, "--sample", 2, "--json").told
    assert (told["checked"], told["damaged"]) == (2, [])
    damaged(folder / "b.img", *range(0, N, SIZE))
    ran = imgstore("verify", "b.img", "--manifest", manifest, "--sample", 9, "--json")
    assert ran.status == 4
    assert b'"damaged": [0, 1, 2, 3, 4]' in ran.out


def test_an_image_of_another_size_is_another(imgstore, folder, manifest):
    (folder / "b.img").write_bytes(IMAGE[:-1])
    for options in ([], ["--sample", 1]):
        ran = imgstore("verify", "b.img", "--manifest", manifest, *options)
        assert ran.status == 4
        assert f"has {N - 1} bytes, its manifest {N}" in ran.line


@pytest.mark.parametrize("tail, status, said", [(0, 0, ""), (1, 4, "1 of the 5 chunks"), (-1, 4, "bytes")])
def test_an_image_whose_server_tells_no_length(imgstore, manifest, server, tail, status, said):
    data = IMAGE[:tail] if tail < 0 else IMAGE[: N - tail] + b"\0" * tail
    server.put(PATH, data)
    server.script(PATH, [(NoRanges(), NoLength())] * 4)
    ran = imgstore("verify", server.url(PATH), "--manifest", manifest)
    assert (ran.status, said in ran.err) == (status, True), ran.err
    assert "None" not in ran.err
    ran = imgstore("verify", server.url(PATH), "--manifest", manifest, "--sample", 1)
    assert (ran.status, "tells no length" in ran.line) == (1, True)


def test_a_hole_is_damage_where_there_was_data(imgstore, folder, manifest):
    with open(folder / "b.img", "wb") as file:
        file.write(IMAGE[:SIZE])
        file.truncate(N)
    assert imgstore("verify", "b.img", "--manifest", manifest).status == 4


def test_only_what_is_damaged_is_rewritten(imgstore, folder, manifest, server):
    damaged(folder / "b.img", BAD, N - 2)
    ran = imgstore(
        "verify",
        "b.img",
        "--manifest",
        manifest,
        "--repair-from",
        server.url(PATH),
        "--header",
        "X-A: b",
        "--json",
    )
    assert ran.status == 0, ran.err
    assert ran.told["repaired"] == 2
    assert (folder / "b.img").read_bytes() == IMAGE
    asked = [each.range_asked for each in server.log.exchanges(PATH) if each.method == "GET"]
    assert asked == [f"bytes={2 * SIZE}-{3 * SIZE - 1}", f"bytes={4 * SIZE}-{N - 1}"]
    assert {each.header("X-A") for each in server.log.exchanges(PATH)} == {"b"}


def test_a_copy_that_is_damaged_there_too_repairs_the_rest(imgstore, folder, manifest):
    damaged(folder / "b.img", 1, BAD)
    damaged(folder / "c.img", BAD + 1)
    ran = imgstore("verify", "b.img", "--manifest", manifest, "--repair-from", "c.img")
    assert ran.status == 4
    assert "1 chunks are damaged in 'c.img' as well" in ran.line
    data = bytearray(IMAGE)
    data[BAD] ^= 1
    assert (folder / "b.img").read_bytes() == data


@pytest.mark.parametrize("looked", [verify, lambda *args, **kwargs: sample(*args, 5, **kwargs)])
@pytest.mark.parametrize("name", ["b.img", "c.img"], ids=["written", "replaced"])
def test_a_file_that_is_another_since_is_not_repaired(folder, manifest, looked, name):
    other = bytes(reversed(IMAGE))
    damaged(folder / "b.img", BAD)
    with open(manifest, "rb") as file, FilesystemStore(data_dir=folder) as store:
        found = looked(store, "b.img", read(file), report=Report())
        assert found.chunks == (2,)
        (folder / name).write_bytes(other)
        os.replace(folder / name, folder / "b.img")
        with pytest.raises(VersionChangedError, match="nothing was repaired"):
            repair(folder / "b.img", found, store, "a.img", report=Report())
    assert (folder / "b.img").read_bytes() == other


@pytest.mark.parametrize(
    "options, status, said",
    [("size=64k", 8, "cannot repair disk/b.img: No space left"), ("ro", 7, "Read-only file system")],
)
def test_a_file_that_cannot_be_written_is_one_line(imgstore, folder, manifest, options, status, said):
    with small_disk(folder / "disk", "size=64k") as disk:
        with open(disk / "b.img", "wb") as file:
            file.truncate(N)
        subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)
        ran = imgstore("verify", "disk/b.img", "--manifest", manifest, "--repair-from", "a.img")
    assert (ran.status, said in ran.line) == (status, True), ran.err


def test_a_repair_that_stays_half_done_tells_all_that_was_found(imgstore, folder, manifest):
    damaged(folder / "b.img", 1, BAD)
    damaged(folder / "c.img", BAD)
    asked = ("verify", "b.img", "--manifest", manifest, "--repair-from", "c.img")
    ran = imgstore(*asked)
    assert ran.status == 4
    assert ran.out.decode().splitlines() == [
        f"damaged: bytes 0 to {SIZE}",
        f"damaged: bytes {2 * SIZE} to {3 * SIZE}",
        "5 chunks looked at, 2 damaged, 1 repaired",
    ]
    ran = imgstore(*asked, "--json")
    assert len(ran.out.splitlines()) == 1, "one object is the promise"
    assert (ran.status, ran.told["damaged"], ran.told["repaired"]) == (4, [2], 0)
    assert ran.told["error"]["type"] == "DigestMismatchError"


def test_a_copy_under_a_manifest_fetches_a_bad_chunk_again(imgstore, folder, manifest, server):
    server.trap(PATH, Flip(at=BAD))
    ran = imgstore("cp", "--manifest", manifest, server.url(PATH), "new.img", "--json")
    assert ran.status == 0, ran.err
    assert (folder / "new.img").read_bytes() == IMAGE
    assert (ran.told["repaired_chunks"], ran.told["refetched"]) == (1, SIZE)


def test_a_copy_of_what_is_damaged_leaves_nothing(imgstore, folder, manifest):
    damaged(folder / "b.img", BAD)
    before = sorted(os.listdir())
    ran = imgstore("cp", "--manifest", manifest, "b.img", "new.img")
    assert ran.status == 4
    assert ran.line.startswith("chunk 2 of 'b.img'")
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    "argv, status, said",
    [
        (["cp", "--manifest", "a.meta4", "-", "x"], 2, "cannot be fetched again from standard input"),
        (["cp", "--manifest", "none", "a.img", "x"], 3, "there is no manifest none"),
        (["cp", "--manifest", "a.img", "a.img", "x"], 4, "a.img: YAML: not well-formed"),
        (["verify", "a.img", "--manifest", "a.meta4", "--pin", "sha256:" + "0" * 64], 4, "pin"),
        (
            ["verify", "local:a", "--manifest", "a.meta4", "--repair-from", "a.img"],
            2,
            "only a file is repaired",
        ),
        (["verify", "-", "--manifest", "a.meta4"], 2, "standard input"),
        (["digest", "a.img", "--algorithm", "crc"], 2, "no digest is called 'crc'"),
        (["digest", "a.img", "-o", "-"], 2, "a manifest is written to a path or STORE:KEY"),
        (["digest", "-"], 2, "tells no size"),
        (["digest", "a.img", "--chunk-size", "5"], 2, "a manifest of 838865 chunks could not be read"),
        (["digest", "missing.img"], 3, "no file missing.img"),
    ],
)
def test_what_makes_no_sense_is_one_line(imgstore, folder, manifest, argv, status, said):
    before = sorted(os.listdir())
    ran = imgstore(*argv)
    assert ran.status == status, ran.err
    assert said in ran.line
    assert sorted(os.listdir()) == before
