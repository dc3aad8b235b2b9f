"""The room that is left."""

from __future__ import annotations

import json
from typing import Any

from imgstore.backends.rbd.cluster import Cluster
from imgstore.backends.rbd.connection import Connection
from imgstore.backends.rbd.failures import by_number, typed
from imgstore.backends.rbd.waiting import Wait
from imgstore.model import NO_CALL, Call
from imgstore.store import Store


class RbdSpace:
    """Asks the monitors what the pool of the data can still take, copies counted, and its quota.

    Their numbers come from a manager daemon, and are seconds old; without one it is not known.
    """

    def __init__(self, owner: Store, cluster: Cluster) -> None:
        self._owner = owner
        self._cluster = cluster

    def free(self, *, call: Call = NO_CALL) -> int | None:
        self._owner._admit(None, call)
        wait = Wait(call, self._owner.clock)
        with typed(self._owner, ""), self._cluster.connected(wait) as session:
            return session.run(lambda: _free(session), wait)


def _free(session: Connection) -> int | None:
    pool = session.settings.data_pool or session.settings.pool
    told = _asked(session, prefix="df")
    stats = next((each["stats"] for each in told.get("pools", ()) if each["name"] == pool), None)
    if stats is None or not told.get("stats", {}).get("total_bytes"):
        return None
    quota = _asked(session, prefix="osd pool get-quota", pool=pool).get("quota_max_bytes", 0)
    room = int(stats["max_avail"])
    return min(room, max(0, int(quota) - int(stats["stored"]))) if quota else room


def _asked(session: Connection, **command: str) -> Any:
    code, data, _ = session.cluster.mon_command(json.dumps({**command, "format": "json"}), b"")
    if code:
        raise by_number(abs(code))
    return json.loads(data)
