"""What the tests of the Swift driver share: stores over the fake Swift, alone and in their layers."""

from __future__ import annotations

import contextlib
import hashlib
import random

from imgstore import stack
from imgstore.backends.swift import SwiftStore
from imgstore.clock import SystemClock
from tests import canary
from tests.faults.swift_server import SwiftServer

SEGMENT = 64 << 10
IMAGE = random.Random(4).randbytes(3 * SEGMENT + 17)
SMALL = IMAGE[:5000]


def store_at(server, **options):
    return SwiftStore(
        **{
            "auth_url": f"{server.url}/auth/v1.0",
            "auth_version": "1",
            "user": "test:tester",
            "password": canary.PASSWORD,
            "create_container": True,
            "segment_size": SEGMENT,
            "trust_env": False,
            **options,
        }
    )


class Clock(SystemClock):
    """The machine's clock, `ahead` of the time by so much; pauses are noted instead of slept."""

    def __init__(self):
        self.ahead = 0.0
        self.pauses = []

    def time(self):
        return super().time() + self.ahead

    def sleep(self, seconds, wake=None):
        self.pauses.append(seconds)


class Rig:
    """A Swift, and stores over it: `driver` alone, `store` in all its layers, whose pauses take no time."""

    def __init__(self, **options):
        self.server = SwiftServer(secret=canary.PASSWORD, **options).start()
        self.clock = Clock()
        self.events = []
        self._stores = []

    def driver(self, **options):
        store = store_at(self.server, **options)
        store.store_id = "fake"
        store.clock = self.clock
        self._stores.append(store)
        return store

    def store(self, *, resume_attempts=4, stall_timeout=5.0, **options):
        settings = stack.LayerSettings(resume_attempts=resume_attempts, stall_timeout=stall_timeout)
        return stack.build(self.driver(**options), settings, clock=self.clock, observe=self.events.append)

    def put_large(self, key="large", data=IMAGE):
        """Stores a static large object as the driver would, and gives its segments' names."""
        upload, slo, names = "0123456789abcdef" * 2, [], []
        for number, at in enumerate(range(0, len(data), SEGMENT)):
            names.append(f"{key}/{upload}/{number:08}-{at}-0a1b2c3d")
            part = self.server.put("images_segments", names[-1], data[at : at + SEGMENT])
            path = f"/images_segments/{names[-1]}"
            slo.append({"path": path, "etag": part.etag, "size_bytes": len(part.data)})
        found = self.server.put("images", key, b"", slo=slo, meta={"X-Object-Meta-Imgstore-Upload": upload})
        found.etag = hashlib.md5("".join(each["etag"] for each in slo).encode()).hexdigest()
        return names

    def put_dynamic(self, key="dynamic", sizes=(1000, 1000, 500), first=1):
        """Stores a dynamic large object as Glance does; gives its bytes."""
        data, at = IMAGE[: sum(sizes)], 0
        for number, size in enumerate(sizes, first):
            self.server.put("images", f"{key}-{number:05}", data[at : at + size])
            at += size
        self.server.put("images", key, b"", dlo=f"images/{key}-")
        return data

    def object(self, key):
        return self.server.containers["images"][key]

    def segments(self):
        return self.server.names("images_segments")

    def close(self):
        for store in self._stores:
            store.close()
        self.server.stop()


@contextlib.contextmanager
def rig(**options):
    made = Rig(**options)
    try:
        yield made
    finally:
        made.close()


def read(store, key, offset=0, length=None, **options):
    with store.get(key, offset, length, **options) as stream:
        return stream.read()
