"""Images on web servers: the read-only driver for http and https."""

from __future__ import annotations

from imgstore.backends.http.driver import HttpStore

__all__ = ["HttpStore"]
