"""botocore's client: told who asks and who carries its requests, and kept from telling secrets."""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from imgstore.backends._http_range import Reply
from imgstore.backends.s3.credentials import Chain, Credentials, Keys
from imgstore.errors import ConfigError

# botocore logs requests whole at DEBUG, session token and signature included.
_TALKATIVE: Final = ("auth", "awsrequest", "endpoint", "hooks", "parsers", "regions", "retryhandler", "utils")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the service is, as botocore takes it."""

    endpoint_url: str | None
    region: str | None
    addressing: str
    profile: str | None


class _Whole(io.BytesIO):
    """A body that was read, in the form that botocore's response takes it."""

    def stream(self, **_: Any) -> Any:
        yield self.read()


class Client:
    """botocore's client, with the operations by their API names."""

    def __init__(
        self,
        place: Place,
        given: Credentials | None,
        carry: Callable[[str, Any], Any],
        note: Callable[[Keys], None],
    ) -> None:
        """Reads botocore's models and configuration files, and asks nobody for credentials.

        Raises: ConfigError where botocore is missing; what botocore raises for options that make no sense.
        """
        try:
            from botocore.config import Config
            from botocore.session import Session
        except ImportError as exc:
            raise ConfigError("the S3 driver needs botocore: pip install 'botocore>=1.36'") from exc
        for name in _TALKATIVE:
            _quieten(f"botocore.{name}")
        session = Session(profile=place.profile)
        session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
        resolver = session.get_component("credential_provider")
        find = resolver.load_credentials
        self.credentials: Credentials = given or Chain(find)
        self._note = note
        session.register_component("credential_provider", _Resolver(self._keys))
        settings: dict[str, Any] = {"payload_signing_enabled": False}
        if place.addressing != "auto":  # else boto3's files may say it
            settings["addressing_style"] = place.addressing
        client = session.create_client(
            "s3",
            region_name=place.region,
            endpoint_url=place.endpoint_url,
            config=Config(
                signature_version="s3v4",
                retries={"total_max_attempts": 1},
                s3=settings,
                # the driver brings its own, as headers: no trailer, which radosgw and others refuse
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                user_agent_extra="imgstore",
            ),
        )
        client.meta.events.register(
            "before-send.s3",
            lambda request, event_name, **_: carry(event_name, request),
        )
        self.region: str | None = client.meta.region_name
        self.endpoint_url: str = client.meta.endpoint_url
        methods = client.meta.method_to_api_mapping
        self.operations = {api: getattr(client, method) for method, api in methods.items()}

    def _keys(self) -> Keys:
        keys = self.credentials.current()
        self._note(keys)
        return keys


@functools.cache
def _loader(path: str | None) -> Any:
    """Gives what reads botocore's models and keeps them: 110 ms of CPU for the first store, 13 for others."""
    from botocore.loaders import create_loader

    loader: Any = create_loader(path)
    # else it looks into the folders of 400 services, to know that S3 is one of them: 20 ms
    loader.list_available_services = lambda _type_name: ["s3"]
    return loader


class _Resolver:
    """Stands where botocore looks for credentials once, and has it look again at each request."""

    def __init__(self, keys: Callable[[], Keys]) -> None:
        self.get_frozen_credentials = keys
        self.method = "imgstore"
        self.account_id = None

    def load_credentials(self) -> _Resolver:
        return self

    def get_deferred_property(self, _: str) -> Callable[[], None]:
        return lambda: None


def response(url: str, reply: Reply, content: bytes) -> Any:
    """Gives a reply with its whole body in the form that botocore takes it."""
    from botocore.awsrequest import AWSResponse, HeadersDict

    return AWSResponse(url, reply.status, HeadersDict(reply.fields), _Whole(content))


def _quieten(name: str) -> None:
    logger = logging.getLogger(name)
    if _spares_debug not in logger.filters:
        logger.addFilter(_spares_debug)


def _spares_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG
