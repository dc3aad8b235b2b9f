"""Bodies: where they end by their framing, and a raw reader that delivers no byte beyond what was judged."""

from __future__ import annotations

import re
import ssl
from typing import Final, Protocol

from imgstore.backends._http.failures import failure
from imgstore.backends._http.head import Inlet, parse_trailers
from imgstore.backends._http.watch import Watch
from imgstore.backends._http_range import NUMBER_LIMIT, Framing
from imgstore.errors import BadReplyError, ImgstoreError, TruncatedError

# RFC 9112 §7.1.1: nothing uses chunk extensions; a line that does must still not be a way to fill memory.
CHUNK_LINE_LIMIT: Final = 4 << 10
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[^\r\n]*)?[ \t]*\r?\n")


class Reading(Protocol):
    """A body as its framing cuts it."""

    def readinto(self, view: memoryview) -> int:
        """Fills the front of `view`; 0 at the end that the framing proves."""

    @property
    def ended(self) -> bool:
        """Whether the connection stands at the start of what comes after the body."""


class Sized:
    """A body of `length` bytes."""

    def __init__(self, inlet: Inlet, length: int) -> None:
        self._inlet = inlet
        self._length = length
        self._left = length

    @property
    def ended(self) -> bool:
        return self._left == 0

    def readinto(self, view: memoryview) -> int:
        if not self._left:
            return 0
        count = self._inlet.readinto(view if len(view) <= self._left else view[: self._left])
        if not count:
            raise TruncatedError(
                f"the connection ended after {self._length - self._left} of the body's {self._length} bytes"
            )
        self._left -= count
        return count


class Chunked:
    """A body in chunks (RFC 9112 §7.1): the last one proves that nothing is missing."""

    def __init__(self, inlet: Inlet) -> None:
        self._inlet = inlet
        self._left = 0
        self._first = True
        self.ended = False

    def readinto(self, view: memoryview) -> int:
        if not self._left and not self.ended:
            self._begin_chunk()
        if self.ended:
            return 0
        count = self._inlet.readinto(view[: self._left])
        if not count:
            raise TruncatedError("the connection ended in the middle of a chunk")
        self._left -= count
        return count

    def _begin_chunk(self) -> None:
        if not self._first and self._line() not in {b"\r\n", b"\n"}:
            raise BadReplyError("a chunk of the body is longer than the server said")
        self._first = False
        match = _CHUNK.fullmatch(self._line())
        size = int(match[1], 16) if match else NUMBER_LIMIT
        if size >= NUMBER_LIMIT:
            raise BadReplyError("the server sent a chunk without a valid size")
        if not size:
            parse_trailers(self._inlet)
            self.ended = True
        self._left = size

    def _line(self) -> bytes:
        line = self._inlet.line(CHUNK_LINE_LIMIT)
        if line is None:
            raise TruncatedError("the connection ended before the last chunk of the body")
        return line


class Unproven:
    """A body that ends with its connection: nothing tells its end from a cut (RFC 9112 §8)."""

    ended = False

    def __init__(self, inlet: Inlet) -> None:
        self._inlet = inlet

    def readinto(self, view: memoryview) -> int:
        try:
            count = self._inlet.readinto(view)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            count = 0
        if not count:
            error = TruncatedError(
                "the connection ended, and the server gave neither a length nor another proof of the end"
            )
            error.unprovable = True  # who knows the size may still try again
            raise error
        return count


def reading(inlet: Inlet, framing: Framing) -> Reading:
    """Gives the body that `framing` describes."""
    if framing.chunked:
        return Chunked(inlet)
    if framing.length is not None:
        return Sized(inlet, framing.length)
    return Unproven(inlet)


class Source(Protocol):
    """The connection that a body comes from; it belongs to that body alone."""

    def finish(self) -> None:
        """Takes the connection back, for another request where it is fit for one."""

    def drop(self) -> None:
        """Closes the connection. Idempotent; harmless after `finish`."""


class Body:
    """The raw reader of the driver: at most `limit` bytes (None: up to the proven end) of one reply's body.

    The connection is given back as soon as the body is read to its end, and dropped by `close` before.
    """

    def __init__(
        self, source: Source, reading: Reading, limit: int | None, watch: Watch, receive_timeout: float
    ) -> None:
        self._source = source
        self._reading = reading
        self._left = limit
        self._watch = watch
        self._timeout = receive_timeout
        self._late = f"the server sent nothing for {receive_timeout:g} seconds"
        self._over = self._closed = False

    def readinto(self, buffer: memoryview, /) -> int:
        if self._closed:
            raise ValueError("the body is closed")
        if self._left == 0 or self._over:
            return 0
        # All that one receive needs: a chunk's head that trickles in, too.
        self._watch.allow(self._timeout, self._late)
        self._watch.pause()
        try:
            fits = self._left is None or len(buffer) <= self._left
            count = self._reading.readinto(buffer if fits else buffer[: self._left])
        except ImgstoreError:
            raise
        except Exception as exc:  # noqa: BLE001  # translated, not swallowed
            error = failure(exc)
            raise error from error.__cause__
        if self._left is not None:
            self._left -= count
        if self._reading.ended:
            self._over = True
            self._source.finish()
        return count

    def abort(self) -> None:
        self._watch.abort()

    def close(self) -> None:
        self._closed = True
        if self._reading.ended:
            self._source.finish()
        self._source.drop()
