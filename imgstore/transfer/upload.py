"""One stream into one store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from imgstore.errors import DigestMismatchError, ImgstoreError, UnsupportedError
from imgstore.hashing import Digests, Hasher
from imgstore.model import NO_CALL, Call, ObjectInfo
from imgstore.store import Store
from imgstore.transfer.copy import Digester, Readable
from imgstore.transfer.progress import Report
from imgstore.transfer.sparse import SparseStream

LOG = logging.getLogger(__name__)

# By what an image that was read back is compared: chunks as those of most manifests.
CHUNK: Final = ("sha256", 4 << 20)
# Seconds for removing what is not what it was to be, though the caller's own may be over.
TIDY: Final = 10.0


def upload(
    stream: Readable,
    store: Store,
    key: str,
    *,
    report: Report,
    overwrite: bool = False,
    digest: bool = False,
    read_back: bool = False,
    call: Call = NO_CALL,
) -> ObjectInfo:
    """Stores all of `stream` under `key`: whole, or not at all. Gives what the store has then.

    With `digest`, `report.digests` tells the SHA-256 of what was stored. What the source says of the whole
    image's digests is checked by its strongest algorithm before anything is published. What was computed on
    the way is compared with what the store says it holds; and with `read_back` all that it gives back, chunk
    for chunk. An image that is not the one that was sent is removed again, unless it is another by then.

    Raises: UnsupportedError for a store that is only read; DigestMismatchError where the store holds another
    image than was sent; otherwise as `ByteStream`, `Writer.put` and `Store.get`: what cannot be read back
    stays as it is. Memory: 8 MiB where digests are computed.
    """
    if store.writer is None:
        raise UnsupportedError("the store is only read; it takes no images", key=key, store=store.store_id)
    report.total = stream.range.size
    with Digester(stream, digest=digest, chunk=CHUNK if read_back else None) as digester:
        info = store.writer.put(
            key,
            _CountedSparse(stream, report, digester.hasher)
            if isinstance(stream, SparseStream)
            else _Counted(stream, report, digester.hasher),
            stream.range.size,
            overwrite=overwrite,
            digests=digester.claimed,
            call=call,
        )
        sent = digester.found()
    prove(store, info, sent, read_back=read_back, call=call)
    report.digests.update(sent.whole)
    return info


def prove(store: Store, info: ObjectInfo, sent: Digests, *, read_back: bool, call: Call) -> None:
    """Holds the image `info` that was stored against what was `sent`; removes one that is another.

    With `read_back` that is all that the store gives back, in chunks of CHUNK.

    Raises: DigestMismatchError; as `Store.get`.
    """
    try:
        _compare(info, sent.whole)
        if read_back:
            from imgstore.transfer.verify import read_back as compare  # 30 ms, for those who ask for it

            # what the target gives back is no byte of the transfer that a report tells of
            compare(store, info, sent, CHUNK, call=replace(call, observe=None))
    except DigestMismatchError:
        _remove(info, store)
        raise


def _compare(info: ObjectInfo, sent: Mapping[str, str]) -> None:
    """Holds what the store says of the image against what was sent. Raises: DigestMismatchError."""
    for name in sent.keys() & info.digests.keys():
        if info.digests[name].lower() != sent[name]:
            raise DigestMismatchError(
                f"the store says that it holds other bytes than were sent: another {name} digest",
                key=info.key,
            )


def _remove(info: ObjectInfo, store: Store) -> None:
    if store.writer is None:
        return
    try:
        call = NO_CALL.within(TIDY, clock=store.clock)
        store.writer.delete(info.key, version=info.version, call=call)
    except ImgstoreError as exc:  # what is wrong with it is what the caller hears of
        LOG.warning(
            "store %s: %r is not what was sent, and could not be removed: %s", store.store_id, info.key, exc
        )


class _Counted:
    """A stream as the source of a put, each byte of it noted and hashed."""

    def __init__(self, stream: Readable, report: Report, hasher: Hasher) -> None:
        self._stream = stream
        self._report = report
        self._hasher = hasher

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._hasher.update(data)
        self._report.delivered(len(data))
        return data

    def readinto(self, view: memoryview) -> int:
        count = self._stream.readinto(view)
        self._hasher.update(view[:count])
        self._report.delivered(count)
        return count


class _CountedSparse(_Counted):
    """The same of one that knows its holes."""

    def __init__(self, stream: SparseStream, report: Report, hasher: Hasher) -> None:
        super().__init__(stream, report, hasher)
        self._sparse = stream

    def hole(self) -> int:
        count = self._sparse.hole()
        self._hasher.skip(count)
        self._report.delivered(count)
        return count
