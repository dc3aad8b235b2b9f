"""One object of S3 into a new file, or a file into an object, by each library.

function(url, access_key, secret_key, bucket, key, path, block) gives the work. Those that download sync the
file before they end. All are told what radosgw needs (addresses by path; no checksum as a trailer), and
otherwise left as they come.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

Work = Callable[[], None]
_REGION = "us-east-1"


def client(url: str, access_key: str, secret_key: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=_REGION,
        config=Config(s3={"addressing_style": "path"}),
    )


def _store(url: str, access_key: str, secret_key: str, bucket: str) -> Any:
    from imgstore.backends.s3 import S3Store
    from imgstore.stack import build

    driver = S3Store(
        bucket=bucket,
        endpoint_url=url,
        region=_REGION,
        addressing="path",
        access_key=access_key,
        secret_key=secret_key,
    )
    return build(driver)


def get_by_imgstore(url, access_key, secret_key, bucket, key, path, block) -> Work:
    import botocore.session  # noqa: F401  # imports are not timed

    import imgstore.backends.s3
    import imgstore.stack  # noqa: F401
    from imgstore.publish import PendingFile
    from imgstore.transfer import copy
    from imgstore.transfer.progress import Report

    copy.BUFFER = block

    def work() -> None:
        with (
            _store(url, access_key, secret_key, bucket) as store,
            PendingFile(path) as file,
            store.get(key) as stream,
        ):
            copy.copy(stream, file, report=Report())

    return work


def put_by_imgstore(url, access_key, secret_key, bucket, key, path, block) -> Work:
    import botocore.session  # noqa: F401  # imports are not timed

    import imgstore.backends.s3
    import imgstore.stack  # noqa: F401

    def work() -> None:
        with _store(url, access_key, secret_key, bucket) as store, open(path, "rb", buffering=0) as file:
            store.writer.put(key, file, os.path.getsize(path), overwrite=True)

    return work


def get_by_download_fileobj(url, access_key, secret_key, bucket, key, path, block) -> Work:
    import boto3  # noqa: F401

    def work() -> None:
        with open(path, "xb", buffering=0) as file:
            client(url, access_key, secret_key).download_fileobj(bucket, key, file)
            os.fsync(file.fileno())

    return work


def put_by_upload_fileobj(url, access_key, secret_key, bucket, key, path, block) -> Work:
    import boto3  # noqa: F401

    def work() -> None:
        with open(path, "rb") as file:
            client(url, access_key, secret_key).upload_fileobj(file, bucket, key)

    return work


def _crt(url: str, access_key: str, secret_key: str) -> Any:
    """Gives s3transfer's manager on the CRT; by way of boto3 it would take no address by path."""
    from botocore.config import Config
    from botocore.session import Session
    from s3transfer import crt

    session = Session()
    session.set_credentials(access_key, secret_key)
    settings = {
        "endpoint_url": url,
        "region_name": _REGION,
        "config": Config(s3={"addressing_style": "path"}),
    }
    keys = crt.BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
    client = crt.create_s3_crt_client(_REGION, keys, use_ssl=False)
    return crt.CRTTransferManager(client, crt.BotocoreCRTRequestSerializer(session, settings))


def get_by_crt(url, access_key, secret_key, bucket, key, path, block) -> Work:
    import s3transfer.crt  # noqa: F401

    def work() -> None:
        with _crt(url, access_key, secret_key) as manager:
            manager.download(bucket, key, path).result()
        _sync(path)

    return work


def get_by_stream(url, access_key, secret_key, bucket, key, path, block) -> Work:
    import boto3  # noqa: F401

    def work() -> None:
        body = client(url, access_key, secret_key).get_object(Bucket=bucket, Key=key)["Body"]
        with open(path, "xb", buffering=0) as file:
            while data := body.read(block):
                file.write(data)
            os.fsync(file.fileno())

    return work


def _obstore(url, access_key, secret_key, bucket) -> Any:
    from obstore.store import S3Store

    return S3Store(
        bucket,
        endpoint=url,
        access_key_id=access_key,
        secret_access_key=secret_key,
        region=_REGION,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def get_by_obstore(url, access_key, secret_key, bucket, key, path, block) -> Work:
    import obstore

    def work() -> None:
        body = obstore.get(_obstore(url, access_key, secret_key, bucket), key)
        with open(path, "xb", buffering=0) as file:
            file.writelines(body.stream(min_chunk_size=block))
            os.fsync(file.fileno())

    return work


def put_by_obstore(url, access_key, secret_key, bucket, key, path, block) -> Work:
    import obstore

    def work() -> None:
        with open(path, "rb") as file:
            obstore.put(_obstore(url, access_key, secret_key, bucket), key, file)

    return work


def _glance(url, access_key, secret_key, bucket, block) -> Any:
    import glance_store
    from oslo_config import cfg

    conf = cfg.ConfigOpts()
    glance_store.register_opts(conf)
    conf(args=[])
    settings = {
        "stores": ["s3"],
        "default_store": "s3",
        "s3_store_host": url,
        "s3_store_access_key": access_key,
        "s3_store_secret_key": secret_key,
        "s3_store_bucket": bucket,
        "s3_store_region_name": _REGION,
        "s3_store_bucket_url_format": "path",
    }
    for name, value in settings.items():
        conf.set_override(name, value, group="glance_store")
    glance_store.create_stores(conf)
    from glance_store._drivers import s3

    s3.Store.READ_CHUNKSIZE = block
    return glance_store, conf


def get_by_glance_store(url, access_key, secret_key, bucket, key, path, block) -> Work:
    glance, _ = _glance(url, access_key, secret_key, bucket, block)

    def work() -> None:
        host = url.partition("://")[2]
        where = f"s3://{access_key}:{secret_key}@{host}/{bucket}/{key}"
        chunks, _ = glance.get_from_backend(where)
        with open(path, "xb", buffering=0) as file:
            file.writelines(chunks)
            os.fsync(file.fileno())

    return work


def put_by_glance_store(url, access_key, secret_key, bucket, key, path, block) -> Work:
    glance, conf = _glance(url, access_key, secret_key, bucket, block)
    target = client(url, access_key, secret_key)

    def work() -> None:
        target.delete_object(Bucket=bucket, Key=key)
        with open(path, "rb") as file:
            glance.add_to_backend_with_multihash(conf, key, file, os.path.getsize(path), "sha512")

    return work


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
