"""An S3 that keeps the rules: part sizes and numbers, preconditions, checksums, keys that expire. And breaks.

It shares no code with the driver. What moto lets pass is refused here; what a real service does once in a
million requests, it does when it is told to.
"""
# ruff: noqa: N802, N815  # operations have the names that S3 gives them

from __future__ import annotations

import base64
import hashlib
import re
import time
import zlib
from collections import deque
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from tests.faults.service import Service, ServiceHandler

MIN_PART = 5 << 20
MAX_PARTS = 10_000
STATUS = {
    "AccessDenied": 403,
    "BadDigest": 400,
    "EntityTooSmall": 400,
    "ExpiredToken": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidPart": 400,
    "InvalidPartOrder": 400,
    "InvalidRange": 416,
    "MalformedXML": 400,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "PreconditionFailed": 412,
    "QuotaExceeded": 403,
    "RequestTimeTooSkewed": 403,
    "ConditionalRequestConflict": 409,
    "ServiceUnavailable": 503,
    "SlowDown": 503,
    "TooManyRequests": 429,
}


@dataclass
class Fault:
    """Something that goes wrong with one request.

    `refuse`: it is answered with that code, and nothing is done. `lose`: it is done, and the connection cut
    before a byte of the reply. `reset`: cut at once, nothing done. `stall`: silence, with the reply begun if
    it has a body. `body`: it is done, and answered with `status` and these bytes instead. `skip`: the same,
    not done. `flip`: a byte of what it brings is another when it is stored. `cut`: that many bytes of the
    reply's body.
    """

    refuse: str = ""
    lose: bool = False
    reset: bool = False
    stall: bool = False
    body: bytes | None = None
    status: int = 200
    skip: bool = False
    flip: bool = False
    cut: int | None = None


@dataclass
class Object:
    data: bytes
    etag: str
    metadata: dict
    version: str
    modified: float = field(default_factory=time.time)


@dataclass
class Pending:
    key: str
    metadata: dict
    parts: dict = field(default_factory=dict)
    started: float = field(default_factory=time.time)


class RefusedError(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code


class S3Server(Service):
    """One bucket on a port of 127.0.0.1, from `start` to `stop`.

    `log` has (operation, key) of each request, `sent` the bytes of each body that was received. `checks` and
    `md5_etags` switch off what some services lack: comparing checksums, and ETags that are digests.
    """

    bucket = "images"
    access_key = "AKIAFAKE"

    def __init__(self, *, secret="", versioned=False, checks=True, conditional=True, md5_etags=True):
        super().__init__()
        self.secret = secret
        self.versioned, self.checks, self.conditional = versioned, checks, conditional
        self.md5_etags = md5_etags
        self.objects: dict[str, list[Object | None]] = {}
        self.uploads: dict[str, Pending] = {}
        self.made = True  # whether the bucket is there
        self.tokens = {None}  # session tokens that are good
        self.denied: set[str] = set()  # operations that nobody may do
        self.room: int | None = None
        self.page = 1000
        self.ranges = True
        self.heeds_ids = True
        self.before = lambda operation, key: None
        self._faults: dict[str, deque[Fault | None]] = {}

    def script(self, operation, *faults):
        """Has the next requests of `operation` meet these faults; None is none."""
        self._faults[operation] = deque(faults)

    def fault(self, operation):
        with self.lock:
            waiting = self._faults.get(operation)
            return (waiting.popleft() if waiting else None) or Fault()

    def put(self, key, data, metadata=(), etag=None):
        with self.lock:
            digest = hashlib.md5(data).hexdigest()
            number = next(self.numbers)
            tag = etag or (digest if self.md5_etags else f"{digest[:30]}{number:04}-k")
            found = Object(data, f'"{tag}"', dict(metadata), f"v{number}" if self.versioned else "null")
            kept = self.objects.get(key, []) if self.versioned else []
            self.objects[key] = [*kept, found]
            return found

    def remove(self, key):
        with self.lock:
            self.objects[key] = [*self.objects.get(key, []), None] if self.versioned else []

    def current(self, key):
        versions = self.objects.get(key)
        return versions[-1] if versions else None

    def images(self):
        return {
            key: self.current(key).data
            for key in self.objects
            if self.current(key) is not None and not key.startswith(".imgstore/")
        }

    def left(self):
        """What there is besides images: records, uploads."""
        own = [key for key in self.objects if key.startswith(".imgstore/") and self.current(key) is not None]
        return own, list(self.uploads)

    def count(self, operation):
        return sum(each == operation for each, _ in self.log)


def operation_of(method, key, query, headers):
    if not key:
        names = {"GET": "ListObjectsV2", "PUT": "CreateBucket", "HEAD": "HeadBucket"}
        return "ListMultipartUploads" if "uploads" in query else names[method]
    if "uploads" in query:
        return "CreateMultipartUpload"
    if "uploadId" in query:
        put = "UploadPartCopy" if "x-amz-copy-source" in headers else "UploadPart"
        names = {"PUT": put, "GET": "ListParts", "POST": "CompleteMultipartUpload"}
        return names.get(method, "AbortMultipartUpload")
    put = "CopyObject" if "x-amz-copy-source" in headers else "PutObject"
    return {"PUT": put, "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}[method]


class _Handler(ServiceHandler):
    service: S3Server

    def do_GET(self):
        s3, url = self.service, urlsplit(self.path)
        self.query = dict(parse_qsl(url.query, keep_blank_values=True))
        bucket, _, self.key = unquote(url.path).removeprefix("/").partition("/")
        operation = operation_of(self.command, self.key, self.query, self.headers)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        s3.log.append((operation, self.key))
        s3.sent[operation] += len(body)
        s3.before(operation, self.key)
        fault = s3.fault(operation)
        if fault.reset:
            self.reset()
            return
        if fault.flip:
            body = bytes([body[0] ^ 1]) + body[1:]
        status, fields, reply = self._done(fault, bucket, operation, body)
        if fault.lose:
            self.reset()
            return
        if fault.body is not None:
            status, fields, reply = fault.status, {}, fault.body
        self._answer(status, fields, reply, fault)

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET

    def _done(self, fault, bucket, operation, body):
        s3 = self.service
        with s3.lock:
            try:
                if fault.refuse:
                    raise RefusedError(fault.refuse)
                self._admit(operation)
                if bucket != s3.bucket or (not s3.made and operation != "CreateBucket"):
                    raise RefusedError("NoSuchBucket")
                if fault.skip:
                    return 200, {}, b""
                return getattr(self, operation)(body)
            except RefusedError as refusal:
                code = refusal.code
                text = f"<Error><Code>{code}</Code><Message></Message></Error>".encode()
                return STATUS.get(code, 503), {"Content-Type": "application/xml"}, text

    def _answer(self, status, fields, reply, fault):
        self.send_response(status)
        for name, value in {"x-amz-request-id": f"R{len(self.service.log)}", **fields}.items():
            self.send_header(name, value)
        if status != 204 and "Content-Length" not in fields:
            self.send_header("Content-Length", str(len(reply)))
        if fault.stall and self.command == "HEAD":
            self.service.ended.wait()
        if not (fault.stall and len(reply) < 2):
            self.end_headers()
        if self.command == "HEAD":
            return
        if fault.stall:
            self.wfile.write(reply[: len(reply) // 2])
            self.service.ended.wait()
            return
        if fault.cut is not None:
            self.wfile.write(reply[: fault.cut])
            self.close_connection = True
            return
        self.wfile.write(reply)
        return

    def _admit(self, operation):
        s3 = self.service
        found = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization") or "")
        if found is None:
            raise RefusedError("AccessDenied")
        if found[1] != s3.access_key:
            raise RefusedError("InvalidAccessKeyId")
        if self.headers.get("x-amz-security-token") not in s3.tokens:
            raise RefusedError("ExpiredToken")
        if operation in s3.denied:
            raise RefusedError("AccessDenied")

    def _check_body(self, body):
        if not self.service.checks:
            return
        md5, crc = self.headers.get("Content-MD5"), self.headers.get("x-amz-checksum-crc32")
        if md5 is not None and md5 != base64.b64encode(hashlib.md5(body).digest()).decode():
            raise RefusedError("BadDigest")
        if crc is not None and crc != _crc(body):
            raise RefusedError("BadDigest")

    def _check_room(self, body):
        s3 = self.service
        used = sum(len(each.data) for kept in s3.objects.values() for each in kept if each)
        used += sum(len(data) for each in s3.uploads.values() for data, *_ in each.parts.values())
        if s3.room is not None and used + len(body) > s3.room:
            raise RefusedError("QuotaExceeded")

    def _check_condition(self):
        found = self.service.current(self.key)
        if not self.service.conditional:
            return
        if self.headers.get("If-None-Match") == "*" and found is not None:
            raise RefusedError("PreconditionFailed")
        if (wanted := self.headers.get("If-Match")) is not None and (found is None or found.etag != wanted):
            raise RefusedError("PreconditionFailed")

    def _metadata(self):
        return {name: value for name, value in self.headers.items() if name.lower().startswith("x-amz-meta-")}

    def _found(self):
        wanted = self.query.get("versionId") if self.service.heeds_ids else None
        if wanted is None:
            found = self.service.current(self.key)
        else:
            kept = self.service.objects.get(self.key, [])
            found = next((each for each in kept if each and each.version == wanted), None)
            if found is None:
                raise RefusedError("NoSuchVersion")
        if found is None:
            raise RefusedError("NoSuchKey")
        if self.service.conditional and self.headers.get("If-Match") not in {None, found.etag}:
            raise RefusedError("PreconditionFailed")
        return found

    def _fields(self, found):
        fields = {"ETag": found.etag, "Last-Modified": formatdate(found.modified, usegmt=True)}
        if self.service.versioned:
            fields["x-amz-version-id"] = found.version
        return {**fields, **found.metadata}

    def CreateBucket(self, _):
        self.service.made = True
        return 200, {}, b""

    def HeadBucket(self, _):
        return 200, {}, b""

    def HeadObject(self, _):
        found = self._found()
        return 200, {**self._fields(found), "Content-Length": str(len(found.data))}, b""

    def GetObject(self, _):
        found = self._found()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is None or not self.service.ranges:
            return 200, self._fields(found), found.data
        size, start = len(found.data), int(wanted[1])
        if start >= size:
            raise RefusedError("InvalidRange")
        stop = min(size, int(wanted[2]) + 1) if wanted[2] else size
        told = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        return 206, {**self._fields(found), **told}, found.data[start:stop]

    def PutObject(self, body):
        self._check_body(body)
        self._check_condition()
        self._check_room(body)
        found = self.service.put(self.key, body, self._metadata())
        fields = self._fields(found)
        return 200, {"ETag": fields["ETag"], **_only(fields, "x-amz-version-id")}, b""

    def CopyObject(self, _):
        source = self.service.current(self._source())
        if source is None:
            raise RefusedError("NoSuchKey")
        if self.headers.get("x-amz-copy-source-if-match") not in {None, source.etag}:
            raise RefusedError("PreconditionFailed")
        found = self.service.put(self.key, source.data, self._metadata())
        return 200, {}, _xml("CopyObjectResult", f"<ETag>{escape(found.etag)}</ETag>")

    def _source(self):
        name = unquote(self.headers["x-amz-copy-source"].partition("?")[0]).removeprefix("/")
        return name.partition("/")[2]

    def DeleteObject(self, _):
        if self.service.current(self.key) is not None:
            self._check_condition()
        self.service.remove(self.key)
        return 204, {}, b""

    def ListObjectsV2(self, _):
        s3, prefix = self.service, self.query.get("prefix", "")
        after = self.query.get("continuation-token", "")
        keys = sorted(
            (key for key in s3.objects if key.startswith(prefix) and s3.current(key)), key=str.encode
        )
        keys = [key for key in keys if key.encode() > after.encode()]
        page, rest = keys[: s3.page], keys[s3.page :]
        told = "".join(
            f"<Contents><Key>{quote(key)}</Key><Size>{len(s3.current(key).data)}</Size>"
            f"<ETag>{escape(s3.current(key).etag)}</ETag>"
            f"<LastModified>{_iso(s3.current(key).modified)}</LastModified></Contents>"
            for key in page
        )
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if rest else ""
        told += f"<IsTruncated>{str(bool(rest)).lower()}</IsTruncated>{more}<Prefix>{quote(prefix)}</Prefix>"
        return 200, {}, _xml("ListBucketResult", f"{told}<EncodingType>url</EncodingType>")

    def CreateMultipartUpload(self, _):
        upload_id = f"U{next(self.service.numbers)}"
        self.service.uploads[upload_id] = Pending(self.key, self._metadata())
        told = f"<Key>{escape(self.key)}</Key><UploadId>{upload_id}</UploadId>"
        return 200, {}, _xml("InitiateMultipartUploadResult", told)

    def _upload(self):
        found = self.service.uploads.get(self.query["uploadId"])
        if found is None or found.key != self.key:
            raise RefusedError("NoSuchUpload")
        return found

    def UploadPart(self, body):
        pending, number = self._upload(), int(self.query["partNumber"])
        if not 1 <= number <= MAX_PARTS:
            raise RefusedError("InvalidArgument")
        self._check_body(body)
        self._check_room(body)
        return 200, self._stored(pending, number, body), b""

    def UploadPartCopy(self, _):
        pending, source = self._upload(), self.service.current(self._source())
        first, last = map(int, re.findall(r"\d+", self.headers["x-amz-copy-source-range"]))
        fields = self._stored(pending, int(self.query["partNumber"]), source.data[first : last + 1])
        return 200, {}, _xml("CopyPartResult", f"<ETag>{escape(fields['ETag'])}</ETag>")

    def _stored(self, pending, number, body):
        digest = hashlib.md5(body).hexdigest()
        tag = f'"{digest if self.service.md5_etags else digest[:30] + "-k"}"'
        pending.parts[number] = body, tag
        fields = {"ETag": tag}
        if self.service.checks and "x-amz-checksum-crc32" in self.headers:
            fields["x-amz-checksum-crc32"] = _crc(body)
        return fields

    def ListParts(self, _):
        s3, pending = self.service, self._upload()
        numbers = sorted(
            each for each in pending.parts if each > int(self.query.get("part-number-marker", 0))
        )
        page, rest = numbers[: s3.page], numbers[s3.page :]
        told = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(pending.parts[number][1])}</ETag>"
            f"<Size>{len(pending.parts[number][0])}</Size>"
            + (f"<ChecksumCRC32>{_crc(pending.parts[number][0])}</ChecksumCRC32>" if s3.checks else "")
            + "</Part>"
            for number in page
        )
        more = f"<NextPartNumberMarker>{page[-1]}</NextPartNumberMarker>" if rest else ""
        told += f"<IsTruncated>{str(bool(rest)).lower()}</IsTruncated>{more}"
        return 200, {}, _xml("ListPartsResult", told)

    def CompleteMultipartUpload(self, body):
        s3, pending = self.service, self._upload()
        root = ET.fromstring(body)
        given = [
            (int(each.findtext("{*}PartNumber")), each.findtext("{*}ETag"))
            for each in root.iter()
            if each.tag.endswith("Part")
        ]
        if not given:
            raise RefusedError("MalformedXML")
        if [number for number, _ in given] != sorted({number for number, _ in given}):
            raise RefusedError("InvalidPartOrder")
        for number, tag in given:
            if number not in pending.parts or pending.parts[number][1] != tag:
                raise RefusedError("InvalidPart")
            if len(pending.parts[number][0]) < MIN_PART and number != given[-1][0]:
                raise RefusedError("EntityTooSmall")
        self._check_condition()
        data = b"".join(pending.parts[number][0] for number, _ in given)
        tags = b"".join(hashlib.md5(pending.parts[number][0]).digest() for number, _ in given)
        tag = f"{hashlib.md5(tags).hexdigest()}-{len(given)}"
        found = s3.put(self.key, data, pending.metadata, etag=tag)
        del s3.uploads[self.query["uploadId"]]
        told = f"<Key>{escape(self.key)}</Key><ETag>{escape(found.etag)}</ETag>"
        return 200, {}, _xml("CompleteMultipartUploadResult", told)

    def AbortMultipartUpload(self, _):
        self._upload()
        del self.service.uploads[self.query["uploadId"]]
        return 204, {}, b""

    def ListMultipartUploads(self, _):
        prefix = self.query.get("prefix", "")
        told = "".join(
            f"<Upload><Key>{quote(each.key)}</Key><UploadId>{upload_id}</UploadId>"
            f"<Initiated>{_iso(each.started)}</Initiated></Upload>"
            for upload_id, each in self.service.uploads.items()
            if each.key.startswith(prefix)
        )
        return 200, {}, _xml("ListMultipartUploadsResult", f"{told}<EncodingType>url</EncodingType>")


def _crc(data):
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def _iso(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def _only(fields, name):
    return {name: fields[name]} if name in fields else {}


def _xml(root, told):
    return f'<?xml version="1.0" encoding="UTF-8"?><{root}>{told}</{root}>'.encode()


S3Server.handler = _Handler
