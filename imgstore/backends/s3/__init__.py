"""Images in the buckets of S3 and of whatever else speaks its protocol."""

from __future__ import annotations

from imgstore.backends.s3.driver import S3Store

__all__ = ["S3Store"]
