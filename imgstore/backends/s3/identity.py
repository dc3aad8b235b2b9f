"""Which bytes an object holds: its ETag, and its version where the bucket keeps versions.

An ETag is an identity and nothing else here. Whether it is also an MD5 digest depends on how the object was
written and encrypted; only `integrity` asks, of single parts that were just sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from imgstore.backends._http_range import Reply, content_length, describe
from imgstore.errors import VersionChangedError
from imgstore.model import ObjectInfo

# A version ID is opaque, URL-ready, and at most 1024 bytes (S3 User Guide, "How S3 Versioning works").
_PIN = re.compile(r'(?:([\x21\x23-\x7e]{1,1024}) )?("[\x21\x23-\x7e\x80-\xff]{1,1024}")')


@dataclass(frozen=True, slots=True)
class Pin:
    """One version of one object. `etag` stands in its quotes, as it goes over the wire."""

    etag: str
    version_id: str | None = None

    @classmethod
    def of(cls, token: str) -> Pin:
        """Reads a version token. Raises: VersionChangedError for what `pinned` never gives."""
        found = _PIN.fullmatch(token)
        if found is None:
            raise VersionChangedError("no object of S3 has the version that was asked for")
        return cls(found[2], found[1])

    @property
    def token(self) -> str:
        """The version token: the ETag, after the version ID where there is one."""
        return self.etag if self.version_id is None else f"{self.version_id} {self.etag}"

    def admits(self, other: Pin | None) -> bool:
        """Tells whether `other` is this version; an ETag alone, as of a listing, is enough of one."""
        return other is not None and self.etag == other.etag and self.version_id in {None, other.version_id}


def pinned(reply: Reply) -> Pin | None:
    """Gives the version that a reply names; None where its ETag is weak or missing.

    The version ID `null` is no identity: in a bucket whose versioning is off or suspended every object that
    is written gets it.
    """
    etag, version_id = reply.single("etag"), reply.single("x-amz-version-id")
    if etag is None or not _PIN.fullmatch(etag):
        return None
    if version_id in {None, "null"} or not _PIN.fullmatch(f"{version_id} {etag}"):
        return Pin(etag)
    return Pin(etag, version_id)


def named(info: ObjectInfo, reply: Reply) -> ObjectInfo:
    """Gives `info` with the version of `reply` in the form of this driver, never a date."""
    pin = pinned(reply)
    return replace(info, version=None if pin is None else pin.token)


def described(reply: Reply, key: str) -> ObjectInfo:
    """Gives what a reply to HEAD says. Raises: BadReplyError where it names no length."""
    size = content_length(reply)
    if size is None:
        raise reply.bad("an object without a length")
    return named(describe(reply, key, size), reply)
