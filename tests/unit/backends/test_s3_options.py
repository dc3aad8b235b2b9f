"""Options and constructor: one list of names, one line for each mistake, and nothing done before it must."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from imgstore.backends.s3 import S3Store
from imgstore.backends.s3.options import OPTIONS
from imgstore.errors import ConfigError, ConnectionLostError, UnsafeLocationError
from tests import canary

PARAMETERS = inspect.signature(S3Store.__init__).parameters


def test_options_are_the_keyword_only_arguments():
    ours = {name: each for name, each in PARAMETERS.items() if name != "self"}
    assert {each.kind for each in ours.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert [each.dest for each in OPTIONS] == list(ours)
    for option in OPTIONS:
        assert option.default == ours[option.dest].default, option.dest
        assert len(option.help) > 40, option.dest


def test_what_is_secret_is_marked():
    assert {each.dest for each in OPTIONS if each.secret} == {
        "access_key",
        "secret_key",
        "session_token",
        "proxy",
    }


def test_a_store_imports_no_client_library():
    code = (
        "import sys; from imgstore.backends.s3 import S3Store; S3Store(bucket='abc').close(); "
        "sys.exit(bool({'botocore', 'boto3', 'oslo_config'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_library_that_is_missing_is_told(monkeypatch):
    for name in ("botocore", "botocore.config", "botocore.session"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"needs botocore: pip install 'botocore>=1\.36'$"):
        S3Store(bucket="abc", access_key="a", secret_key=canary.PASSWORD).stat("k")


@pytest.mark.parametrize(
    "options,said",
    [
        ({}, "'bucket' is needed"),
        ({"bucket": "a/b"}, "'bucket' is 'a/b'"),
        ({"bucket": "ab", "access_key": "a"}, "go together"),
        ({"bucket": "ab", "secret_key": "a"}, "go together"),
        ({"bucket": "ab", "session_token": "a"}, "go together"),
        ({"bucket": "abc", "upload_part_size": 1 << 20}, "'upload_part_size' is 1048576"),
        ({"bucket": "abc", "upload_part_size": 6 << 30}, "'upload_part_size'"),
        ({"bucket": "abc", "max_concurrency": 0}, "'max_concurrency' is 0"),
        ({"bucket": "abc", "addressing": "x"}, "'addressing' is 'x'"),
        ({"bucket": "abc", "acl": "public-read-write"}, "'acl'"),
        ({"bucket": "abc", "request_checksum_calculation": "sha1"}, "it is one of when_supported"),
        ({"bucket": "abc", "sse_kms_key_id": "k"}, "'sse_kms_key_id' needs"),
        ({"bucket": "abc", "endpoint_url": "s3.example.org"}, "'endpoint_url' is no http or https URL"),
        ({"bucket": "abc", "endpoint_url": f"http://u:{canary.TOKEN}@h"}, "has a user"),
        ({"bucket": "abc", "endpoint_url": "http://h/path"}, "a path or a query"),
        ({"bucket": "abc", "open_timeout": 0}, "'open_timeout' is 0"),
        ({"bucket": "abc", "receive_timeout": float("nan")}, "'receive_timeout' is nan"),
        ({"bucket": "abc", "prefix": "x" * 600}, "'prefix'"),
    ],
)
def test_mistakes_get_one_line(options, said):
    with pytest.raises(ConfigError, match=said) as caught:
        S3Store(**options)
    assert "\n" not in str(caught.value)
    assert not canary.found(str(caught.value))


@pytest.mark.parametrize(
    "url,bucket,key",
    [
        ("s3://images/a/b.img", "images", "a/b.img"),
        ("s3://images/a%20b%3F", "images", "a b?"),
        ("s3://images", "images", ""),
    ],
)
def test_at(url, bucket, key):
    store, found = S3Store.at(url)
    assert (store.location, found) == (f"s3://{bucket}/", key)


@pytest.mark.parametrize(
    "url", ["s3:///k", "http://b/k", "s3://a:{TOKEN}@b/k", "s3://bkt/k?s={PRESIGNED_QUERY}"]
)
def test_at_what_is_no_such_url(url):
    with pytest.raises(ConfigError) as caught:
        S3Store.at(url.format_map(canary.SECRETS))
    assert not canary.found(str(caught.value))


def test_keys_with_the_prefix():
    store = S3Store(bucket="abc", prefix="glance/")
    bucket = store._bucket
    assert bucket.object_key("a/b") == "glance/a/b"
    assert [bucket.key_of(each) for each in ("glance/a/b", "other/a", "glance/a/", "glance/.imgstore/x")] == [
        "a/b", None, None, None,
    ]  # fmt: skip
    with pytest.raises(UnsafeLocationError, match="more than 1024"):
        bucket.object_key("x" * 1020)
    with pytest.raises(UnsafeLocationError, match="own"):
        bucket.object_key(".imgstore/uploads/x")


@pytest.mark.parametrize(
    "option,file,host",
    [
        ("auto", "", "s3.example"),
        ("auto", "virtual", "images.s3.example"),
        ("path", "virtual", "s3.example"),
        ("virtual", "path", "images.s3.example"),
    ],
)
def test_where_a_request_names_the_bucket(option, file, host, tmp_path, monkeypatch):
    """As boto3's files say, unless the option does."""
    (tmp_path / "config").write_text(f"[default]\ns3 =\n  addressing_style = {file or 'auto'}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    asked = []

    def resolve(name, port):
        asked.append(name)
        raise OSError("nowhere")

    store = S3Store(
        bucket="images",
        endpoint_url="http://s3.example",
        region="us-east-1",
        addressing=option,
        access_key="a",
        secret_key=canary.PASSWORD,
        trust_env=False,
    )
    store.resolve = resolve
    with store, pytest.raises(ConnectionLostError):
        store.stat("k")
    assert asked == [host]


def test_nothing_secret_is_shown():
    store = S3Store(bucket="abc", access_key="AKIA", secret_key=canary.PASSWORD, session_token=canary.TOKEN)
    assert not canary.found(f"{store!r} {store.location} {vars(store)!r}")
