"""What a put takes of memory: (max_concurrency + 1) parts, whatever the size of the image."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.real.test_s3_kit import store_at

MIB = 1 << 20
PART = 8 * MIB
SIZE = 192 * MIB
SLACK = 6 * MIB  # a read of the source, replies, what threads and malloc keep

PROGRAM = """
import os, sys
from benchmarks.child import peak
from tests.real.servers.s3 import S3
from tests.real.test_s3_kit import store_at

class Source:
    left = 0
    def read(self, size):
        count = min(size, self.left)
        self.left -= count
        return bytes(count)

url, access_key, workers, part, size = sys.argv[1:]
s3 = S3(url, access_key, os.environ["SECRET"])
store = store_at(s3, "memory", upload_part_size=int(part), max_concurrency=int(workers), create_bucket=True)
source = Source()
source.left = 1000
store.writer.put("small", source, overwrite=True)
before = peak()
source.left = int(size)
store.writer.put("large", source, overwrite=True)
print(peak() - before)
"""


@pytest.mark.parametrize("workers, parts", [(1, 1), (4, 5)])
def test_a_put_takes_its_parts_and_no_more(ceph, workers, parts):
    s3 = ceph.s3
    argv = [sys.executable, "-c", PROGRAM, s3.url, s3.access_key, str(workers), str(PART), str(SIZE)]
    done = subprocess.run(
        argv, check=True, capture_output=True, text=True, env={**os.environ, "SECRET": s3.secret_key}
    )
    taken = int(done.stdout)
    assert taken <= parts * PART + SLACK
    with store_at(s3, "memory") as store:
        assert store.stat("large").size == SIZE
        store.writer.delete("large")
