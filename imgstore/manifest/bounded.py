"""Reading of what others wrote: never more of it than allowed."""

from __future__ import annotations

from typing import Final, Protocol

from imgstore.errors import ManifestError

BLOCK: Final = 64 << 10  # bytes asked for at a time: a whole manifest of a small image
DENSITY: Final = (
    32  # bytes for each part of a document: what holds a digest has more, so time is bounded, too
)
LIMIT: Final = 64 << 20  # bytes of a manifest: 800,000 chunks of SHA-256, 3 TiB in chunks of 4 MiB


class Readable(Protocol):
    """What a manifest is read from: a file, a body, a ByteStream. No bytes at the end, and only there."""

    def read(self, size: int, /) -> bytes: ...


class Writable(Protocol):
    """What a manifest is written to: a file that takes all that it is given."""

    def write(self, data: bytes, /) -> object: ...


class Bounded:
    """A stream that may give `limit` bytes, and whose first ones can be looked at before they are read."""

    def __init__(self, stream: Readable, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._left = limit
        self._ahead = b""

    def peek(self) -> bytes:
        """Gives some of the next bytes, none only at the end, and leaves them there. Raises: as `read`."""
        self._ahead = self._ahead or self._receive(BLOCK)
        return self._ahead

    def read(self, size: int = BLOCK) -> bytes:
        """Gives 1 to `size` bytes, none only at the end.

        Raises: ManifestError at the first byte above the limit; what the stream raises.
        """
        data = self._ahead or self._receive(size)
        data, self._ahead = data[:size], data[size:]
        return data

    def _receive(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise ManifestError(
                f"a manifest of more than {self._limit} bytes is not read; larger chunks, or a larger limit "
                "for a trusted one, would do"
            )
        return data
