"""A driver, a layer and their proofs, as somebody else would write them; mypy --strict must take them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from oslo_config import cfg

from imgstore.errors import ImgstoreError, NotFoundError
from imgstore.layers.base import Layer
from imgstore.model import NO_CALL, ByteRange, Call, ObjectInfo, Version
from imgstore.store import Lister, Source, Store, Writer, unknown
from imgstore.stream import Opened, RawReader
from imgstore.testing import LayerSuite, ReadSuite, WriteSuite, needs, run_suite


class FolderStore(Store):
    """Images in a mapping, with a writer and a lister."""

    OPTIONS: ClassVar[Sequence[cfg.Opt]] = (cfg.StrOpt("folder"),)

    def __init__(self, *, folder: str) -> None:
        self.folder = folder
        self.images: dict[str, bytes] = {}
        self.writer: FolderWriter = FolderWriter(self)
        self.lister: FolderLister = FolderLister(self)

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        data = self.images[key]
        raw: RawReader = FolderReader(data[start:stop])
        return Opened(raw, ObjectInfo(key, len(data), None), ByteRange(start, len(data)))

    def translate(self, exc: Exception) -> ImgstoreError:
        if isinstance(exc, ImgstoreError):
            return exc
        return NotFoundError("there is no such image") if isinstance(exc, KeyError) else unknown(exc)


class FolderReader:
    """The bytes of one range."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readinto(self, buffer: memoryview, /) -> int:
        return self._file.readinto(buffer)

    def abort(self) -> None:
        self._file.close()

    def close(self) -> None:
        self._file.close()


class FolderWriter:
    """Stores into the mapping."""

    def __init__(self, store: FolderStore) -> None:
        self._store = store

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
        self._store.images[key] = source.read(size or -1)
        return ObjectInfo(key, size, None)

    def delete(self, key: str, *, version: str | None = None, call: Call = NO_CALL) -> None:
        del self._store.images[key]


class FolderLister:
    """Lists the mapping."""

    def __init__(self, store: FolderStore) -> None:
        self._store = store

    def list(self, prefix: str = "", *, call: Call = NO_CALL) -> Iterator[ObjectInfo]:
        return (ObjectInfo(key, None, None) for key in sorted(self._store.images) if key.startswith(prefix))


class LoudLayer(Layer):
    """A layer that shouts its keys."""

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        return super()._stat(key.upper(), call)


class IncompleteReader:
    """A reader that cannot be called off."""

    def readinto(self, buffer: memoryview, /) -> int:
        return 0


class FolderProof(ReadSuite, WriteSuite):
    """The proof of the driver."""

    def setup_method(self) -> None:
        super().setup_method()
        self.place = FolderStore(folder="/images")

    def store(self) -> Store:
        return self.place

    def seed(self, key: str, data: bytes) -> None:
        self.place.images[key] = data

    def secrets(self) -> Sequence[str]:
        return ("word",)

    @needs("remove")
    def test_a_case_of_its_own(self) -> None:
        assert self.read(self.image(b"x")) == b"x"


class LoudProof(LayerSuite):
    """The proof of the layer."""

    wraps = frozenset({"writer"})

    def layer(self, inner: Store) -> Store:
        return LoudLayer(inner)


def proofs() -> list[str]:
    report = run_suite(FolderProof)
    return report.red + list(report.left_out) + run_suite(LoudProof).red


def is_what_the_interface_asks(
    store: FolderStore, incomplete: IncompleteReader
) -> tuple[Writer, Lister, Any]:
    opened = Opened(incomplete, ObjectInfo("k", 0, None), ByteRange(0, 0))  # type: ignore[arg-type]
    return store.writer, store.lister, opened
