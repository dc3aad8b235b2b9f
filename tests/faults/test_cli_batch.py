"""`cp -r`: every image below a place, each exactly or told of; one status, one sum."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from imgstore.testing.conformance._base import wait_until
from imgstore.testing.server import Cut, ScriptedServer, Stall, Status
from tests.faults.cli import IMAGE, PATH, configure, ended, run_here, start, without_configuration

N = len(IMAGE)
SMALL = IMAGE[:1000]


@pytest.fixture
def folder(tmp_path, tmp_path_factory, monkeypatch):
    """A folder of two images, one of them in a folder of its own, and two stores."""
    without_configuration(monkeypatch, tmp_path_factory.mktemp("home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images" / "debian").mkdir(parents=True)
    (tmp_path / "images" / "a.img").write_bytes(IMAGE)
    (tmp_path / "images" / "debian" / "12.raw").write_bytes(SMALL)
    configuration = """
        [imgstore]
        enabled_stores = one:filesystem, two:filesystem
        [store_one]
        data_dir = stores/one
        [store_two]
        data_dir = stores/two
    """
    configure(monkeypatch, tmp_path_factory.mktemp("etc") / "imgstore.conf", configuration)
    (tmp_path / "stores" / "one").mkdir(parents=True)
    (tmp_path / "stores" / "two").mkdir()
    return tmp_path


@pytest.fixture
def imgstore(folder, capfdbinary):
    return lambda *argv: run_here(capfdbinary, *argv)


@pytest.fixture
def server():
    with ScriptedServer() as server:
        server.put(PATH, IMAGE)
        yield server


def tree(folder):
    """Gives every file below `folder` by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WHOLE = {"a.img": IMAGE, "debian/12.raw": SMALL}


class TestPlaces:
    def test_folder_into_store_into_store_into_folder(self, imgstore, folder):
        for source, target in (("images", "one:x/"), ("one:", "two:"), ("two:x/", "out")):
            ran = imgstore("cp", "-r", source, target, "--json")
            assert ran.status == 0
            assert (ran.told["bytes"], ran.told["images"], ran.told["not_copied"]) == (N + 1000, 2, [])
        assert tree(folder / "out") == WHOLE

    def test_manifests_are_no_images(self, imgstore, folder):
        """What is stored beside an image goes with it only where it is asked for."""
        assert imgstore("cp", "-r", "--store-manifest", "images", "one:").status == 0
        assert imgstore("cp", "-r", "one:", "out").status == 0
        assert tree(folder / "out") == WHOLE

    def test_many_sources_are_many_images(self, imgstore, server, folder):
        ran = imgstore("cp", "-r", server.url(PATH), "images/debian", "images/a.img", "out")
        assert ran.status == 0
        assert tree(folder / "out") == {"disk.img": IMAGE, "12.raw": SMALL, "a.img": IMAGE}

    def test_half_copies_and_other_things_stay(self, imgstore, folder):
        for name in (".b.img.0123456789abcdef.part", "c.img.part", "c.img.part.journal"):
            (folder / "images" / name).write_bytes(SMALL)
        os.mkfifo(folder / "images" / "pipe")
        (folder / "images" / "elsewhere").symlink_to(folder)
        ran = imgstore("cp", "-r", "images", "out")
        assert ran.status == 0
        assert tree(folder / "out") == WHOLE
        assert ran.err.splitlines() == [
            f"imgstore: images/{name} left out: it is no regular file" for name in ("elsewhere", "pipe")
        ]


class TestFailures:
    def test_one_does_not_end_the_others(self, imgstore, folder):
        """The status is the highest, the rest is there, and the sum counts only what is."""
        (folder / "out").mkdir()
        (folder / "out" / "debian").write_bytes(b"in the way")
        ran = imgstore("cp", "-r", "images", "nothing.raw", "out", "--json")
        assert tree(folder / "out") == {"a.img": IMAGE, "debian": b"in the way"}
        told = {each["source"]: each for each in ran.told["not_copied"]}
        assert told["nothing.raw"]["type"] == "NotFoundError"
        assert set(told) == {"nothing.raw", "images/debian/12.raw"}
        assert ran.status == max(each["status"] for each in told.values()) == 3
        assert (ran.told["bytes"], ran.told["images"]) == (N, 3)
        assert ran.err.splitlines()[-1] == "imgstore: 2 of 3 images not copied"

    def test_broken_transfer_costs_what_is_told(self, imgstore, server, folder):
        server.script(PATH, [Cut(at=N // 2)])
        ran = imgstore("cp", "-r", server.url(PATH), "images/debian", "out", "--json")
        assert ran.status == 0
        assert (ran.told["resumes"], ran.told["received"]) == (1, N + 1000)
        assert sum(ran.told["sources"].values()) == N + 1000

    def test_failed_copy_counts_no_byte_in_the_target(self, imgstore, server, folder):
        server.script(PATH, [Cut(at=N // 2), Status(404)])
        ran = imgstore("cp", "-r", server.url(PATH), "images/debian", "out", "--json")
        assert ran.status == 3
        assert ran.told["bytes"] == 1000
        assert ran.told["received"] == N // 2 + 1000
        assert tree(folder / "out") == {"12.raw": SMALL}

    def test_again_takes_what_is_missing(self, imgstore, folder):
        assert imgstore("cp", "images/a.img", "one:a.img").status == 0
        assert imgstore("cp", "-r", "images", "one:").status == 10
        (folder / "images" / "new.img").write_bytes(SMALL)
        ran = imgstore("cp", "-r", "--skip-existing", "images", "one:", "--json")
        assert (ran.status, ran.told["bytes"], ran.told["images"]) == (0, 1000, 3)
        assert ran.err.splitlines() == ["imgstore: 2 images left out: there already"]

    def test_what_a_file_is_in_the_way_of_is_not_there_already(self, imgstore, folder):
        (folder / "out").mkdir()
        (folder / "out" / "debian").write_bytes(b"in the way")
        ran = imgstore("cp", "-r", "--skip-existing", "images", "out")
        assert ran.status == 2
        assert ran.err.splitlines() == [
            "imgstore: not copied: cannot create the folder out/debian: there is a file in its way",
            "imgstore: 1 of 2 images not copied",
        ]

    def test_interrupt_ends_all(self, folder, server):
        server.script(PATH, [Stall(at=N // 2)])
        with start("cp", "-r", server.url(PATH), "images", "out", "--json") as process:
            assert wait_until(lambda: server.log.requests(PATH))
            process.send_signal(signal.SIGINT)
            ran = ended(process)
        assert ran.status == 130
        assert json.loads(ran.out.splitlines()[-1])["error"]["type"] == "OperationCancelledError"
        assert tree(folder / "out") == {}

    def test_interrupt_says_what_became_of_the_others(self, folder, server):
        server.script(PATH, [Stall(at=N // 2)])
        with start("cp", "-r", "images", "nothing.raw", server.url(PATH), "images/debian", "out") as process:
            assert wait_until(lambda: server.log.requests(PATH))
            process.send_signal(signal.SIGINT)
            ran = ended(process)
        assert ran.status == 130
        assert tree(folder / "out") == WHOLE
        assert ran.err.splitlines()[-4:] == [
            "imgstore: not copied: there is no file nothing.raw",
            "imgstore: 1 of 5 images not copied",
            "imgstore: 2 of 5 images not copied yet; with --skip-existing the same command takes the rest",
            "imgstore: interrupted",
        ]

    def test_the_timeout_is_for_all_of_them(self, imgstore, folder, server):
        """One that is begun is held to what is left of it, and of the rest none is begun."""
        server.script(PATH, [Stall(at=N // 2)])
        ran = imgstore("cp", "-r", "--timeout", "0.5", server.url(PATH), "images", "out", "--json")
        assert ran.status == 6
        assert ran.told["error"]["type"] == "DeadlineExceededError"
        assert re.search(r"[23] of 3 images not copied yet", ran.err)
        assert tree(folder / "out") == {}


PLACES = "a folder, STORE: or STORE:PREFIX/"
COPIES = "and each run would copy the copies, too"


@pytest.mark.parametrize(
    "argv, said",
    [
        (("images", "one:a.img"), f"one:a.img: -r copies into {PLACES}"),
        (("images", "images/a.img"), f"images/a.img is a file; -r copies into {PLACES}"),
        (("images", "-"), f"-: -r copies into {PLACES}"),
        (("-", "out"), "- has no name that its copy could get"),
        (("images/a.img", "copy/a.img", "out"), "images/a.img and copy/a.img would both become out/a.img"),
        (("one:none/", "out"), "there is no image in one:none/"),
        (("images", "images/debian/old"), f"images/debian/old is in images, {COPIES}"),
        (("images", "images/"), f"images/ is in images, {COPIES}"),
        (("one:", "one:old/"), f"one:old/ is in one:, {COPIES}"),
        (("one:a/", "one:a/b/"), f"one:a/b/ is in one:a/, {COPIES}"),
        (("--manifest", "m", "images", "out"), "--manifest and --name are for one image, and -r copies many"),
    ],
)
def test_what_cannot_be_meant_moves_nothing(imgstore, folder, argv, said):
    (folder / "copy").mkdir()
    (folder / "copy" / "a.img").write_bytes(SMALL)
    ran = imgstore("cp", "-r", *argv)
    assert ran.line == said
    assert ran.status in {2, 3}
    assert not (folder / "out").exists()
    assert tree(folder / "stores") == {}
