"""Who asks: the header fields with the credentials of a store, for the origin that they are meant for."""

from __future__ import annotations

import netrc
import os
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from imgstore.backends._http.address import Address
from imgstore.errors import ConfigError
from imgstore.secret import Secret, SecretFile, reveal

# The option `headers`: by name, or as lines `Name: value`; a callable gives the lines in one text.
Headers: TypeAlias = "Mapping[str, str] | Sequence[str] | Callable[[], str]"

_TOKEN = re.compile(r"[\x21-\x7e]+")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x20-\x7e\x80-\xff\t]*")
# What the driver says itself; another word on it could make a reply mean something else.
_OURS: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
        "te",
        "transfer-encoding",
        "upgrade",
        "want-repr-digest",
    }
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The configured credentials. `netrc` is the path of a file in the format of curl and ftp.

    Files are read, and callables asked, at each request, so that what was renewed counts at once; files are
    small and in the cache of the system.
    """

    username: str | None = field(default=None, repr=False)
    password: Secret | None = field(default=None, repr=False)
    token: Secret | None = field(default=None, repr=False)
    netrc: str | None = None
    headers: Mapping[str, str] | Callable[[], str] = field(default_factory=dict, repr=False)

    def fields(self, address: Address, *, home: bool) -> dict[str, str]:
        """Gives the header fields for a request to `address`.

        Away from the origin that the credentials were given for (not `home`), only netrc has a say: its
        entries name their host themselves.

        Raises: ConfigError for a file that cannot be read or holds no token.
        """
        fields = {}
        if home:
            fields = read_headers(self.headers) if callable(self.headers) else dict(self.headers)
        if home and self.token is not None:
            fields["Authorization"] = f"Bearer {_token(self.token)}"
        elif home and self.username is not None:
            fields["Authorization"] = basic(self.username, reveal(self.password or ""))
        elif self.netrc is not None and (entry := _netrc_entry(self.netrc, address.host, default=home)):
            fields["Authorization"] = basic(*entry)
        return fields


def credentials(
    *,
    username: str | None,
    password: Secret | None,
    token: Secret | None,
    token_file: str | None,
    netrc: str | bool | None,
    headers: Headers | None,
) -> Credentials:
    """Checks the options and makes the credentials of them.

    Raises: ConfigError naming the option, never showing its value.
    """
    given = [username is not None, token is not None, token_file is not None]
    if sum(given) > 1:
        raise ConfigError("the options 'username', 'token' and 'token_file' exclude each other; give one")
    if password is not None and username is None:
        raise ConfigError("the option 'password' needs 'username'")
    if username is not None and ":" in username:
        raise ConfigError("the option 'username' holds a colon, which basic authentication cannot send")
    if isinstance(token, str):
        _token(token)
    return Credentials(
        username,
        password,
        token if token_file is None else SecretFile(token_file, "token_file"),
        _netrc_path(netrc),
        headers if callable(headers) else read_headers(headers or ()),
    )


def basic(username: str, password: str) -> str:
    """Gives the value of Authorization (RFC 7617)."""
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"


def read_headers(headers: Headers) -> dict[str, str]:
    """Reads the option `headers`; of a text, each line that is not blank is a header.

    Raises: ConfigError for what is no header line, or one that the driver owns.
    """
    if callable(headers):
        headers = [line for line in headers().splitlines() if line.strip()]
    if isinstance(headers, str):
        headers = [headers]
    if not isinstance(headers, Mapping):
        headers = {name: value for name, _, value in (line.partition(":") for line in headers)}
    read = {}
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ConfigError("the option 'headers' holds a line that is no header; 'Name: value' would do")
        if name.lower() in _OURS:
            raise ConfigError(f"the option 'headers' sets {name}, which belongs to the driver; leave it out")
        # one spelling for a name, so that none goes out twice
        read[name.title()] = value.strip(" \t")
    return read


def _token(secret: Secret) -> str:
    token = reveal(secret).strip()
    if not _TOKEN.fullmatch(token):
        option = secret.option if isinstance(secret, SecretFile) else "token"
        raise ConfigError(f"the option '{option}' gives no token: one word of visible ASCII would do")
    return token


def _netrc_path(option: str | bool | None) -> str | None:  # noqa: FBT001  # as the option is given
    if option is None or option is False or str(option).lower() in {"", "false", "no", "off", "0"}:
        return None
    if option is True or str(option).lower() in {"true", "yes", "on", "1"}:
        return "~/.netrc"
    return str(option)


def _netrc_entry(path: str, host: str, *, default: bool) -> tuple[str, str] | None:
    """Gives name and password for `host`; the file's `default` entry counts only where `default` allows."""
    try:
        hosts = netrc.netrc(os.path.expanduser(path)).hosts
    except FileNotFoundError as exc:
        raise ConfigError(f"the netrc file {path!r} does not exist") from exc
    except OSError as exc:
        raise ConfigError(f"the netrc file {path!r} cannot be read: {exc.strerror}") from exc
    except (netrc.NetrcParseError, UnicodeDecodeError) as exc:
        # the parser quotes the word it stumbled over, which may be a password
        line = getattr(exc, "lineno", None)
        raise ConfigError(f"the netrc file {path!r} is malformed (line {line})") from None
    entry = hosts.get(host) or (hosts.get("default") if default else None)
    return None if entry is None else (entry[0] or entry[1] or "", entry[2] or "")
