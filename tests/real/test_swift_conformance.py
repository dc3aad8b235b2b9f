"""The conformance kit on real Swift (tempauth, Keystone) and on radosgw's Swift API."""

from __future__ import annotations

import io

import pytest

from imgstore.backends.swift import SwiftStore
from imgstore.testing.conformance import ListSuite, ReadSuite, UploadSuite, WriteSuite
from tests import canary
from tests.real.conftest import Ceph, Swift, SwiftKeystone

# The kit's large image is 9 MiB: in segments here, ten of which Swift serves without slowing down.
SEGMENT = 1 << 20


def first_version(account, **options):
    """Gives a store of a user of tempauth's or radosgw's."""
    return SwiftStore(
        auth_url=account.auth,
        auth_version="1",
        user=account.user,
        password=account.key,
        **{"container": "kit", "create_container": True, "segment_size": SEGMENT, **options},
    )


def keystone_options(servers):
    """Gives the options of a login by password."""
    tester = servers.keystone.tester
    return {
        "auth_url": tester.auth,
        "user": tester.user,
        "password": tester.key,
        "project_name": tester.project,
        "region": servers.keystone.region,
    }


class OnSwift:
    """The hooks of the kit: the driver's own writer seeds."""

    @pytest.fixture(autouse=True)
    def on(self, swift: Swift) -> None:
        self.make = lambda: first_version(swift.tester)

    def store(self):
        return self.make()

    def seed(self, key, data):
        with self.make() as store:
            store.writer.put(key, io.BytesIO(data), len(data))

    def replace(self, key, data):
        with self.make() as store:
            store.writer.put(key, io.BytesIO(data), len(data), overwrite=True)

    def remove(self, key):
        with self.make() as store:
            store.writer.delete(key)

    def unreachable(self):
        return SwiftStore(
            auth_url="http://127.0.0.1:9/auth/v1.0", auth_version="1", user="u", password=canary.PASSWORD
        )

    def secrets(self):
        return [canary.PASSWORD]


class OnKeystone(OnSwift):
    """The same, logged in by Keystone with a password."""

    @pytest.fixture(autouse=True)
    def on(self, swift_keystone: SwiftKeystone) -> None:
        options = keystone_options(swift_keystone)
        self.make = lambda: SwiftStore(
            **options, container="kit", create_container=True, segment_size=SEGMENT
        )


class OnRadosgw(OnSwift):
    """The same, on radosgw."""

    @pytest.fixture(autouse=True)
    def on(self, ceph: Ceph) -> None:
        self.make = lambda: first_version(ceph.account)


class TestReadSwift(OnSwift, ReadSuite):
    """Reads."""


class TestWriteSwift(OnSwift, WriteSuite):
    """Puts, deletes and copies."""


class TestUploadSwift(OnSwift, UploadSuite):
    """Uploads."""


class TestListSwift(OnSwift, ListSuite):
    """Listings."""


class TestReadKeystone(OnKeystone, ReadSuite):
    """Reads."""


class TestWriteKeystone(OnKeystone, WriteSuite):
    """Puts, deletes and copies."""


class TestUploadKeystone(OnKeystone, UploadSuite):
    """Uploads."""


class TestListKeystone(OnKeystone, ListSuite):
    """Listings."""

    many = 20


class TestReadRadosgw(OnRadosgw, ReadSuite):
    """Reads."""


class TestWriteRadosgw(OnRadosgw, WriteSuite):
    """Puts, deletes and copies."""


class TestUploadRadosgw(OnRadosgw, UploadSuite):
    """Uploads."""


class TestListRadosgw(OnRadosgw, ListSuite):
    """Listings."""

    many = 20
