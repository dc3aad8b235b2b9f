"""Listings, page after page: each page must say where the next one begins, and that must be elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from imgstore.backends.s3.wire import Answer


@dataclass(frozen=True, slots=True)
class Listing:
    """An operation that lists: the field of its entries, what each must have, how one page leads to the next.

    `onward` has the arguments of the next request by the fields that hold them; the last may be empty.
    """

    operation: str
    entries: str
    needed: frozenset[str]
    onward: Mapping[str, str]


OBJECTS: Final = Listing(
    "ListObjectsV2",
    "Contents",
    frozenset({"Key", "Size", "LastModified"}),
    {"NextContinuationToken": "ContinuationToken"},
)
PARTS: Final = Listing(
    "ListParts", "Parts", frozenset({"PartNumber", "Size"}), {"NextPartNumberMarker": "PartNumberMarker"}
)
UPLOADS: Final = Listing(
    "ListMultipartUploads",
    "Uploads",
    frozenset({"Key", "UploadId", "Initiated"}),
    {"NextKeyMarker": "KeyMarker", "NextUploadIdMarker": "UploadIdMarker"},
)

Page = Sequence[Mapping[str, Any]]


def pages(ask: Callable[..., Answer], listing: Listing, **arguments: Any) -> Iterator[tuple[Answer, Page]]:
    """Gives the replies and their entries; `ask` makes one request, as `Objects.ask`.

    Raises: BadReplyError for entries that lack what they must have, and for a page that leads nowhere, or to
    itself; as `ask`.
    """
    while True:
        answer = ask(listing.operation, **arguments)
        page: Page = answer.document.get(listing.entries, ())
        if not all(listing.needed <= each.keys() for each in page):
            raise answer.reply.bad(f"a listing whose entries lack {', '.join(sorted(listing.needed))}")
        yield answer, page
        if not answer.document.get("IsTruncated"):
            return
        following = {name: answer.document.get(field) or "" for field, name in listing.onward.items()}
        if not any(following.values()) or following.items() <= arguments.items():
            raise answer.reply.bad("a listing that does not go on")
        arguments.update(following)
