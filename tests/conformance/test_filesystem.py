"""The filesystem driver, proven with the kit: plain, thin, and with several data directories."""

from __future__ import annotations

import io

import pytest

from imgstore.backends.filesystem import FilesystemStore
from imgstore.testing.conformance import ExtentSuite, ListSuite, ReadSuite, UploadSuite, WriteSuite
from tests.faults.mounts import small_disk


class Place:
    """A folder of its own for each case."""

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path):
        self.place = tmp_path

    def store(self):
        return FilesystemStore(data_dir=self.place)

    def seed(self, key, data):
        with self.store() as store:
            store.writer.put(key, io.BytesIO(data))

    def replace(self, key, data):
        with self.store() as store:
            store.writer.put(key, io.BytesIO(data), overwrite=True)

    def remove(self, key):
        with self.store() as store:
            store.writer.delete(key)

    def unreachable(self):
        return FilesystemStore(data_dir=self.place / "nowhere")


class Thin(Place):
    def store(self):
        return FilesystemStore(data_dir=self.place, thin=True)


class Several(Place):
    """Three directories of one priority or another; the driver spreads the images by itself."""

    def store(self):
        names = ("one:5", "two", "three:5")
        for name in names:
            (self.place / name.partition(":")[0]).mkdir(exist_ok=True)
        return FilesystemStore(data_dirs=[f"{self.place}/{name}" for name in names])


class Full:
    """A file system with less room than the cases' images."""

    @pytest.fixture
    def _small(self, tmp_path):
        with small_disk(tmp_path / "small") as self.small:
            yield

    def full(self):
        return FilesystemStore(data_dir=self.small)


class TestRead(Place, ReadSuite):
    pass


class TestReadOfSeveral(Several, ReadSuite):
    pass


@pytest.mark.usefixtures("_small")
class TestWrite(Full, Place, WriteSuite):
    pass


@pytest.mark.usefixtures("_small")
class TestWriteThin(Full, Thin, WriteSuite):
    pass


@pytest.mark.usefixtures("_small")
class TestWriteToSeveral(Full, Several, WriteSuite):
    def full(self):
        (self.small / "one").mkdir()
        (self.small / "two").mkdir()
        return FilesystemStore(data_dirs=[f"{self.small}/one:5", f"{self.small}/two"])


class TestList(Place, ListSuite):
    pass


class TestListOfSeveral(Several, ListSuite):
    pass


class TestExtents(Place, ExtentSuite):
    pass


class TestExtentsThin(Thin, ExtentSuite):
    pass


class TestUpload(Place, UploadSuite):
    pass


class TestUploadThin(Thin, UploadSuite):
    pass


class TestUploadToSeveral(Several, UploadSuite):
    pass
