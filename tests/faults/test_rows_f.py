"""Rows F: little memory, and a sink slower than its source."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from imgstore.model import ByteRange, ObjectInfo
from imgstore.stack import build
from imgstore.store import Store, unknown
from imgstore.stream import Opened
from imgstore.transfer.copy import BUFFER, copy
from imgstore.transfer.progress import Report

MIB = 1 << 20

# Copies a file of holes, and reads a stretch of an image of that size that is all data, under a limit on the
# memory of the process; tells the peak in KiB.
CHILD = """
import json, os, resource, sys
from imgstore.backends.filesystem import FilesystemStore
from imgstore.model import ByteRange, ObjectInfo
from imgstore.publish import PendingFile
from imgstore.stack import LayerSettings, build
from imgstore.store import Store
from imgstore.stream import Opened
from imgstore.transfer.copy import copy
from imgstore.transfer.progress import Report
from imgstore.transfer.sparse import open_source

folder, size, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

class Endless(Store):
    def _open(self, key, start, stop, version, call):
        return Opened(Raw(), ObjectInfo(key, size, "v1"), ByteRange(start, size))
    def translate(self, exc):
        raise exc

class Raw:
    def readinto(self, buffer):
        return len(buffer)
    def abort(self): pass
    def close(self): pass

with build(FilesystemStore(data_dir=folder), LayerSettings(max_streams=1)) as store:
    with open_source(store, "image") as source, PendingFile(os.path.join(folder, "copy")) as target:
        report = Report()
        copy(source, target, report=report)
    info = store.stat("copy")
with build(Endless(), LayerSettings(max_streams=1, rate_limit=1 << 50)) as store:
    with store.get("image") as stream:
        read = 0
        for piece in stream.chunks():
            read += len(piece)
            if read >= min(size, 512 << 20):
                break
# ru_maxrss would be that of the parent, where it was larger before the exec
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
print(json.dumps({"peak": peak, "copied": report.bytes, "size": info.size}))
"""


def run(folder, size, limit):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, folder, str(size), str(limit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_f1_memory_does_not_grow_with_the_image(tmp_path, promise):
    peaks = {}
    for size in (MIB, 1 << 40):
        folder = tmp_path / str(size)
        folder.mkdir()
        with open(folder / "image", "wb") as image:
            image.truncate(size)
        told = run(folder, size, 256 * MIB)
        assert told["copied"] == told["size"] == size
        assert os.stat(folder / "copy").st_blocks * 512 <= MIB
        peaks[size] = told["peak"] * 1024
    promise(
        "P11", "MiB that a copy of 1 TiB takes beyond one of 1 MiB", (peaks[1 << 40] - peaks[MIB]) / MIB, 8
    )
    promise("P11", "MiB that a copy of 1 TiB takes", peaks[1 << 40] / MIB, 64)


class Counting(Store):
    """Gives as much as is asked for, and counts it."""

    def __init__(self, size):
        self.size = size
        self.sent = 0

    def _open(self, key, start, stop, version, call):
        return Opened(self, ObjectInfo(key, self.size, "v1"), ByteRange(start, self.size))

    def translate(self, exc):
        return unknown(exc)

    def readinto(self, buffer):
        self.sent += len(buffer)
        return len(buffer)

    def abort(self):
        pass


@pytest.mark.parametrize("size", [1, BUFFER, 10 * BUFFER + 7])
def test_f2_a_slow_sink_holds_the_source_back(size):
    ahead = []

    class Slow:
        taken = 0

        def write(self, data):
            ahead.append(source.sent - self.taken)
            self.taken += len(data)

        def publish(self, size=None):
            pass

    source, sink = Counting(size), Slow()
    with build(source).get("image") as stream:
        copy(stream, sink, report=Report())
    assert sink.taken == size
    assert max(ahead) <= BUFFER
