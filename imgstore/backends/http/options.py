"""The driver's options, as an operator reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from imgstore.backends._http.options import network_options
from imgstore.store import LazyOptions

if TYPE_CHECKING:
    from oslo_config.cfg import Opt


def _options() -> Sequence[Opt]:
    from oslo_config import cfg

    return (
        cfg.StrOpt(
            "url",
            secret=True,  # since it may hold a user or a signature; without them it is shown in full
            help="Where the images are: an http or https URL. The key of an image is appended to its path, "
            "percent-encoded, after a slash; a query in the URL stays at the end and goes with each request. "
            "This server is trusted: it may have a private address, and gets the credentials. "
            "User and password in it are those of basic authentication. One of this option, url_file and "
            "url_command is needed.",
            sample_default="https://images.example.org/disks/",
        ),
        cfg.StrOpt(
            "url_file",
            help="File that holds 'url' and nothing else, in place of that option, for a URL with a password "
            "or a signature in it. It is read once, at the start; for signatures that expire there is "
            "url_command.",
        ),
        cfg.StrOpt(
            "username",
            help="Name for basic authentication. It goes to the server in 'url' only, never to one that it "
            "redirects to. Excludes 'token' and 'token_file'.",
        ),
        cfg.StrOpt("password", secret=True, help="Password for basic authentication, with 'username'."),
        cfg.StrOpt(
            "token",
            secret=True,
            help="Bearer token, sent to the server in 'url' only. Where tokens expire, use 'token_file'.",
        ),
        cfg.StrOpt(
            "token_file",
            help="File that holds the bearer token and nothing else. It is read for each request, so that a "
            "token that another program renews counts at once; after a 401 a token that has changed since is "
            "tried once.",
        ),
        cfg.StrOpt(
            "netrc",
            help="'true' takes user and password for the server from ~/.netrc, as curl -n does; a path names "
            "another file of that format. Only an entry that names its host is used for a server that a "
            "redirect leads to. 'username' and the tokens go first.",
        ),
        cfg.MultiStrOpt(
            "headers",
            secret=True,
            help="Extra header line, 'Name: value', for each request to the server in 'url'; may be given "
            "several times. None is sent to another server that a redirect leads to. Headers that the driver "
            "needs itself (Range, Host, If-Match, Accept-Encoding and their kin) are refused.",
        ),
        cfg.StrOpt(
            "url_command",
            help="Program, with arguments in the shell's quoting but run without a shell, that prints the "
            "URL of an image, presigned for GET: the key becomes its last argument. It runs when a key is "
            "first used, and once more when the server answers 401 or 403 to a URL it gave; many readers "
            "share one run. Servers in these URLs are trusted as the one in 'url' is. Excludes 'url' "
            "and 'url_file'.",
            sample_default="/usr/local/bin/presign --expires 3600",
        ),
        *network_options(redirects=True),
        cfg.IntOpt(
            "max_redirects",
            default=5,
            min=0,
            help="Redirects followed for one request; 0 refuses every one. From https to http none is "
            "followed.",
        ),
        cfg.ListOpt(
            "redirect_hosts",
            default=[],
            help="Hosts, as 'name' or 'name:port', that redirects may lead to whatever address they have. "
            "Other redirects to loopback, link-local, private and reserved addresses are refused, because a "
            "server could reach into this network that way.",
        ),
        cfg.BoolOpt(
            "allow_private",
            default=False,
            help="Whether redirects may lead anywhere: to loopback, link-local, private or reserved "
            "addresses.",
        ),
    )


OPTIONS: Final = LazyOptions(_options)
