"""Where an image comes from and goes to, as a person types it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from imgstore.backends.urls import SERVICES
from imgstore.errors import ConfigError, redact_url

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# A URL with a typing error may hold a password or a signature: it is not repeated.
_NEARLY_URL = re.compile(r"https?[:/]", re.IGNORECASE)
_NAMED = re.compile(r"([^/:]*):(.*)", re.DOTALL)
_STORE = re.compile(r"[a-z0-9_][a-z0-9_-]{0,63}")  # what a configuration takes for a name

# What signs a URL, by the names of S3, Google, CloudFront, Swift and Azure.
_SIGNED = re.compile(
    r"x-(amz|goog)-.*|temp_url_.*|awsaccesskeyid|googleaccessid|key-pair-id|policy|signature|expires|"
    r"sig|se|st|sp|sr|sv|sip|spr|sks|skoid|sktid|skt|ske|skv",
    re.IGNORECASE,
)

_ABSENT = {
    "ftp": "FTP is not supported; use an http:// or https:// URL, or fetch it and give the path",
    "file": "files are named by their path, without file://",
}


@dataclass(frozen=True, slots=True)
class Location:
    """A place by kind: `text` is the path or URL, `shown` what messages call it: no secret is in it.

    A `url` is a web server's, a `service` that of one of SERVICES.

    One in a store has the store's name and a key, which may be empty or the beginning of one. Until the store
    is known to be configured, `shown` may be a URL without its scheme, and is not to be shown.
    """

    kind: Literal["path", "url", "service", "standard", "store"]
    text: str
    shown: str
    store: str = ""
    key: str = ""

    @property
    def scheme(self) -> str:
        """The scheme of a URL, in small letters."""
        return self.text.partition(":")[0].lower()

    @property
    def place(self) -> str:
        """The same at each run, and another for another image; it may hold secrets and is not to be shown.

        A path is taken in full; of a URL, what signs it or says until when is left out.
        """
        if self.kind == "path":
            return os.path.realpath(self.text)
        if self.kind != "url":
            return self.text
        parts = urlsplit(self.text)
        query = [
            each for each in parse_qsl(parts.query, keep_blank_values=True) if not _SIGNED.fullmatch(each[0])
        ]
        return f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}?{sorted(query)}"

    @property
    def name(self) -> str:
        """The last part of it, as a file would be called; empty where there is none."""
        if self.kind == "service":
            path = urlsplit(self.text).path
            return unquote((path.partition("@")[0] if self.scheme == "rbd" else path).rpartition("/")[2])
        if self.kind == "url":
            return unquote(urlsplit(self.text).path.rpartition("/")[2])
        if self.kind == "store":
            return self.key.rpartition("/")[2]
        return "" if self.kind == "standard" else os.path.basename(self.text)


def parse(text: str) -> Location:
    """Tells what `text` names: `-`, a URL, a path, or NAME:KEY in a store, configured or not.

    Raises: ConfigError for what names nothing that this version can reach, saying what would do.
    """
    if text == "-":
        return Location("standard", text, "-")
    if not text:
        raise ConfigError("a location is empty; it is a path, a URL or -, or STORE:KEY")
    if scheme := _SCHEME.match(text):
        return _url(text, scheme[1].lower())
    if _NEARLY_URL.match(text):
        raise ConfigError("that is neither a URL nor a path; a URL is written https://HOST/PATH")
    if named := _NAMED.fullmatch(text):
        if not _STORE.fullmatch(named[1]):
            raise ConfigError(unknown_store(named[1], named[2]))
        return in_store(named[1], named[2])
    return Location("path", text, text)


def in_store(store: str, key: str) -> Location:
    """Gives the place of `key` in a store."""
    text = f"{store}:{key}"
    return Location("store", text, text, store, key)


def same_file(one: str, other: str) -> bool:
    """Tells whether two paths lead to one file, also by links."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _url(text: str, scheme: str) -> Location:
    if scheme in SERVICES:
        parts = urlsplit(text)
        return Location("service", text, f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    shown = redact_url(text)
    if scheme not in {"http", "https"}:
        known = "the schemes are http:// and https://; a file is named by its path"
        raise ConfigError(f"{scheme}://...: {_ABSENT.get(scheme, known)}")
    if bad := next((each for each in text if each.isspace() or not each.isprintable()), None):
        raise ConfigError(f"{shown}: a URL holds no {bad!r}; write it percent-encoded")
    try:
        host, port = urlsplit(text).hostname, urlsplit(text).port
    except ValueError:
        raise ConfigError(f"{shown}: not a URL; its host or port is malformed") from None
    if not host or port == 0:
        raise ConfigError(
            f"{shown}: the URL names no {'port' if host else 'host'}; one is {scheme}://HOST/PATH"
        )
    return Location("url", text, shown)


def unknown_store(name: str, key: str, stores: Iterable[str] = ()) -> str:
    """Says that there is no store `name`, what `stores` there are, and what may have been meant instead."""
    if "@" in key or "?" in key:  # as in a URL that lost its scheme, and may hold a secret
        return (
            "that is neither a URL nor a path; a URL is written https://HOST/PATH, a path with a colon ./a:b"
        )
    known = ", ".join(stores)
    return (
        f"there is no store {name!r}{f' (there are: {known})' if known else ''}; "
        f"a path with a colon is written ./{name}:{key}"
    )
