"""Standard input as a stream, standard output as a target: neither has a size, a version or a way back."""

from __future__ import annotations

import os
import select

from imgstore.errors import ImgstoreError, OperationCancelledError, StorageIOError
from imgstore.model import NO_CALL, ByteRange, Call, Event, ObjectInfo
from imgstore.publish import file_error
from imgstore.store import unknown
from imgstore.stream import ByteStream, Opened

STANDARD = "-"

# How often a wait for the other end of a pipe looks at the deadline and the cancellation, in milliseconds.
_TICK = 250


def standard_input(*, call: Call = NO_CALL, descriptor: int = 0) -> ByteStream:
    """Gives all that standard input has, up to its end. Closing the stream leaves the descriptor open.

    A pipe cannot tell a writer that finished from one that died: its end is taken for the end of the image.
    """
    opened = Opened(_Input(descriptor, call), ObjectInfo(STANDARD, None, None), ByteRange(0, None))
    call.emit(Event("opened", STANDARD, STANDARD))
    return ByteStream(opened, 0, None, translate=_translate, store=STANDARD, call=call)


class _Input:
    def __init__(self, descriptor: int, call: Call) -> None:
        self._descriptor = descriptor
        self._call = call
        self._at = 0
        self._aborted = False

    def readinto(self, buffer: memoryview, /) -> int:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while not poll.poll(_TICK):
            self._call.check(store=STANDARD)
            if self._aborted:
                raise OperationCancelledError("reading standard input was cancelled")
        count = os.readv(self._descriptor, [buffer])
        self._call.emit(Event("delivered", STANDARD, STANDARD, offset=self._at, count=count))
        self._at += count
        return count

    def abort(self) -> None:
        self._aborted = True

    def close(self) -> None:
        self._aborted = True


def _translate(exc: Exception) -> ImgstoreError:
    if isinstance(exc, OSError):
        return file_error(exc, "cannot read standard input")
    return unknown(exc)


class StandardOutput:
    """Standard output as the target of a copy. A reader that went away is a BrokenPipeError."""

    def __init__(self, *, call: Call = NO_CALL, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._call = call

    def write(self, data: memoryview) -> None:
        """Writes all of `data`. Raises: BrokenPipeError, NoSpaceError, StorageIOError..."""
        done = 0
        try:
            while done < len(data):
                done += self._write_some(data[done:])
        except BrokenPipeError:
            raise
        except ImgstoreError:
            raise
        except OSError as exc:
            raise file_error(exc, "cannot write to standard output") from exc

    def publish(self, size: int | None = None) -> None:
        """Reports what the file system kept to itself until now. Raises: NoSpaceError, StorageIOError..."""
        try:
            # A network file system tells of a full disk or quota only when a descriptor is closed.
            os.close(os.dup(self._descriptor))
        except OSError as exc:
            raise file_error(exc, "cannot write to standard output") from exc

    def _write_some(self, data: memoryview) -> int:
        try:
            count = os.write(self._descriptor, data)
        except BlockingIOError:
            # Whoever shares the pipe or terminal with us made it non-blocking.
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll(_TICK)
            self._call.check(store=STANDARD)
            return 0
        if not count:
            raise StorageIOError("standard output takes no byte and gives no reason")
        return count
