"""What an rbd:// URL and the environment say, as Ceph's own tools take them."""

from __future__ import annotations

import itertools
import os
import shlex
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from imgstore.backends.rbd.names import key_of
from imgstore.errors import ConfigError

_FORM: Final = "an RBD image is rbd://POOL[/NAMESPACE]/IMAGE[@SNAPSHOT]"


def options_at(url: str) -> tuple[dict[str, Any], str]:
    """Gives the options of the store that `url` leads to, and the key there. Raises: ConfigError."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError(f"not a URL: {_FORM}") from None
    if parts.scheme.lower() != "rbd" or parts.query or parts.fragment:
        raise ConfigError(f"not such a URL: {_FORM}; credentials come from the keyring")
    path, at, snapshot = parts.path.partition("@")
    pool, names = unquote(parts.netloc), [unquote(each) for each in path.removeprefix("/").split("/")]
    if not pool or not all(names) or len(names) > 2 or (at and not snapshot) or "@" in pool:
        raise ConfigError(f"not such a URL: {_FORM}")
    key = key_of(names[-1])
    if key is None:
        raise ConfigError(f"the image {names[-1]!r} is the driver's own, or has a name that no key leads to")
    options: dict[str, Any] = {"pool": pool, **_environment()}
    if len(names) == 2:
        options["namespace"] = names[0]
    if at:  # named by hand: to be read as it is
        options |= {"snapshot": unquote(snapshot), "require_protected": False}
    return options, key


def _environment() -> dict[str, Any]:
    """Gives what $CEPH_ARGS says of user, configuration and keyring (ceph(8)); $CEPH_CONF Ceph reads."""
    found: dict[str, Any] = {}
    arguments = [part for each in shlex.split(os.environ.get("CEPH_ARGS", "")) for part in _split(each)]
    for name, value in itertools.pairwise(arguments):
        if name in {"--id", "--user"}:
            found["user"] = value
        elif name in {"-n", "--name"}:
            found["user"] = value.removeprefix("client.")
        elif name in {"-c", "--conf"}:
            found["ceph_conf"] = value
        elif name in {"-k", "--keyring"}:
            found["keyring"] = value
    return found


def _split(argument: str) -> list[str]:
    name, equals, value = argument.partition("=")
    return [name, value] if equals and argument.startswith("--") else [argument]
