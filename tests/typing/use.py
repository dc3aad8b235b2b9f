"""What users write, as mypy --strict must take it; nothing here is run."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from oslo_config.cfg import ConfigOpts, Opt, OptGroup

import imgstore
from imgstore import (
    ANY,
    ByteRange,
    ByteStream,
    Call,
    CancelToken,
    Event,
    ObjectInfo,
    RangeFile,
    Store,
    StoreRef,
    Stores,
    open_image,
    open_stores,
)
from imgstore.backends.http import HttpStore
from imgstore.backends.memory import MemoryStore
from imgstore.config import load
from imgstore.errors import DigestMismatchError, ImgstoreError, NotFoundError, StoreError, TransientError
from imgstore.integrations import observers
from imgstore.integrations.logs import LogObserver
from imgstore.integrations.opentelemetry import OpenTelemetryObserver
from imgstore.integrations.prometheus import PrometheusObserver
from imgstore.layers.mirror import Mirror
from imgstore.manifest import Manifest
from imgstore.model import Part
from imgstore.ranges import RangeSet
from imgstore.secret import Secret, SecretFile, reveal
from imgstore.stack import leg, mirrored

if TYPE_CHECKING:
    from typing_extensions import assert_type


def reads(store: Store) -> None:
    info = store.stat("images/disk")
    assert_type(info, ObjectInfo)
    assert_type(info.size, "int | None")
    assert_type(info.version, "str | None")
    with store.get("images/disk", 512, 1 << 20, version=info.version) as stream:
        assert_type(stream, ByteStream)
        assert_type(stream.read(10), bytes)
        assert_type(stream.readinto(bytearray(10)), int)
        assert_type(stream.readinto(memoryview(bytearray(10))), int)
        assert_type(stream.chunks(), Iterator[memoryview])
        assert_type(stream.range, ByteRange)
    store.get("images/disk", version=ANY).close()
    store.get("images/disk", version=None).close()


def refused(store: Store) -> None:
    store.get("images/disk", "5")  # type: ignore[arg-type]
    store.get("images/disk", 0, 1, "version")  # type: ignore[call-arg]
    store.get("images/disk", version=5)  # type: ignore[arg-type]
    store.get("images/disk").readinto(b"")  # type: ignore[arg-type]
    store.stat("images/disk").size = 5  # type: ignore[misc]
    Store()  # type: ignore[abstract]


def calls(store: Store) -> None:
    told: list[Event] = []
    token = CancelToken()
    call = Call(cancel=token, observe=told.append).within(30)
    assert_type(call, Call)
    assert_type(call.remaining(), "float | None")
    store.stat("images/disk", call=call)


def facets(store: Store) -> None:
    store.writer.put("k", io.BytesIO(b"x"))  # type: ignore[union-attr]
    if store.writer is not None:
        with open("disk", "rb") as file:
            assert_type(store.writer.put("k", file, 5, digests={"sha256": "00"}), ObjectInfo)
        store.writer.delete("k", version="v")
    if store.uploader is not None:
        token = store.uploader.begin("k", None)
        part = store.uploader.put_part(token, 0, 0, memoryview(b"x"))
        assert_type(part, Part)
        assert_type(store.uploader.complete(token, [part]), ObjectInfo)
    if store.lister is not None:
        for info in store.lister.list("images/"):
            assert_type(info, ObjectInfo)
    if store.space is not None:
        assert_type(store.space.free(), "int | None")


def files(store: Store) -> None:
    with open_image(store, "images/disk", version="v1", read_ahead=1 << 20) as file:
        assert_type(file, RangeFile)
        assert_type(file.read(10), bytes)
        assert_type(file.readinto(bytearray(10)), int)
        assert_type(file.seek(-1, io.SEEK_END), int)
        assert_type(file.info, ObjectInfo)
        assert_type(file.size, int)
        io.BufferedReader(file).peek()
        zipfile.ZipFile(file).namelist()
        with tarfile.open(fileobj=file) as archive:
            assert_type(archive.getnames(), list[str])
    imgstore.open_image(store, "images/disk", "v1")  # type: ignore[call-arg]
    imgstore.open_image(store, "images/disk", version=ANY)  # type: ignore[arg-type]


def observed() -> None:
    observe = observers(LogObserver(), PrometheusObserver(), OpenTelemetryObserver())
    assert_type(Call(observe=observe), Call)
    observe("opened")  # type: ignore[arg-type]
    PrometheusObserver("registry")  # type: ignore[arg-type]


def memory() -> None:
    store = MemoryStore(capacity=1 << 20)
    # its facets are there, and need no check
    store.writer.put("k", io.BytesIO(b"x"))
    assert_type(next(store.extents.extents("k")).range, ByteRange)
    MemoryStore(1 << 20)  # type: ignore[call-arg]


def configured(conf: ConfigOpts) -> None:
    imgstore.register_opts(conf)
    with imgstore.open_stores(conf, observe=lambda event: None) as stores:
        assert_type(stores, Stores)
        assert_type(stores["cold"], Store)
        assert_type(stores.get("cold"), "Store | None")
        assert_type(stores.default, Store)
        assert_type(stores.default_id, str)
        assert_type(stores.drivers, Mapping[str, str])
        stores["cold"] = stores.default  # type: ignore[index]
    with open_stores(load("/etc/imgstore/imgstore.conf")) as stores:
        assert_type(list(stores), list[str])
    assert_type(imgstore.list_opts(), list[tuple[OptGroup, list[Opt]]])
    open_stores()  # type: ignore[call-arg]
    imgstore.open_store(conf)  # type: ignore[attr-defined]


def joined(store: Store, manifest: Manifest) -> None:
    with mirrored(["https://h/disk.img", leg(store, "disk.img")], manifest=manifest) as mirror:
        assert_type(mirror, Mirror)
        assert_type(mirror.stat("disk.img"), ObjectInfo)
    mirrored(store)  # type: ignore[arg-type]
    mirrored([store])  # type: ignore[list-item]


def secrets(path: str) -> None:
    secret: Secret = SecretFile(path, "password_file")
    assert_type(reveal(secret), str)
    HttpStore(url="https://h/", username="u", password=lambda: "word", token=None)
    HttpStore(url="https://h/", headers=secret, proxy=secret)
    HttpStore(url="https://h/", password=b"word")  # type: ignore[arg-type]


def errors(store: Store) -> int:
    try:
        return len(store.get("k").read())
    except NotFoundError as error:
        assert_type(error.errno, "int | None")
        return error.offset or 0
    except DigestMismatchError as error:
        assert_type(error.chunks, tuple[int, ...])
    except TransientError as error:
        assert_type(error.retry_after, "float | None")
    except StoreError as error:
        assert_type(error.key, "str | None")
        assert_type(error.retryable, bool)
    except ImgstoreError as error:
        assert_type(str(error), str)
    return 0


def values() -> None:
    assert_type(imgstore.ByteRange(0, None).size, "int | None")
    missing = RangeSet([ByteRange(0, 5)]).missing(ByteRange(0, 10))
    assert_type(missing, Iterator[ByteRange])
    StoreRef("cold", "images/disk", None)
