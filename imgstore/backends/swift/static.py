"""Static large objects: what their manifest names, and which segment a read broke at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from imgstore.backends._http_range import Reply
from imgstore.backends.swift.failures import RefusedError, changed
from imgstore.backends.swift.service import Service, parsed
from imgstore.backends.swift.versions import etag_of
from imgstore.errors import ImgstoreError, NotFoundError, StoreError, TransientError
from imgstore.model import Call, CancelToken
from imgstore.stream import RawReader


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment in a manifest: `/CONTAINER/NAME`, size and ETag; not `whole` where a range of it counts."""

    path: str
    size: int
    etag: str
    whole: bool = True

    @property
    def place(self) -> tuple[str, str]:
        container, _, name = self.path.lstrip("/").partition("/")
        return container, name


def is_static(reply: Reply) -> bool:
    """Tells whether a reply is about a static large object."""
    return (reply.single("x-static-large-object") or "").lower() in {"true", "1"}


def manifest(service: Service, container: str, key: str, call: Call) -> list[Piece] | None:
    """Gives the segments of an SLO; None where the service does not tell, as radosgw, which sends nothing.

    Raises: RefusedError, BadReplyError.
    """
    reply, body = service.document(container, key, call=call, query="multipart-manifest=get")
    if not body:
        return None
    told = parsed(reply, body)
    if not isinstance(told, list):
        raise reply.bad("a manifest that is no list")
    return [_piece(reply, each) for each in told]


def _piece(reply: Reply, told: Any) -> Piece:
    try:
        name, size, etag = told["name"], told["bytes"], told["hash"]
    except (KeyError, TypeError):
        raise reply.bad("a manifest that lacks names, sizes or hashes") from None
    if not isinstance(name, str) or not isinstance(size, int) or not isinstance(etag, str):
        raise reply.bad("a manifest that lacks names, sizes or hashes")
    return Piece(name, size, etag, whole=not told.get("range") and not told.get("sub_slo"))


def lost_piece(service: Service, container: str, key: str, offset: int, call: Call) -> ImgstoreError | None:
    """Says what is wrong with the segment that holds `offset` of an SLO; None where nothing shows.

    Swift breaks the body off there, radosgw stalls for 65 seconds; neither says why.
    """
    try:
        pieces = manifest(service, container, key, call) or []
        at = 0
        for piece in pieces:
            if not piece.whole:
                return None  # what a range of it leaves is not worth the reckoning
            at += piece.size
            if offset < at:
                return _judged(service, piece, call)
    except (RefusedError, StoreError):
        return None  # the first failure says more than this one
    return None


def _judged(service: Service, piece: Piece, call: Call) -> ImgstoreError | None:
    try:
        reply = service.head(*piece.place, call=call)
    except RefusedError as exc:
        if exc.status != 404:
            return None
        return NotFoundError(f"segment {piece.path!r} of the image is gone", request_id=exc.reply.request_id)
    return None if etag_of(reply) == piece.etag else changed(reply)


class StaticBody:
    """The raw reader of an SLO: one that breaks at a segment that is gone says so."""

    def __init__(
        self, raw: RawReader, service: Service, container: str, key: str, *, start: int, call: Call
    ) -> None:
        self._raw = raw
        self._service = service
        self._place = container, key
        self._at = start
        # what is asked after a break is called off with the reader
        self._cancel = CancelToken() if call.cancel is None else call.cancel.child()
        self._call = replace(call, cancel=self._cancel)

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            count = self._raw.readinto(buffer)
        except TransientError as exc:
            error = lost_piece(self._service, *self._place, self._at, self._call)
            if error is None:
                raise
            raise error from exc
        self._at += count
        return count

    def abort(self) -> None:
        self._cancel.cancel()
        self._raw.abort()

    def close(self) -> None:
        self._raw.close()
