"""The facets of a store under the metrics layer: each operation is one attempt that is told of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from imgstore.layers.base import T
from imgstore.model import NO_CALL, Call, ObjectInfo, Part
from imgstore.store import Source, Upload, Uploader, Writer


class Observed(Protocol):
    """`MetricsLayer.observed`."""

    def __call__(self, operation: str, key: str, call: Call, attempt: Callable[[], T]) -> T: ...


class ObservedWriter:
    """A writer whose puts and deletes are told of."""

    def __init__(self, inner: Writer, observed: Observed) -> None:
        self._inner = inner
        self._observed = observed

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
        return self._observed(
            "put",
            key,
            call,
            lambda: self._inner.put(key, source, size, overwrite=overwrite, digests=digests, call=call),
        )

    def delete(self, key: str, *, version: str | None = None, call: Call = NO_CALL) -> None:
        self._observed("delete", key, call, lambda: self._inner.delete(key, version=version, call=call))


class ObservedUploader:
    """An uploader whose requests are told of."""

    def __init__(self, inner: Uploader, observed: Observed) -> None:
        self._inner = inner
        self._observed = observed
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
        return self._observed(
            "begin",
            key,
            call,
            lambda: self._inner.begin(key, size, digests=digests, overwrite=overwrite, call=call),
        )

    def put_part(
        self, token: str, number: int, offset: int, data: memoryview, *, call: Call = NO_CALL
    ) -> Part:
        return self._observed(
            "put_part",
            "",
            call,
            lambda: self._inner.put_part(token, number, offset, data, call=call),
        )

    def parts(self, token: str, *, call: Call = NO_CALL) -> Sequence[Part]:
        return self._observed("parts", "", call, lambda: self._inner.parts(token, call=call))

    def complete(self, token: str, parts: Sequence[Part], *, call: Call = NO_CALL) -> ObjectInfo:
        return self._observed("complete", "", call, lambda: self._inner.complete(token, parts, call=call))

    def abort(self, token: str, *, call: Call = NO_CALL) -> None:
        self._observed("abort", "", call, lambda: self._inner.abort(token, call=call))

    def uploads(self, older_than: float = 0.0, *, call: Call = NO_CALL) -> Iterator[Upload]:
        return self._inner.uploads(older_than, call=call)
