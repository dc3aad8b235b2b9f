"""The last step of every store: one conditional PUT, whose lost reply is asked after, never guessed."""

from __future__ import annotations

import functools
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from imgstore.backends._http_range import Reply
from imgstore.backends.swift.failures import RefusedError, translate
from imgstore.backends.swift.turns import turn
from imgstore.backends.swift.versions import etag_of
from imgstore.errors import AlreadyExistsError, ImgstoreError, StoreError, TransientError
from imgstore.model import Call, ObjectInfo

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore

LOG = logging.getLogger(__name__)

# Names the put or upload that an object came from: how a lost reply is told from another writer's image.
UPLOAD_FIELD: Final = "X-Object-Meta-Imgstore-Upload"
# Puts that ended without a word on whether they were stored; more of them at once is a day to give up.
_REMEMBERED: Final = 256
# What is asked after a failure gets this many seconds, though the caller's own may be over.
_ASKING: Final = 5.0


@dataclass(frozen=True, slots=True)
class Published:
    """An image that is there. `own` if it is of this put, and not of an earlier one of the same bytes.

    Such a one had no answer and was stored all the same; what this put brought is then not needed.
    """

    info: ObjectInfo
    own: bool = True


class Publisher:
    """Puts an image's object under its key. Callable from any thread."""

    def __init__(self, owner: SwiftStore) -> None:
        self._owner = owner
        # By key: the uploads that may have been stored. Losing one costs no image, only a good answer.
        self._unclear: OrderedDict[tuple[str, str], str] = OrderedDict()

    def check_free(self, key: str, call: Call) -> None:
        """Returns where the key is free, or taken by what may be the caller's own: `publish` will tell.

        Raises: AlreadyExistsError.
        """
        if not any(each == key for each, _ in list(self._unclear)) and self.found(key, call) is not None:
            raise _taken()

    def found(self, key: str, call: Call) -> Reply | None:
        """Gives what the store says of the object under `key`, None where there is none."""
        try:
            return self._owner.service.head(self._owner.layout.place(key), key, call=call)
        except RefusedError as exc:
            if exc.status != 404:
                raise
            return None

    def publish(
        self,
        key: str,
        body: bytes | memoryview,
        *,
        upload: str,
        size: int,
        etag: str,
        overwrite: bool,
        call: Call,
        query: str | None = None,
    ) -> Published:
        """Puts `body` and gives what the store has then: an image of `size` bytes, whose ETag is `etag`.

        Raises: AlreadyExistsError without `overwrite` where the key is taken; TransientError where the image
        is not stored, or nobody can tell; RefusedError.
        """
        send = functools.partial(
            self._put, key, body, upload=upload, size=size, etag=etag, call=call, query=query
        )
        if overwrite:
            return send({UPLOAD_FIELD: upload})
        with turn(self._owner, key, call):
            if self.found(key, call) is not None:
                return self._resolved(_taken(), key, upload, etag, call)
            return send({UPLOAD_FIELD: upload, "If-None-Match": "*"})

    def _put(
        self,
        key: str,
        body: bytes | memoryview,
        fields: Mapping[str, str],
        *,
        upload: str,
        size: int,
        etag: str,
        call: Call,
        query: str | None,
    ) -> Published:
        container = self._owner.layout.place(key)
        try:
            reply = self._owner.placing.put(
                container, key, body, call=call, headers=fields, query=query, etag=None if query else etag
            )
        except (RefusedError, StoreError) as exc:
            return self._resolved(exc, key, upload, etag, call)
        if reply.status == 202 and len(fields) > 1:
            raise _taken()  # Swift's word for: stored, and by then a later one was there
        if etag_of(reply) not in {etag, ""}:
            self.withdraw(key, upload, call)
            raise reply.bad("another ETag than that of the bytes that were stored")
        return Published(self._told(key, upload, size, call))

    def _told(self, key: str, upload: str, size: int, call: Call) -> ObjectInfo:
        """Describes the image of `upload`, which was stored; without a version where it cannot be asked."""
        try:
            reply = self.found(key, call)
            if reply is not None and is_of(reply, upload):
                return self._owner.reader.described(key, reply, call)
        except (RefusedError, StoreError) as exc:
            LOG.debug("%r is stored, and cannot be described: %s", key, exc)
        return ObjectInfo(key, size, None)

    def _resolved(self, exc: Exception, key: str, upload: str, etag: str, call: Call) -> Published:
        """Gives the image where it was stored in spite of `exc`, else raises what that means."""
        error = translate(exc)
        taken = isinstance(error, AlreadyExistsError)
        if not taken and not isinstance(error, TransientError):
            raise exc
        try:
            reply = self.found(key, _briefly(call, self._owner) if not taken else call)
        except (RefusedError, ImgstoreError):
            self._remember(key, etag, upload)
            raise error from error.__cause__
        own = reply is not None and is_of(reply, upload)
        if reply is not None and (own or self._was_unclear(key, etag, reply)):
            return Published(self._owner.reader.described(key, reply, call), own)
        if taken:
            raise _taken()
        # The server may still be at it.
        self._remember(key, etag, upload)
        raise error from error.__cause__

    def _remember(self, key: str, etag: str, upload: str) -> None:
        self._unclear[key, etag] = upload
        while len(self._unclear) > _REMEMBERED:
            self._unclear.popitem(last=False)

    def _was_unclear(self, key: str, etag: str, reply: Reply) -> bool:
        """Tells whether the object is what an earlier put of the same bytes left, which got no answer."""
        upload = self._unclear.get((key, etag))
        if upload is None or not is_of(reply, upload):
            return False
        self._unclear.pop((key, etag), None)
        return True

    def withdraw(self, key: str, upload: str, call: Call) -> None:
        """Removes an object that is not what was sent. Raises: RefusedError."""
        reply = self.found(key, call)
        if reply is not None and is_of(reply, upload):
            self._owner.service.remove(self._owner.layout.place(key), key, call=call)


def upload_of(reply: Reply) -> str | None:
    """Gives the upload that an object came from, None where another program stored it."""
    return reply.single(UPLOAD_FIELD.lower())


def is_of(reply: Reply, upload: str) -> bool:
    """Tells whether an object came from `upload`."""
    return upload_of(reply) == upload


def _taken() -> AlreadyExistsError:
    return AlreadyExistsError("there is an image of that name; overwrite replaces it")


def _briefly(call: Call, owner: SwiftStore) -> Call:
    return call.within(_ASKING, clock=owner.clock)
