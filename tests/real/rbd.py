"""What the tests of RBD images share."""

from __future__ import annotations

import contextlib
import re
import time

from imgstore.backends.rbd import RbdStore
from imgstore.backends.rbd.waiting import Wait
from imgstore.errors import InUseError
from imgstore.model import NO_CALL
from imgstore.stack import LayerSettings, build
from tests.real.conftest import Ceph

TIMES = {"connect_timeout": 3.0, "op_timeout": 5.0, "receive_timeout": 2.0}


def driver(ceph: Ceph, **options) -> RbdStore:
    return RbdStore(**{"user": ceph.user, "ceph_conf": str(ceph.conf), **TIMES, **options})


def layered(ceph: Ceph, **options):
    return build(driver(ceph, **options), LayerSettings(stall_timeout=2.0))


@contextlib.contextmanager
def session_of(store):
    """Gives the connection of a store, for what its own facets do not do."""
    while not isinstance(store, RbdStore):
        store = store.inner
    with store._cluster.connected(Wait(NO_CALL, store.clock)) as session:
        yield session


def left(store) -> list[str]:
    """Gives the keys of the uploads that are pending."""
    return [each.key for each in store.uploader.uploads()]


def reap(store) -> None:
    """Aborts all uploads; those of a client that was lost, when its watch has ended (here after 5 s)."""
    limit = time.monotonic() + 20
    for upload in store.uploader.uploads():
        while True:
            try:
                store.uploader.abort(upload.token)
                break
            except InUseError:
                assert time.monotonic() < limit
                time.sleep(0.3)


def fence_off(ceph: Ceph, store) -> None:
    """Has the cluster refuse everything of the client of `store` from now on."""
    with session_of(store) as session:
        addresses = session.cluster.get_addrs()
    for address in re.findall(r"[\d.]+:\d+/\d+", addresses):
        ceph.tool("ceph", "osd", "blocklist", "add", address)
