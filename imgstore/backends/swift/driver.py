"""The driver for OpenStack Swift, and for radosgw's API of that name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from imgstore.backends._http.address import parse
from imgstore.backends._http.client import TlsFiles
from imgstore.backends._http.dial import AddressInfo, Resolve, system_resolve
from imgstore.backends._http.transport import Transport
from imgstore.backends.swift.access import Tokens
from imgstore.backends.swift.copier import SwiftCopier
from imgstore.backends.swift.failures import translate
from imgstore.backends.swift.granted import SwiftAcls
from imgstore.backends.swift.identity import Identity
from imgstore.backends.swift.layout import Layout
from imgstore.backends.swift.lister import SwiftLister
from imgstore.backends.swift.options import OPTIONS, SEGMENT_SIZE
from imgstore.backends.swift.placing import Placing
from imgstore.backends.swift.publish import Publisher
from imgstore.backends.swift.reader import Reader
from imgstore.backends.swift.records import Records
from imgstore.backends.swift.service import Service
from imgstore.backends.swift.space import SwiftSpace
from imgstore.backends.swift.uploads import SwiftUploader
from imgstore.backends.swift.writer import SwiftWriter
from imgstore.clock import Wakeable
from imgstore.errors import ConfigError, ImgstoreError
from imgstore.model import Call, ObjectInfo, Version
from imgstore.secret import Secret
from imgstore.steps import Step
from imgstore.store import Store
from imgstore.stream import Opened

_AGENT: Final = "imgstore"


class SwiftStore(Store):
    """Keeps images as objects of Swift; larger ones as static large objects.

    The version of an image is its ETag and the time it was stored: the first is sent with each request, both
    are compared in each reply. A dynamic large object, as Glance stores it, is read as its list of segments.

    Deadline and cancellation end any wait within a second. Nothing is tried twice here, except once with a
    new token after a 401: retrying is the resume layer's.
    """

    OPTIONS = OPTIONS

    # How names become addresses. An embedder, or a test, may set another on an instance.
    resolve: Resolve = staticmethod(system_resolve)

    def __init__(
        self,
        *,
        auth_url: str,
        auth_version: str = "3",
        user: str | None = None,
        password: Secret | None = None,
        user_domain_name: str | None = None,
        user_domain_id: str | None = None,
        project_name: str | None = None,
        project_id: str | None = None,
        project_domain_name: str | None = None,
        project_domain_id: str | None = None,
        application_credential_id: str | None = None,
        application_credential_secret: Secret | None = None,
        region: str | None = None,
        interface: str = "public",
        service_type: str = "object-store",
        endpoint: str | None = None,
        expire_soon_interval: float = 60.0,
        container: str = "images",
        create_container: bool = False,
        multiple_containers_seed: int = 0,
        multi_tenant: bool = False,
        admin_tenants: Sequence[str] = (),
        segment_size: int = SEGMENT_SIZE,
        max_concurrency: int = 3,
        ca_file: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        verify_tls: bool = True,
        proxy: Secret | None = None,
        trust_env: bool = True,
        open_timeout: float = 10.0,
        connect_timeout: float = 5.0,
        receive_timeout: float = 15.0,
        work_timeout: float = 120.0,
    ) -> None:
        """Takes the options; no file is read, and nothing is connected yet.

        Raises: ConfigError naming the option that makes no sense.
        """
        self._identity = Identity(
            auth_url=auth_url,
            auth_version=auth_version,
            user=user,
            password=password,
            user_domain_name=user_domain_name,
            user_domain_id=user_domain_id,
            project_name=project_name,
            project_id=project_id,
            project_domain_name=project_domain_name,
            project_domain_id=project_domain_id,
            application_credential_id=application_credential_id,
            application_credential_secret=application_credential_secret,
            region=region,
            interface=interface,
            service_type=service_type,
            endpoint=endpoint,
        )
        if client_key is not None and client_cert is None:
            raise ConfigError("the option 'client_key' needs 'client_cert'")
        for name, value in (("segment_size", segment_size), ("max_concurrency", max_concurrency)):
            if value < 1:
                raise ConfigError(f"the option '{name}' is {value}; it is 1 or more")
        clock = _OwnClock(self)
        self._transport = Transport(
            TlsFiles(ca_file, client_cert, client_key, verify_tls),
            proxy=proxy,
            trust_env=trust_env,
            open_timeout=_positive("open_timeout", open_timeout),
            connect_timeout=_positive("connect_timeout", connect_timeout),
            receive_timeout=_positive("receive_timeout", receive_timeout),
            clock=clock,
            resolve=self._resolve,
        )
        tokens = Tokens(
            self._identity.login(self._transport, clock),
            self._transport,
            clock,
            expire_soon=expire_soon_interval,
        )
        self.layout = Layout(container, multiple_containers_seed, multi_tenant)
        self.service = Service(
            self._transport, tokens, _AGENT, work_timeout=_positive("work_timeout", work_timeout)
        )
        self.reader = Reader(self.service, self.layout, clock)
        self.placing = Placing(self, create=create_container)
        self.publisher = Publisher(self)
        self.records = Records(self)
        self.granted = SwiftAcls(self, admin_tenants)
        address, _ = parse(endpoint or auth_url, "the URL")
        self.endpoint = f"{address.scheme}://{address.authority}"
        self.writer = SwiftWriter(self, segment_size=segment_size, max_concurrency=max_concurrency)
        self.uploader: SwiftUploader = SwiftUploader(self)
        self.lister = SwiftLister(self)
        self.copier = SwiftCopier(self)
        self.acls = self.granted if multi_tenant else None
        self.space = SwiftSpace(self)

    @classmethod
    def at(cls, url: str, **options: Any) -> tuple[SwiftStore, str]:
        """Gives a store over the container of `swift://CONTAINER/OBJECT`, and the key there.

        Each part may be percent-encoded. The account is the one that the swift and openstack commands would
        use: that of OS_CLOUD and clouds.yaml, of ST_AUTH or of OS_AUTH_URL. `options` are the constructor's.

        Raises: ConfigError.
        """
        from imgstore.backends.swift.location import options_at

        found, key = options_at(url, os.environ)
        return cls(**{**found, **options}), key

    @property
    def receive_timeout(self) -> float:
        """Seconds that the service may send nothing in mid-body."""
        return self._transport.receive_timeout

    @receive_timeout.setter
    def receive_timeout(self, seconds: float) -> None:
        self._transport.receive_timeout = seconds

    @property
    def location(self) -> str:
        """Where the images are, without secrets."""
        return f"swift://{self.layout.container} by {self._identity.location}"

    def steps(self, key: str | None) -> Sequence[Step]:
        """Gives the steps to the container (`imgstore.steps`)."""
        from imgstore.backends.swift.check import steps

        return steps(self)

    def translate(self, exc: Exception) -> ImgstoreError:
        return translate(exc)

    def close(self) -> None:
        super().close()
        self._transport.close()

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        return self.reader.open(key, start, stop, version, call)

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        return self.reader.stat(key, call)

    def _resolve(self, host: str, port: int) -> Sequence[AddressInfo]:
        return self.resolve(host, port)


class _OwnClock:
    """The clock of a store as it is now: the stack gives it another after it was made."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def now(self) -> float:
        return self._store.clock.now()

    def time(self) -> float:
        return self._store.clock.time()

    def sleep(self, seconds: float, wake: Wakeable | None = None) -> None:
        self._store.clock.sleep(seconds, wake)


def _positive(option: str, seconds: float) -> float:
    if not seconds > 0:
        raise ConfigError(f"the option '{option}' is {seconds:g}; it takes seconds above 0")
    return float(seconds)
