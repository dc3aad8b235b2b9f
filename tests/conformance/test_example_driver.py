"""The kit's example driver, proven with the kit."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile

import pytest

from imgstore.errors import StorageIOError, UnsupportedError
from imgstore.testing import ReadSuite, example_driver
from imgstore.testing.example_driver import TarStore


class TestRead(ReadSuite):
    def setup_method(self):
        super().setup_method()
        self.folder = tempfile.mkdtemp()
        self.path = os.path.join(self.folder, "images.tar")
        self.images = {}
        self.publish()

    def teardown_method(self):
        super().teardown_method()
        shutil.rmtree(self.folder)

    def publish(self):
        """Renames a new archive onto the old one."""
        with tarfile.open(self.path + ".new", "w") as archive:
            for key, data in self.images.items():
                member = tarfile.TarInfo(key)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        os.replace(self.path + ".new", self.path)

    def store(self):
        return TarStore(path=self.path)

    def seed(self, key, data):
        self.images[key] = data
        self.publish()

    replace = seed

    def remove(self, key):
        del self.images[key]
        self.publish()

    def unreachable(self):
        return TarStore(path=os.path.join(self.folder, "none.tar"))


def test_a_driver_fits_on_a_page():
    with open(example_driver.__file__) as file:
        assert len(file.readlines()) < 100


def test_what_is_no_archive(tmp_path):
    (tmp_path / "images.tar").write_bytes(b"no archive" * 100)
    with TarStore(path=str(tmp_path / "images.tar")) as store, pytest.raises(StorageIOError, match="damaged"):
        store.stat("a")


def test_what_is_no_plain_file(tmp_path):
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with (
        TarStore(path=str(tmp_path / "images.tar")) as store,
        pytest.raises(UnsupportedError, match="plain file"),
    ):
        store.get("link")
