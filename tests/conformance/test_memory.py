"""The memory driver, proven with the kit."""

from __future__ import annotations

import io

from imgstore.backends.memory import MemoryStore
from imgstore.testing.conformance import ExtentSuite, ListSuite, ReadSuite, UploadSuite, WriteSuite


class Place:
    """One memory store for each case."""

    def setup_method(self):
        super().setup_method()
        self.memory = MemoryStore()

    def store(self):
        return self.memory

    def seed(self, key, data):
        self.memory.writer.put(key, io.BytesIO(data))

    def replace(self, key, data):
        self.memory.writer.put(key, io.BytesIO(data), overwrite=True)

    def remove(self, key):
        self.memory.writer.delete(key)


class TestRead(Place, ReadSuite):
    pass


class TestWrite(Place, WriteSuite):
    def full(self):
        return MemoryStore(capacity=1000)


class TestWriteWithinACapacity(Place, WriteSuite):
    alone = True

    def setup_method(self):
        super().setup_method()
        self.memory = MemoryStore(capacity=1 << 30)

    def full(self):
        return MemoryStore(capacity=1000)


class TestUpload(Place, UploadSuite):
    pass


class TestUploadOfLimitedParts(Place, UploadSuite):
    def setup_method(self):
        super().setup_method()
        self.memory = MemoryStore(min_part=5000, max_part=9000, max_parts=5, ordered=True)


class TestList(Place, ListSuite):
    pass


class TestExtents(Place, ExtentSuite):
    pass
