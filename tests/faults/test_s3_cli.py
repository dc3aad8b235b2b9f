"""The command line on S3: locations by boto3's own environment, and a store that is checked."""

from __future__ import annotations

import functools

import pytest

from tests import canary
from tests.faults.cli import run, run_here
from tests.faults.s3_rig import PART, SMALL, rig
from tests.thinning import thinned

SECTION = """
[imgstore]
enabled_stores = cold:s3
[store_cold]
bucket = images
endpoint_url = {url}
region = us-east-1
access_key = {key}
secret_key_file = {folder}/secret
upload_part_size = 5242880
resume_attempts = 0
"""


@pytest.fixture
def s3():
    with rig() as made:
        yield made


@pytest.fixture
def imgstore(s3, tmp_path, monkeypatch, capfdbinary):
    """Gives what runs a command with the environment of the AWS tools and a configured store `cold`."""
    (tmp_path / "secret").write_text(canary.PASSWORD)
    server = s3.server
    (tmp_path / "conf").write_text(SECTION.format(url=server.url, key=server.access_key, folder=tmp_path))
    for name in ("AWS_PROFILE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", canary.PASSWORD)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

    monkeypatch.chdir(tmp_path)
    return functools.partial(run_here, capfdbinary, "--config-file", tmp_path / "conf")


def test_an_object_is_copied_out_and_read(s3, imgstore, tmp_path):
    s3.server.put("a b/disk.img", SMALL)
    ran = imgstore("cp", "s3://images/a%20b/disk.img", "disk.img")
    assert (ran.status, (tmp_path / "disk.img").read_bytes()) == (0, SMALL)
    assert (
        imgstore("cat", "s3://images/a%20b/disk.img", "--offset", "10", "--length", "5").out == SMALL[10:15]
    )
    assert imgstore("stat", "s3://images/missing").status == 3


def test_a_url_that_ends_in_a_slash_is_no_target(imgstore, tmp_path):
    (tmp_path / "disk.img").write_bytes(SMALL)
    ran = imgstore("cp", "disk.img", "s3://images/a/")
    assert (ran.status, ran.line) == (2, "s3://images/a/ names no image; write its whole key")


@pytest.mark.parametrize(
    "source, target", [("disk.img", "s3://images/a.img"), ("s3://images/a.img", "disk.img")]
)
def test_whose_error_it_is_is_told(imgstore, tmp_path, monkeypatch, source, target):
    (tmp_path / "disk.img").write_bytes(SMALL)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANOBODY")
    ran = imgstore("cp", "--force", source, target)
    assert ran.status == 7
    assert ran.line.startswith("s3://images/a.img: the service does not know the access key")


def test_a_copy_to_a_url_imports_no_configuration(s3, imgstore, tmp_path, monkeypatch):
    (tmp_path / "disk.img").write_bytes(SMALL)
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    ran = run("--config-file", tmp_path / "conf", "cp", "disk.img", "s3://images/disk.img")
    assert s3.server.images() == {"disk.img": SMALL}
    loaded = {line.rpartition("|")[2].strip() for line in ran.err.splitlines()}
    assert "botocore.client" in loaded
    assert not loaded & {"oslo_config", "imgstore.config", "imgstore.backends.memory", "rich"}


def test_a_store_is_written_listed_and_emptied(s3, imgstore, tmp_path):
    (tmp_path / "disk.img").write_bytes(SMALL)
    assert imgstore("cp", "disk.img", "cold:disk.img").status == 0
    assert s3.server.images() == {"disk.img": SMALL}
    assert b"disk.img" in imgstore("ls", "cold:").out
    assert imgstore("rm", "cold:disk.img").status == 0
    assert s3.server.images() == {}


def steps(ran):
    return {each["name"]: each["result"] for each in ran.told["steps"]}


def test_a_store_that_works_is_left_as_it_was(s3, imgstore):
    ran = imgstore("check", "cold", "--json")
    assert ran.status == 0
    assert steps(ran) == {
        "configuration": "ok",
        "credentials": "ok",
        "bucket": "ok",
        "multipart": "ok",
        "list": "ok",
        "read": "skipped",
        "write": "ok",
        "delete": "ok",
        "space": "skipped",
    }
    assert s3.server.images() == {}
    assert s3.server.left() == ([], [])


def test_read_only_writes_nothing(s3, imgstore):
    assert steps(imgstore("check", "cold", "--read-only", "--json"))["multipart"] == "skipped"
    assert s3.server.count("PutObject") == s3.server.count("CreateMultipartUpload") == 0


@pytest.mark.parametrize(
    "operation, step, said",
    thinned(
        [
            ("CreateMultipartUpload", "multipart", "s3:AbortMultipartUpload"),
            ("ListObjectsV2", "bucket", "s3:ListBucket"),
            ("PutObject", "write", "write"),
            ("DeleteObject", "delete", "delete"),
        ],
        4,
    ),
)
def test_a_permission_that_is_missing_is_named(s3, imgstore, operation, step, said):
    s3.server.put("known.img", SMALL[: PART // 100])
    s3.server.denied = {operation}
    ran = imgstore("check", "cold", "--json")
    assert ran.status == 7
    (failed,) = [each for each in ran.told["steps"] if each["name"] == step]
    assert failed["result"] == "failed"
    assert said in f"{failed['said']} {failed['advice']}"


def test_a_bucket_that_is_not_there(s3, imgstore):
    s3.server.made = False
    ran = imgstore("check", "cold", "--json")
    assert steps(ran)["bucket"] == "failed"
    assert "there is no bucket 'images'; make it" in str(ran.told)


def test_a_bucket_that_is_to_be_made(s3, imgstore, tmp_path):
    s3.server.made = False
    with (tmp_path / "conf").open("a") as conf:
        conf.write("create_bucket = true\n")
    ran = imgstore("check", "cold", "--read-only", "--json")
    assert (ran.status, steps(ran)["bucket"], steps(ran)["list"]) == (0, "skipped", "ok")
    assert not s3.server.made
    ran = imgstore("check", "cold", "--json")
    assert (ran.status, steps(ran)["bucket"], steps(ran)["write"]) == (0, "skipped", "ok")


def test_keys_that_are_wrong(s3, imgstore):
    """The advice is about the keys, and not about permissions, which cannot be seen yet."""
    s3.server.access_key = "AKIAOTHER"
    ran = imgstore("check", "cold", "--json")
    assert ran.status == 7
    (failed,) = [each for each in ran.told["steps"] if each["name"] == "bucket"]
    assert "does not know the access key" in failed["said"]
    assert "correct or renew access_key" in failed["advice"]
