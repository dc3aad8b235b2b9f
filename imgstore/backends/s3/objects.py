"""Single objects: looked at, stored, removed. What writer, uploader and copier share."""

from __future__ import annotations

import contextlib
import functools
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, unquote_plus

from imgstore.backends._http_range import Reply
from imgstore.backends.s3.bucket import Bucket
from imgstore.backends.s3.identity import Pin, described, pinned
from imgstore.backends.s3.integrity import Integrity
from imgstore.backends.s3.listing import OBJECTS, pages
from imgstore.backends.s3.refusals import NoBucketError
from imgstore.backends.s3.wire import Answer, Wire
from imgstore.errors import (
    AlreadyExistsError,
    BadReplyError,
    ConflictError,
    DeadlineExceededError,
    ImgstoreError,
    NotFoundError,
    OperationCancelledError,
    TransientError,
    UnavailableError,
    VersionChangedError,
)
from imgstore.model import Call, ObjectInfo

# In the metadata of each object: which of our writes made it. So a reply that was lost can be asked for.
MARKER: Final = "imgstore-upload"
# Writes whose outcome is not known, remembered until their key is written again: a few bytes each.
_UNSETTLED: Final = 1024
_CLEANING: Final = 1.0  # seconds for removing what a call left that was called off; reaping gets the rest


@dataclass(frozen=True, slots=True)
class Traits:
    """What new objects are like: arguments of botocore for each."""

    fields: Mapping[str, Any]
    conditional: bool
    create_bucket: bool
    finish_timeout: float


@dataclass(frozen=True, slots=True)
class Found:
    """An object as HEAD shows it."""

    info: ObjectInfo
    pin: Pin | None
    metadata: Mapping[str, str]

    @property
    def marker(self) -> str | None:
        return self.metadata.get(MARKER)


class Objects:
    """The objects of one store. Callable from many threads."""

    def __init__(
        self, wire: Callable[[], Wire], bucket: Bucket, traits: Traits, integrity: Integrity
    ) -> None:
        self._wire = wire
        self.bucket = bucket
        self.traits = traits
        self.integrity = integrity
        self._lock = threading.Lock()
        self._unsettled: OrderedDict[str, str] = OrderedDict()

    def ask(self, operation: str, call: Call, **arguments: Any) -> Answer:
        """Makes one request to the bucket. Raises: NoBucketError naming it; as `Wire.ask`."""
        try:
            return self._wire().ask(operation, call, Bucket=self.bucket.name, **arguments)
        except NoBucketError as exc:
            raise NoBucketError(
                f"there is no bucket {self.bucket.name!r}; make it, or set create_bucket, or correct the"
                " option 'bucket'",
                request_id=exc.request_id,
            ) from None

    def write(self, operation: str, call: Call, **arguments: Any) -> Answer:
        """Makes the first request of a write, and the bucket before it where it is to be made.

        Raises: as `Wire.ask`.
        """
        try:
            return self.ask(operation, call, **arguments)
        except NoBucketError:
            if not self.traits.create_bucket:
                raise
        self.create_bucket(call)
        return self.ask(operation, call, **arguments)

    def create_bucket(self, call: Call) -> None:
        """Makes the bucket, where its region is that of the requests. Raises: as `Wire.ask`."""
        region = self._wire().region()
        arguments: dict[str, Any] = {}
        if region not in {None, "us-east-1", "aws-global"}:
            arguments["CreateBucketConfiguration"] = {"LocationConstraint": region}
        with contextlib.suppress(AlreadyExistsError):  # made by another thread in the meantime
            self.ask("CreateBucket", call, **arguments)

    def look(self, key: str, call: Call, pin: Pin | None = None) -> Found | None:
        """Gives the object of `key`: as it is now, or the version that `pin` has the ID of.

        None where there is none. Raises: as `Wire.ask`.
        """
        version = {} if pin is None or pin.version_id is None else {"VersionId": pin.version_id}
        try:
            answer = self.ask("HeadObject", call, Key=self.bucket.object_key(key), **version)
        except NotFoundError:
            return None
        metadata = answer.document.get("Metadata") or {}
        return Found(described(answer.reply, key), pinned(answer.reply), metadata)

    def check_free(self, key: str, call: Call) -> None:
        """Returns if there is no image under `key`.

        What a put of this store left there without getting to know it goes: that put failed.

        Raises: AlreadyExistsError.
        """
        found = self.look(key, call)
        if found is None:
            return
        with self._lock:
            left = self._unsettled.get(key)
        if left is None or found.marker != left:
            raise AlreadyExistsError(f"there is an image under {key!r}, and overwriting was not asked for")
        self.remove(key, found, call)

    def put(self, key: str, data: memoryview, *, marker: str, overwrite: bool, call: Call) -> ObjectInfo:
        """Stores `data` by a single request; `marker` names this write in the object.

        Raises: AlreadyExistsError, BadReplyError where other bytes were stored, which then are removed; as
        `Wire.ask`.
        """
        stamps = self.integrity.of_object(data)
        try:
            answer = self.write(
                "PutObject",
                call,
                pinned=bool(stamps),
                Key=self.bucket.object_key(key),
                Body=data,
                **self._made(marker),
                **self.condition(overwrite=overwrite),
                **stamps,
            )
        except (TransientError, VersionChangedError) as exc:
            return self.settled(key, marker, exc, overwrite=overwrite, call=call).info
        try:
            self.integrity.check(answer.reply, data, stamps)
        except BadReplyError:
            self._take_back(key, marker, call)
            raise
        return ObjectInfo(key, data.nbytes, _token(answer.reply))

    @contextlib.contextmanager
    def unsettled(self, key: str, marker: str, *, overwrite: bool) -> Iterator[None]:
        """Remembers the write in the block where nobody can tell whether it came, or will come, to something.

        Not for what can be asked for again, as the end of an upload, and not for a write that replaces: what
        it left is what was wanted, and before it there may have been an image.
        """
        try:
            yield
        except (TransientError, DeadlineExceededError, OperationCancelledError):
            if not overwrite:
                self._remember(key, marker)
            raise

    def settled(self, key: str, marker: str, error: ImgstoreError, *, overwrite: bool, call: Call) -> Found:
        """Gives the object of the write `marker`, which ended in `error`, if it is there all the same.

        Raises: AlreadyExistsError where somebody else's is, and none was to be replaced; else `error`.
        """
        try:
            found = self.look(key, call)
        except ImgstoreError:
            raise error from None
        if found is not None and found.marker == marker:
            return found
        if not overwrite and (found is not None or isinstance(error, VersionChangedError)):
            raise AlreadyExistsError(f"somebody else stored an image under {key!r} first") from error
        raise error

    def published(self, key: str, marker: str, size: int, *, overwrite: bool, call: Call) -> ObjectInfo:
        """Gives the image that the write `marker` of `size` bytes made, as the service has it now.

        Raises: ConflictError where somebody else's took its place, UnavailableError where it does not show
        yet, BadReplyError where it is of another size, and then is removed.
        """
        found = self.look(key, call)
        if found is None:
            raise UnavailableError("the service does not show the image yet that it has just stored")
        if found.marker != marker:
            if overwrite:
                return ObjectInfo(key, size, None)
            raise ConflictError(f"somebody else stored an image under {key!r} at the same time", key=key)
        if found.info.size != size:
            with contextlib.suppress(ImgstoreError):
                self.remove(key, found, cleaning(call))
            raise BadReplyError(f"the service made {found.info.size} bytes of the {size} that were sent")
        return found.info

    def remove(self, key: str, found: Found, call: Call) -> None:
        """Removes the object that was `found`.

        The request names its version, which AWS compares; other services remove whatever is there then.

        Raises: VersionChangedError where another is there by now; as `ask`.
        """
        name = self.bucket.object_key(key)
        if found.pin is not None and self.traits.conditional:
            try:
                self.ask("DeleteObject", call, Key=name, IfMatch=found.pin.etag)
            except VersionChangedError:
                # Swift 2.38 refuses every If-Match in a DELETE of what was stored in parts: look again
                again = self.look(key, call)
                if again is not None and again.pin != found.pin:
                    raise
            else:
                return
        self.ask("DeleteObject", call, Key=name)

    def pages(self, prefix: str, call: Call) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Gives the objects whose keys begin with `prefix`, in ascending order of the keys' UTF-8 bytes.

        A bucket that is made with the first image has none before. Raises: as `ask`.
        """
        try:
            yield from self._pages(prefix, call)
        except NoBucketError:
            if not self.traits.create_bucket:
                raise

    def _pages(self, prefix: str, call: Call) -> Iterator[Sequence[Mapping[str, Any]]]:
        ask = functools.partial(self.ask, call=call, pinned=True)
        for answer, page in pages(ask, OBJECTS, Prefix=prefix):
            # asked to encode, radosgw leaves this name as it is, and botocore decodes it all the same
            told = answer.document.get("Prefix", "")
            if told not in {prefix, unquote(prefix), unquote_plus(prefix)}:
                raise answer.reply.bad("another listing than was asked for")
            yield page

    def condition(self, *, overwrite: bool) -> dict[str, str]:
        """Gives the arguments that make the service refuse to replace an object."""
        return {} if overwrite or not self.traits.conditional else {"IfNoneMatch": "*"}

    def _made(self, marker: str) -> dict[str, Any]:
        return made(self.traits, {MARKER: marker})

    def _take_back(self, key: str, marker: str, call: Call) -> None:
        found = self.look(key, cleaning(call))
        if found is not None and found.marker == marker:
            self.remove(key, found, cleaning(call))

    def _remember(self, key: str, marker: str) -> None:
        with self._lock:
            self._unsettled[key] = marker
            while len(self._unsettled) > _UNSETTLED:
                self._unsettled.popitem(last=False)


def fresh_marker() -> str:
    """Gives the name of a new write."""
    return secrets.token_hex(16)


def made(traits: Traits, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Gives the arguments that make a new object what the options say."""
    return {"ContentType": "application/octet-stream", "Metadata": dict(metadata), **traits.fields}


def cleaning(call: Call) -> Call:
    """Gives the call for removing what `call` left: it has a second of its own, whatever became of `call`."""
    return Call(observe=call.observe).within(_CLEANING)


def _token(reply: Reply) -> str | None:
    pin = pinned(reply)
    return None if pin is None else pin.token
