"""Planted faults: how buffers are filled, and how bodies and stores end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace

from imgstore.errors import (
    ConnectionLostError,
    TimedOutError,
    VersionChangedError,
)
from imgstore.model import Call, Version
from imgstore.stream import Opened, RawReader
from imgstore.testing.bad_drivers._good import Good, Raw, Reading
from imgstore.testing.conformance._place import STALLED_AT

SLOW = 1.1  # seconds that a planted hang lasts: longer than the second that the contract allows


class NoneForNothing(Reading):
    """None where nothing came yet, as a socket that does not block gives it."""

    def reader(self, raw: RawReader, opened: Opened, call: Call) -> RawReader:
        return _Sometimes(raw, (opened.range.size or 0) > 1)


class _Sometimes(Raw):
    def __init__(self, inner: RawReader, more: bool) -> None:  # noqa: FBT001  # planted
        super().__init__(inner)
        self._more = more

    def readinto(self, buffer: memoryview, /) -> int:
        if len(buffer) == 1 and self._more:
            return None  # type: ignore[return-value]
        return super().readinto(buffer)


class WritesBehindTheCount(Reading):
    """The whole buffer is scratch space, whatever the count says."""

    def reader(self, raw: RawReader, opened: Opened, call: Call) -> RawReader:
        return _Overfilling(raw)


class _Overfilling(Raw):
    def readinto(self, buffer: memoryview, /) -> int:
        count = super().readinto(buffer[:4096])
        buffer[count : count + 1] = b"\0" * len(buffer[count : count + 1])
        return count


class WritesAfterTheReturn(Reading):
    """A buffer is written to again when the next one is filled."""

    def reader(self, raw: RawReader, opened: Opened, call: Call) -> RawReader:
        return _Late(raw)


class _Late(Raw):
    _last: memoryview | None = None

    def readinto(self, buffer: memoryview, /) -> int:
        if self._last is not None:
            self._last[:1] = bytes([self._last[0] ^ 1])
        count = super().readinto(buffer)
        self._last = buffer
        return count

    def close(self) -> None:
        self._last = None
        super().close()


class AbortIgnored(Reading):
    """A stalled body takes no notice of an abort."""

    def reader(self, raw: RawReader, opened: Opened, call: Call) -> RawReader:
        return _Stubborn(raw, lambda: self._hang(opened, call, 0 if call.deadline else SLOW))

    def _hang(self, opened: Opened, call: Call, seconds: float) -> bool:
        if opened.info.key not in self.stalled:
            return False
        time.sleep(max(seconds, call.remaining() or 0))
        return True


class DeadlineIgnored(AbortIgnored):
    """A stalled body takes no notice of the deadline."""

    def reader(self, raw: RawReader, opened: Opened, call: Call) -> RawReader:
        return _Stubborn(raw, lambda: bool(call.deadline) and self._hang(opened, call, SLOW))


class _Stubborn(Raw):
    def __init__(self, inner: RawReader, hangs: Callable[[], bool]) -> None:
        super().__init__(inner)
        self._hangs = hangs
        self._given = 0

    def readinto(self, buffer: memoryview, /) -> int:
        if self._given >= STALLED_AT and self._hangs():
            raise TimedOutError("nothing came any more")
        count = super().readinto(buffer)
        self._given += count
        return count


class Leaking(Good):
    """A driver that opens a descriptor for each body and may lose it; closing the store finds it again."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[int] = []

    def close(self) -> None:
        super().close()
        while self.lost:
            os.close(self.lost.pop())


class LeakingClose(Leaking):
    """Closing a body that was not read leaves its descriptor open."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        opened = super()._open(key, start, stop, version, call)
        return replace(opened, raw=_Losing(opened.raw, self))


class _Losing(Raw):
    def __init__(self, inner: RawReader, store: Leaking) -> None:
        super().__init__(inner)
        self._store = store
        self._descriptor: int | None = os.open(os.devnull, os.O_RDONLY)
        self._read = False

    def readinto(self, buffer: memoryview, /) -> int:
        self._read = True
        return super().readinto(buffer)

    def close(self) -> None:
        super().close()
        if self._descriptor is not None and self._read:
            os.close(self._descriptor)
        elif self._descriptor is not None:
            self._store.lost.append(self._descriptor)
        self._descriptor = None


class LeakingFailure(Leaking):
    """A body whose version is refused leaves its descriptor open."""

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        try:
            return super()._open(key, start, stop, version, call)
        except VersionChangedError:
            self.lost.append(os.open(os.devnull, os.O_RDONLY))
            raise


class StreamsEndWithTheStore(Reading):
    """Closing the store ends its streams."""

    def reader(self, raw: RawReader, opened: Opened, call: Call) -> RawReader:
        return _Bound(raw, self)


class _Bound(Raw):
    def __init__(self, inner: RawReader, store: Good) -> None:
        super().__init__(inner)
        self._store = store

    def readinto(self, buffer: memoryview, /) -> int:
        if self._store.closes:
            raise ConnectionLostError("the pool is closed")
        return super().readinto(buffer)


class ClientOfTheParent(Good):
    """The client is made once, and is of no use in a forked child."""

    def __init__(self) -> None:
        super().__init__()
        self._process = os.getpid()

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        if os.getpid() != self._process:
            raise ConnectionLostError("the connection belongs to another process")
        return super()._open(key, start, stop, version, call)
