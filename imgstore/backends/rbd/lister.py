"""The images of a pool, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import Final

from imgstore.backends.rbd import names
from imgstore.backends.rbd.cluster import Cluster, Session
from imgstore.backends.rbd.connection import Connection
from imgstore.backends.rbd.draft import KEY, own
from imgstore.backends.rbd.failures import typed
from imgstore.backends.rbd.pins import open_pinned
from imgstore.backends.rbd.waiting import Errand, Wait
from imgstore.errors import NotFoundError
from imgstore.model import NO_CALL, Call, ObjectInfo
from imgstore.store import Store

# Images that are asked at once: each takes some ten round trips, 10 ms.
_AHEAD: Final = 8


class RbdLister:
    """Lists the images that have their snapshot; with `allow_unpinned` the others too, without a version.

    Memory: the names in the pool, which Ceph gives at once. What comes or goes during a listing may be in it
    or not.
    """

    def __init__(self, owner: Store, cluster: Cluster) -> None:
        self._owner = owner
        self._cluster = cluster

    def list(self, prefix: str = "", *, call: Call = NO_CALL) -> Iterator[ObjectInfo]:
        self._owner._admit(None, call)
        return self._infos(prefix, call)

    def _infos(self, prefix: str, call: Call) -> Generator[ObjectInfo, None, None]:
        wait = Wait(call, self._owner.clock)
        with typed(self._owner, prefix), self._cluster.connected(wait) as session:
            found = session.run(lambda: session.rbd.list(session.pool), wait)
            keys = [key for key in map(names.key_of, found) if key is not None]
            keys += _without_names(session, found, wait)
            yield from _described(session, [key for key in keys if key.startswith(prefix)], wait)


def _described(session: Session, keys: list[str], wait: Wait) -> Iterator[ObjectInfo]:
    asked: deque[Errand[ObjectInfo | None]] = deque()
    coming = iter(sorted(keys, key=lambda key: key.encode(errors="surrogatepass")))
    try:
        while True:
            while len(asked) < _AHEAD and (key := next(coming, None)) is not None:
                asked.append(session.begin(lambda key=key: _describe(session, key)))  # type: ignore[misc]
            if not asked:
                return
            info = asked[0].result(wait)
            asked.popleft()
            if info is not None:
                yield info
    finally:
        for errand in asked:
            errand.leave()


def _describe(session: Connection, key: str) -> ObjectInfo | None:
    """Describes an image; None for one that is none, or is gone. Blocks."""
    try:
        pinned = open_pinned(session, key)
    except NotFoundError:
        return None
    session.close(pinned.image)
    if pinned.info.version is None and not session.settings.allow_unpinned:
        return None
    return pinned.info


def _without_names(session: Session, found: list[str], wait: Wait) -> list[str]:
    """Gives the keys of the images that are losing their names to others just now, and have none."""
    keys = [each.meta.get(KEY) for each in own(session, found, names.is_replaced, wait)]
    return [key for key in keys if key is not None and names.name_of(key) not in found]
