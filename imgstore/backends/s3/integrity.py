"""Proof that the service stored the bytes that were sent.

Each body goes with a checksum that the service compares, and its reply is compared with the bytes in hand:
the checksum that it echoes, or else its ETag, which is the MD5 digest of a single object or part unless it is
encrypted with a key of KMS or of the caller's (S3 API Reference, "Object": ETag).
"""

from __future__ import annotations

import hashlib
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final

from imgstore.backends._http_range import Reply
from imgstore.errors import BadReplyError

CHOICES: Final = ("when_supported", "when_required", "md5")
_ECHO: Final = "x-amz-checksum-crc32"
_MD5_TAG = re.compile(r'"[0-9a-f]{32}"')


def crc32(data: memoryview) -> str:
    """Gives the checksum as S3 writes it: big-endian, in base64."""
    return b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


class Integrity:
    """How the bytes of one store are proven. Callable from many threads."""

    def __init__(self, choice: str) -> None:
        """Takes the option `request_checksum_calculation`."""
        self._choice = choice
        self._crc_heeded = True  # until a reply says nothing of it: then it would be computed for nobody

    @property
    def algorithm(self) -> dict[str, str]:
        """The arguments with which an upload announces the checksums of its parts."""
        return {"ChecksumAlgorithm": "CRC32"} if self._choice == "when_supported" else {}

    def of_object(self, data: memoryview) -> dict[str, Any]:
        """Gives the arguments that have the service refuse other bytes for a whole object.

        Content-MD5, since every service knows it: what is stored by one request is visible at once.
        """
        return {} if self._choice == "when_required" else {"ContentMD5": b64encode(_md5(data)).decode()}

    def of_part(self, data: memoryview) -> dict[str, Any]:
        """Gives the arguments that have the service refuse other bytes for a part."""
        if self._choice == "md5":
            return self.of_object(data)
        if self._choice == "when_supported" and self._crc_heeded:
            return {"ChecksumCRC32": crc32(data)}
        return {}

    def check(self, reply: Reply, data: memoryview, stamps: Mapping[str, Any]) -> bool:
        """Returns if `reply` says that the bytes of `data` were stored; False where it has no word on them.

        Raises: BadReplyError where it says that others were.
        """
        told, sent = reply.single(_ECHO), stamps.get("ChecksumCRC32")
        if sent is None or told is None:
            self._crc_heeded = self._crc_heeded and sent is None
            told = _md5_of(reply)
            if told is None:
                return False
            sent = b64decode(stamps["ContentMD5"]).hex() if "ContentMD5" in stamps else _md5(data).hex()
        if told != sent:
            raise BadReplyError("the service stored other bytes than were sent", request_id=reply.request_id)
        return True


def _md5_of(reply: Reply) -> str | None:
    tag = reply.single("etag")
    encrypted = (reply.single("x-amz-server-side-encryption") or "AES256") != "AES256"
    own_key = reply.single("x-amz-server-side-encryption-customer-algorithm") is not None
    if tag is None or encrypted or own_key or not _MD5_TAG.fullmatch(tag):
        return None
    return tag.strip('"')


def _md5(data: memoryview) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
