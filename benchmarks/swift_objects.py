"""One object of Swift into a new file, or a file into an object, by each library.

function(auth, user, key, container, name, path, block) gives the work. Those that download sync the file
before they end. All are told where to log in, and otherwise left as they come. glance_store logs in to
Keystone only: its `auth` is an identity service that gives the same token as radosgw's own.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

Work = Callable[[], None]


def client(auth: str, user: str, key: str) -> Any:
    from swiftclient.client import Connection

    return Connection(auth, user, key, auth_version="1")


def _store(auth: str, user: str, key: str, container: str) -> Any:
    from imgstore.backends.swift import SwiftStore
    from imgstore.stack import build

    driver = SwiftStore(auth_url=auth, auth_version="1", user=user, password=key, container=container)
    return build(driver)


def get_by_imgstore(auth, user, key, container, name, path, block) -> Work:
    import swiftclient.client  # noqa: F401  # imports are not timed

    import imgstore.backends.swift
    import imgstore.stack  # noqa: F401
    from imgstore.publish import PendingFile
    from imgstore.transfer import copy
    from imgstore.transfer.progress import Report

    copy.BUFFER = block

    def work() -> None:
        with (
            _store(auth, user, key, container) as store,
            PendingFile(path) as file,
            store.get(name) as stream,
        ):
            copy.copy(stream, file, report=Report())

    return work


def put_by_imgstore(auth, user, key, container, name, path, block) -> Work:
    import swiftclient.client  # noqa: F401  # imports are not timed

    import imgstore.backends.swift
    import imgstore.stack  # noqa: F401

    def work() -> None:
        with _store(auth, user, key, container) as store, open(path, "rb", buffering=0) as file:
            store.writer.put(name, file, os.path.getsize(path), overwrite=True)

    return work


def get_by_swiftclient(auth, user, key, container, name, path, block) -> Work:
    import swiftclient.client  # noqa: F401

    def work() -> None:
        connection = client(auth, user, key)
        _, chunks = connection.get_object(container, name, resp_chunk_size=block)
        _write(path, chunks)
        connection.close()

    return work


def put_by_swiftclient(auth, user, key, container, name, path, block) -> Work:
    import swiftclient.client  # noqa: F401

    def work() -> None:
        connection = client(auth, user, key)
        with open(path, "rb", buffering=0) as file:
            size = os.path.getsize(path)
            connection.put_object(container, name, file, content_length=size, chunk_size=block)
        connection.close()

    return work


def get_by_glance_store(auth, user, key, container, name, path, block) -> Work:
    glance, _ = _glance(auth, user, key, container, block)
    scheme, _, rest = auth.partition("://")
    where = f"swift+{scheme}://test%3A{user}:{key}@{rest}/{container}/{name}"

    def work() -> None:
        chunks, _ = glance.get_from_backend(where)
        _write(path, chunks)

    return work


def put_by_glance_store(auth, user, key, container, name, path, block) -> Work:
    glance, conf = _glance(auth, user, key, container, block)

    def work() -> None:
        with open(path, "rb", buffering=0) as file:
            glance.add_to_backend(conf, name, file, os.path.getsize(path), "swift")

    return work


def _glance(auth: str, user: str, key: str, container: str, block: int) -> tuple[Any, Any]:
    """Gives glance_store's interface and its settings, as Glance sets them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import glance_store
        from glance_store._drivers.swift import store
        from oslo_config import cfg

    store.BaseStore.READ_CHUNKSIZE = block
    conf = cfg.ConfigOpts()
    glance_store.register_opts(conf)
    conf(args=[])
    for option, value in {
        "stores": ["swift"],
        "default_store": "swift",
        "swift_store_auth_address": auth,
        "swift_store_user": f"test:{user}",
        "swift_store_key": key,
        "swift_store_container": container,
    }.items():
        conf.set_override(option, value, group="glance_store")
    glance_store.create_stores(conf)
    return glance_store, conf


def _write(path: str, chunks) -> None:
    with open(path, "xb", buffering=0) as file:
        file.writelines(chunks)
        os.fsync(file.fileno())
