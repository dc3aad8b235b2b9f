"""The S3 driver, alone and in its layers, against every S3 that runs here."""

from __future__ import annotations

import pytest

from imgstore.backends.s3 import S3Store
from imgstore.stack import LayerSettings, build
from imgstore.testing.conformance import ListSuite, ReadSuite, UploadSuite, WriteSuite
from tests.real.servers.s3 import S3

SERVERS = {
    "moto": lambda request: request.getfixturevalue("moto").s3,
    "radosgw": lambda request: request.getfixturevalue("ceph").s3,
    "radosgw-tls": lambda request: request.getfixturevalue("ceph").s3_tls,
    "swift": lambda request: request.getfixturevalue("swift").s3,
}


def store_at(s3: S3, bucket: str = "kit", **options) -> S3Store:
    options = {"part_size": 5 << 20, "max_concurrency": 2, **options}
    return S3Store(
        bucket=bucket,
        endpoint_url=s3.url,
        region=s3.region,
        addressing="path",
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        ca_file=str(s3.ca) if s3.ca else None,
        trust_env=False,
        **options,
    )


class Kit:
    """The place: a bucket, filled by a client of boto3's behind the store's back."""

    server: str

    @pytest.fixture(autouse=True)
    def on(self, request, bucket) -> None:
        self.s3 = bucket(self.server)
        self.client = self.s3.client()
        yield
        self.client.close()

    def store(self):
        return store_at(self.s3)

    def seed(self, key, data):
        self.client.put_object(Bucket="kit", Key=key, Body=data)

    replace = seed

    def remove(self, key):
        self.client.delete_object(Bucket="kit", Key=key)

    def unreachable(self):
        return S3Store(
            bucket="kit",
            endpoint_url="http://127.0.0.1:1",
            access_key=self.s3.access_key,
            secret_key=self.s3.secret_key,
            trust_env=False,
        )

    def secrets(self):
        return [self.s3.secret_key]


@pytest.fixture(scope="module")
def bucket(request):
    """Gives what makes a server's bucket when it is first asked for."""
    made = {}

    def make(server):
        if server not in made:
            made[server] = SERVERS[server](request)
            client = made[server].client()
            client.create_bucket(Bucket="kit")
            client.close()
        return made[server]

    return make


class TestMotoReads(Kit, ReadSuite):
    server = "moto"


class TestMotoWrites(Kit, WriteSuite):
    server = "moto"


class TestMotoUploads(Kit, UploadSuite):
    server = "moto"


class TestMotoLists(Kit, ListSuite):
    server = "moto"


class TestRadosgwReads(Kit, ReadSuite):
    server = "radosgw"


class TestRadosgwWrites(Kit, WriteSuite):
    server = "radosgw"


class TestRadosgwUploads(Kit, UploadSuite):
    server = "radosgw"


class TestRadosgwLists(Kit, ListSuite):
    server = "radosgw"


class TestRadosgwTlsReads(Kit, ReadSuite):
    server = "radosgw-tls"


class TestRadosgwTlsWrites(Kit, WriteSuite):
    server = "radosgw-tls"


class TestRadosgwTlsUploads(Kit, UploadSuite):
    server = "radosgw-tls"


class TestRadosgwTlsLists(Kit, ListSuite):
    server = "radosgw-tls"


class TestSwiftReads(Kit, ReadSuite):
    server = "swift"


class TestSwiftWrites(Kit, WriteSuite):
    server = "swift"


class TestSwiftUploads(Kit, UploadSuite):
    server = "swift"


class TestSwiftLists(Kit, ListSuite):
    server = "swift"
