"""Where an image comes from and goes to, as a person types it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from imgstore.errors import ConfigError, redact_url

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# A URL with a typing error may hold a password or a signature: it is not repeated.
_NEARLY_URL = re.compile(r"https?[:/]", re.IGNORECASE)
_NAMED = re.compile(r"([^/:]*):(.*)", re.DOTALL)

_ABSENT = {
    "s3": "this version has no S3 driver; a presigned https:// URL of the object works",
    "swift": "this version has no Swift driver; a temporary https:// URL of the object works",
    "rbd": "this version has no Ceph RBD driver; `rbd export IMAGE - | imgstore cp - FILE` works",
    "ftp": "FTP is not supported; use an http:// or https:// URL, or fetch it and give the path",
    "file": "files are named by their path, without file://",
}


@dataclass(frozen=True, slots=True)
class Location:
    """A place by kind: `text` is the path or URL, `shown` what messages call it: no secret is in it."""

    kind: Literal["path", "url", "standard"]
    text: str
    shown: str


def parse(text: str) -> Location:
    """Tells what `text` names: `-`, a URL or a path.

    Raises: ConfigError for what names nothing that this version can reach, saying what would do.
    """
    if text == "-":
        return Location("standard", text, "-")
    if not text:
        raise ConfigError("a location is empty; it is a path, a URL or - for standard input or output")
    if scheme := _SCHEME.match(text):
        return _url(text, scheme[1].lower())
    if _NEARLY_URL.match(text):
        raise ConfigError("that is neither a URL nor a path; a URL is written https://HOST/PATH")
    if named := _NAMED.fullmatch(text):
        raise ConfigError(_unknown_store(named[1], named[2]))
    return Location("path", text, text)


def same_file(one: str, other: str) -> bool:
    """Tells whether two paths lead to one file, also by links."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _url(text: str, scheme: str) -> Location:
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


def _unknown_store(name: str, key: str) -> str:
    if "@" in key or "?" in key:  # as in a URL that lost its scheme, and may hold a secret
        return (
            "that is neither a URL nor a path; a URL is written https://HOST/PATH, a path with a colon ./a:b"
        )
    path = f"a path with a colon is written ./{name}:{key}"
    return f"there is no store {name!r}: none is configured; {path}"
