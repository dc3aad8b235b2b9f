"""What Swift is reached by, whoever serves it."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Account:
    """Where a user of Swift's logs in, and as whom: v1, or v3 where there is a project.

    `ca` is the file that vouches for the server, where it speaks TLS.
    """

    auth: str
    user: str
    key: str = field(repr=False)
    ca: Path | None = None
    project: str | None = None

    def client(self) -> Any:
        """Gives a connection of swiftclient's, which doesn't retry: for what a test does beside its subject.

        It is closed by `close()`.
        """
        from swiftclient.client import Connection

        v3 = {"project_name": self.project, "user_domain_name": "Default", "project_domain_name": "Default"}
        connection = Connection(
            self.auth,
            self.user,
            self.key,
            retries=0,
            auth_version="3" if self.project else "1",
            os_options=v3 if self.project else {},
            cacert=str(self.ca) if self.ca else None,
        )
        close = connection.close

        def closed() -> None:
            close()
            # requests' session forgets its connections; urllib3 ends them when they are collected.
            gc.collect()

        connection.close = closed
        return connection
