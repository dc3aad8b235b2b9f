"""The way of a store to its cluster: one connection for each process, made at first use."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Final

from imgstore.backends.rbd import bindings
from imgstore.backends.rbd.connection import Connection
from imgstore.backends.rbd.options import Settings
from imgstore.backends.rbd.pins import Pins
from imgstore.backends.rbd.waiting import Errand, Wait
from imgstore.errors import TimedOutError

# Seconds that a store's close waits for its connection's end, which takes milliseconds; a cluster that is
# lost must not hold up a service that stops.
_LINGER: Final = 1.0


class Session(Connection):
    """A connection, and the images that are open in it."""

    def __init__(self, settings: Settings) -> None:
        """Connects, as `Connection`."""
        super().__init__(bindings.load(), settings)
        self.pins = Pins(self)


class Cluster:
    """Gives connections on lease. One that was fenced off is replaced; others recover by themselves.

    After a fork the child makes its own. Callable from many threads.
    """

    def __init__(self, settings: Settings) -> None:
        """Takes the options; nothing is connected."""
        self.settings = settings
        self._links: dict[int, _Link] = {}

    @contextlib.contextmanager
    def connected(self, wait: Wait) -> Iterator[Session]:
        """Gives the connection for the block. Raises: as `Connection`."""
        connection = self.lease(wait)
        try:
            yield connection
        finally:
            connection.release()

    def lease(self, wait: Wait) -> Session:
        """Gives the connection, which the caller releases. Raises: as `Connection`; as `Wait.until`."""
        return self._link.lease(wait)

    def close(self) -> None:
        """Ends the connection with the last stream that is open. Idempotent."""
        link = self._links.get(os.getpid())
        if link is not None:
            link.close()

    @property
    def _link(self) -> _Link:
        # A dictionary's own lock, and not one of ours, which a fork might leave locked.
        return self._links.setdefault(os.getpid(), _Link(self.settings))


class _Link:
    """The connection of one process, and the making of it, which all who want it wait for together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._making: Errand[Session] | None = None

    def lease(self, wait: Wait) -> Session:
        while True:
            making = self._current()
            try:
                # the library keeps its own time; the rest is for the pool
                connection = making.result(wait, self._settings.connect_timeout + self._settings.op_timeout)
            except TimedOutError:
                self._drop(making)
                raise
            if connection.lease():
                return connection
            self._drop(making)

    def close(self) -> None:
        with self._lock:
            making, self._making = self._making, None
        if making is not None:
            making.leave()
            if making.come is not None and making.come.idle:
                making.come.closed.wait(_LINGER)

    def _current(self) -> Errand[Session]:
        with self._lock:
            if self._making is None or self._making.failed:
                self._making = Errand(lambda: Session(self._settings), Session.retire)
            return self._making

    def _drop(self, making: Errand[Session]) -> None:
        with self._lock:
            if self._making is making:
                self._making = None
        making.leave()
