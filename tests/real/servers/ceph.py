"""Ceph: RBD images, and S3 and Swift by radosgw."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from typing import ClassVar

from tests.real.servers.account import Account
from tests.real.servers.s3 import S3
from tests.real.servers.script import PATH, Server, demand, need


class Ceph(Server):
    """A running Ceph with the daemons `mon`, `osd` and `rgw`; ceph.sh says who its users are.

    `conf` is what librados reads, and names the keyring of each user: `user` has what an image service is
    given in `pool`, `reader` the same read-only, `admin` everything. `s3` and `account` are radosgw's, `tls`
    the same over TLS, which `ca` vouches for; over TLS objects may be encrypted with `kms_key`.
    """

    name: ClassVar[str] = "ceph"
    pool: ClassVar[str] = "images"
    user: ClassVar[str] = "images"
    reader: ClassVar[str] = "reader"
    admin: ClassVar[str] = "admin"
    kms_key: ClassVar[str] = "images"

    @classmethod
    def need(cls) -> None:
        need(
            *("ceph-mon", "ceph-osd", "ceph", "radosgw", "openssl"),
            package="ceph-mon ceph-osd ceph-common radosgw openssl",
        )

    @staticmethod
    def need_bindings() -> None:
        """Skips, or fails, where this Python has no rados and rbd."""
        if not (importlib.util.find_spec("rados") and importlib.util.find_spec("rbd")):
            demand("no rados and rbd in this Python; Debian's fit its own version only: tools/real-servers")

    @property
    def conf(self) -> Path:
        return Path(self.env["CEPH_CONF"])

    @property
    def ca(self) -> Path:
        return Path(self.env["RGW_CA"])

    @property
    def s3(self) -> S3:
        return S3(self.env["RGW_URL"], self.env["RGW_S3_ACCESS_KEY"], self.env["RGW_S3_SECRET_KEY"])

    @property
    def s3_tls(self) -> S3:
        return S3(
            self.env["RGW_TLS_URL"], self.env["RGW_S3_ACCESS_KEY"], self.env["RGW_S3_SECRET_KEY"], self.ca
        )

    @property
    def s3_other(self) -> S3:
        """Another user's, who may do nothing with the first one's buckets that no policy allows."""
        return S3(
            self.env["RGW_URL"], self.env["RGW_S3_OTHER_ACCESS_KEY"], self.env["RGW_S3_OTHER_SECRET_KEY"]
        )

    @property
    def account(self) -> Account:
        return Account(self.env["RGW_SWIFT_AUTH"], self.env["RGW_SWIFT_USER"], self.env["RGW_SWIFT_KEY"])

    @property
    def account_tls(self) -> Account:
        return Account(
            self.env["RGW_SWIFT_TLS_AUTH"], self.env["RGW_SWIFT_USER"], self.env["RGW_SWIFT_KEY"], self.ca
        )

    def tool(self, name: str, *arguments: str) -> str:
        """Gives what a tool of Ceph's prints, run as the administrator: `tool("rbd", "ls", "images")`."""
        done = subprocess.run(
            [name, "-c", self.conf, *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": PATH},
        )
        return done.stdout
