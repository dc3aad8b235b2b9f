"""Where redirects may lead: a policy without I/O. Addresses are judged where they are met, at the peer."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from imgstore.backends._http.address import PORTS, Address, redirected
from imgstore.backends._http_range import Reply
from imgstore.errors import UnsafeLocationError

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# Not for the public, though some versions of ipaddress call them global, wholly or in part.
_RESERVED: Final = (
    ipaddress.IPv4Network("192.0.0.0/24"),  # protocol assignments, RFC 6890
    ipaddress.IPv4Network("192.88.99.0/24"),  # once the anycast of 6to4, RFC 7526
    ipaddress.IPv6Network("3fff::/20"),  # documentation, RFC 9637
)


@dataclass(frozen=True, slots=True)
class RedirectPolicy:
    """Which hosts (lower case, `name` or `name:port`) may have any address; all of them with `private`."""

    limit: int = 5
    hosts: frozenset[str] = frozenset()
    private: bool = False


class Trail:
    """The way of one request, from the address that was configured or typed, which is trusted.

    `here` is where the next request goes; `home` says that it is still the origin that credentials and extra
    headers are for. Once left, they are not sent again, not even to an origin that a stranger leads back to.
    """

    def __init__(self, policy: RedirectPolicy, first: Address) -> None:
        self._policy = policy
        self._first = first
        self._hops = 0
        self.here = first
        self.home = True

    def follow(self, reply: Reply) -> None:
        """Goes where `reply`, a redirect, leads.

        Raises: UnsafeLocationError for one too many, another scheme or a downgrade; BadReplyError without a
        Location.
        """
        location = reply.value("location")
        if location is None:
            raise reply.bad(f"status {reply.status} without a Location")
        self._hops += 1
        if self._hops > self._policy.limit:
            raise UnsafeLocationError(
                f"{self._first} leads through more than {self._policy.limit} redirects",
                request_id=reply.request_id,
            )
        target = redirected(self.here, location)
        if self.here.scheme == "https" and target.scheme == "http":
            raise UnsafeLocationError(
                f"{self.here} redirects to {target}: from https to http is no way to go",
                request_id=reply.request_id,
            )
        self.home = self.home and target.origin == self._first.origin
        self.here = target

    @property
    def admit(self) -> Callable[[str], None] | None:
        """What judges an IP address before anything is sent to it; None where every one is allowed."""
        return None if self._trusted() else self._judge

    def _trusted(self) -> bool:
        here, first, hosts = self.here, self._first, self._policy.hosts
        if self._policy.private or here.host in hosts or f"{here.host}:{here.port}" in hosts:
            return True
        # The step from http to https on one host is part of that host; any other port is another service.
        return here.host == first.host and here.port in {first.port, PORTS["https"]}

    def _judge(self, ip: str) -> None:
        if what := unsafe(ip):
            raise UnsafeLocationError(
                f"a redirect leads to {self.here.host} at {ip}, {what}; nothing was sent there. "
                f"If that is meant, list the host in 'redirect_hosts' or set 'allow_private'"
            )


def unsafe(ip: str) -> str | None:
    """Says why a stranger must not lead to address `ip`; None for one of the public internet.

    IPv4 inside IPv6 (mapped, 6to4, Teredo, NAT64) is judged by what it carries.
    """
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return "which is no IP address"
    for each in (address, *_carried(address)):
        if each.is_unspecified:
            return "an unspecified address"
        if each.is_loopback:
            return "a loopback address"
        if each.is_link_local:
            return "a link-local address"
        if each.is_multicast:
            return "a multicast address"
        if each is address and _carried(address):
            continue
        if not each.is_global or each.is_reserved or getattr(each, "is_site_local", False) or _reserved(each):
            return "an address of a private or reserved network"
    return None


def _reserved(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(address in network for network in _RESERVED)


def _carried(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> list[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    if int(address) >> 32 == 0 and int(address) > 1:  # ::a.b.c.d, deprecated but routed by some
        found.append(ipaddress.IPv4Address(int(address)))
    return [each for each in found if each is not None]


def read_hosts(hosts: Iterable[str]) -> frozenset[str]:
    """Gives the option `redirect_hosts` as the policy compares it."""
    return frozenset(host.strip().strip("[]").lower() for host in hosts)
