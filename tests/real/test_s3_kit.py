"""The S3 driver, alone and in its layers, against every S3 that runs here."""

from __future__ import annotations

import functools
import io
import threading

import pytest

from imgstore.backends.s3 import S3Store
from imgstore.errors import AlreadyExistsError, NotFoundError
from imgstore.stack import LayerSettings, build
from imgstore.testing.conformance import ListSuite, ReadSuite, UploadSuite, WriteSuite, _errors
from imgstore.testing.conformance._base import SIZE, Background, fresh_key, pattern
from imgstore.testing.conformance._puts import Trickle
from tests.real.servers.s3 import S3

SERVERS = {
    "moto": lambda request: request.getfixturevalue("moto").s3,
    "radosgw": lambda request: request.getfixturevalue("ceph").s3,
    "radosgw-tls": lambda request: request.getfixturevalue("ceph").s3_tls,
    "swift": lambda request: request.getfixturevalue("swift").s3,
}


def store_at(s3: S3, bucket: str = "kit", **options) -> S3Store:
    options = {"upload_part_size": 5 << 20, "max_concurrency": 2, **options}
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
        self.s3, self.client = bucket(self.server)

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
            s3 = SERVERS[server](request)
            client = s3.client()
            client.create_bucket(Bucket="kit")
            made[server] = s3, client
        return made[server]

    yield make
    for _, client in made.values():
        client.close()


class TestMotoReads(Kit, ReadSuite):
    server = "moto"

    def test_keys_are_never_normalised(self, monkeypatch):
        """Its router takes no line break in a path."""
        names = [name for name in _errors.LOOKALIKES if "\n" not in name]
        monkeypatch.setattr(_errors, "LOOKALIKES", names)
        super().test_keys_are_never_normalised()


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


class TestSwiftReads(Kit, ReadSuite):
    server = "swift"


class TestSwiftWrites(Kit, WriteSuite):
    server = "swift"

    def test_one_of_many_puts_wins(self):
        """Swift looks for an object before it takes one, and not as it stores it: several may win."""
        key = fresh_key()
        barrier = threading.Barrier(4, timeout=10)

        def put(seed):
            source = Trickle(pattern(SIZE, seed), before=lambda reads: reads > 1 or barrier.wait())
            self.writer.put(key, source)

        workers = [Background(functools.partial(put, seed)) for seed in range(4)]
        assert all(worker.join(30) for worker in workers)
        errors = [worker.error for worker in workers if worker.error is not None]
        assert len(errors) < 4
        assert all(isinstance(error, AlreadyExistsError) for error in errors)
        assert self.read(key) in [pattern(SIZE, seed) for seed in range(4)]


class TestSwiftUploads(Kit, UploadSuite):
    server = "swift"


class TestSwiftLists(Kit, ListSuite):
    server = "swift"


class Stacked(Kit):
    """The store in all its layers; some cases hold several streams at once, so a few permits."""

    server = "radosgw"

    def store(self):
        return build(super().store(), LayerSettings(max_streams=16))

    def test_options_are_the_arguments(self):
        assert self.subject.OPTIONS == S3Store.OPTIONS


class TestStackReads(Stacked, ReadSuite):
    pass


class TestStackWrites(Stacked, WriteSuite):
    pass


class TestStackUploads(Stacked, UploadSuite):
    pass


@pytest.mark.parametrize("server", ["radosgw", "swift"])
def test_an_image_in_parts_is_read_and_deleted_by_its_version(bucket, server):
    """The kit's images are smaller than a part."""
    s3, _ = bucket(server)
    data = pattern((5 << 20) + 17, 1)
    with store_at(s3) as store:
        version = store.writer.put(key := fresh_key(), io.BytesIO(data)).version
        with store.get(key, 5 << 20, version=version) as stream:
            assert stream.read() == data[5 << 20 :]
        store.writer.delete(key, version=version)
        with pytest.raises(NotFoundError):
            store.stat(key)
