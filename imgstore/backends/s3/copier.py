"""Copies inside one bucket, made by the service."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from imgstore.backends.s3.failures import typed
from imgstore.backends.s3.objects import MARKER, Found, Objects, cleaning, fresh_marker, made
from imgstore.backends.s3.parts import Parts
from imgstore.backends.s3.planning import COPY_LIMIT
from imgstore.errors import (
    AlreadyExistsError,
    ConflictError,
    ImgstoreError,
    NotFoundError,
    TransientError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.model import NO_CALL, Call, ObjectInfo, Part

if TYPE_CHECKING:
    from imgstore.backends.s3.driver import S3Store

# Of a copy in parts: so large that there are few, so small that one is done well within `finish_timeout`.
_PART = 512 << 20


class S3Copier:
    """Copies just the version that it looked at first, also where that is larger than one request copies.

    It looks whether the target is taken; what somebody stores there after that is replaced. No condition goes
    with the copy: Swift takes one for a condition on the source.
    """

    def __init__(self, owner: S3Store, objects: Objects) -> None:
        self._owner = owner
        self._objects = objects
        self._parts = Parts(objects)

    def copy(
        self, source_key: str, target_key: str, *, overwrite: bool = False, call: Call = NO_CALL
    ) -> ObjectInfo:
        self._owner._admit(source_key, call)
        self._owner._admit(target_key, call)
        with typed(self._owner, target_key):
            found = self._objects.look(source_key, call)
            if found is None:
                raise NotFoundError(f"there is no {source_key!r}", key=source_key)
            if found.pin is None:
                raise UnsupportedError("the service gives the image no ETag: no version of it can be copied")
            if not overwrite:
                self._objects.check_free(target_key, call)
            source = {**self._source(source_key, found), "Key": target_key}
            if (found.info.size or 0) <= COPY_LIMIT:
                return self._copy_whole(source, found, overwrite=overwrite, call=call)
            return self._copy_parts(source, found.info.size or 0, overwrite=overwrite, call=call)

    def _source(self, key: str, found: Found) -> dict[str, Any]:
        bucket = self._objects.bucket
        source = {"Bucket": bucket.name, "Key": bucket.object_key(key)}
        if found.pin is not None and found.pin.version_id is not None:
            source["VersionId"] = found.pin.version_id
        return {"CopySource": source, "CopySourceIfMatch": found.pin.etag if found.pin else ""}

    def _copy_whole(self, source: dict[str, Any], found: Found, *, overwrite: bool, call: Call) -> ObjectInfo:
        objects, marker, key = self._objects, fresh_marker(), str(source["Key"])
        arguments = {**source, "Key": objects.bucket.object_key(key)}
        metadata = {**found.metadata, MARKER: marker}
        with _taken(), objects.unsettled(key, marker, overwrite=overwrite):
            try:
                objects.ask(
                    "CopyObject",
                    call,
                    patience=objects.traits.finish_timeout,
                    MetadataDirective="REPLACE",
                    **made(objects.traits, metadata),
                    **arguments,
                )
            except (TransientError, VersionChangedError) as exc:
                objects.settled(key, marker, exc, overwrite=overwrite, call=call)
            size = found.info.size or 0
            return objects.published(key, marker, size, overwrite=overwrite, call=call)

    def _copy_parts(self, source: dict[str, Any], size: int, *, overwrite: bool, call: Call) -> ObjectInfo:
        key = str(source["Key"])
        pending = self._parts.begin(key, size, digests={}, overwrite=overwrite, call=call)
        try:
            held = []
            for number, at in enumerate(range(0, size, _PART)):
                part = Part(number, at, min(_PART, size - at), "")
                held.append(self._parts.copy(pending, part, source, call))
            with _taken(), self._objects.unsettled(key, pending.marker, overwrite=overwrite):
                return self._parts.join(pending, held, call)
        except BaseException:
            with contextlib.suppress(ImgstoreError):
                self._parts.drop(pending, cleaning(call))
            raise


@contextlib.contextmanager
def _taken() -> Iterator[None]:
    try:
        yield
    except ConflictError as exc:
        raise AlreadyExistsError(exc.message) from exc
