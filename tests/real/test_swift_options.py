"""What only real services show: ACLs, quotas, TLS, other programs' objects, and `imgstore check`."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from imgstore.errors import NoSpaceError, PermissionDeniedError, TlsError
from imgstore.model import NO_CALL
from imgstore.transfer.check import check
from tests.real.test_swift_conformance import first_version

SEGMENT = 1 << 20
DATA = os.urandom(2 * SEGMENT + 17)


def read(store, key):
    with store.get(key) as stream:
        return stream.read()


def test_an_image_is_opened_to_one_reader_and_closed_again(swift):
    owner = first_version(swift.tester, container="tenants", multi_tenant=True)
    with owner, first_version(swift.reader, container="tenants", multi_tenant=True) as reader:
        for key in ("large", "other"):
            owner.writer.put(key, io.BytesIO(DATA))
        with pytest.raises(PermissionDeniedError):
            reader.stat("large")
        owner.acls.set("large", ["test:reader"], [])
        assert read(reader, "large") == DATA
        with pytest.raises(PermissionDeniedError):
            reader.stat("other")
        with pytest.raises(PermissionDeniedError):
            reader.writer.put("large", io.BytesIO(b"x"), overwrite=True)
        owner.acls.set("large", [], [])
        with pytest.raises(PermissionDeniedError):
            reader.stat("large")
        for key in ("large", "other"):
            owner.writer.delete(key)
        assert not [name for name in owner.service.containers(call=NO_CALL) if name.startswith("tenants_")]


def test_a_project_that_may_always_read(swift):
    options = {"container": "admins", "multi_tenant": True, "admin_tenants": ["test:reader"]}
    with first_version(swift.tester, **options) as owner, first_version(swift.reader, **options) as reader:
        owner.writer.put("image", io.BytesIO(DATA))
        assert read(reader, "image") == DATA
        owner.writer.delete("image")


def test_a_quota_leaves_room_and_is_kept(swift):
    with first_version(swift.tester, container="quota") as store:
        store.writer.put("first", io.BytesIO(DATA[:1000]))
        assert store.space.free() is None
        store.service.post_container("quota", {"X-Container-Meta-Quota-Bytes": "5000"}, call=NO_CALL)
        assert store.space.free() == 4000
        with pytest.raises(NoSpaceError):
            store.writer.put("second", io.BytesIO(DATA[:6000]))
        assert [info.key for info in store.lister.list()] == ["first"]


def test_tls_is_verified_and_an_endpoint_goes_before_the_one_that_is_told(ceph):
    """This radosgw names its plain address, whoever asks."""
    plain = first_version(ceph.account)
    with plain:
        path = urlsplit(plain.service.access(NO_CALL).url).path
    account = ceph.account_tls
    where = urlsplit(account.auth)
    options = {"endpoint": f"{where.scheme}://{where.netloc}{path}", "container": "tls"}
    with first_version(account, **options) as store, pytest.raises(TlsError):
        store.stat("image")
    with first_version(account, ca_file=str(account.ca), **options) as store:
        store.writer.put("image", io.BytesIO(DATA))
        assert read(store, "image") == DATA
        store.writer.delete("image")


@pytest.mark.parametrize("how", ["--use-slo", "--use-dlo", None])
def test_what_the_swift_command_stored_is_read_and_deleted(swift, tmp_path, how):
    source = tmp_path / "image"
    source.write_bytes(DATA)
    tester = swift.tester
    command = Path(sys.executable).with_name("swift")
    options = ["-S", str(SEGMENT), how] if how else []
    subprocess.run(
        [command, "-q", "upload", *options, "--object-name", "image", "commanded", source],
        check=True,
        env={**os.environ, "ST_AUTH": tester.auth, "ST_USER": tester.user, "ST_KEY": tester.key},
        timeout=60,
    )
    with first_version(tester, container="commanded") as store:
        info = store.stat("image")
        assert info.size == len(DATA)
        assert read(store, "image") == DATA
        with store.get("image", SEGMENT - 5, 10, version=info.version) as stream:
            assert stream.read() == DATA[SEGMENT - 5 : SEGMENT + 5]
        store.copier.copy("image", "copy")
        store.writer.delete("image")
        assert read(store, "copy") == DATA
        store.writer.delete("copy")
        left = list(store.service.objects("commanded_segments", call=NO_CALL, missing_ok=True))
        assert not [each for each in left if not str(each["name"]).startswith(".")]


def test_check_walks_the_way_and_leaves_nothing(swift):
    with first_version(swift.tester, container="checked") as store:
        outcomes = list(check(store, store.steps(None), write=True, seconds=15))
        assert {each.result for each in outcomes} <= {"ok", "skipped"}
        assert [each.name for each in outcomes[:4]] == ["login", "account", "container", "multipart"]
        assert not list(store.lister.list())
        assert not list(store.service.objects("checked_segments", call=NO_CALL, missing_ok=True))


def test_check_names_what_a_reader_lacks(swift):
    with first_version(swift.tester, container="half") as owner:
        owner.writer.put("image", io.BytesIO(DATA[:100]))
        owner.service.post_container("half", {"X-Container-Read": "test:reader,.rlistings"}, call=NO_CALL)
        with first_version(swift.reader, container="half") as store:
            outcomes = {each.name: each for each in check(store, store.steps(None), write=True, seconds=15)}
    assert outcomes["list"].result == outcomes["read"].result == "ok"
    assert outcomes["write"].result == "failed"
    assert outcomes["multipart"].result == "failed"
    assert "container of segments" in outcomes["multipart"].advice
    assert outcomes["write"].advice == "grant this user the right to write, or do without"
    with first_version(swift.other, container="half") as store:
        store.writer.put("mine", io.BytesIO(b"x"))
        outcomes = list(check(store, store.steps(None), write=False, seconds=15))
        assert {each.result for each in outcomes} <= {"ok", "skipped"}  # of an account of its own


def test_check_tells_a_wrong_key_from_a_wrong_place(swift):
    with first_version(replace(swift.tester, key="wrong")) as store:
        (login, *others) = check(store, store.steps(None), write=False, seconds=15)
        assert login.result == "failed"
        assert "correct user, password" in login.advice
        assert {each.result for each in others} == {"skipped"}
