"""Where images and their segments are: containers and names."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from imgstore.backends.swift.service import Service
from imgstore.errors import ConfigError, UnsupportedError
from imgstore.model import KEY_LIMIT, Call

# Swift's own limit, in bytes of UTF-8.
CONTAINER_LIMIT: Final = 256
SEGMENTS: Final = "_segments"
# Begins the name of the records of pending uploads, which stand beside the segments.
RECORDS: Final = ".imgstore-uploads/"
# Begins the names of the marks of writers at work (turns.py), there too.
TURNS: Final = ".imgstore-turns/"
# What the names of segments add to a key: two slashes, an upload's id, a number, an offset and a nonce.
_ROOM: Final = 100
_SEGMENT = re.compile(r"([0-9]{8})-([0-9]{1,19})-([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Layout:
    """The containers of a store.

    Images are in `container`; with `digits`, spread by the first hexadecimal digits of their key's SHA-256
    over containers of that name, `_` and the digits; with `per_image`, each in a container of its own, named
    by the key. Segments of an image are in the container of the same name and `_segments`, as
    `KEY/UPLOAD/NUMBER-OFFSET-NONCE`. No two segments ever have the same name, so that nobody who comes late
    can change a published image.
    """

    container: str
    digits: int = 0
    per_image: bool = False

    def __post_init__(self) -> None:
        if not self.container or "/" in self.container or not self.container.isprintable():
            raise ConfigError(
                f"the option 'container' is {self.container!r}; a container's name has no slash"
            )
        if len(quote(self.container).encode()) > CONTAINER_LIMIT - 40:
            raise ConfigError(f"the option 'container' is longer than {CONTAINER_LIMIT - 40} bytes")
        if not 0 <= self.digits <= 8:
            raise ConfigError(f"the option 'multiple_containers_seed' is {self.digits}; it takes 0 to 8")
        if self.digits and self.per_image:
            raise ConfigError("the options 'multi_tenant' and 'multiple_containers_seed' exclude each other")

    @property
    def single(self) -> bool:
        """Whether all images are in one container."""
        return not self.digits and not self.per_image

    def place(self, key: str) -> str:
        """Gives the container of an image. Raises: UnsupportedError for a key that can name none."""
        if self.digits:
            return f"{self.container}_{hashlib.sha256(key.encode()).hexdigest()[: self.digits]}"
        if not self.per_image:
            return self.container
        name = f"{self.container}_{_named(key)}"
        if len(name) + len(SEGMENTS) > CONTAINER_LIMIT:
            raise UnsupportedError(
                f"with multi_tenant the key names a container, for which it is too long: {len(name)} bytes",
                key=key,
            )
        return name

    def containers(self, service: Service, call: Call) -> Iterator[str]:
        """Gives the containers of images that there are, in ascending order."""
        if self.single:
            yield self.container
            return
        prefix = f"{self.container}_"
        for name in service.containers(call=call, prefix=prefix):
            if self._is_of_images(name.removeprefix(prefix)):
                yield name

    def segment_containers(self, service: Service, call: Call) -> Iterator[str]:
        """Gives the containers of segments that there are; their images may not be there yet."""
        if self.single:
            yield segments_of(self.container)
            return
        prefix = f"{self.container}_"
        for name in service.containers(call=call, prefix=prefix):
            rest = name.removeprefix(prefix)
            if rest.endswith(SEGMENTS) and self._is_of_images(rest.removesuffix(SEGMENTS)):
                yield name

    def key_of(self, container: str) -> str:
        """Gives the key of the image that a container is made for."""
        return unquote(container.removeprefix(f"{self.container}_"))

    def _is_of_images(self, rest: str) -> bool:
        if self.digits:
            return re.fullmatch(rf"[0-9a-f]{{{self.digits}}}", rest) is not None
        return _named(unquote(rest)) == rest


def _named(key: str) -> str:
    """Gives a key as a part of a container's name, which is never that of the segments of another key.

    >>> _named("a/b"), _named("a_segments")
    ('a%2Fb', 'a%5Fsegments')
    """
    name = quote(key, safe="")
    return f"{name.removesuffix(SEGMENTS)}%5F{SEGMENTS[1:]}" if name.endswith(SEGMENTS) else name


def segments_of(container: str) -> str:
    """Gives the container of the segments of the images in `container`."""
    return container + SEGMENTS


def stem(key: str, upload: str) -> str:
    """Gives what the names of an upload's segments begin with.

    A key that leaves no room for the rest stands there as its SHA-256.
    """
    named = (
        key
        if len(key.encode()) <= KEY_LIMIT - _ROOM
        else f"sha256-{hashlib.sha256(key.encode()).hexdigest()}"
    )
    return f"{named}/{upload}/"


def is_own(key: str, container: str, segment: str) -> bool:
    """Tells whether a segment, as `/CONTAINER/NAME`, is that image's alone, by its name.

    It is beside the image or in its container of segments, and its name begins with the key, as with Glance,
    the swift command and this driver. A manifest may share the segments of another image; those are not its.
    """
    place, _, name = segment.lstrip("/").partition("/")
    stems = [f"{key}/", f"{key}-", f"sha256-{hashlib.sha256(key.encode()).hexdigest()}/"]
    return place in {container, segments_of(container)} and any(name.startswith(each) for each in stems)


def segment_name(number: int, offset: int) -> str:
    """Gives a fresh name for a part, below the stem of its upload."""
    return f"{number:08}-{offset}-{secrets.token_hex(4)}"


def read_segment(name: str) -> tuple[int, int] | None:
    """Gives number and offset of the part that `segment_name` named; None for another name."""
    found = _SEGMENT.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else None
