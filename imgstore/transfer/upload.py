"""One stream into one store."""

from __future__ import annotations

from imgstore.errors import UnsupportedError
from imgstore.hashing import Hasher
from imgstore.model import NO_CALL, Call, ObjectInfo
from imgstore.store import Store
from imgstore.transfer.copy import Digester, Readable
from imgstore.transfer.progress import Report
from imgstore.transfer.sparse import SparseStream


def upload(
    stream: Readable,
    store: Store,
    key: str,
    *,
    report: Report,
    overwrite: bool = False,
    digest: bool = False,
    call: Call = NO_CALL,
) -> ObjectInfo:
    """Stores all of `stream` under `key`: whole, or not at all. Gives what the store has then.

    With `digest`, `report.digests` tells the SHA-256 of what was stored. What the source says of the whole
    image's digests is checked by its strongest algorithm before anything is published.

    Raises: UnsupportedError for a store that is only read; otherwise as `ByteStream` and `Writer.put`.
    """
    if store.writer is None:
        raise UnsupportedError("the store is only read; it takes no images", key=key, store=store.store_id)
    report.total = stream.range.size
    with Digester(stream, digest=digest) as digester:
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
        report.digests.update(digester.found())
    return info


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
