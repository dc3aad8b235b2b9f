"""Between files on tmpfs and the radosgw of a real Ceph."""

from __future__ import annotations

import os
from functools import partial

from benchmarks import images, objects
from benchmarks.harness import Bench, BrokenRunError, Contender, library, program
from benchmarks.programs import IMGSTORE
from benchmarks.radosgw import S3, collect, serving
from imgstore.transfer.copy import BUFFER as BLOCK

KEY = "image"
GETS = {
    "imgstore": objects.get_by_imgstore,
    "boto3 stream": objects.get_by_stream,
    "boto3 download_fileobj": objects.get_by_download_fileobj,
    "s3transfer with CRT": objects.get_by_crt,
    "obstore": objects.get_by_obstore,
    "glance_store": objects.get_by_glance_store,
}
PUTS = {
    "imgstore": objects.put_by_imgstore,
    "boto3 upload_fileobj": objects.put_by_upload_fileobj,
    "obstore": objects.put_by_obstore,
    "glance_store": objects.put_by_glance_store,
}


def run(bench: Bench) -> None:
    source, target = bench.memory / "image", bench.memory / "copy"
    expected = images.dense(source, bench.size)
    with serving(bench.disk / "ceph") as s3:
        client = objects.client(s3.url, s3.access_key, s3.secret_key)
        client.upload_file(str(source), s3.bucket, KEY)
        _get(bench, s3, target, expected)
        client.delete_object(Bucket=s3.bucket, Key=KEY)
        _put(bench, s3, source, client)


def _get(bench: Bench, s3: S3, target, expected: str) -> None:
    def check() -> None:
        if images.sha256(target) != expected:
            raise BrokenRunError("what was downloaded is not what is on the server")

    remove = partial(target.unlink, missing_ok=True)
    where = (s3.url, s3.access_key, s3.secret_key, s3.bucket, KEY, target, BLOCK)
    readers = [Contender(name, partial(library, each, *where)) for name, each in GETS.items()]
    bench.compare("get", _GET, readers, prepare=remove, check=check)
    _environment(s3)
    programs = [
        Contender(
            "imgstore cp",
            partial(program, [*IMGSTORE, "cp", "--no-progress", f"s3://{s3.bucket}/{KEY}", target]),
        ),
        Contender(
            "rclone",
            partial(program, ["rclone", "copyto", f"{_RCLONE}{s3.bucket}/{KEY}", target], sync=target),
        ),
    ]
    bench.compare("get by programs", _PROGRAMS, programs, prepare=remove, check=check)
    remove()


def _put(bench: Bench, s3: S3, source, client) -> None:
    def check() -> None:
        if client.head_object(Bucket=s3.bucket, Key=KEY)["ContentLength"] != bench.size:
            raise BrokenRunError("what was uploaded is not on the server")

    def remove() -> None:
        client.delete_object(Bucket=s3.bucket, Key=KEY)
        collect(s3.conf)

    where = (s3.url, s3.access_key, s3.secret_key, s3.bucket, KEY, source, BLOCK)
    writers = [Contender(name, partial(library, each, *where)) for name, each in PUTS.items()]
    bench.compare("put", _PUT, writers, prepare=remove, check=check)
    programs = [
        Contender(
            "imgstore cp",
            partial(program, [*IMGSTORE, "cp", "--no-progress", source, f"s3://{s3.bucket}/{KEY}"]),
        ),
        Contender("rclone", partial(program, ["rclone", "copyto", source, f"{_RCLONE}{s3.bucket}/{KEY}"])),
    ]
    bench.compare("put by programs", _PUTTING, programs, prepare=remove, check=check)
    remove()


def _environment(s3: S3) -> None:
    """Tells the programs where the service is, as their users do."""
    os.environ["AWS_ENDPOINT_URL_S3"] = os.environ["AWS_ENDPOINT_URL"] = s3.url
    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = s3.access_key, s3.secret_key
    os.environ["AWS_DEFAULT_REGION"] = os.environ["AWS_REGION"] = "us-east-1"
    os.environ["RCLONE_S3_ENDPOINT"], os.environ["RCLONE_S3_PROVIDER"] = s3.url, "Ceph"
    os.environ["RCLONE_S3_ENV_AUTH"] = "true"
    os.environ.pop("AWS_CA_BUNDLE", None)  # rclone cannot load one, and nothing here speaks TLS


_RCLONE = ":s3:"
_GET = (
    "One object into a new file on tmpfs, synced. Each in a fresh interpreter; start-up and imports are not "
    "timed, making the client is. Server and contender share the machine's cores."
)
_PROGRAMS = "The same by programs, from start to end. rclone does not sync; a sync is added to its time."
_PUT = (
    "A file on tmpfs into an object, each with its own defaults: ours and boto3's prove each part by a "
    "checksum, ours also compares what the service says that it stored. The CRT is not among them: it sends "
    "checksums as trailers only, which radosgw 16 refuses (XAmzContentSHA256Mismatch)."
)
_PUTTING = "The same by programs, from start to end."
