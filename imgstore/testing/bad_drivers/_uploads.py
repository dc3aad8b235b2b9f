"""Planted faults of uploaders."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imgstore.errors import (
    AlreadyExistsError,
    DigestMismatchError,
    UploadLostError,
)
from imgstore.model import NO_CALL, Call, ObjectInfo, Part
from imgstore.store import Upload
from imgstore.testing.bad_drivers._good import Facet, FacetDriver, Good


class CompletedTwice(Facet):
    """Completing again after a lost reply makes a second image."""

    def complete(self, token: str, parts: Sequence[Part], *, call: Call = NO_CALL) -> ObjectInfo:
        try:
            self.inner.parts(token)
            again = False
        except UploadLostError:
            again = True
        info: ObjectInfo = self.inner.complete(token, parts, call=call)
        if again:
            data = self.store.get(info.key).read()
            info = self.store.writer.put(info.key, io.BytesIO(data), overwrite=True)
        return info


class BufferKept(Facet):
    """A part is kept as the caller's buffer, not as its bytes."""

    def __init__(self, store: Good, inner: Any) -> None:
        super().__init__(store, inner)
        self._kept: dict[tuple[str, int], tuple[int, memoryview]] = {}

    def put_part(
        self, token: str, number: int, offset: int, data: memoryview, *, call: Call = NO_CALL
    ) -> Part:
        part: Part = self.inner.put_part(token, number, offset, data, call=call)
        self._kept[token, number] = (offset, memoryview(data))
        return part

    def complete(self, token: str, parts: Sequence[Part], *, call: Call = NO_CALL) -> ObjectInfo:
        now = [self._again(token, part) for part in parts]
        info: ObjectInfo = self.inner.complete(token, now, call=call)
        return info

    def _again(self, token: str, part: Part) -> Part:
        offset, data = self._kept.pop((token, part.number), (0, None))
        if data is None:
            return part
        again: Part = self.inner.put_part(token, part.number, offset, data)
        return again


class AbortedCompletes(Facet):
    """An aborted upload is only hidden."""

    def __init__(self, store: Good, inner: Any) -> None:
        super().__init__(store, inner)
        self._aborted: set[str] = set()

    def abort(self, token: str, *, call: Call = NO_CALL) -> None:
        self._aborted.add(token)

    def uploads(self, older_than: float = 0.0, *, call: Call = NO_CALL) -> Iterator[Upload]:
        return (each for each in self.inner.uploads(older_than) if each.token not in self._aborted)


class FirstPartWins(Facet):
    """A part that is put again is not replaced."""

    def put_part(
        self, token: str, number: int, offset: int, data: memoryview, *, call: Call = NO_CALL
    ) -> Part:
        for part in self.inner.parts(token, call=call):
            if part.number == number:
                held: Part = part
                return held
        put: Part = self.inner.put_part(token, number, offset, data, call=call)
        return put


class PartsNotAsked(Facet):
    """An upload is completed with whatever parts are there."""

    def complete(self, token: str, parts: Sequence[Part], *, call: Call = NO_CALL) -> ObjectInfo:
        try:
            parts = self.inner.parts(token, call=call)
        except UploadLostError:
            parts = list(parts)
        info: ObjectInfo = self.inner.complete(token, parts, call=call)
        return info


class LeftOutDestroyed(Facet):
    """A complete that fails has destroyed the parts that it left out, and they are told all the same."""

    def __init__(self, store: Good, inner: Any) -> None:
        super().__init__(store, inner)
        self._told: dict[str, list[Part]] = {}

    def parts(self, token: str, *, call: Call = NO_CALL) -> Sequence[Part]:
        return self._told.get(token) or list(self.inner.parts(token, call=call))

    def complete(self, token: str, parts: Sequence[Part], *, call: Call = NO_CALL) -> ObjectInfo:
        destroyed = token in self._told
        try:
            given = self.inner.parts(token, call=call) if destroyed else parts
            info: ObjectInfo = self.inner.complete(token, given, call=call)
        except DigestMismatchError:
            self._told[token] = list(self.inner.parts(token))
            for part in self._told[token]:
                if part not in parts:
                    self.inner.put_part(token, part.number, part.offset, memoryview(bytes(part.size)))
            raise
        return info


class ConflictIgnored(Facet):
    """Whether the key is free is asked at the beginning only."""

    store: FacetDriver

    def begin(self, key: str, size: int | None, *, overwrite: bool = False, **options: Any) -> str:
        if self.store.taken(key) and not overwrite:
            raise AlreadyExistsError("the key is taken", key=key)
        token: str = self.inner.begin(key, size, overwrite=True, **options)
        return token


class UploadUnproven(Facet):
    """The digests of an upload are not looked at."""

    def begin(
        self, key: str, size: int | None, *, digests: Mapping[str, str] | None = None, **options: Any
    ) -> str:
        token: str = self.inner.begin(key, size, **options)
        return token
