"""Faults of the version: another image, no validator, or one that says something else."""

from __future__ import annotations

from dataclasses import dataclass, field

from imgstore.testing.server.fault import Fault
from imgstore.testing.server.reply import Reply
from imgstore.testing.server.request import Request
from imgstore.testing.server.shelf import AUTO, Data, Shelf, Shelved


@dataclass(frozen=True)
class Swap(Fault):
    """Replaces the image before this request is answered, for good; data None removes it.

    Without `etag` the new image has one of its own; the old etag again is the replica that lies.
    """

    data: Data | None = field(repr=False)
    etag: str | None = AUTO
    last_modified: float | None = None

    def prepare(self, request: Request, shelf: Shelf) -> None:
        if self.data is None:
            shelf.remove(request.path)
        else:
            shelf.put(request.path, self.data, etag=self.etag, last_modified=self.last_modified)


@dataclass(frozen=True)
class IgnoreIfMatch(Fault):
    """Takes no notice of If-Match, If-Unmodified-Since and If-Range: serves whatever is there now."""

    def prepare(self, request: Request, shelf: Shelf) -> None:
        request.drop("If-Match", "If-Unmodified-Since", "If-Range")


@dataclass(frozen=True)
class NoValidators(Fault):
    """Neither ETag nor Last-Modified in the reply."""

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        reply.set("ETag")
        reply.set("Last-Modified")


@dataclass(frozen=True)
class ReplaceValidator(Fault):
    r"""An ETag as written: `W/"v1"`, `v1`, `"v1-gzip"`. Preconditions still go by the real one.

    `{etag}` stands for the honest value, quotes included, and `{opaque}` for what is between them:
    `'W/{etag}'`, `'"{opaque}-gzip"'`.
    """

    etag: str

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        real = (image.etag if image else None) or '""'
        opaque = real.removeprefix("W/").strip('"')
        reply.set("ETag", self.etag.replace("{etag}", real).replace("{opaque}", opaque))
