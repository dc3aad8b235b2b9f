"""The way to the pool, step by step: where exactly it ends, and what would help."""

from __future__ import annotations

from imgstore.backends.rbd import bindings
from imgstore.backends.rbd.cluster import Cluster
from imgstore.backends.rbd.failures import failure
from imgstore.backends.rbd.waiting import Wait
from imgstore.clock import Clock
from imgstore.errors import (
    AuthenticationError,
    ConfigError,
    ImgstoreError,
    PermissionDeniedError,
    StorageIOError,
    TransientError,
)
from imgstore.model import Call
from imgstore.steps import Step


def steps(cluster: Cluster, clock: Clock) -> list[Step]:
    """Gives the steps in order: Ceph's modules, then a monitor, the user's key and the pool."""
    settings = cluster.settings
    user, pool = f"client.{settings.user or 'admin'}", settings.pool

    def load(_: Call) -> str:
        return f"librbd {'.'.join(map(str, bindings.load().rbd.RBD().version()))}"

    def connect(call: Call) -> str:
        wait = Wait(call, clock)
        try:
            with cluster.connected(wait) as session:
                fsid = session.run(session.cluster.get_fsid, wait)
        except ImgstoreError:
            raise
        except Exception as exc:  # translated, not swallowed
            raise failure(exc) from exc
        return f"{user} is let into the cluster {fsid}, which has the pool {pool!r}"

    def about_connecting(error: ImgstoreError) -> str:
        for kind, said in _ADVICE:
            if isinstance(error, kind):
                return said.format(user=user, pool=pool)
        return "see the message, and the monitors' log"

    return [
        Step("modules", load, lambda _: "install them, as the message says"),
        Step("connect", connect, about_connecting),
    ]


# The first that fits counts.
_ADVICE: tuple[tuple[type[ImgstoreError], str], ...] = (
    (ConfigError, "name the cluster's configuration file in 'ceph_conf', and let this user read it"),
    (
        AuthenticationError,
        "put the key of {user} into a file and name that in 'keyring', or correct 'user'",
    ),
    (PermissionDeniedError, "give it: ceph auth caps {user} mon 'profile rbd' osd 'profile rbd pool={pool}'"),
    (StorageIOError, "correct 'pool', or make it: ceph osd pool create {pool}; rbd pool init {pool}"),
    (TransientError, "see whether the monitors run, and whether a firewall is between them and this machine"),
)
