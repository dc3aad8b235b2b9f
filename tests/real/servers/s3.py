"""What S3 is reached by, whoever serves it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def close_after(request: Any, **context: Any) -> None:
    """Asks the server to close the connection after its reply.

    A client's `close` forgets its connections, but urllib3 ends them only when the last reply that came by
    them is collected, and a record in pytest's log may hold that.
    """
    request.headers["Connection"] = "close"


@dataclass(frozen=True)
class S3:
    """An endpoint and a user's keys; `ca` is the file that vouches for it, where it speaks TLS."""

    url: str
    access_key: str
    secret_key: str = field(repr=False)
    ca: Path | None = None

    region = "us-east-1"

    def client(self, addressing: str = "path") -> Any:
        """Gives a client of botocore's, which neither retries nor sends checksums that radosgw refuses.

        It is for what a test does beside its subject, and closed by `close()`.
        """
        from botocore.config import Config
        from botocore.session import Session

        client = Session().create_client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            verify=str(self.ca) if self.ca else None,
            config=Config(
                s3={"addressing_style": addressing},
                retries={"total_max_attempts": 1},
                # Over TLS they would be a trailer, to which radosgw 16 answers MissingContentLength.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        client.meta.events.register("before-send.s3", close_after)
        return client
