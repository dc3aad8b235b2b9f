"""nginx: files over HTTP, under a prefix for each way of serving them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from tests.real.servers.script import Server, need


class Nginx(Server):
    """A running nginx over the files in `root`; nginx.sh says what each prefix does to them.

    `user` and `password` open /auth/; `ca` is the file that vouches for both TLS ports, and `client` the
    certificate and key that the mutual one asks for. Its one daemon is `nginx`.
    """

    name: ClassVar[str] = "nginx"
    user: ClassVar[str] = "user"

    @classmethod
    def need(cls) -> None:
        need("nginx", "openssl", package="nginx-light openssl")

    @property
    def root(self) -> Path:
        return self.folder / "www"

    @property
    def ca(self) -> Path:
        return self.folder / "tls" / "ca.pem"

    @property
    def client(self) -> tuple[Path, Path]:
        return self.folder / "tls" / "client.pem", self.folder / "tls" / "client.key"

    @property
    def port(self) -> int:
        return int(self.env["NGINX_URL"].rpartition(":")[2])

    def url(self, prefix: str, name: str) -> str:
        """Gives the plain URL of the file `name` under a prefix: `url("files", "a.img")`."""
        return f"{self.env['NGINX_URL']}/{prefix}/{name}"

    def tls_url(self, prefix: str, name: str) -> str:
        """Gives the https URL of the same."""
        return f"{self.env['NGINX_TLS_URL']}/{prefix}/{name}"

    def mtls_url(self, name: str) -> str:
        """Gives the https URL of /files/ on the port that wants a client certificate."""
        return f"{self.env['NGINX_MTLS_URL']}/files/{name}"

    def put(self, name: str, data: bytes) -> Path:
        """Puts a file under `name` by a rename: open connections keep the bytes they had.

        A file that takes another's place is a second younger at least: nginx makes its ETag of the time in
        whole seconds and the size, and takes a quick replacement of the same size for the same file.
        """
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.new")
        fresh.write_bytes(data)
        if target.exists():
            modified = max(fresh.stat().st_mtime, target.stat().st_mtime + 1)
            os.utime(fresh, (modified, modified))
        return fresh.replace(target)
