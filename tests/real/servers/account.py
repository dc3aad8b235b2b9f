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

        session = self._session() if self.project else None
        ca = str(self.ca) if self.ca else None
        connection = Connection(self.auth, self.user, self.key, retries=0, cacert=ca, session=session)
        close = connection.close

        def closed() -> None:
            close()
            if session:
                session.session.close()
            # requests forgets its connections; urllib3 ends them when they are collected.
            gc.collect()

        connection.close = closed
        return connection

    def _session(self) -> Any:
        # By itself swiftclient asks keystoneclient, by arguments that are deprecated there.
        from keystoneauth1.identity import v3
        from keystoneauth1.session import Session

        return Session(
            v3.Password(
                self.auth,
                username=self.user,
                password=self.key,
                user_domain_name="Default",
                project_name=self.project,
                project_domain_name="Default",
            )
        )
