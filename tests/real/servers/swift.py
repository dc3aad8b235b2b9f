"""Swift: OpenStack's object store, and S3 by its own s3api."""

from __future__ import annotations

from typing import ClassVar

from tests.real.servers.account import Account
from tests.real.servers.s3 import S3
from tests.real.servers.script import Server, need_of_venv


class Swift(Server):
    """A running Swift with the daemons `proxy`, `account`, `container` and `object`; swift.sh says more.

    `tester` may do everything in its account, `reader` there what an ACL allows, `other` is of another one.
    """

    name: ClassVar[str] = "swift"

    @classmethod
    def need(cls) -> None:
        need_of_venv("swift-proxy-server")

    @property
    def url(self) -> str:
        return self.env["SWIFT_URL"]

    @property
    def tester(self) -> Account:
        return Account(self.env["SWIFT_AUTH"], self.env["SWIFT_USER"], self.env["SWIFT_KEY"])

    @property
    def reader(self) -> Account:
        return Account(self.env["SWIFT_AUTH"], self.env["SWIFT_READER"], self.env["SWIFT_READER_KEY"])

    @property
    def other(self) -> Account:
        return Account(self.env["SWIFT_AUTH"], self.env["SWIFT_OTHER_USER"], self.env["SWIFT_OTHER_KEY"])

    @property
    def s3(self) -> S3:
        return S3(self.url, self.env["SWIFT_S3_ACCESS_KEY"], self.env["SWIFT_S3_SECRET_KEY"])

    def forget_tokens(self) -> None:
        """Has every token that tempauth gave answer 401 from now on; open connections go on."""
        self.run("forget")
