"""One stream into one store: what is counted and hashed however the store reads it."""

import hashlib
import io
import random

import pytest

from imgstore.backends._intake import Cutter, Digests, Intake
from imgstore.backends.memory import MemoryStore
from imgstore.transfer.progress import Report
from imgstore.transfer.sparse import open_source
from imgstore.transfer.upload import upload

KEY = "image"
DATA = random.Random(1).randbytes((1 << 20) + 5) + bytes(1 << 20) + b"end"


class Cutting:
    """The writer of a store that reads its sources into memory of its own, as those of S3 and Swift do."""

    def __init__(self, store):
        self._store, self._inner = store, store.writer

    def put(self, key, source, size=None, *, overwrite=False, digests=None, call):
        cutter = Cutter(Intake(source, size, Digests(digests), self._store.clock, call).pieces)
        memory = memoryview(bytearray(size))
        assert cutter.fill(memory) == size
        assert cutter.ended
        return self._inner.put(key, io.BytesIO(memory), size, overwrite=overwrite, digests=digests, call=call)


@pytest.mark.parametrize("digest", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("cuts", [False, True])
def test_each_byte_is_stored_counted_and_hashed_once(digest, sparse, cuts):
    with MemoryStore() as origin, MemoryStore() as store:
        origin.writer.put(KEY, io.BytesIO(DATA))
        if cuts:
            store.writer = Cutting(store)
        report = Report()
        with open_source(origin, KEY) if sparse else origin.get(KEY) as stream:
            upload(stream, store, KEY, report=report, digest=digest)
        with store.get(KEY) as stored:
            assert stored.read() == DATA
    assert report.bytes == len(DATA)
    assert report.digests == ({"sha256": hashlib.sha256(DATA).hexdigest()} if digest else {})
