"""The wire rules of a ranged read over HTTP: what to ask for, and what of a reply to believe. No I/O.

Byte positions on the wire are inclusive; they are so in this module only. RFC 9110 unless another is named.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Final

from imgstore.errors import BadReplyError, UnsupportedError, VersionChangedError
from imgstore.model import ANY, ByteRange, ObjectInfo, Version

NUMBER_LIMIT: Final = (
    1 << 63
)  # no file system or object store holds more; a larger number is a lie or an attack
STRONG_AGE: Final = 60.0  # seconds, RFC 7232 §2.2.2: a clock-independent margin that later RFCs leave to us

# §8.8.3 without the W/ of a weak tag: only these may be compared byte by byte.
_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"')
_MODIFIED = "modified:"
# §5.6.7, the one form that may be sent; nothing else ever becomes a version, and so a header of ours.
_DATE = re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT")
_NUMBER = re.compile(r"[0-9]{1,19}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")
_UNSATISFIED_RANGE = re.compile(r"bytes \*/([0-9]{1,19})")
_DIGEST = re.compile(r"[ \t]*sha-(256|512)=:([A-Za-z0-9+/]+={0,2}):[ \t]*")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_REQUEST_IDS = (
    "x-request-id",
    "x-amz-request-id",
    "x-amzn-requestid",
    "x-trans-id",
    "x-openstack-request-id",
    "x-ms-request-id",
    "x-goog-request-id",
    "cf-ray",
)


@dataclass(frozen=True, slots=True)
class Reply:
    """The head of a final reply: `HTTP/1.<minor> <status>`, and the header fields as they came, in order."""

    minor: int
    status: int
    fields: tuple[tuple[str, str], ...] = ()

    def values(self, name: str) -> list[str]:
        """Gives the values of every field `name` (lower case), duplicates included."""
        return [value for each, value in self.fields if each.lower() == name]

    def value(self, name: str) -> str | None:
        """Gives the value of field `name`, None without one; identical duplicates count as one.

        Raises: BadReplyError where two values differ.
        """
        values = set(self.values(name))
        if len(values) > 1:
            raise self.bad(f"two different {name} headers")
        return values.pop() if values else None

    def single(self, name: str) -> str | None:
        """Gives the value of the one field `name`; None without it, and where there are more."""
        values = self.values(name)
        return values.pop() if len(values) == 1 else None

    def bad(self, what: str) -> BadReplyError:
        """Gives the error for a reply that holds `what`."""
        return BadReplyError(f"the server sent {what}", request_id=self.request_id)

    @property
    def request_id(self) -> str | None:
        """The provider's own name of this exchange, for a support case."""
        for name in _REQUEST_IDS:
            for value in self.values(name):
                if _REQUEST_ID.fullmatch(value):
                    return value
        return None


@dataclass(frozen=True, slots=True)
class Framing:
    """Where the body ends: after `length` bytes, at the last chunk, or else where the connection does."""

    chunked: bool
    length: int | None


@dataclass(frozen=True, slots=True)
class Served:
    """What a judged reply delivers: bytes `range` of the image that `info` describes."""

    info: ObjectInfo
    range: ByteRange


def range_header(start: int, stop: int | None) -> str:
    """Gives the Range field for [start, stop) (§14.2).

    >>> range_header(0, None), range_header(5, 7)
    ('bytes=0-', 'bytes=5-6')
    """
    return f"bytes={start}-" if stop is None else f"bytes={start}-{stop - 1}"


def precondition(version: str) -> tuple[str, str]:
    """Gives the header field that makes a server refuse any version but this (§13.1.1, §13.1.4).

    Raises: VersionChangedError for what `version_of` never gives, and so no image has.
    """
    if _STRONG_TAG.fullmatch(version):
        return "If-Match", version
    date = version.removeprefix(_MODIFIED)
    if date != version and _DATE.fullmatch(date):
        return "If-Unmodified-Since", date
    raise VersionChangedError("no image of a web server has the version that was asked for")


def framing(reply: Reply) -> Framing:
    """Tells where the body of a reply to GET ends (RFC 9112 §6.3), and refuses whatever is ambiguous."""
    codings = [value.lower() for value in reply.values("transfer-encoding")]
    length = content_length(reply)
    if not codings:
        return Framing(chunked=False, length=length)
    if length is not None:
        raise reply.bad("both a Content-Length and a Transfer-Encoding")
    if codings != ["chunked"] or reply.minor == 0:
        raise reply.bad("a Transfer-Encoding other than chunked over HTTP/1.1")
    return Framing(chunked=True, length=None)


def content_length(reply: Reply) -> int | None:
    """Gives the Content-Length, None without one (§8.6)."""
    text = reply.value("content-length")
    if text is None:
        return None
    length = _number(text) if _NUMBER.fullmatch(text) else None
    if length is None:
        raise reply.bad(f"a Content-Length that is no length: {text[:40]!r}")
    return length


def version_of(reply: Reply) -> str | None:
    """Gives the strong validator of a reply: its ETag, or `modified:` and its Last-Modified, or None.

    A date is strong if the server's own clock was a minute past it: then no second change can have been made
    within the same second and gone unseen (§8.8.2.2). A weak ETag promises nothing about bytes.
    """
    tags = set(reply.values("etag"))
    if len(tags) == 1 and _STRONG_TAG.fullmatch(tag := tags.pop()):
        return tag
    changed = reply.single("last-modified")
    if changed is None or not _DATE.fullmatch(changed):
        return None
    then, now = http_date(changed), http_date(reply.single("date"))
    if then is None or now is None or now - then < STRONG_AGE:
        return None
    return _MODIFIED + changed


def judge(reply: Reply, key: str, start: int, stop: int | None, version: Version) -> Served:
    """Tells what a reply to GET of [start, stop) delivers, of status 200 or 206. For 416 see `unsatisfied`.

    Raises: BadReplyError where the reply contradicts the request or itself, VersionChangedError,
    UnsupportedError where a length is missing.
    """
    check_encoding(reply)
    check_version(reply, version)
    size: int | None
    if reply.status == 206:
        size, served = _partial(reply, start)
    elif reply.status == 200:
        size = framing(reply).length
        served = ByteRange(0, size)
        if size is None and (start or stop is not None) and version is None:
            raise UnsupportedError(
                "the server gives no length for this image: it can only be read from its start to its end",
                request_id=reply.request_id,
            )
    else:
        raise reply.bad(f"status {reply.status}, which answers no question that was asked")
    return Served(describe(reply, key, size), served)


def check_encoding(reply: Reply) -> None:
    """Returns if the bytes are the image's own (§8.4); those of an encoding have other offsets.

    Raises: BadReplyError; nothing was decoded.
    """
    for coding in reply.values("content-encoding"):
        if coding.lower() not in {"", "identity"}:
            raise reply.bad(f"the image in the encoding {coding[:40]!r}, though identity was asked for")


def _partial(reply: Reply, start: int) -> tuple[int, ByteRange]:
    text = reply.value("content-range")
    if any(kind.lower().startswith("multipart/byteranges") for kind in reply.values("content-type")):
        raise reply.bad("several ranges, though one was asked for")
    if text is None:
        raise reply.bad("a part without a Content-Range")
    nonsense = reply.bad(f"Content-Range {text[:80]!r}")
    if (match := _CONTENT_RANGE.fullmatch(text)) is None:
        raise nonsense
    first, last, size = map(int, match.groups())
    if not first <= last < size < NUMBER_LIMIT:
        raise nonsense
    if not first <= start <= last:
        raise reply.bad(f"bytes {first} to {last}, though it was asked for those from {start} on")
    length = framing(reply).length
    stop = last + 1 if length is None else min(last + 1, first + length)
    return size, ByteRange(first, stop)


def check_version(reply: Reply, version: Version) -> None:
    """Returns if the bytes of `reply` are of `version`; ANY and None allow every one.

    Raises: VersionChangedError, BadReplyError where nothing tells one version from another: whoever answered
    may not be the server that gave the version.
    """
    held = version_of(reply)
    if version is None or version is ANY or held == version:
        return
    told = reply.values("etag") + [_MODIFIED + each for each in reply.values("last-modified")]
    if held is None and (not told or version in told):
        raise reply.bad("no version with the image, though one was asked for")
    raise VersionChangedError("the server holds another version of the image", request_id=reply.request_id)


def describe(reply: Reply, key: str, size: int | None) -> ObjectInfo:
    """Gives what the header fields say of an image of `size` bytes."""
    modified = http_date(reply.single("last-modified"))
    return ObjectInfo(key, size, version_of(reply), modified, _digests(reply))


def _digests(reply: Reply) -> dict[str, str]:
    """Reads Repr-Digest (RFC 9530 §3): of the whole image, also beside a part. Malformed ones are none."""
    digests = {}
    for member in ",".join(reply.values("repr-digest")).split(","):
        match = _DIGEST.fullmatch(member)
        if match:
            try:
                digest = base64.b64decode(match[2])
            except binascii.Error:
                continue
            if len(digest) * 8 == int(match[1]):
                digests[f"sha{match[1]}"] = digest.hex()
    return digests


def unsatisfied(reply: Reply) -> int | None:
    """Gives the image's size by a 416 (§15.5.17), None where it does not say."""
    text = reply.value("content-range")
    if text is None:
        return None
    match = _UNSATISFIED_RANGE.fullmatch(text)
    size = _number(match[1]) if match else None
    if size is None:
        raise reply.bad(f"Content-Range {text[:80]!r} with status 416")
    return size


def http_date(text: str | None) -> float | None:
    """Gives POSIX seconds for a date of §5.6.7, in any of its forms; None for what is no date."""
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _number(text: str) -> int | None:
    number = int(text)
    return number if number < NUMBER_LIMIT else None
