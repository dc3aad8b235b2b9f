"""Which version of an object a reply of Swift is about."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from imgstore.backends._http_range import Reply, precondition
from imgstore.backends.swift.failures import changed

# Swift writes the MD5 of a plain object bare, and that of a large one in quotes.
_ETAG: Final = re.compile(r'"?([!\x23-\x3f\x41-\x7e]+)"?')
_STAMP: Final = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")
_DYNAMIC: Final = '"dlo-'


def stamped(reply: Reply) -> Reply:
    """Gives `reply` with the ETag `"TAG@TIME"` in place of its own, so that both are judged as one.

    TIME is X-Timestamp, when the object was stored: an object that was replaced by one of the same bytes is
    another version, as its segments may be others. Without that field the tag stands alone.
    """
    return _tagged(reply, reply.single("x-timestamp"))


def tagged(reply: Reply) -> Reply:
    """Gives `reply` with its ETag in the quotes that RFC 9110 §8.8.3 wants."""
    return _tagged(reply, None)


def _tagged(reply: Reply, stamp: str | None) -> Reply:
    found = _ETAG.fullmatch(reply.single("etag") or "")
    fields = tuple(field for field in reply.fields if field[0].lower() != "etag")
    if found:
        time = f"@{stamp}" if stamp is not None and _STAMP.fullmatch(stamp) else ""
        fields += (("ETag", f'"{found[1]}{time}"'),)
    return replace(reply, fields=fields)


def etag_of(reply: Reply) -> str:
    """Gives the ETag without quotes, empty without one."""
    found = _ETAG.fullmatch(reply.single("etag") or "")
    return found[1] if found else ""


def expecting(version: str) -> tuple[str, str]:
    """Gives the field that makes Swift refuse another object than `version`, as far as the ETag tells.

    Raises: VersionChangedError for what no object of Swift has.
    """
    tag, at, stamp = version.removesuffix('"').partition("@")
    if not at:
        return precondition(version)
    if not tag.startswith('"') or not _ETAG.fullmatch(tag) or not _STAMP.fullmatch(stamp):
        raise changed()
    return "If-Match", f'{tag}"'


def dynamic_version(digest: str) -> str:
    """Gives the version of a dynamic large object whose list of segments has that digest."""
    return f'{_DYNAMIC}{digest}"'


def is_dynamic(version: object) -> bool:
    """Tells whether `version` is one of a dynamic large object."""
    return isinstance(version, str) and version.startswith(_DYNAMIC)
