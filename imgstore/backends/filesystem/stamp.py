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
# One wait, and some short ones where ticks are late; beyond that the injected clock is not the file system's.
_ROUNDS: Final = 50


def version_of(found: os.stat_result) -> str:
    """Gives the version token of a file."""
    return f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ctime_ns:x}"


def unsettled(found: os.stat_result) -> float:
    """Gives the seconds for which a write could still leave the stamp as it is in `found`; 0 when it cannot.

    A stamp that lies further ahead was made by another clock, or by this one before it was set back: waiting
    would not help, and what is written now is stamped otherwise.
    """
    stamp = found.st_ctime_ns
    if stamp % _SECOND == 0:
        left = stamp + _WHOLE_SECONDS - time.time_ns()
    elif time.clock_gettime_ns(_COARSE) > stamp:
        left = 0
    else:
        # A tick after the stamp the coarse clock has passed it, unless the machine is late with its ticks.
        tick = int(time.clock_getres(_COARSE) * _SECOND)
        left = max(stamp + tick - time.time_ns(), tick // 4)
    return left / _SECOND if 0 < left <= _WHOLE_SECONDS else 0.0


def settle(found: os.stat_result, clock: Clock, call: Call) -> bool:
    """Waits until `found` is settled; tells whether `call` let it wait for that long."""
    for _ in range(_ROUNDS):
        left = unsettled(found)
        if not left:
            return True
        remaining = call.remaining(clock)
        if call.cancel is not None and call.cancel.cancelled:
            return False
        if remaining is not None and remaining <= 0:
            return False
        clock.sleep(left if remaining is None else min(left, remaining), call.cancel)
    return True
