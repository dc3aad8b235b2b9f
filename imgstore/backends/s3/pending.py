"""An upload that is not complete: what its token says, and the record of it in the bucket."""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from imgstore.errors import UnsafeLocationError, UploadLostError
from imgstore.model import check_key

_FORM: Final = "s3.1."
_TOKEN_LIMIT: Final = 16 << 10  # a key, an upload ID and some digests: more is no token of ours


@dataclass(frozen=True, slots=True)
class Pending:
    """What is to become of an upload. `marker` names it in the metadata of the object that it makes.

    `upload_id` is empty in a record that was written before the service gave one.
    """

    bucket: str
    key: str
    upload_id: str
    marker: str
    size: int | None
    overwrite: bool
    digests: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def token(self) -> str:
        """The token: all of it, as text that may stand in a URL or a file; nothing in it is secret."""
        told = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return _FORM + urlsafe_b64encode(told.encode()).decode().rstrip("=")

    @classmethod
    def of(cls, token: str, bucket: str) -> Pending:
        """Reads a token of an upload to `bucket`. Raises: UploadLostError for what is none."""
        pending = _read(token)
        if pending is None or pending.bucket != bucket:
            raise UploadLostError("that is no token of an upload to this bucket")
        return pending


def _read(token: str) -> Pending | None:
    text = token.removeprefix(_FORM)
    if text == token or len(text) > _TOKEN_LIMIT:
        return None
    try:
        told = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        pending = Pending(**told)
        check_key(pending.key)
    except (binascii.Error, ValueError, TypeError, UnsafeLocationError):
        return None
    return pending if _is_sound(pending) else None


def _is_sound(pending: Any) -> bool:
    words = (pending.bucket, pending.upload_id, pending.marker)
    return (
        all(isinstance(word, str) and word.isprintable() for word in words)
        and pending.marker.isalnum()
        and (pending.size is None or (type(pending.size) is int and pending.size >= 0))
        and isinstance(pending.overwrite, bool)
        and isinstance(pending.digests, dict)
        and all(isinstance(each, str) for pair in pending.digests.items() for each in pair)
    )
