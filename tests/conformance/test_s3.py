"""The kit on the S3 driver, alone and in its layers, over an S3 that keeps every rule."""

from __future__ import annotations

from typing import ClassVar

import pytest

from imgstore.backends.s3 import S3Store
from imgstore.stack import LayerSettings, build
from imgstore.testing.conformance import ListSuite, ReadSuite, UploadSuite, WriteSuite
from imgstore.testing.conformance._base import SIZE
from tests import canary
from tests.faults.s3_rig import store_at
from tests.faults.s3_server import Fault, S3Server


class OnFake:
    """The place: the server's own dictionary."""

    options: ClassVar[dict] = {}

    @pytest.fixture(autouse=True)
    def on(self):
        self.server = S3Server(**self.options).start()
        yield
        self.server.stop()

    def store(self):
        return store_at(self.server)

    def seed(self, key, data):
        self.server.put(key, data)

    replace = seed

    def remove(self, key):
        self.server.remove(key)

    def stall(self, key):
        self.server.script("GetObject", *[Fault(stall=True)] * 20)

    def full(self):
        self.server.room = SIZE // 2
        return self.store()

    def unreachable(self):
        store = self.store()
        self.server.made = False
        self.server.denied = {"HeadObject"}
        return store

    def secrets(self):
        return [canary.PASSWORD]


@pytest.mark.wide
class TestReads(OnFake, ReadSuite):
    pass


class TestWrites(OnFake, WriteSuite):
    pass


class TestUploads(OnFake, UploadSuite):
    pass


@pytest.mark.wide
class TestLists(OnFake, ListSuite):
    @pytest.fixture(autouse=True)
    def on_pages(self, on):
        self.server.page = 7


@pytest.mark.wide
class TestReadsOfVersions(TestReads):
    """A bucket that keeps versions; one that is removed here is gone for good."""

    options: ClassVar[dict] = {"versioned": True}

    def remove(self, key):
        self.server.objects[key] = []


@pytest.mark.wide
class TestWritesOfVersions(TestWrites):
    options: ClassVar[dict] = {"versioned": True}


@pytest.mark.wide
class TestUploadsOfVersions(TestUploads):
    options: ClassVar[dict] = {"versioned": True}


@pytest.mark.wide
class TestUploadsWithoutChecks(TestUploads):
    """A service that compares nothing, as radosgw does not compare CRC32."""

    options: ClassVar[dict] = {"checks": False}


@pytest.mark.wide
class TestUploadsUnderKms(TestUploads):
    """One whose ETags are no digests."""

    options: ClassVar[dict] = {"md5_etags": False}


class Stacked(OnFake):
    def store(self):
        return build(super().store(), LayerSettings(resume_attempts=2, max_streams=16))

    def test_options_are_the_arguments(self):
        assert self.subject.OPTIONS == S3Store.OPTIONS


@pytest.mark.wide
class TestStackWrites(Stacked, WriteSuite):
    pass


@pytest.mark.wide
class TestStackUploads(Stacked, UploadSuite):
    pass


@pytest.mark.wide
class TestStackLists(Stacked, ListSuite):
    pass
