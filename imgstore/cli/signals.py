"""Signals that end a command: all of them as Ctrl-C does, so that each one cleans up."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

# After the first signal the command tidies up; another one in this time adds nothing but a mess.
_GRACE = 2.0


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Makes SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread.

    What is ignored stays so: `nohup` means it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and an embedder has its own
        return
    last = float("-inf")

    def interrupt(number: int, _: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _GRACE:
            last = now
            raise KeyboardInterrupt(signal.Signals(number).name)

    before = {}
    try:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(each) is not signal.SIG_IGN:
                before[each] = signal.signal(each, interrupt)
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
