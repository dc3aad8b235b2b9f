"""Ctrl-C at any moment: what is being set up or put away is finished first, so that all of it is put away."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class _State:
    """Of the main thread, which alone meets signals."""

    held = 0
    seen = False
    due = False


def watch() -> None:
    """Makes SIGINT and SIGTERM raise KeyboardInterrupt once: a second would only disturb the tidying."""
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGTERM, _interrupted)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Puts a KeyboardInterrupt off to the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1
        if _State.due and not _State.held:
            _State.due = False
            raise KeyboardInterrupt


@contextlib.contextmanager
def whole(manager: AbstractContextManager[T]) -> Iterator[T]:
    """Enters and leaves `manager` uninterrupted: what is half set up belongs to nobody, and would stay."""
    with contextlib.ExitStack() as stack:
        try:
            with uninterrupted():
                entered = stack.enter_context(manager)
            yield entered
        finally:
            with uninterrupted():
                stack.close()


def _interrupted(number: int, frame: FrameType | None) -> None:
    if _State.seen:
        return
    _State.seen = True
    if _State.held:
        _State.due = True
    else:
        raise KeyboardInterrupt
