"""The version of a file: what its inode says, once a later write can no longer leave the same stamp."""

from __future__ import annotations

import os
import time
from typing import Final

from imgstore.clock import Clock
from imgstore.model import Call

# CLOCK_REALTIME_COARSE (<linux/time.h>), which Linux stamps files with; the module `time` has no name for it.
_COARSE: Final = 5
_SECOND: Final = 10**9
# Times of files come in steps of up to two seconds: FAT's of writing do.
_WHOLE_SECONDS: Final = 2 * _SECOND


def version_of(found: os.stat_result) -> str:
    """Gives the version token of a file."""
    return f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"


def unsettled(found: os.stat_result) -> float:
    """Gives the seconds for which a write could still leave the stamp as it is in `found`; 0 when it cannot.

    A stamp that lies further ahead was made by another clock, or by this one before it was set back: waiting
    would not help, and what is written now is stamped otherwise.
    """
    step = _WHOLE_SECONDS if found.st_ctime_ns % _SECOND == 0 else _fine_step()
    # Kernels from 6.13 on give stamps ahead of the coarse clock by some milliseconds: waited out as well.
    left = found.st_ctime_ns + step - time.clock_gettime_ns(_COARSE)
    return left / _SECOND if 0 < left <= _WHOLE_SECONDS else 0.0


def settle(found: os.stat_result, clock: Clock, call: Call) -> bool:
    """Waits until `found` is settled, no longer than `call` may take; tells whether it waited long enough."""
    left = unsettled(found)
    if not left:
        return True
    remaining = call.remaining(clock)
    wait = left if remaining is None else min(left, remaining)
    clock.sleep(wait, call.cancel)
    return wait == left and not (call.cancel is not None and call.cancel.cancelled)


def _fine_step() -> int:
    # After a sleep the coarse clock may lag by up to a tick: one has passed for sure when two have gone by.
    return int(2 * time.clock_getres(_COARSE) * _SECOND)
