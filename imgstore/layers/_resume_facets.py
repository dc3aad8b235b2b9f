"""The facets of a store under the resume layer: each operation is tried again, on the budget of reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from imgstore.errors import (
    NotFoundError,
    RangeNotSatisfiableError,
    TransientError,
    UnpinnableError,
    UploadLostError,
)
from imgstore.layers.base import T
from imgstore.model import NO_CALL, Call, Extent, ObjectInfo, Part
from imgstore.store import Extents, Lister, Source, Store, Upload, Uploader, Writer


class Retry(Protocol):
    """`ResumeLayer.retry`."""

    def __call__(self, operation: str, key: str, call: Call, attempt: Callable[[Call], T]) -> T: ...


class ResumingWriter:
    """A put is tried again only from a source that can be rewound to where it stood."""

    def __init__(self, inner: Writer, retry: Retry) -> None:
        self._inner = inner
        self._retry = retry

    def put(
        self,
        key: str,
        source: Source,
        size: int | None = None,
        *,
        overwrite: bool = False,
        digests: Mapping[str, str] | None = None,
        call: Call = NO_CALL,
    ) -> ObjectInfo:
        rewind = _rewinder(source)

        def attempt(narrowed: Call) -> ObjectInfo:
            try:
                return self._inner.put(key, source, size, overwrite=overwrite, digests=digests, call=narrowed)
            except TransientError as exc:
                if rewind is None:
                    exc.retryable = False
                else:
                    rewind()
                raise

        return self._retry("put", key, call, attempt)

    def delete(self, key: str, *, version: str | None = None, call: Call = NO_CALL) -> None:
        _until_gone(
            self._retry,
            "delete",
            key,
            call,
            lambda narrowed: self._inner.delete(key, version=version, call=narrowed),
        )


class ResumingUploader:
    """Parts are in hand and put again; what the store has of an upload is asked, never guessed."""

    def __init__(self, inner: Uploader, retry: Retry) -> None:
        self._inner = inner
        self._retry = retry
        self.limits = inner.limits

    def begin(
        self,
        key: str,
        size: int | None,
        *,
        digests: Mapping[str, str] | None = None,
        overwrite: bool = False,
        call: Call = NO_CALL,
    ) -> str:
        return self._retry(
            "begin",
            key,
            call,
            lambda narrowed: self._inner.begin(
                key, size, digests=digests, overwrite=overwrite, call=narrowed
            ),
        )

    def put_part(
        self, token: str, number: int, offset: int, data: memoryview, *, call: Call = NO_CALL
    ) -> Part:
        return self._retry(
            "put_part",
            "",
            call,
            lambda narrowed: self._inner.put_part(token, number, offset, data, call=narrowed),
        )

    def parts(self, token: str, *, call: Call = NO_CALL) -> Sequence[Part]:
        return self._retry("parts", "", call, lambda narrowed: self._inner.parts(token, call=narrowed))

    def complete(self, token: str, parts: Sequence[Part], *, call: Call = NO_CALL) -> ObjectInfo:
        # `complete` is idempotent by contract: the driver asks the store whether the lost reply was a
        # success.
        return self._retry(
            "complete", "", call, lambda narrowed: self._inner.complete(token, parts, call=narrowed)
        )

    def abort(self, token: str, *, call: Call = NO_CALL) -> None:
        _until_gone(self._retry, "abort", "", call, lambda narrowed: self._inner.abort(token, call=narrowed))

    def uploads(self, older_than: float = 0.0, *, call: Call = NO_CALL) -> Iterator[Upload]:
        seen: set[str] = set()  # pending uploads are few, and come in no order

        def again() -> Iterator[Upload]:
            return (u for u in self._inner.uploads(older_than, call=call) if u.token not in seen)

        return _resumed(self._retry, "uploads", "", call, again, lambda upload: seen.add(upload.token))


class ResumingLister:
    """A listing that breaks is asked for again, and what was given already is passed over."""

    def __init__(self, inner: Lister, retry: Retry) -> None:
        self._inner = inner
        self._retry = retry

    def list(self, prefix: str = "", *, call: Call = NO_CALL) -> Iterator[ObjectInfo]:
        last = [b""]

        def again() -> Iterator[ObjectInfo]:
            # Keys come in ascending order, so one of them tells where the listing stood.
            return (o for o in self._inner.list(prefix, call=call) if o.key.encode() > last[0])

        def note(given: ObjectInfo) -> None:
            last[0] = given.key.encode()

        return _resumed(self._retry, "list", prefix, call, again, note)


class ResumingExtents:
    """A map of extents that breaks goes on where the last whole extent ended, in the same version.

    Where no version is asked for, the one that `stat` names is pinned: maps of two versions are never joined.
    """

    def __init__(self, store: Store, inner: Extents, retry: Retry) -> None:
        self._store = store
        self._inner = inner
        self._retry = retry

    def extents(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        version: str | None = None,
        call: Call = NO_CALL,
    ) -> Iterator[Extent]:
        at = [start]
        pinned = [version]

        def again() -> Iterator[Extent]:
            if pinned[0] is None:
                pinned[0] = self._store.stat(key, call=call).version
            if pinned[0] is None and at[0] > start:
                raise UnpinnableError(
                    "the map of an image without a version broke, and cannot be gone on with"
                )
            try:
                yield from self._inner.extents(key, start=at[0], stop=stop, version=pinned[0], call=call)
            except RangeNotSatisfiableError:
                if at[0] == start:  # else the map broke behind its last extent
                    raise

        def note(given: Extent) -> None:
            at[0] = at[0] if given.range.stop is None else given.range.stop

        return _resumed(self._retry, "extents", key, call, again, note)


def _rewinder(source: Source) -> Callable[[], None] | None:
    seekable = getattr(source, "seekable", None)
    if seekable is None or not seekable():
        return None
    any_source: Any = source
    start = any_source.tell()
    return lambda: any_source.seek(start)


def _until_gone(retry: Retry, operation: str, key: str, call: Call, attempt: Callable[[Call], None]) -> None:
    """Removes something; after a lost reply, not finding it is success."""
    failed_before = False

    def once(narrowed: Call) -> None:
        nonlocal failed_before
        try:
            attempt(narrowed)
        except TransientError:
            failed_before = True
            raise
        except (NotFoundError, UploadLostError):
            if not failed_before:
                raise

    retry(operation, key, call, once)


_END: Any = object()


def _resumed(  # noqa: PLR0917  private to this module
    retry: Retry,
    operation: str,
    key: str,
    call: Call,
    again: Callable[[], Iterator[T]],
    note: Callable[[T], None],
) -> Iterator[T]:
    """Iterates over `again()`, and a new one after each passing failure; `note` is told what was given."""
    items: Iterator[T] | None = None

    def step(_: Call) -> T:
        nonlocal items
        if items is None:
            items = again()
        try:
            return next(items, _END)
        except TransientError:
            items = None
            raise

    while (item := retry(operation, key, call, step)) is not _END:
        note(item)
        yield item
