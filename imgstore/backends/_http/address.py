"""Addresses: a URL taken apart once, sent exactly as it was typed, and shown without its secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urljoin

from imgstore.errors import ConfigError, UnsafeLocationError, redact_url
from imgstore.model import KEY_LIMIT, check_key

PORTS: Final = {"http": 80, "https": 443}
_HOST_LIMIT: Final = 253  # RFC 1035 §2.3.4, as text
_WOULD_DO: Final = "https://host/path would do"

_LOOSE = re.IGNORECASE | re.DOTALL
_URL = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<target>[^#]*)(?:#.*)?", _LOOSE)
_AUTHORITY = re.compile(
    r"(?:(?P<user>.*)@)?(?P<host>\[[^\[\]@]+\]|[^:\[\]@]*)(?::(?P<port>[0-9]*))?", re.DOTALL
)
_NAME = re.compile(r"[a-z0-9_.-]+")
_IPV6 = re.compile(r"[0-9a-f:.]*:[0-9a-f:.]*(?:%[a-z0-9_.-]+)?")
_INVISIBLE = re.compile(r"[\x00-\x20\x7f]")
# Everything visible goes out as it was typed: a presigned URL is signed to the letter.
_VISIBLE: Final = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """Where one request goes. `target` is what follows the host: path and query, as they go over the wire."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials belong to (RFC 6454 §4)."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """The Host header."""
        host = self.host.partition("%")[0]
        host = f"[{host}]" if ":" in host else host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole URL, its query included: for the wire only."""
        return f"{self.scheme}://{self.authority}{self.target}"

    def __str__(self) -> str:
        return redact_url(self.url)

    def __repr__(self) -> str:
        return f"<Address {self}>"

    def below(self, key: str) -> Address:
        """Gives the address of `key` under this one, percent-encoded; the query of this one stays."""
        path, mark, query = self.target.partition("?")
        slash = "" if path.endswith("/") else "/"
        return Address(self.scheme, self.host, self.port, f"{path}{slash}{quote(key)}{mark}{query}")


@dataclass(frozen=True, slots=True, repr=False)
class Userinfo:
    """Name and password that stood in a URL."""

    name: str
    password: str


def parse(text: str, what: str) -> tuple[Address, Userinfo | None]:
    """Takes apart the URL `text`; `what` names it in errors: an option, say.

    Nothing is normalised but the host: path and query go out as they stand here, letters outside ASCII as
    UTF-8 in percent-encoding. A fragment is dropped.

    Raises: ConfigError in one line, without user, password or query.
    """
    if (found := _URL.fullmatch(text)) is None:
        raise ConfigError(f"{what} is no http or https URL; {_WOULD_DO}")
    if _INVISIBLE.search(text):
        raise ConfigError(f"{what} holds a space or a control character; %20 stands for a space in a URL")
    # What looks like a password that was split by its own slash must not be shown either.
    shown = f"{what} <url>" if "@" in found["target"] else f"{what} {redact_url(text)!r}"
    scheme = found["scheme"].lower()
    parts = _AUTHORITY.fullmatch(found["authority"])
    if parts is None:
        raise ConfigError(f"{shown} has no valid port after its host; {_WOULD_DO}")
    port = int(parts["port"]) if parts["port"] and len(parts["port"]) <= 5 else PORTS[scheme]
    if not 0 < port < 1 << 16 or len(parts["port"] or "") > 5:
        raise ConfigError(f"{shown} has a port that is none of 1 to 65535")
    # A backslash is a slash to some readers of URLs, and where the host ends would differ.
    if "\\" in found["authority"] or (host := _host(parts["host"])) is None:
        raise ConfigError(f"{shown} has no valid host; {_WOULD_DO}")
    target = found["target"] if found["target"].startswith("/") else f"/{found['target']}"
    return Address(scheme, host, port, quote(target, safe=_VISIBLE)), _userinfo(parts["user"])


def redirected(here: Address, location: str) -> Address:
    """Gives where `location`, a header's value read as latin-1, leads from `here`.

    Raises: UnsafeLocationError for anything but an http or https URL.
    """
    location = quote(location.encode("latin-1", "replace"), safe=_VISIBLE)
    if not _URL.fullmatch(location):
        try:
            location = urljoin(here.url, location)
        except ValueError:
            location = ""
    try:
        address, _ = parse(location, "the redirect")
    except ConfigError as exc:
        raise UnsafeLocationError(f"{here} redirects to what may not be followed: {exc}") from None
    return address


def key_of(address: Address) -> str:
    """Gives a legal, readable key for the image at `address`: its path, or what of it can be one."""
    path = address.target.partition("?")[0].strip("/")
    for candidate in (path, path.rpartition("/")[2]):
        key = unquote(candidate)
        for form in (key, quote(key)):
            if form.isprintable() and _legal(form):
                return form
    return address.host[:KEY_LIMIT]


def _legal(key: str) -> bool:
    try:
        check_key(key)
    except UnsafeLocationError:
        return False
    return True


def _host(text: str) -> str | None:
    if text.startswith("["):
        # RFC 6874: the % of a zone is itself encoded
        literal = text[1:-1].lower().replace("%25", "%")
        return literal if _IPV6.fullmatch(literal) else None
    if len(text) > _HOST_LIMIT:
        return None
    try:
        name = text.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    return name if _NAME.fullmatch(name) else None


def _userinfo(text: str | None) -> Userinfo | None:
    if text is None:
        return None
    name, _, password = text.partition(":")
    return Userinfo(unquote(name), unquote(password))
