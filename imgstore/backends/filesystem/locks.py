"""Locks of open files (flock(2)): let go when they are done with, whatever was forked meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from typing import Final

from imgstore.clock import Clock
from imgstore.model import Call

LOG = logging.getLogger(__name__)

_PAUSE: Final = 0.005
# A part of a busy disk may take a minute; whoever waits for longer than this may wonder why.
_LONG: Final = 30.0


@contextlib.contextmanager
def locked(descriptor: int, what: str, clock: Clock, call: Call) -> Iterator[None]:
    """Runs the block with the lock of the open file, against every other process and thread.

    It waits for as long as `call` allows: how long the work of another takes, only its disk knows. Those who
    wait have no order among them.

    Raises: what `call` raises where it ends the wait; OSError, also where the file system has no locks.
    """
    with released(descriptor):
        _acquire(descriptor, what, clock, call)
        yield


@contextlib.contextmanager
def released(descriptor: int) -> Iterator[None]:
    """Lets go after the block of what lock the open file has.

    Closing it is not enough: a process that was forked meanwhile has the same open file, and would keep the
    lock for as long as it lives. Should that one come here itself, it leaves the lock to its parent.
    """
    owner = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == owner:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_UN)


def _acquire(descriptor: int, what: str, clock: Clock, call: Call) -> None:
    tell_at: float | None = clock.now() + _LONG
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            call.check(clock)
        else:
            return
        if tell_at is not None and clock.now() >= tell_at:
            LOG.warning("%s has been held by another for %.0f seconds; still waiting", what, _LONG)
            tell_at = None
        clock.sleep(_PAUSE, call.cancel)
