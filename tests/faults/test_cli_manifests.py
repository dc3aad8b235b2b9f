"""Manifests that are stored with their images, and copies that are read back, by the command line."""

from __future__ import annotations

import os

import pytest

from imgstore.manifest import read
from imgstore.publish import PendingFile
from imgstore.testing.server import Cut, ScriptedServer
from tests.faults.cli import IMAGE, PATH, run_here

N = len(IMAGE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.img").write_bytes(IMAGE)
    config = tmp_path / "imgstore.conf"
    config.write_text(
        "[imgstore]\n"
        "enabled_stores = disks:filesystem, kept:filesystem, strict:filesystem, notes:filesystem\n"
        "[store_disks]\ndata_dir = disks\n"
        "[store_kept]\ndata_dir = kept\nmanifest_store = notes\n"
        "[store_strict]\ndata_dir = strict\nverify = required\n"
        "[store_notes]\ndata_dir = notes\n"
    )
    for name in ("disks", "kept", "strict", "notes"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("IMGSTORE_CONFIG", str(config))
    return tmp_path


@pytest.fixture
def imgstore(folder, capfdbinary):
    return lambda *argv: run_here(capfdbinary, *argv)


@pytest.fixture
def server():
    with ScriptedServer() as running:
        running.put(PATH, IMAGE, etag='"v1"')
        yield running


def damage(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes([IMAGE[at] ^ 1]))


def flip_before_the_name(monkeypatch):
    publish = PendingFile.publish

    def flipped(self, size=None):
        damage(f"/proc/self/fd/{self._file}", 7)
        return publish(self, size)

    monkeypatch.setattr(PendingFile, "publish", flipped)


@pytest.mark.parametrize("drop", [False, True], ids=["whole", "broken"])
def test_a_manifest_is_stored_on_request_found_hidden_and_removed(imgstore, folder, server, drop):
    if drop:
        server.trap(PATH, Cut(at=N // 2))
    assert imgstore("cp", "--store-manifest", server.url(PATH), "disks:disk").status == 0
    assert sorted(os.listdir("disks")) == ["disk", "disk.meta4"]
    with open("disks/disk.meta4", "rb") as file:
        assert read(file).version == imgstore("stat", "disks:disk", "--json").told["version"]
    assert imgstore("ls", "disks:").out.split()[-1] == b"disk"
    ran = imgstore("verify", "disks:disk")
    assert (ran.status, ran.out) == (0, b"2 chunks looked at, 0 damaged\n")
    assert imgstore("rm", "disks:disk").status == 0
    assert os.listdir("disks") == []


def test_a_manifest_in_the_store_for_them(imgstore, folder):
    assert imgstore("cp", "--store-manifest", "a.img", "kept:disk").status == 0
    assert (os.listdir("kept"), os.listdir("notes")) == (["disk"], ["disk.meta4"])
    assert imgstore("verify", "kept:disk", "--sample", 1).status == 0


@pytest.mark.parametrize("store, beside", [("kept", "notes"), ("disks", "disks")])
def test_the_manifest_of_what_is_replaced_or_removed_goes_too(imgstore, folder, store, beside):
    """Else `verify` would call the new image damaged, by what the old one was."""
    (folder / "b.img").write_bytes(IMAGE[::-1])
    (folder / store / "inside").write_bytes(IMAGE[::-1])
    for source in ("b.img", f"{store}:inside"):
        assert imgstore("cp", "--store-manifest", "--force", "a.img", f"{store}:disk").status == 0
        assert "disk.meta4" in os.listdir(beside)
        assert imgstore("cp", "--force", source, f"{store}:disk").status == 0
        assert "disk.meta4" not in os.listdir(beside)
    imgstore("cp", "--store-manifest", "a.img", f"{store}:other")
    assert imgstore("rm", f"{store}:other").status == 0
    assert "other.meta4" not in os.listdir(beside)


def test_where_manifests_are_required_one_is_stored_unasked(imgstore, folder):
    assert imgstore("cp", "a.img", "strict:disk").status == 0
    assert imgstore("cp", "strict:disk", "strict:copy").status == 0
    assert imgstore("cp", "strict:copy", "b.img").status == 0
    assert (folder / "b.img").read_bytes() == IMAGE
    assert sorted(os.listdir("strict")) == ["copy", "copy.meta4", "disk", "disk.meta4"]


def test_damage_is_told_in_full_though_the_store_proves_what_is_read(imgstore, folder):
    imgstore("cp", "--store-manifest", "a.img", "strict:disk")
    pin = imgstore("digest", "strict:disk", "--json").told["pin"]
    assert imgstore("verify", "strict:disk", "--pin", pin).status == 0
    for at in (0, N - 1):
        damage("strict/disk", at)
    ran = imgstore("verify", "strict:disk")
    assert ran.status == 4
    assert [line.partition(": ")[2] for line in ran.err.splitlines()] == [
        "strict:disk was replaced or written to since its manifest was stored",
        "2 of the 2 chunks of strict:disk that were looked at are damaged",
    ]
    assert imgstore("cp", "strict:disk", "b.img").status == 4


def test_a_crash_between_image_and_manifest_is_mended_by_digest(imgstore, folder):
    (folder / "strict/disk").write_bytes(IMAGE)
    assert "there is no manifest" in imgstore("cp", "strict:disk", "b.img").line
    ran = imgstore("verify", "strict:disk")
    assert (ran.status, ran.line) == (
        3,
        "no manifest is stored with strict:disk; --manifest names a file that is one",
    )
    assert imgstore("digest", "strict:disk", "-o", "strict:disk.meta4").status == 0
    assert imgstore("cp", "strict:disk", "b.img").status == 0
    assert imgstore("verify", "strict:disk").status == 0
    assert imgstore("cp", "strict:disk.meta4", "m").status == 0


def test_a_file_has_its_manifest_beside_it_too(imgstore, folder):
    imgstore("digest", "a.img", "-o", "a.img.meta4")
    assert imgstore("verify", "a.img").status == 0
    damage("a.img", 5)
    assert imgstore("verify", "a.img").status == 4


@pytest.mark.parametrize("target", ["b.img", "disks:b"])
def test_a_copy_that_is_read_back(imgstore, folder, target, monkeypatch):
    ran = imgstore("cp", "--read-back", "--json", "a.img", target)
    assert ran.status == 0, ran.err
    assert imgstore("cp", target, "-").out == IMAGE
    flip_before_the_name(monkeypatch)
    ran = imgstore("cp", "--read-back", "--force", "a.img", target)
    assert ran.status == 4
    if target == "b.img":
        assert ran.line == "cannot publish b.img: the disk gives back other bytes than were written"
        assert (folder / "b.img").read_bytes() == IMAGE
    else:
        assert "the store gives back" in ran.line
        assert os.listdir("disks") == []


def test_a_copy_inside_a_store_that_is_to_be_read_back_goes_through_here(imgstore, folder):
    imgstore("cp", "a.img", "disks:a")
    told = imgstore("cp", "--read-back", "--json", "disks:a", "disks:b").told
    assert told["received"] >= N
    assert (folder / "disks/b").read_bytes() == IMAGE


@pytest.mark.parametrize(
    "argv, status, said",
    [
        (["cp", "--store-manifest", "a.img", "b.img"], 2, "--store-manifest is for a store"),
        (["cp", "--read-back", "a.img", "-"], 2, "standard output gives nothing back"),
        (["verify", "a.img", "--allow-weak"], 2, "--allow-weak goes with --manifest"),
        (["verify", "a.img"], 3, "no manifest is stored with a.img"),
        (["verify", "disks:none"], 3, "none"),
        (["verify", "disks:none", "--repair-from", "a.img"], 2, "only a file is repaired in its place"),
    ],
)
def test_what_makes_no_sense_is_one_line(imgstore, folder, argv, status, said):
    before = sorted(os.listdir())
    ran = imgstore(*argv)
    assert ran.status == status, ran.err
    assert said in ran.line
    assert sorted(os.listdir()) == before
