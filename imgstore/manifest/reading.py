"""Reading of a manifest whose format nobody told: Metalink or an image profile."""

from __future__ import annotations

from collections.abc import Collection

from imgstore.manifest.bounded import LIMIT, Bounded, Readable
from imgstore.manifest.digests import STRONG
from imgstore.manifest.image import Manifest
from imgstore.manifest.metalink import read_metalink
from imgstore.manifest.profile import read_profile

# Where XML may begin: its sign, behind the byte order mark of UTF-8 or in either order of UTF-16.
_XML = (b"<", b"\xef\xbb\xbf<", b"\xff\xfe<", b"\xfe\xff\0<")


def read(
    stream: Readable,
    *,
    allow: Collection[str] = STRONG,
    limit: int = LIMIT,
    pin: str | None = None,
    name: str | None = None,
) -> Manifest:
    """Gives the manifest of one image of a Metalink file or of a profile: what begins as XML is the former.

    Arguments, memory and errors are those of `read_metalink` and `read_profile`.
    """
    source = Bounded(stream, limit)
    reader = read_metalink if source.peek().lstrip().startswith(_XML) else read_profile
    return reader(source, allow=allow, limit=limit, pin=pin, name=name)
