"""The options of every driver whose requests go over HTTP, as an operator reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oslo_config.cfg import Opt


def network_options(*, client_certificate: bool = True, redirects: bool = False) -> Sequence[Opt]:
    """Gives the options about TLS, proxies and times; the arguments say what the driver has, too."""
    from oslo_config import cfg

    certificate = (
        cfg.StrOpt(
            "client_cert",
            help="PEM file with the certificate that this client shows to https servers; it may hold the "
            "key.",
        ),
        cfg.StrOpt("client_key", help="PEM file with the key of 'client_cert', without a password."),
    )
    over = ", over all redirects, together" if redirects else " together"
    return (
        cfg.StrOpt(
            "ca_file",
            help="PEM file with the authorities that may vouch for https servers and proxies, in place of "
            "the system's own.",
        ),
        *(certificate if client_certificate else ()),
        cfg.BoolOpt(
            "verify_tls",
            default=True,
            help="Whether an https server must prove its identity. Without that, anybody on the way can read "
            "the credentials and change the images: for tests only.",
        ),
        cfg.StrOpt(
            "proxy",
            secret=True,
            help="URL of an http or https proxy for all requests, user and password in it if it wants some. "
            "Hosts in the environment's NO_PROXY are reached directly.",
            sample_default="http://proxy.example.org:3128",
        ),
        cfg.BoolOpt(
            "trust_env",
            default=True,
            help="Whether the environment's http_proxy, https_proxy, all_proxy and no_proxy count. The first "
            "three do only where 'proxy' is not set.",
        ),
        cfg.FloatOpt(
            "open_timeout",
            default=10.0,
            min=0.1,
            help="Seconds until a reply must have begun: name lookup, connect, TLS, request and headers"
            f"{over}. For what is sent, they count from its last byte on.",
        ),
        cfg.FloatOpt(
            "connect_timeout",
            default=5.0,
            min=0.1,
            help="Seconds for each address of a server to accept a connection, before the next is tried.",
        ),
        cfg.FloatOpt(
            "receive_timeout",
            default=15.0,
            min=0.1,
            help="Seconds that a server may send nothing in the middle of an image, or take nothing of what "
            "is sent.",
        ),
    )
