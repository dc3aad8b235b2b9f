"""Bytes, rates and seconds as people write and read them."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from fractions import Fraction
from typing import Final

# As GNU coreutils: M and MiB are 1024 squared, MB is 1000 squared.
_SIZE = re.compile(r"(\d+(?:\.\d*)?)\s*(?:([KMGTP])(i?B)?|B)?", re.IGNORECASE | re.ASCII)
_SECONDS = re.compile(r"(\d+(?:\.\d*)?)\s*([smhd]?)", re.IGNORECASE | re.ASCII)
_PREFIXES: Final = "KMGTP"
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_size(text: str) -> int:
    """Gives the bytes that `text` means, such as 4096, 10M, 1.5GiB or 2GB.

    Raises: ValueError that says what would do.
    """
    if text.strip().startswith("-"):
        raise ValueError("a size is a number from 0 up; bytes count from the start of the image")
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError("a size is a number with K, M, G or T behind it if you like: 4096, 10M, 1.5GiB")
    prefix, unit = (found[2] or "").upper(), (found[3] or "").lower()
    base = 1000 if unit == "b" else 1024
    power = _PREFIXES.index(prefix) + 1 if prefix else 0
    size = Fraction(found[1].rstrip(".")) * int(base**power)
    if size.denominator != 1:
        raise ValueError("that is no whole number of bytes")
    return size.numerator


def parse_seconds(text: str) -> float:
    """Gives the seconds that `text` means, such as 15, 0.5, 90s, 10m or 2h.

    Raises: ValueError that says what would do.
    """
    if text.strip().startswith("-"):
        raise ValueError("a time is a number of seconds from 0 up")
    found = _SECONDS.fullmatch(text.strip())
    if found is None:
        raise ValueError("a time is a number of seconds, or has s, m, h or d behind it: 15, 0.5, 10m")
    return float(found[1]) * _UNITS[found[2].lower()]


def show_size(count: float) -> str:
    """Gives a number of bytes in the unit that reads best: `512 B`, `16.5 MiB`."""
    if count < 1024:
        return f"{count:.0f} B"
    for prefix in _PREFIXES:
        count /= 1024
        # 1023.95 would round to the four digits of the next unit
        if count < 1023.95 or prefix == _PREFIXES[-1]:
            break
    return f"{count:.1f} {prefix}iB"


def show_seconds(seconds: float) -> str:
    """Gives a time as `0.4 s`, `45 s`, `3 min 05 s` or `2 h 07 min`; whole seconds for an int."""
    if seconds < 9.95 and not isinstance(seconds, int):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def show_time(seconds: float) -> str:
    """Gives a point in time, in POSIX seconds, as `2026-01-31 08:15:00 UTC`."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{seconds:.0f} s after 1970"


def show_count(count: int, noun: str) -> str:
    """Gives `1 resume`, `2 resumes`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
