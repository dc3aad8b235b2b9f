"""What the drivers' tests stand on: each server answers its own client, dies and returns as it is told."""

from __future__ import annotations

import gc
import socket
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import swiftclient
import urllib3
from botocore.exceptions import ClientError
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from tests.real.putting import DATA, PART, get_s3, get_swift, put_s3, put_swift


@pytest.fixture(autouse=True)
def collected():
    """Ends the connections that only an exception or a cycle still holds: the clients close no others."""
    yield
    gc.collect()


def of(request, where):
    """Gives what a dotted name says of a fixture: "ceph.s3"."""
    fixture, *names = where.split(".")
    found = request.getfixturevalue(fixture)
    for name in names:
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("where", ["ceph.s3", "ceph.s3_tls", "swift.s3", "moto.s3"])
def test_s3_puts_and_gets_a_range(request, where):
    s3 = of(request, where)
    put_s3(s3, "daemons")
    assert get_s3(s3, "daemons") == DATA[PART]


@pytest.mark.parametrize("where", ["ceph.s3", "swift.s3", "moto.s3"])
def test_s3_takes_the_bucket_in_the_name_of_the_host(request, where):
    s3 = of(request, where)
    put_s3(s3, "hosted")
    port = urlsplit(s3.url).port
    client = replace(s3, url=f"http://localhost:{port}").client(addressing="virtual")
    url = client.generate_presigned_url("get_object", {"Bucket": "hosted", "Key": "a"})
    client.close()
    assert url.startswith(f"http://hosted.localhost:{port}/a?")
    with urllib3.PoolManager() as pool:
        # Not every resolver knows the names below localhost.
        address = url.replace("hosted.localhost", "127.0.0.1")
        assert pool.request("GET", address, headers={"Host": f"hosted.localhost:{port}"}).data == DATA


def test_radosgw_encrypts_with_a_key_of_its_own(ceph):
    client = ceph.s3_tls.client()
    client.create_bucket(Bucket="encrypted")
    client.put_object(
        Bucket="encrypted", Key="a", Body=DATA, ServerSideEncryption="aws:kms", SSEKMSKeyId=ceph.kms_key
    )
    assert client.head_object(Bucket="encrypted", Key="a")["ServerSideEncryption"] == "aws:kms"
    client.close()
    assert get_s3(ceph.s3_tls, "encrypted") == DATA[PART]


def test_another_user_of_radosgw_is_denied(ceph):
    put_s3(ceph.s3, "private")
    with pytest.raises(ClientError, match="AccessDenied"):
        get_s3(ceph.s3_other, "private")


@pytest.mark.parametrize(
    "where", ["ceph.account", "ceph.account_tls", "swift.tester", "swift_keystone.keystone.tester"]
)
def test_swift_puts_and_gets_a_range(request, where):
    account = of(request, where)
    put_swift(account.client(), "daemons")
    assert get_swift(account.client(), "daemons") == DATA[PART]


def test_swift_takes_an_application_credential(swift_keystone):
    identity, secret = swift_keystone.keystone.credential
    session = Session(
        v3.ApplicationCredential(
            swift_keystone.keystone.auth,
            application_credential_id=identity,
            application_credential_secret=secret,
        )
    )
    try:
        put_swift(swiftclient.Connection(session=session, retries=0), "credential")
        assert get_swift(swiftclient.Connection(session=session, retries=0), "credential") == DATA[PART]
    finally:
        session.session.close()


@pytest.mark.parametrize("where", ["swift", "swift_keystone.keystone"])
def test_a_reader_and_another_account_are_denied(request, where, swift_keystone):
    server = of(request, where)
    owner = server.tester.client()
    url, _ = owner.get_auth()
    put_swift(owner, "denied")
    for account in (server.reader, server.other):
        stranger = account.client()
        stranger.url, stranger.token = url, stranger.get_auth()[1]
        with pytest.raises(swiftclient.ClientException) as refused:
            get_swift(stranger, "denied")
        assert refused.value.http_status == 403


def revoke(keystone, token):
    headers = {"X-Auth-Token": token, "X-Subject-Token": token}
    with urllib3.PoolManager() as pool:
        assert pool.request("DELETE", f"{keystone.auth}/auth/tokens", headers=headers).status == 204


def status(url, token):
    with urllib3.PoolManager() as pool:
        return pool.request("HEAD", url, headers={"X-Auth-Token": token}).status


def test_tempauth_forgets_its_tokens(swift):
    connection = swift.tester.client()
    url, token = connection.get_auth()
    connection.close()
    assert status(url, token) in {200, 204}
    swift.forget_tokens()
    assert status(url, token) == 401
    put_swift(swift.tester.client(), "forgotten")


def test_a_revoked_token_ends_within_two_seconds(swift_keystone):
    connection = swift_keystone.keystone.tester.client()
    url, token = connection.get_auth()
    connection.close()
    assert status(url, token) in {200, 204}
    revoke(swift_keystone.keystone, token)
    end = time.monotonic() + 2
    while status(url, token) != 401:
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def pool(rbd_ceph):
    """Gives the image service's view of the pool."""
    import rados

    with (
        rados.Rados(conffile=str(rbd_ceph.conf), rados_id=rbd_ceph.user) as cluster,
        cluster.open_ioctx(rbd_ceph.pool) as pool,
    ):
        yield pool


def test_rbd_writes_and_reads(pool):
    import rbd

    rbd.RBD().create(pool, "daemons", 8 << 20)
    with rbd.Image(pool, "daemons") as image:
        image.write(DATA, 0)
    with rbd.Image(pool, "daemons", read_only=True) as image:
        assert image.read(PART.start, PART.stop - PART.start) == DATA[PART]
    rbd.RBD().remove(pool, "daemons")


def test_the_reader_of_rbd_may_not_write(rbd_ceph):
    import rados
    import rbd

    with (
        rados.Rados(conffile=str(rbd_ceph.conf), rados_id=rbd_ceph.reader) as cluster,
        cluster.open_ioctx(rbd_ceph.pool) as pool,
    ):
        assert isinstance(rbd.RBD().list(pool), list)
        with pytest.raises(rbd.PermissionError):
            rbd.RBD().create(pool, "not-mine", 8 << 20)


def test_the_tools_of_ceph_speak_to_the_cluster(ceph):
    assert ceph.pool in ceph.tool("ceph", "osd", "pool", "ls").split()


@pytest.mark.parametrize(
    "where, daemon",
    [
        ("ceph", "rgw"),
        ("ceph", "osd"),
        ("ceph", "mon"),
        ("swift", "proxy"),
        ("swift", "object"),
        ("swift", "container"),
        ("swift", "account"),
    ],
)
def test_objects_survive_kill9(request, where, daemon):
    server = of(request, where)
    bucket = f"survivor-{daemon}"
    put_s3(server.s3, bucket)
    before = server.processes()
    server.kill9(daemon)
    server.up(daemon)
    after = server.processes()
    assert get_s3(server.s3, bucket) == DATA[PART]
    assert {name for name in before if before[name] != after[name]} == {daemon}


def test_keystone_knows_its_users_after_kill9(keystone):
    keystone.kill9("keystone")
    keystone.up("keystone")
    session = Session(
        v3.Password(
            keystone.auth,
            username=keystone.tester.user,
            password=keystone.tester.key,
            user_domain_name=keystone.domain,
            project_name=keystone.tester.project,
            project_domain_name=keystone.domain,
        )
    )
    try:
        assert session.get_token()
    finally:
        session.session.close()


def test_moto_returns_empty(moto):
    put_s3(moto.s3, "memory")
    moto.kill9("moto")
    moto.up("moto")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        get_s3(moto.s3, "memory")


def answer(url, patience=20.0):
    """Gives the first bytes of the answer to a request, or none where there is silence for that long."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=patience) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        try:
            return connection.recv(5)
        except TimeoutError:
            return b""


def settled(url):
    """What a server answers when its process is gone: being killed, it takes connections and resets them."""
    for _ in range(20):
        try:
            return answer(url)
        except ConnectionResetError:
            time.sleep(0.05)
    raise AssertionError("it resets every connection")


@pytest.mark.parametrize(
    "where, daemon, name",
    [
        ("ceph", "rgw", "RGW_URL"),
        ("swift", "proxy", "SWIFT_URL"),
        ("keystone", "keystone", "KEYSTONE_AUTH"),
        ("moto", "moto", "MOTO_URL"),
        ("nginx", "nginx", "NGINX_URL"),
    ],
)
def test_paused_is_silent_and_killed_is_refused(request, where, daemon, name):
    server = of(request, where)
    url = server.env[name]
    server.pause(daemon)
    assert not answer(url, patience=0.5)
    server.cont(daemon)
    assert answer(url) == b"HTTP/"
    server.kill9(daemon)
    with pytest.raises(ConnectionRefusedError):
        settled(url)
    server.come_back()
    assert answer(url) == b"HTTP/"


def test_a_cluster_comes_back_from_a_stop_with_its_data(ceph):
    put_s3(ceph.s3, "stopped")
    before = ceph.processes()
    ceph.stop()
    assert not any(Path(f"/proc/{process}/exe").exists() for process in before.values())
    ceph.come_back()
    assert get_s3(ceph.s3, "stopped") == DATA[PART]
