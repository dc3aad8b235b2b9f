"""The images a server has, and the honest reply about them (RFC 9110)."""

from __future__ import annotations

import mmap
import re
import threading
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from typing import Final, TypeAlias

from imgstore.testing.server.reply import Piece, Reply, plain
from imgstore.testing.server.request import Request

AUTO: Final = "auto"
"""An etag that the shelf makes: strong, and another one for every put."""

Data: TypeAlias = "bytes | bytearray | memoryview | mmap.mmap"
"""The bytes of an image. An mmap stays open, and can't be closed, while it is on the shelf."""

OCTETS: Final = "application/octet-stream"


@dataclass(frozen=True)
class Shelved:
    """An image as it is now: bytes, and the headers that describe them."""

    data: memoryview = field(repr=False)
    etag: str | None
    last_modified: float | None
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()

    def validators(self) -> list[tuple[str, str]]:
        """The headers ETag and Last-Modified, as far as there are any."""
        pairs = [("ETag", self.etag), ("Last-Modified", date(self.last_modified))]
        return [(name, value) for name, value in pairs if value is not None]


class Shelf:
    """Path to image. Safe in any thread; a reply under way keeps the bytes it began with."""

    def __init__(self) -> None:
        """An empty shelf."""
        self._lock = threading.Lock()
        self._images: dict[str, Shelved] = {}
        self._puts = 0

    def put(
        self,
        path: str,
        data: Data,
        *,
        etag: str | None = AUTO,
        last_modified: float | None = None,
        content_type: str = OCTETS,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Shelved:
        """Sets or replaces an image. `etag` goes out as given, quotes included; `last_modified` in seconds.

        `data` is not copied: bytes, a bytearray, a memoryview or an mmap that stays open. `headers` go out
        with it.
        """
        with self._lock:
            self._puts += 1
            tag = f'"put-{self._puts}"' if etag == AUTO else etag
            self._images[path] = Shelved(
                memoryview(data).cast("B"), tag, last_modified, content_type, headers
            )
            return self._images[path]

    def remove(self, path: str) -> None:
        """Forgets an image; harmless when there is none."""
        with self._lock:
            self._images.pop(path, None)

    def find(self, path: str) -> Shelved | None:
        """The image at a path, or None."""
        with self._lock:
            return self._images.get(path)

    def answer(self, request: Request) -> Reply:
        """The reply that RFC 9110 asks for: GET and HEAD, preconditions, one byte range."""
        image = self.find(request.path)
        if image is None:
            reply = plain(404)
        elif request.method not in {"GET", "HEAD"}:
            reply = plain(405)
            reply.set("Allow", "GET, HEAD")
        elif status := precondition(request, image):
            reply = plain(status)
            if status == 304:
                reply.headers += image.validators()
        else:
            reply = represent(image, request)
        reply.bodiless = request.method == "HEAD"
        return reply


def represent(image: Shelved, request: Request) -> Reply:
    """200, 206 or 416 (RFC 9110 §14)."""
    size = len(image.data)
    span = (
        asked(request.header("Range"), size)
        if request.method == "GET" and unchanged(request, image)
        else None
    )
    if span == ():
        reply = plain(416)
        reply.set("Content-Range", f"bytes */{size}")
        reply.size = size
        return reply
    reply = Reply(206 if span else 200, [("Date", formatdate(usegmt=True))], size=size)
    reply.headers += [("Content-Type", image.content_type), ("Accept-Ranges", "bytes"), *image.validators()]
    reply.headers += image.headers
    start, stop = span or (0, size)
    serve(reply, image, start, stop)
    return reply


def serve(reply: Reply, image: Shelved, start: int, stop: int) -> None:
    """Fills a reply with `[start, stop)` of an image; a 206 gets its Content-Range."""
    reply.range = (start, stop)
    reply.fill(Piece(image.data[start:stop], start, image=True))
    if reply.status == 206:
        reply.set("Content-Range", f"bytes {start}-{stop - 1}/{len(image.data)}")


def asked(header: str | None, size: int) -> tuple[int, int] | tuple[()] | None:
    """The half-open range a Range header asks for: None to serve all, () when it can't be satisfied.

    What is not one valid byte range is ignored, as RFC 9110 §14.2 allows.

    >>> asked("bytes=2-", 5), asked("bytes=-2", 5), asked("bytes=5-", 5), asked("bytes=3-1", 5)
    ((2, 5), (3, 5), (), None)
    """
    match = re.fullmatch(r"bytes=\s*([0-9]*)-([0-9]*)\s*", header or "", re.IGNORECASE)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return (max(0, size - int(last)), size) if int(last) and size else ()
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        return ()
    return int(first), min(size, int(last) + 1) if last else size


def precondition(request: Request, image: Shelved) -> int | None:
    """412 or 304 where a precondition says so, in the order of RFC 9110 §13.2.2."""
    modified = None if image.last_modified is None else int(image.last_modified)
    if (match := request.header("If-Match")) is not None:
        if match.strip() != "*" and not any(strong(tag, image.etag) for tag in tags(match)):
            return 412
    elif modified is not None and modified > moment(request.header("If-Unmodified-Since"), modified):
        return 412
    if (none := request.header("If-None-Match")) is not None:
        weak = {tag.removeprefix("W/") for tag in tags(none)}
        if none.strip() == "*" or (image.etag or "").removeprefix("W/") in weak:
            return 304
    elif modified is not None and modified <= moment(request.header("If-Modified-Since"), modified - 1):
        return 304
    return None


def unchanged(request: Request, image: Shelved) -> bool:
    """Whether If-Range lets the Range stand (RFC 9110 §13.1.5)."""
    value = request.header("If-Range")
    if value is None:
        return True
    if value.startswith(('"', "W/")):
        return strong(value.strip(), image.etag)
    return value.strip() == date(image.last_modified)


def strong(tag: str, other: str | None) -> bool:
    """The strong comparison of RFC 9110 §8.8.3.2."""
    return tag == other and not tag.startswith("W/")


def tags(header: str) -> list[str]:
    """The entity tags of a list."""
    return re.findall(r'(?:W/)?"[^"]*"', header)


def date(seconds: float | None) -> str | None:
    """POSIX seconds as an HTTP date."""
    return None if seconds is None else formatdate(int(seconds), usegmt=True)


def moment(header: str | None, otherwise: float) -> float:
    """An HTTP date as POSIX seconds; `otherwise` when there is none, or it is none."""
    try:
        return parsedate_to_datetime(header).timestamp() if header else otherwise
    except ValueError:
        return otherwise
