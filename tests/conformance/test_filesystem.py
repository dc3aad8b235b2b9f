"""The filesystem driver, proven with the kit; for now the reading half."""

from __future__ import annotations

import os

import pytest

from imgstore.backends.filesystem import FilesystemStore
from imgstore.publish import PendingFile
from imgstore.testing.conformance import ReadSuite


class TestRead(ReadSuite):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    def store(self):
        return FilesystemStore(data_dir=self.folder)

    def seed(self, key, data):
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with PendingFile(path, overwrite=True) as pending:
            pending.write(data)
            pending.publish()

    def replace(self, key, data):
        self.seed(key, data)

    def remove(self, key):
        os.unlink(self.folder / key)
