"""Records of pending uploads: objects beside the segments, so that an upload outlives its process."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from imgstore.backends._http_range import Reply
from imgstore.backends.swift.failures import RefusedError
from imgstore.backends.swift.layout import RECORDS, segments_of
from imgstore.backends.swift.service import parsed
from imgstore.errors import BadReplyError, ConflictError, UnsafeLocationError, UploadLostError
from imgstore.model import KEY_LIMIT, Call, check_key

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore

LOG = logging.getLogger(__name__)

# Whose the upload is: the last to say so in the record's metadata.
CLAIM_FIELD: Final = "X-Object-Meta-Imgstore-Claim"
_ABORTED: Final = "aborted"
_ID_LENGTH: Final = 32
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Record:
    """What an upload began with: `size` in bytes, None if not known yet; `started` in POSIX seconds."""

    upload: str
    key: str
    size: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = field(default=False, kw_only=True)
    started: float = field(default=0.0, kw_only=True)

    @property
    def token(self) -> str:
        """The upload's token: where its record is found. It holds no secret."""
        return f"{self.upload}/{self.key}"


class Records:
    """Keeps the records, and who goes on with which upload. Callable from any thread.

    A store that meets an upload which it did not begin claims it; whoever held it before is refused from then
    on. The claim is looked at before each part and before the end.
    """

    def __init__(self, owner: SwiftStore) -> None:
        self._owner = owner
        self._claims: dict[str, str] = {}
        self._known: dict[str, Record] = {}

    def begin(self, record: Record, call: Call) -> None:
        """Writes a record. Raises: RefusedError."""
        claim = secrets.token_hex(8)
        body = json.dumps(asdict(record)).encode()
        place = self._place(record.key)
        self._owner.placing.put(place, RECORDS + record.upload, body, call=call, headers={CLAIM_FIELD: claim})
        self._claims[record.upload] = claim
        self._known[record.upload] = record

    def known(self, token: str) -> Record | None:
        """Gives the record of an upload that this store has a claim to, as it was read."""
        record = self._known.get(token.partition("/")[0])
        return record if record is not None and record.token == token else None

    def read(self, token: str, call: Call) -> Record:
        """Reads the record of an upload. Raises: UploadLostError where there is none."""
        upload, key = split(token)
        try:
            reply, body = self._owner.service.document(self._place(key), RECORDS + upload, call=call)
        except RefusedError as exc:
            if exc.status != 404:
                raise
            self._forget(upload)
            raise lost() from None
        return _read(reply, body)

    def claim(self, record: Record, call: Call) -> None:
        """Returns where the upload is this store's, which it becomes at the first call.

        Raises: ConflictError where another store has taken it over since, UploadLostError where it ended.
        """
        place, name = self._place(record.key), RECORDS + record.upload
        held = self._claims.get(record.upload)
        try:
            if held is None:
                held = secrets.token_hex(8)
                self._owner.service.post(place, name, {CLAIM_FIELD: held}, call=call)
                self._claims[record.upload] = held
                self._known[record.upload] = record
                return
            reply = self._owner.service.head(place, name, call=call)
        except RefusedError as exc:
            if exc.status != 404:
                raise
            self._forget(record.upload)
            raise lost() from None
        if reply.single(CLAIM_FIELD.lower()) != held:
            raise ConflictError("another process has taken this upload over", request_id=reply.request_id)

    def seize(self, record: Record, call: Call) -> None:
        """Says that an upload is being aborted: whoever publishes it meanwhile takes that back.

        Raises: UploadLostError where it ended, RefusedError.
        """
        place, name = self._place(record.key), RECORDS + record.upload
        try:
            self._owner.service.post(place, name, {CLAIM_FIELD: _ABORTED}, call=call)
        except RefusedError as exc:
            if exc.status != 404:
                raise
            raise lost() from None

    def is_aborted(self, record: Record, call: Call) -> bool | None:
        """Tells whether somebody has begun to abort the upload, None where its record is gone.

        Raises: RefusedError.
        """
        try:
            reply = self._owner.service.head(self._place(record.key), RECORDS + record.upload, call=call)
        except RefusedError as exc:
            if exc.status != 404:
                raise
            return None
        return reply.single(CLAIM_FIELD.lower()) == _ABORTED

    def remove(self, upload: str, key: str, call: Call) -> None:
        """Removes a record, if it is there. Raises: RefusedError."""
        self._forget(upload)
        self._owner.service.remove(self._place(key), RECORDS + upload, call=call)

    def all(self, call: Call) -> Iterator[Record]:
        """Gives every record; what is none, or is of another version, is left alone. Raises: RefusedError."""
        service = self._owner.service
        for container in self._owner.layout.segment_containers(service, call):
            for upload in self._listed(container, call):
                try:
                    reply, body = service.document(container, RECORDS + upload, call=call)
                except RefusedError as exc:
                    if exc.status != 404:
                        raise
                    continue  # it ended in the meantime, and the listing lags
                try:
                    record = _read(reply, body)
                except BadReplyError as exc:
                    LOG.warning("%r in %r is left alone: %s", RECORDS + upload, container, exc)
                else:
                    yield record

    def _listed(self, container: str, call: Call) -> Iterator[str]:
        service = self._owner.service
        for entry in service.objects(container, call=call, prefix=RECORDS, missing_ok=True):
            upload = str(entry["name"]).removeprefix(RECORDS)
            if _is_id(upload):
                yield upload

    def _forget(self, upload: str) -> None:
        self._claims.pop(upload, None)
        self._known.pop(upload, None)

    def _place(self, key: str) -> str:
        return segments_of(self._owner.layout.place(key))


def split(token: str) -> tuple[str, str]:
    """Gives upload and key of a token. Raises: UploadLostError for what is none."""
    upload, _, key = token.partition("/")
    if not _is_id(upload) or not 0 < len(key.encode("utf-8", "replace")) <= KEY_LIMIT:
        raise lost()
    return upload, key


def fresh_id() -> str:
    """Gives the id of a new upload."""
    return secrets.token_hex(_ID_LENGTH // 2)


def lost() -> UploadLostError:
    """Gives the error for an upload that is not there."""
    return UploadLostError("there is no such upload; it was completed, aborted or never begun")


def _is_id(text: str) -> bool:
    return len(text) == _ID_LENGTH and set(text) <= _HEX


def _read(reply: Reply, body: bytes) -> Record:
    told: Any = parsed(reply, body)
    try:
        record = Record(**told)
        check_key(record.key)
    except (TypeError, AttributeError, UnsafeLocationError):
        record = None
    if record is None or not _is_sound(record):
        raise reply.bad("a record of an upload that this version cannot read")
    return record


def _is_sound(record: Any) -> bool:
    return (
        isinstance(record.upload, str)
        and _is_id(record.upload)
        and (record.size is None or (type(record.size) is int and record.size >= 0))
        and isinstance(record.overwrite, bool)
        and isinstance(record.started, (int, float))
        and isinstance(record.digests, dict)
        and all(isinstance(each, str) for pair in record.digests.items() for each in pair)
    )
