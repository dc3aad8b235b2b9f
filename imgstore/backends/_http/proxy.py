"""Which proxy a request goes through: the configured one, or what the environment names."""

from __future__ import annotations

import functools
import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.request import (  # type: ignore[attr-defined]  # typeshed lacks the second
    getproxies_environment,
    proxy_bypass_environment,
)

from imgstore.backends._http.address import Address, parse
from imgstore.secret import Secret

_NAMED: Final = "the option 'proxy'"

# What getproxies_environment looks at for the schemes that there are here. It walks all of the environment,
# which takes 145 us where 35 variables are set: a quarter of a ranged request for 4 KiB.
_VARIABLES: Final = tuple(
    name
    for each in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method")
    for name in (each, each.upper())
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """An http or https proxy. Who configured it is trusted: its address is not checked."""

    address: Address
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<Proxy {self.address}>"


class Proxies:
    """Chooses by the rules of curl: `proxy` counts for every scheme, NO_PROXY for both sources."""

    def __init__(self, proxy: Secret | None, *, trust_env: bool) -> None:
        """Takes the option `proxy`; a callable is asked, and the environment read, for each request.

        Raises: ConfigError for what is no URL of a proxy.
        """
        self._option = proxy
        self._configured = _proxy(proxy, _NAMED) if isinstance(proxy, str) else None
        self._trust_env = trust_env

    def choose(self, address: Address) -> Proxy | None:
        """Gives the proxy for `address`, None where it is reached directly.

        Raises: ConfigError for an environment variable, or what the callable gives, that is no URL of a
        proxy.
        """
        if not self._trust_env:
            return self._own()
        named = _environment(tuple(map(os.environ.get, _VARIABLES)))
        # An IPv6 address has colons of its own; NO_PROXY lists it without a port.
        host = address.host if ":" in address.host else f"{address.host}:{address.port}"
        if proxy_bypass_environment(host, named):
            return None
        own = self._own()
        if own is not None:
            return own
        for name in (address.scheme, "all"):
            if named.get(name):
                return _proxy(named[name], f"the environment's {name}_proxy")
        return None

    def _own(self) -> Proxy | None:
        return _proxy(self._option().strip(), _NAMED) if callable(self._option) else self._configured


@functools.lru_cache(maxsize=1)
def _environment(_: tuple[str | None, ...]) -> Mapping[str, str]:
    """Gives what the environment says of proxies; it is walked again when one of `_VARIABLES` has changed."""
    return getproxies_environment()


def _proxy(text: str, what: str) -> Proxy:
    address, user = parse(text if "://" in text else f"http://{text}", what)
    headers = {}
    if user is not None:
        told = b64encode(f"{user.name}:{user.password}".encode()).decode()
        headers["Proxy-Authorization"] = f"Basic {told}"
    return Proxy(address, headers)
