"""What the tests of the S3 driver share: stores over the scripted S3, alone and in their layers."""

from __future__ import annotations

import contextlib
import random

from imgstore import stack
from imgstore.backends.s3 import S3Store
from imgstore.clock import SystemClock
from tests import canary
from tests.faults.s3_server import S3Server

PART = 5 << 20
IMAGE = random.Random(4).randbytes(2 * PART + 17)
SMALL = IMAGE[: 200 << 10]


def store_at(server: S3Server, **options) -> S3Store:
    options = {
        "upload_part_size": PART,
        "max_concurrency": 2,
        "access_key": server.access_key,
        "secret_key": canary.PASSWORD,
        "region": "us-east-1",
        "trust_env": False,
        **options,
    }
    return S3Store(bucket=server.bucket, endpoint_url=server.url, addressing="path", **options)


class Clock(SystemClock):
    """The machine's clock, but pauses are noted instead of slept."""

    def __init__(self):
        self.pauses = []
        self.skipped = 0.0

    def time(self):
        return super().time() + self.skipped

    def sleep(self, seconds, wake=None):
        self.pauses.append(seconds)


class Rig:
    """An S3, and stores over it: `driver` alone, `store` in all its layers, with pauses that take no time."""

    def __init__(self, **options):
        self.server = S3Server(**options).start()
        self.clock = Clock()
        self.events = []
        self._stores = []

    def driver(self, **options):
        store = store_at(self.server, **options)
        store.clock = self.clock
        self._stores.append(store)
        return store

    def store(self, *, resume_attempts=4, stall_timeout=5.0, **options):
        settings = stack.LayerSettings(resume_attempts=resume_attempts, stall_timeout=stall_timeout)
        return stack.build(self.driver(**options), settings, clock=self.clock, observe=self.events.append)

    def resumed(self):
        return sum(event.kind == "resumed" for event in self.events)

    def reap(self, store):
        """Drops every upload two hours later, as an operator would."""
        self.clock.skipped = 7200.0
        for pending in list(store.uploader.uploads(older_than=3600)):
            store.uploader.abort(pending.token)
        return self.server.left()

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
