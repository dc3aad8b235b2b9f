"""One client of a cluster: what it has open, who uses it, and how it ends."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from math import ceil, inf
from typing import Any, TypeVar

from imgstore.backends.rbd.bindings import Bindings, Cluster, Image, Pool, Rbd
from imgstore.backends.rbd.failures import FENCED, failure, number_of
from imgstore.backends.rbd.options import Settings
from imgstore.backends.rbd.waiting import Errand, Wait
from imgstore.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionLostError,
    ImgstoreError,
    StorageIOError,
    TimedOutError,
)

T = TypeVar("T")


class Connection:
    """A connected client of one process, on one pool.

    It is used under leases, and given up (`retire`) when the store is closed or the cluster has fenced it
    off; the last lease then ends it, in a thread, as that waits for the cluster. Callable from many threads.
    """

    def __init__(self, bindings: Bindings, settings: Settings) -> None:
        """Connects, which blocks for at most `connect_timeout`.

        Raises: ConfigError, AuthenticationError, PermissionDeniedError, StorageIOError for a pool that is not
        there, TimedOutError.
        """
        self.bindings = bindings
        self.settings = settings
        self.rbd: Rbd = bindings.rbd.RBD()
        self.closed = threading.Event()
        self.retired = False
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._leases = 0
        self._ending = False
        self._images: dict[int, Image] = {}
        self.cluster: Cluster = _configured(bindings, settings)
        try:
            _connect(self.cluster, settings)
            self.pool: Pool = _pool(self.cluster, settings)
        except BaseException:
            self.cluster.shutdown()
            raise
        _LIVE.add(self)

    def lease(self) -> bool:
        """Takes a lease, which `release` gives back; False where the connection was given up."""
        with self._lock:
            if not self.retired:
                self._leases += 1
            return not self.retired

    @property
    def idle(self) -> bool:
        """Whether nobody but itself keeps it from ending."""
        with self._lock:
            return self._ending or not self._leases

    def release(self) -> None:
        """Gives a lease back."""
        if self._pid == os.getpid():  # in a forked child, nothing of the parent's connection can end
            with self._lock:
                self._leases -= 1
            self._end_if_idle()

    def retire(self) -> None:
        """Gives no more leases; with the last one it ends. Idempotent."""
        with self._lock:
            self.retired = True
        self._end_if_idle()

    def run(
        self,
        work: Callable[[], T],
        wait: Wait,
        *,
        seconds: float = inf,
        undo: Callable[[T], Any] | None = None,
    ) -> T:
        """Gives what comes of `work`, which blocks and so has a thread of its own.

        Whoever stops waiting leaves it to its end; `undo` then gets what came of it.

        Raises: ConnectionLostError for a connection that was given up; what `work` raises; as `Wait.until`.
        """
        with self._leased():
            errand = self.begin(work, undo)
            try:
                return errand.result(wait, seconds)
            except BaseException:
                errand.leave()
                raise

    def begin(self, work: Callable[[], T], undo: Callable[[T], Any] | None = None) -> Errand[T]:
        """Begins `work` in a thread of its own, for a caller that has a lease. Raises: as `run`."""
        if not self.lease():
            raise ConnectionLostError("the connection to the cluster was given up")
        return Errand(lambda: self._watched(work), undo, self.release)

    def detach(self, work: Callable[[], Any]) -> None:
        """Has `work` done in a thread of its own; nobody waits for it. Nothing where the end has begun."""
        if self._pid == os.getpid() and self.lease():
            Errand(work, finish=self.release)

    def open(self, name: str | None = None, image_id: str | None = None, *, writable: bool = False) -> Image:
        """Opens an image by name or id, blocking. Whoever reads only leaves no watch and takes no lock.

        Raises: what the bindings raise.
        """
        image: Image = self.bindings.rbd.Image(self.pool, name, image_id=image_id, read_only=not writable)
        with self._lock:
            self._images[id(image)] = image
        return image

    def close(self, image: Image) -> None:
        """Closes an image, blocking until what it has under way has ended. Idempotent."""
        with self._lock:
            held = self._images.pop(id(image), None)
        if held is not None:
            held.close()

    def keep_from_destructors(self) -> None:
        """Keeps what a forked child has inherited from ever being destroyed there.

        The destructors of librados and librbd wait for threads that the fork left behind: a child that ends
        would hang. What is leaked is the child's copy of some bookkeeping.
        """
        for each in (self.cluster, getattr(self, "pool", None), *self._images.values()):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(each))

    @contextlib.contextmanager
    def _leased(self) -> Iterator[None]:
        if not self.lease():
            raise ConnectionLostError("the connection to the cluster was given up")
        try:
            yield
        finally:
            self.release()

    def _watched(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except Exception as exc:
            if number_of(exc) in FENCED:
                self.retire()
            raise

    def _end_if_idle(self) -> None:
        with self._lock:
            end = self.retired and not self._leases and not self._ending
            self._ending = self._ending or end
        if end:
            threading.Thread(target=self._end, name="imgstore-rbd-end", daemon=True).start()

    def _end(self) -> None:
        images, self._images = list(self._images.values()), {}
        try:
            for image in images:
                with contextlib.suppress(Exception):  # of a cluster that is lost
                    image.close()
            self.pool.close()
            self.cluster.shutdown()
        finally:
            self.closed.set()


_LIVE: weakref.WeakSet[Connection] = weakref.WeakSet()


def _after_fork() -> None:
    for each in list(_LIVE):
        each.keep_from_destructors()
    _LIVE.clear()


os.register_at_fork(after_in_child=_after_fork)


def _configured(bindings: Bindings, settings: Settings) -> Cluster:
    """Gives a client that is not connected yet, with the limits that Ceph by itself does not have."""
    # Whole seconds, as Ceph takes them
    operation, connecting = (str(ceil(each)) for each in (settings.op_timeout, settings.connect_timeout))
    conf = {
        "client_mount_timeout": connecting,
        "rados_mon_op_timeout": operation,
        "rados_osd_op_timeout": operation,
        # What we read and write goes through memory once, in large pieces; a cache would only copy it.
        "rbd_cache": "false",
        # A library prints nothing, and has no socket for administrators: errors come as exceptions.
        "log_to_stderr": "false",
        "err_to_stderr": "false",
        "admin_socket": "",
    }
    if settings.keyring is not None:
        conf["keyring"] = settings.keyring
    try:
        client: Cluster = bindings.rados.Rados(
            rados_id=settings.user or "admin", conffile=settings.ceph_conf or "", conf=conf
        )
    except bindings.rados.Error as exc:
        where = settings.ceph_conf or "in $CEPH_CONF, /etc/ceph/ceph.conf, ~/.ceph or here"
        raise ConfigError(f"Ceph's configuration cannot be read: {where}: {_said(exc)}") from exc
    return client


def _connect(client: Cluster, settings: Settings) -> None:
    try:
        client.connect()
    except Exception as exc:
        number, user = number_of(exc), f"client.{settings.user or 'admin'}"
        if number == errno.ENOENT:
            raise AuthenticationError(f"no keyring with a key of {user} was found") from exc
        if number in {errno.EACCES, errno.EPERM, errno.EINVAL}:
            raise AuthenticationError(f"the cluster does not accept the key of {user}") from exc
        if number == errno.ETIMEDOUT:
            told = f"no monitor of the cluster answered within {settings.connect_timeout:g} seconds"
            raise TimedOutError(told) from exc
        raise


def _pool(client: Cluster, settings: Settings) -> Pool:
    try:
        pool = client.open_ioctx(settings.pool)
    except Exception as exc:
        if number_of(exc) == errno.ENOENT:
            raise StorageIOError(f"there is no pool {settings.pool!r}", errno=errno.ENOENT) from exc
        raise
    if settings.namespace:
        pool.set_namespace(settings.namespace)
    return pool


def _said(exc: Exception) -> str:
    error: ImgstoreError = failure(exc)
    return os.strerror(getattr(error, "errno", None) or errno.EIO)
