"""A RangeFile over HTTP is a raw file: whole, and with every connection cut."""

from __future__ import annotations

import pytest

from imgstore.files import open_image
from imgstore.testing import server as wire
from tests.faults import rows
from tests.faults.rows import PATH
from tests.raw_file import RawFileSuite

rig = rows.rig


class TestHttp(RawFileSuite):
    @pytest.fixture(autouse=True)
    def served(self, rig):
        self.rig = rig

    def opened(self, data):
        self.rig.put(data)
        return open_image(*self.rig.store(max_streams=1))


class TestHttpWithCuts(TestHttp):
    def opened(self, data):
        for at in range(3, len(data), 1 + len(data) // 7):
            self.rig.server.trap(PATH, wire.Cut(at=at))
        return super().opened(data)
