"""Listing the images of a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from imgstore.backends._left_out import LeftOut
from imgstore.backends.s3.failures import typed
from imgstore.backends.s3.identity import Pin
from imgstore.backends.s3.objects import Objects
from imgstore.errors import VersionChangedError
from imgstore.model import NO_CALL, Call, ObjectInfo

if TYPE_CHECKING:
    from imgstore.backends.s3.driver import S3Store


class S3Lister:
    """Lists page by page, 1,000 objects each: an image that comes or goes meanwhile may be in it or not.

    A version is the ETag alone, also where the bucket keeps versions: a listing names no others. Objects
    whose keys are no image's (folders that a console made, the driver's own records) are passed over, with a
    warning where they may have been meant as images.
    """

    def __init__(self, owner: S3Store, objects: Objects) -> None:
        self._owner = owner
        self._objects = objects

    def list(self, prefix: str = "", *, call: Call = NO_CALL) -> Iterator[ObjectInfo]:
        self._owner._admit(None, call)
        return self._listed(prefix, call)

    def _listed(self, prefix: str, call: Call) -> Iterator[ObjectInfo]:
        bucket = self._objects.bucket
        pages = self._objects.pages(bucket.prefix + prefix, call)
        left_out = LeftOut(self._owner.store_id, bucket.name)
        while True:
            with typed(self._owner, prefix):
                page = next(pages, None)
            if page is None:
                left_out.tell()
                return
            for each in page:
                key = bucket.key_of(str(each["Key"]))
                if key is not None:
                    modified = each["LastModified"].timestamp()
                    yield ObjectInfo(key, int(each["Size"]), _version(each.get("ETag")), modified)
                elif not bucket.is_own(str(each["Key"])):
                    left_out.add(str(each["Key"]), int(each["Size"]))


def _version(etag: object) -> str | None:
    try:
        return Pin.of(str(etag)).token
    except VersionChangedError:
        return None
