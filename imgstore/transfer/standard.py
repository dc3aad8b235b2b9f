"""Standard input as a stream, standard output as a target: neither has a size, a version or a way back."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
from collections.abc import Iterator

from imgstore.errors import ImgstoreError, OperationCancelledError, StorageIOError
from imgstore.model import NO_CALL, ByteRange, Call, Event, ObjectInfo
from imgstore.publish import file_error
from imgstore.store import unknown
from imgstore.stream import ByteStream, Opened

STANDARD = "-"

# How often a wait for the other end of a pipe looks at the deadline and the cancellation, in milliseconds.
_TICK = 250

_ZEROS = 1 << 20  # bytes written at once for a hole

_DESCRIPTORS = "/proc/self/fd"  # proc(5): opening what is in it opens the same pipe or terminal a second time


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
        try:
            if _has_reader(self._descriptor):
                self._write_to_reader(data)
            else:
                self._write_all(data)
        except BrokenPipeError:
            raise
        except ImgstoreError:
            raise
        except OSError as exc:
            raise file_error(exc, "cannot write to standard output") from exc

    def skip(self, count: int) -> None:
        """Writes `count` zeros. Raises: as `write`."""
        zeros = memoryview(bytes(min(count, _ZEROS)))
        for done in range(0, count, _ZEROS):
            self.write(zeros[: count - done])

    def publish(self, size: int | None = None) -> None:
        """Reports what the file system kept to itself until now. Raises: NoSpaceError, StorageIOError..."""
        try:
            # A network file system tells of a full disk or quota only when a descriptor is closed.
            os.close(os.dup(self._descriptor))
        except OSError as exc:
            raise file_error(exc, "cannot write to standard output") from exc

    def _write_all(self, data: memoryview) -> None:
        done = 0
        while done < len(data):
            done += _write_some(self._descriptor, data[done:])

    def _write_to_reader(self, data: memoryview) -> None:
        done = 0
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        with _unblocked(self._descriptor) as (descriptor, most):
            while done < len(data):
                # Also between writes: a reader may take a little of each, for ever.
                self._call.check(store=STANDARD)
                if poll.poll(_TICK):
                    with contextlib.suppress(BlockingIOError):  # another writer was quicker
                        done += _write_some(descriptor, data[done : done + most])


def _has_reader(descriptor: int) -> bool:
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)


@contextlib.contextmanager
def _unblocked(descriptor: int) -> Iterator[tuple[int, int]]:
    """Gives a descriptor and how much can be written to it, once it is writable, without waiting.

    O_NONBLOCK on `descriptor` itself would hold for every process that shares it, so what is behind it is
    opened again. Where that is not allowed, or it is a socket, a pipe that is writable has room for PIPE_BUF
    bytes (pipe(7)), and a socket for more.
    """
    try:
        again = os.open(
            f"{_DESCRIPTORS}/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        )
    except OSError:
        yield descriptor, select.PIPE_BUF
        return
    try:
        yield again, sys.maxsize
    finally:
        os.close(again)


def _write_some(descriptor: int, data: memoryview) -> int:
    count = os.write(descriptor, data)
    if not count:
        raise StorageIOError("standard output takes no byte and gives no reason")
    return count
