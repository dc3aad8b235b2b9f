"""The driver's options, as an operator reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from imgstore.backends._http.options import network_options
from imgstore.store import LazyOptions

if TYPE_CHECKING:
    from oslo_config.cfg import Opt

# Three of them in memory are 96 MiB, and 1,000 of them, which is all that Swift joins, an image of 31 GiB.
SEGMENT_SIZE: Final = 32 << 20


def _options() -> Sequence[Opt]:
    return (*_identity(), *_places(), *_transfers(), *_connections())


def _identity() -> Sequence[Opt]:
    from oslo_config import cfg

    return (
        cfg.StrOpt(
            "auth_url",
            required=True,
            help="Where to log in: with auth_version 3 Keystone's URL, with or without /v3 at its end; with "
            "auth_version 1 that of tempauth or radosgw.",
            sample_default="https://keystone.example.org:5000/v3",
        ),
        cfg.StrOpt(
            "auth_version",
            default="3",
            choices=[
                ("3", "Keystone: a password with a project, or an application credential"),
                ("1", "user and key, as of Swift's tempauth and of radosgw; the user is ACCOUNT:NAME"),
            ],
            help="How to log in. Version 2 of Keystone is no more.",
        ),
        cfg.StrOpt(
            "user",
            help="Name of the user. Not needed with an application credential.",
            sample_default="images",
        ),
        cfg.StrOpt("password", secret=True, help="Password of 'user', or its key where auth_version is 1."),
        cfg.StrOpt(
            "user_domain_name",
            help="Domain of the user, by name; 'Default' if neither this nor user_domain_id is set.",
        ),
        cfg.StrOpt("user_domain_id", help="The domain of the user by its id, in place of its name."),
        cfg.StrOpt("project_name", help="Project whose account holds the images, by name."),
        cfg.StrOpt("project_id", help="The project by its id, in place of its name."),
        cfg.StrOpt(
            "project_domain_name",
            help="Domain of the project, by name; 'Default' if neither this nor project_domain_id is set.",
        ),
        cfg.StrOpt("project_domain_id", help="The domain of the project by its id, in place of its name."),
        cfg.StrOpt(
            "application_credential_id",
            help="Application credential to log in with, by its id. It goes in place of user and password, "
            "and names its project itself. It can be withdrawn without changing the user's password, and "
            "may be restricted to the object store.",
        ),
        cfg.StrOpt(
            "application_credential_secret",
            secret=True,
            help="The secret that belongs to application_credential_id.",
        ),
        cfg.StrOpt("region", help="Region whose object store is used, where Keystone's catalog has several."),
        cfg.StrOpt(
            "interface",
            default="public",
            choices=["public", "internal", "admin"],
            help="Which of the catalog's URLs of the object store is used.",
        ),
        cfg.StrOpt(
            "service_type",
            default="object-store",
            help="Type under which Keystone's catalog has the object store.",
        ),
        cfg.StrOpt(
            "endpoint",
            help="URL of the account, in place of what the catalog or the login names. Needed where the "
            "service is reached by another name than it knows itself by.",
            sample_default="https://swift.example.org/v1/AUTH_0123456789abcdef",
        ),
        cfg.FloatOpt(
            "expire_soon_interval",
            default=60.0,
            min=0.0,
            help="Seconds before its end from which a token is renewed; all threads share one renewal. A "
            "token that the service refuses is renewed once, too. Bytes that flow already are not touched by "
            "the end of a token.",
        ),
    )


def _places() -> Sequence[Opt]:
    from oslo_config import cfg

    return (
        cfg.StrOpt(
            "container",
            default="images",
            help="Container that holds the images. The key of an image is its object's name. Segments of "
            "large images, and the records of pending uploads, are in a container of the same name with "
            "'_segments' at its end, which is made when it is needed. Radosgw wants three letters or more.",
        ),
        cfg.BoolOpt(
            "create_container",
            default=False,
            help="Whether the container is made if it is not there when an image is stored.",
        ),
        cfg.IntOpt(
            "multiple_containers_seed",
            default=0,
            min=0,
            max=8,
            help="Spreads images over several containers, by this number of hexadecimal digits of the key's "
            "SHA-256: 0 keeps all in 'container', 2 makes 256 of them, named container_00 to container_ff. A "
            "container with many millions of objects is slow to write to. Do not change it once there are "
            "images: they would not be found. A list of the images asks each container.",
        ),
        cfg.BoolOpt(
            "multi_tenant",
            default=False,
            help="Whether each image gets a container of its own, named container_KEY, so that access can be "
            "granted for each image alone. Containers are then made, and removed with their image. Keys are "
            "limited to what fits into a container's name, 256 bytes in percent-encoding.",
        ),
        cfg.ListOpt(
            "admin_tenants",
            default=[],
            help="Projects that may read and write every image, with multi_tenant: an id, or PROJECT:USER.",
        ),
    )


def _transfers() -> Sequence[Opt]:
    from oslo_config import cfg

    return (
        cfg.IntOpt(
            "segment_size",
            default=SEGMENT_SIZE,
            min=1,
            help="Bytes of a segment. An image that is not larger is stored as one object, a larger one as a "
            "static large object. Since a manifest takes 1,000 segments as a rule, those of very large "
            "images are larger. A put uses (max_concurrency + 1) * segment_size of memory: 128 MiB; with a "
            "max_concurrency of 1 one segment_size.",
        ),
        cfg.IntOpt(
            "max_concurrency",
            default=3,
            min=1,
            max=64,
            help="Number of segments of one image that are sent at a time.",
        ),
    )


def _connections() -> Sequence[Opt]:
    from oslo_config import cfg

    return (
        *network_options(),
        cfg.FloatOpt(
            "work_timeout",
            default=120.0,
            min=0.1,
            help="Seconds until the reply to what the service itself works on: it looks at each segment "
            "before it joins them, up to 1,000, or copies one of up to 5 GiB from disk to disk.",
        ),
    )


OPTIONS: Final = LazyOptions(_options)
