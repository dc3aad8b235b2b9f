"""The way to a bucket, step by step: where exactly it ends, and what would help."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from imgstore.backends.s3.failures import typed
from imgstore.backends.s3.objects import cleaning
from imgstore.backends.s3.refusals import NoBucketError
from imgstore.errors import (
    AuthenticationError,
    ConfigError,
    ImgstoreError,
    PermanentError,
    PermissionDeniedError,
    TlsError,
    TransientError,
)
from imgstore.model import Call
from imgstore.steps import TEST_PREFIX, NotApplicableError, Step

if TYPE_CHECKING:
    from imgstore.backends.s3.driver import S3Store


class Way:
    """The way to the bucket of one store. Belongs to one thread."""

    def __init__(self, store: S3Store) -> None:
        """Does nothing yet."""
        self._store = store
        self._test_key = f"{TEST_PREFIX}{secrets.token_hex(8)}"

    def steps(self) -> list[Step]:
        """Gives the steps in order."""
        return [
            self._step("credentials", self._find_keys, _about_keys),
            self._step("bucket", self._look, _about_bucket, vital=False),
            self._step("multipart", self._begin, _about_parts, vital=False, writes=True),
        ]

    def _step(
        self,
        name: str,
        run: Callable[[Call], str],
        advise: Callable[[ImgstoreError], str],
        *,
        vital: bool = True,
        writes: bool = False,
    ) -> Step:
        def typed_run(call: Call) -> str:
            with typed(self._store, ""):
                return run(call)

        return Step(name, typed_run, advise, vital, writes)

    def _find_keys(self, _: Call) -> str:
        wire = self._store._wire()
        # the ID is no secret, yet half of a credential: its end is enough to know it by
        known = wire.keys().access_key[-4:]
        return f"an access key that ends in {known!r}, for {wire.address()} in {wire.region()}"

    def _look(self, call: Call) -> str:
        objects = self._store._objects
        try:
            # Not HeadBucket: a reply to HEAD does not tell a key that is wrong from one that may not.
            objects.ask("ListObjectsV2", call, Prefix=objects.bucket.prefix, MaxKeys=1)
        except NoBucketError:
            if objects.traits.create_bucket:
                said = f"{objects.bucket.name!r} is made when an image is stored"
                raise NotApplicableError(said) from None
            raise
        return f"{objects.bucket.name!r} is there"

    def _begin(self, call: Call) -> str:
        uploader = self._store.uploader
        # as one that may overwrite: so the first request is no HEAD, whose refusal has no reason
        token = uploader.begin(self._test_key, None, overwrite=True, call=call)
        try:
            uploader.put_part(token, 0, 0, memoryview(b"imgstore"), call=call)
            held = len(uploader.parts(token, call=call))
        finally:
            uploader.abort(token, call=cleaning(call))
        if held != 1:
            raise PermanentError(f"the service tells {held} parts of an upload that has one")
        return "an upload was begun, and dropped"


def _about_keys(error: ImgstoreError) -> str:
    if isinstance(error, ConfigError):
        return "correct the store's section"
    return "give access_key and secret_key in the store's section, or set up boto3's own files"


def _about_bucket(error: ImgstoreError) -> str:
    if isinstance(error, NoBucketError):
        return "make the bucket, correct its name, or set create_bucket = true"
    if isinstance(error, PermissionDeniedError):
        return "allow s3:ListBucket on the bucket: to look for it, and to list images"
    if isinstance(error, AuthenticationError):
        return "correct or renew access_key and secret_key; set the clock by NTP"
    if isinstance(error, TlsError):
        return "name the authority that signed the service's certificate in ca_file"
    if isinstance(error, TransientError):
        return "see whether endpoint_url is right, and the service runs and can be reached from here"
    return "see whether endpoint_url, region and addressing are those of the bucket"


def _about_parts(error: ImgstoreError) -> str:
    if isinstance(error, (NoBucketError, AuthenticationError, TlsError, TransientError)):
        return _about_bucket(error)
    if isinstance(error, PermissionDeniedError):
        return (
            "allow s3:PutObject, s3:AbortMultipartUpload, s3:ListMultipartUploadParts and s3:DeleteObject: "
            "images above upload_part_size are stored in parts"
        )
    return "see whether the service knows multipart uploads; images above upload_part_size need them"
