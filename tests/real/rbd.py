"""What the tests of RBD images share."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from functools import partial

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


def unwatched(action: Callable[[], object]) -> None:
    """Does what a client that was lost is in the way of until its watch has ended (here after 5 s)."""
    limit = time.monotonic() + 20
    while True:
        try:
            action()
            return
        except InUseError:
            assert time.monotonic() < limit
            time.sleep(0.3)


def reap(store) -> None:
    """Aborts all uploads."""
    for upload in store.uploader.uploads():
        unwatched(partial(store.uploader.abort, upload.token))


def fence_off(ceph: Ceph, store) -> None:
    """Has the cluster refuse everything of the client of `store` from now on."""
    with session_of(store) as session:
        addresses = session.cluster.get_addrs()
    for address in re.findall(r"[\d.]+:\d+/\d+", addresses):
        ceph.tool("ceph", "osd", "blocklist", "add", address)
