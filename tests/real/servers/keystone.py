"""Keystone: OpenStack's identity service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tests.real.servers.account import Account
from tests.real.servers.script import Server, need, need_of_venv
from tests.real.servers.swift import Swift


class Keystone(Server):
    """A running Keystone, with the one daemon `keystone`; keystone.sh says who its users are.

    `auth` is its URL, /v3 included. `credential` is the id and the secret of tester's application credential.
    """

    name: ClassVar[str] = "keystone"
    region: ClassVar[str] = "RegionOne"
    domain: ClassVar[str] = "Default"

    @classmethod
    def need(cls) -> None:
        need("openssl", package="openssl")
        need_of_venv("keystone-manage")

    @property
    def auth(self) -> str:
        return self.env["KEYSTONE_AUTH"]

    @property
    def tester(self) -> Account:
        """Who may do everything in the account of the project `test`."""
        return self._account("KEYSTONE_USER", "KEYSTONE_PASSWORD", "KEYSTONE_PROJECT")

    @property
    def reader(self) -> Account:
        """Who may do what an ACL allows in that account, and nothing else."""
        return self._account("KEYSTONE_READER", "KEYSTONE_READER_PASSWORD", "KEYSTONE_PROJECT")

    @property
    def other(self) -> Account:
        """Who has an account of their own."""
        return self._account("KEYSTONE_OTHER_USER", "KEYSTONE_OTHER_PASSWORD", "KEYSTONE_OTHER_PROJECT")

    @property
    def credential(self) -> tuple[str, str]:
        return self.env["KEYSTONE_CREDENTIAL_ID"], self.env["KEYSTONE_CREDENTIAL_SECRET"]

    def endpoint(self, url: str, region: str = "RegionOne") -> None:
        """Has the catalog name an object store in a region: `endpoint("http://127.0.0.1:8080")`."""
        self.run("endpoint", url, region)

    def _account(self, user: str, key: str, project: str) -> Account:
        return Account(self.auth, self.env[user], self.env[key], project=self.env[project])


@dataclass(frozen=True)
class SwiftKeystone:
    """A Swift, and the Keystone whose tokens it takes and whose catalog names it."""

    swift: Swift
    keystone: Keystone
