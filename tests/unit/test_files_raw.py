"""A RangeFile is a raw file: over memory and over a folder, bare and in layers, read ahead or not."""

from __future__ import annotations

import io

import pytest

from imgstore import stack
from imgstore.backends.filesystem import FilesystemStore
from imgstore.backends.memory import MemoryStore
from imgstore.files import open_image
from tests.raw_file import RawFileSuite


class TestMemory(RawFileSuite):
    def opened(self, data):
        store = MemoryStore()
        store.writer.put("images/disk", io.BytesIO(data))
        return open_image(store, "images/disk")


class TestMemoryInLayersWithoutReadAhead(RawFileSuite):
    def opened(self, data):
        store = MemoryStore()
        store.writer.put("disk", io.BytesIO(data))
        return open_image(stack.build(store, stack.LayerSettings(max_streams=1)), "disk", read_ahead=0)


class TestFolder(RawFileSuite):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.path = tmp_path

    def opened(self, data):
        (self.path / "disk").write_bytes(data)
        return open_image(stack.build(FilesystemStore(data_dir=str(self.path))), "disk")
