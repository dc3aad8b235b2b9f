"""Which proxy a request goes through: the configured one, or what the environment names."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.request import (  # type: ignore[attr-defined]  # typeshed lacks the second
    getproxies_environment,
    proxy_bypass_environment,
)

from imgstore.backends.http.address import Address, parse


@dataclass(frozen=True, slots=True)
class Proxy:
    """An http or https proxy. Who configured it is trusted: its address is not checked."""

    address: Address
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<Proxy {self.address}>"


class Proxies:
    """Chooses by the rules of curl: `proxy` counts for every scheme, NO_PROXY for both sources."""

    def __init__(self, proxy: str | None, *, trust_env: bool) -> None:
        """Takes the option `proxy`; the environment is read for each request, or not at all.

        Raises: ConfigError for what is no URL of a proxy.
        """
        self._configured = None if proxy is None else _proxy(proxy, "the option 'proxy'")
        self._trust_env = trust_env

    def choose(self, address: Address) -> Proxy | None:
        """Gives the proxy for `address`, None where it is reached directly.

        Raises: ConfigError for an environment variable that is no URL of a proxy.
        """
        if not self._trust_env:
            return self._configured
        named = getproxies_environment()
        # An IPv6 address has colons of its own; NO_PROXY lists it without a port.
        host = address.host if ":" in address.host else f"{address.host}:{address.port}"
        if proxy_bypass_environment(host, named):
            return None
        if self._configured is not None:
            return self._configured
        for name in (address.scheme, "all"):
            if named.get(name):
                return _proxy(named[name], f"the environment's {name}_proxy")
        return None


def _proxy(text: str, what: str) -> Proxy:
    address, user = parse(text if "://" in text else f"http://{text}", what)
    headers = {}
    if user is not None:
        told = b64encode(f"{user.name}:{user.password}".encode()).decode()
        headers["Proxy-Authorization"] = f"Basic {told}"
    return Proxy(address, headers)
