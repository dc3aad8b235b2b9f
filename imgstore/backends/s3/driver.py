"""A store of objects in one bucket of S3, or of a service that speaks its protocol."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from imgstore.backends._http.address import parse
from imgstore.backends._http.client import TlsFiles
from imgstore.backends._http.dial import AddressInfo, Resolve, system_resolve
from imgstore.backends._http.transport import Transport
from imgstore.backends._http_range import judge, range_header
from imgstore.backends.s3.bucket import Bucket
from imgstore.backends.s3.client import Place
from imgstore.backends.s3.copier import S3Copier
from imgstore.backends.s3.credentials import Given
from imgstore.backends.s3.identity import Pin, named, pinned
from imgstore.backends.s3.integrity import CHOICES, Integrity
from imgstore.backends.s3.lister import S3Lister
from imgstore.backends.s3.objects import Objects, Traits
from imgstore.backends.s3.options import ACLS, ADDRESSING, OPTIONS
from imgstore.backends.s3.planning import LIMITS
from imgstore.backends.s3.refusals import translated
from imgstore.backends.s3.uploader import S3Uploader
from imgstore.backends.s3.wire import Wire
from imgstore.backends.s3.writer import S3Writer
from imgstore.errors import (
    BadReplyError,
    ConfigError,
    ImgstoreError,
    NotFoundError,
    RangeNotSatisfiableError,
    VersionChangedError,
)
from imgstore.model import ByteRange, Call, ObjectInfo, Version
from imgstore.secret import Secret
from imgstore.steps import Step
from imgstore.store import Store
from imgstore.stream import Opened


class S3Store(Store):
    """Reads and stores images as objects. botocore builds and signs requests; our own connections carry them.

    The version of an image is its ETag, after its version ID where the bucket keeps versions. Each read names
    both, and the reply is judged by them. An ETag is never taken for a digest of an image.
    """

    OPTIONS = OPTIONS

    # How names become addresses. An embedder, or a test, may set another on an instance.
    resolve: Resolve = staticmethod(system_resolve)

    def __init__(
        self,
        *,
        bucket: str | None = None,
        prefix: str = "",
        endpoint_url: str | None = None,
        region: str | None = None,
        addressing: str = "auto",
        create_bucket: bool = False,
        access_key: Secret | None = None,
        secret_key: Secret | None = None,
        session_token: Secret | None = None,
        profile: str | None = None,
        upload_part_size: int = 16 << 20,
        max_concurrency: int = 4,
        storage_class: str | None = None,
        server_side_encryption: str | None = None,
        sse_kms_key_id: str | None = None,
        acl: str | None = None,
        request_checksum_calculation: str = "when_supported",
        conditional_writes: bool = True,
        ca_file: str | None = None,
        verify_tls: bool = True,
        proxy: Secret | None = None,
        trust_env: bool = True,
        open_timeout: float = 10.0,
        connect_timeout: float = 5.0,
        receive_timeout: float = 15.0,
        finish_timeout: float = 120.0,
    ) -> None:
        """Takes the options; nothing is read or connected yet.

        Raises: ConfigError naming the option that makes no sense.
        """
        if not bucket:
            raise ConfigError("the option 'bucket' is needed")
        if (access_key is None) != (secret_key is None) or (session_token is not None and not access_key):
            raise ConfigError("'access_key' and 'secret_key' go together, and 'session_token' with both")
        if not LIMITS.min_part <= upload_part_size <= LIMITS.max_part:
            raise ConfigError(
                f"the option 'upload_part_size' is {upload_part_size}; a part of S3 has 5 MiB to 5 GiB"
            )
        if max_concurrency < 1:
            raise ConfigError(f"the option 'max_concurrency' is {max_concurrency}; it is 1 or more")
        if sse_kms_key_id is not None and not (server_side_encryption or "").startswith("aws:kms"):
            raise ConfigError("the option 'sse_kms_key_id' needs 'server_side_encryption = aws:kms'")
        _one_of("addressing", addressing, ADDRESSING)
        _one_of("request_checksum_calculation", request_checksum_calculation, CHOICES)
        _one_of("acl", acl, (None, *ACLS))
        self._bucket = Bucket(bucket, prefix)
        self._place = Place(_service(endpoint_url), region or None, addressing, profile or None)
        self.endpoint = endpoint_url or f"s3:{region or ''}"
        self._keys = None
        if access_key is not None and secret_key is not None:
            self._keys = Given(access_key, secret_key, session_token)
        self._tls = TlsFiles(ca_file, None, None, verify_tls)
        self._proxy = proxy
        self._trust_env = trust_env
        self._open_timeout = _positive("open_timeout", open_timeout)
        self._connect_timeout = _positive("connect_timeout", connect_timeout)
        self.receive_timeout = _positive("receive_timeout", receive_timeout)
        fields = {
            "StorageClass": storage_class,
            "ServerSideEncryption": server_side_encryption,
            "SSEKMSKeyId": sse_kms_key_id,
            "ACL": acl,
        }
        traits = Traits(
            {name: value for name, value in fields.items() if value},
            conditional_writes,
            create_bucket,
            _positive("finish_timeout", finish_timeout),
        )
        self._wires: dict[str, Wire] = {}
        self._objects = Objects(self._wire, self._bucket, traits, Integrity(request_checksum_calculation))
        self.writer: S3Writer = S3Writer(self, self._objects, size=upload_part_size, workers=max_concurrency)
        self.uploader: S3Uploader = S3Uploader(self, self._objects)
        self.lister: S3Lister = S3Lister(self, self._objects)
        self.copier: S3Copier = S3Copier(self, self._objects)

    @classmethod
    def at(cls, url: str, **options: Any) -> tuple[S3Store, str]:
        """Gives a store over the bucket of `s3://BUCKET/KEY`, and the key, which may be percent-encoded.

        Endpoint, region, credentials and authorities are those of boto3: its environment, and but for the
        authorities its files. `options` are those of the constructor.

        Raises: ConfigError.
        """
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise ConfigError("the URL is not of the form s3://BUCKET/KEY")
        if "@" in parts.netloc:
            raise ConfigError("an s3:// URL holds no credentials; boto3's environment and files do")
        if parts.query or parts.fragment:
            raise ConfigError("the URL holds a query or a fragment; ? and # of a key are percent-encoded")
        options.setdefault("ca_file", os.environ.get("AWS_CA_BUNDLE"))
        return cls(bucket=unquote(parts.netloc), **options), unquote(parts.path[1:])

    @property
    def location(self) -> str:
        """Where the images are, without secrets."""
        service = "" if self._place.endpoint_url is None else f" at {self._place.endpoint_url}"
        return f"s3://{self._bucket.name}/{self._bucket.prefix}{service}"

    def steps(self, key: str | None) -> Sequence[Step]:
        """Gives the steps to the bucket (`imgstore.steps`)."""
        from imgstore.backends.s3.check import Way

        return Way(self).steps()

    def translate(self, exc: Exception) -> ImgstoreError:
        return translated(exc)

    def close(self) -> None:
        super().close()
        for wire in self._wires.values():
            wire.close()

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        pin = Pin.of(version) if isinstance(version, str) else None
        wire, arguments = self._wire(), self._named(key, pin)
        try:
            answer, exchange, watch = wire.open(
                call, pinned=pin is not None, Range=range_header(start, stop), **arguments
            )
        except RangeNotSatisfiableError as exc:
            return self._beyond(key, start, pin, exc, call)
        reply = answer.reply
        try:
            served = judge(reply, key, start, stop, pin.etag if pin is not None else version)
            if pin is not None and not pin.admits(pinned(reply)):
                raise _changed(reply.request_id)
            raw = wire.stream(exchange, served.range.size, watch)
        except BaseException:
            exchange.drop()
            raise
        return Opened(raw, named(served.info, reply), served.range)

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        found = self._objects.look(key, call)
        if found is None:
            raise NotFoundError("the service has no such image")
        return found.info

    def _named(self, key: str, pin: Pin | None) -> dict[str, str]:
        named = {"Bucket": self._bucket.name, "Key": self._bucket.object_key(key)}
        if pin is not None:
            named["IfMatch"] = pin.etag
            if pin.version_id is not None:
                named["VersionId"] = pin.version_id
        return named

    def _beyond(
        self, key: str, start: int, pin: Pin | None, refused: RangeNotSatisfiableError, call: Call
    ) -> Opened:
        """Judges a 416: of an empty image no range can be asked for, and its size S3 does not tell."""
        found = self._objects.look(key, call, pin)
        if found is None:
            raise NotFoundError("the service has no such image")
        if pin is not None and not pin.admits(found.pin):
            raise _changed(refused.request_id)
        size = found.info.size or 0
        if start == size == 0:
            return Opened(_Empty(), found.info, ByteRange(0, 0))
        if start < size:
            raise BadReplyError(f"the service cannot serve offset {start} of an image of {size} bytes")
        raise RangeNotSatisfiableError(
            f"offset {start} lies behind the end of the image ({size} bytes)", request_id=refused.request_id
        )

    def _wire(self) -> Wire:
        wire = self._wires.get("")
        if wire is None:
            wire = self._wires.setdefault("", self._make_wire())
        return wire

    def _make_wire(self) -> Wire:
        def resolve(host: str, port: int) -> Sequence[AddressInfo]:
            return self.resolve(host, port)

        transport = Transport(
            self._tls,
            proxy=self._proxy,
            trust_env=self._trust_env,
            open_timeout=self._open_timeout,
            connect_timeout=self._connect_timeout,
            receive_timeout=self.receive_timeout,
            clock=self.clock,
            resolve=resolve,
        )
        return Wire(self._place, transport, self.clock, self._keys)


class _Empty:
    """The body of an image without a byte."""

    def readinto(self, buffer: memoryview, /) -> int:
        return 0

    def abort(self) -> None: ...

    def close(self) -> None: ...


def _changed(request_id: str | None) -> VersionChangedError:
    return VersionChangedError("the service holds another version of the image", request_id=request_id)


def _service(endpoint_url: str | None) -> str | None:
    if not endpoint_url:
        return None
    address, user = parse(endpoint_url, "the option 'endpoint_url'")
    if user is not None or address.target not in {"", "/"}:
        raise ConfigError("the option 'endpoint_url' has a user, a path or a query; https://host would do")
    return endpoint_url.rstrip("/")


def _one_of(option: str, value: str | None, choices: Sequence[str | None]) -> None:
    if value not in choices:
        allowed = ", ".join(each for each in choices if each)
        raise ConfigError(f"the option '{option}' is {str(value)[:40]!r}; it is one of {allowed}")


def _positive(option: str, seconds: float) -> float:
    if not seconds > 0:
        raise ConfigError(f"the option '{option}' is {seconds:g}; it takes seconds above 0")
    return float(seconds)
