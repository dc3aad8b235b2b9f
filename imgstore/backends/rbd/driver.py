"""The store of RBD images in one pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imgstore.backends.rbd import bindings, manifests
from imgstore.backends.rbd.cluster import Cluster, Session
from imgstore.backends.rbd.extents import RbdExtents
from imgstore.backends.rbd.failures import failure
from imgstore.backends.rbd.lister import RbdLister
from imgstore.backends.rbd.names import is_manifest
from imgstore.backends.rbd.options import OPTIONS, Settings
from imgstore.backends.rbd.pins import Pinned, clip
from imgstore.backends.rbd.reader import RbdReader
from imgstore.backends.rbd.space import RbdSpace
from imgstore.backends.rbd.uploads import RbdUploader
from imgstore.backends.rbd.waiting import Wait
from imgstore.backends.rbd.writer import RbdWriter
from imgstore.errors import (
    ConfigError,
    ImgstoreError,
    NotFoundError,
    VersionChangedError,
)
from imgstore.model import ANY, Call, ObjectInfo, Version
from imgstore.steps import Step
from imgstore.store import Store
from imgstore.stream import Opened


class RbdStore(Store):
    """Images in a pool of Ceph, each an RBD image whose protected snapshot `snap` holds the bytes.

    That is the layout of Glance, Nova and Cinder, which clone images by their snapshots. The version of an
    image is its id and the snapshot's. An image without the snapshot is none: it is being written, or is
    somebody's disk.

    Deadline and cancellation end any wait within a second, though librbd can call nothing off: what it is
    busy with is left behind, and ends by itself after `op_timeout`. A lost OSD or monitor is a TransientError
    by then, and the connection recovers when they are back (docs/decisions/0012-rbd.md).
    """

    OPTIONS = OPTIONS

    def __init__(
        self,
        *,
        pool: str = "images",
        namespace: str | None = None,
        user: str | None = None,
        ceph_conf: str | None = None,
        keyring: str | None = None,
        snapshot: str = "snap",
        require_protected: bool = True,
        allow_unpinned: bool = False,
        trash_in_use: bool = False,
        object_size: int = 4 << 20,
        features: Sequence[str] | None = None,
        stripe_unit: int | None = None,
        stripe_count: int | None = None,
        data_pool: str | None = None,
        thin: bool = True,
        connect_timeout: float = 10.0,
        op_timeout: float = 30.0,
        receive_timeout: float = 15.0,
        io_size: int = 2 << 20,
        in_flight: int = 8,
    ) -> None:
        """Takes the options; nothing is read or connected yet.

        Raises: ConfigError naming the option that makes no sense, or Ceph's Python modules if they are
        missing, and how to get them.
        """
        bindings.check()
        self._settings = Settings(
            pool=pool,
            namespace=namespace,
            user=user,
            ceph_conf=ceph_conf,
            keyring=keyring,
            snapshot=snapshot,
            require_protected=require_protected,
            allow_unpinned=allow_unpinned,
            trash_in_use=trash_in_use,
            object_size=object_size,
            features=None if features is None else tuple(features),
            stripe_unit=stripe_unit,
            stripe_count=stripe_count,
            data_pool=data_pool,
            thin=thin,
            connect_timeout=connect_timeout,
            op_timeout=op_timeout,
            io_size=io_size,
            in_flight=in_flight,
        )
        if not receive_timeout > 0:
            raise ConfigError(f"the option 'receive_timeout' is {receive_timeout:g}; it is above 0")
        self.receive_timeout = float(receive_timeout)
        self.endpoint = self.location
        self._cluster = Cluster(self._settings)
        self.writer: RbdWriter = RbdWriter(self, self._cluster)
        self.uploader: RbdUploader = RbdUploader(self, self._cluster)
        self.lister: RbdLister = RbdLister(self, self._cluster)
        self.extents: RbdExtents = RbdExtents(self, self._cluster)
        self.space: RbdSpace = RbdSpace(self, self._cluster)

    @classmethod
    def at(cls, url: str, **options: Any) -> tuple[RbdStore, str]:
        """Gives a store over the pool of `url`, and the key of the image: rbd://POOL[/NAMESPACE]/IMAGE[@SNAP].

        Each part may be percent-encoded. The cluster is that of $CEPH_CONF or /etc/ceph/ceph.conf, the user
        that of $CEPH_ARGS (`--id`, `--name`), as with Ceph's own tools. `options` are the constructor's.

        Raises: ConfigError.
        """
        from imgstore.backends.rbd.location import options_at

        found, key = options_at(url)
        return cls(**{**found, **options}), key

    @property
    def location(self) -> str:
        """Where the images are: rbd://POOL, with the namespace if there is one."""
        return "/".join(["rbd:/", self._settings.pool, *filter(None, [self._settings.namespace])])

    def steps(self, key: str | None) -> Sequence[Step]:
        """Gives the steps to the pool (`imgstore.steps`)."""
        from imgstore.backends.rbd.check import steps

        return steps(self._cluster, self.clock)

    def translate(self, exc: Exception) -> ImgstoreError:
        return failure(exc)

    def close(self) -> None:
        super().close()
        self._cluster.close()

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        wait = Wait(call, self.clock)
        of_manifest = is_manifest(key)
        with self._cluster.connected(wait) as session:
            if of_manifest:
                return manifests.read(session, key, None, wait)[0]
            pinned = session.pins.take(key, None, wait)
            session.pins.give_back(pinned)
            return pinned.info

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        wait = Wait(call, self.clock)
        if is_manifest(key):
            with self._cluster.connected(wait) as session:
                info, data = manifests.read(session, key, version, wait)
            served = clip(info, start, stop)
            return Opened(manifests.HeldReader(data[served.start : served.stop]), info, served)
        session = self._cluster.lease(wait)
        try:
            pinned = session.pins.take(key, version, wait)
        except BaseException:
            session.release()
            raise
        try:
            served = clip(pinned.info, start, stop)
        except BaseException:
            _closed(session, pinned)
            raise
        raw = RbdReader(
            pinned,
            served.start,
            served.stop or 0,
            wait=wait,
            receive_timeout=self.receive_timeout,
            lost=lambda: self._lost(session, key, wait),
            closed=lambda: _closed(session, pinned),
        )
        return Opened(raw, pinned.info, served)

    def _lost(self, session: Session, key: str, wait: Wait) -> Exception:
        """Gives what became of an image whose snapshot is gone: it is another now, or none."""
        try:
            session.pins.drop(session.pins.take(key, ANY, wait))
        except NotFoundError:
            return NotFoundError("the image was removed while it was being read")
        return VersionChangedError("the image was replaced, or its snapshot removed, while it was being read")


def _closed(session: Session, pinned: Pinned) -> None:
    session.pins.give_back(pinned)
    session.release()
