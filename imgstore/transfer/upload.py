"""One stream into one store."""

from __future__ import annotations

from imgstore.errors import UnsupportedError
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
    digester = Digester(stream, digest=digest)
    info = store.writer.put(
        key,
        _CountedSparse(stream, report, digester)
        if isinstance(stream, SparseStream)
        else _Counted(stream, report, digester),
        stream.range.size,
        overwrite=overwrite,
        digests=digester.claimed,
        call=call,
    )
    report.digests.update(digester.found())
    return info


class _Counted:
    """A stream as the source of a put, each byte of it noted and hashed."""

    def __init__(self, stream: Readable, report: Report, digester: Digester) -> None:
        self._stream = stream
        self._report = report
        self._digester = digester

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._digester.update(data)
        self._report.delivered(len(data))
        return data


class _CountedSparse(_Counted):
    """The same of one that knows its holes."""

    def __init__(self, stream: SparseStream, report: Report, digester: Digester) -> None:
        super().__init__(stream, report, digester)
        self._sparse = stream

    def hole(self) -> int:
        count = self._sparse.hole()
        self._digester.skip(count)
        self._report.delivered(count)
        return count
