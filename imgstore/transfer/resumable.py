"""One image into one store in parts, so that the next process goes on where this one was ended.

What the store says that it holds is the truth; a note (`imgstore.transfer.notes`) says which upload that is.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from imgstore.errors import (
    AuthenticationError,
    ConflictError,
    ImgstoreError,
    InUseError,
    LockedError,
    NotFoundError,
    PermissionDeniedError,
    SourceChangedError,
    TlsError,
    UnsupportedError,
    UploadLostError,
)
from imgstore.hashing import Digests
from imgstore.journal import Identity
from imgstore.model import NO_CALL, ByteRange, Call, CancelToken, ObjectInfo, Part
from imgstore.store import Store, Uploader
from imgstore.stream import ByteStream
from imgstore.transfer.copy import Digester
from imgstore.transfer.notes import Begun, Note, Sent
from imgstore.transfer.parts import Flight, fill, part_size
from imgstore.transfer.progress import Report
from imgstore.transfer.sparse import LEAST_HOLE, SparseStream
from imgstore.transfer.upload import CHUNK, TIDY, prove

# Bytes below which an upload that is killed begins anew: sent again in less than a second on a good line.
LEAST: Final = 64 << 20
# Parts that are sent at once. A kill costs those that were under way.
ABREAST: Final = 1
# What other credentials or somebody else's leaving may cure: who comes then finds what was stored.
_CURABLE: Final = (AuthenticationError, PermissionDeniedError, TlsError, InUseError, LockedError)


@dataclass(frozen=True, slots=True)
class Image:
    """One version of an image that is copied. `stream` gives all of it, once, and is open already."""

    store: Store
    stream: ByteStream | SparseStream
    call: Call

    @property
    def info(self) -> ObjectInfo:
        return self.stream.info

    @property
    def range(self) -> ByteRange:
        return self.stream.range

    @property
    def size(self) -> int:
        return self.stream.range.size or 0

    def opened(self, wanted: ByteRange) -> ByteStream | SparseStream:
        """Opens a range, in that version. Raises: as `Store.get`."""
        if wanted == self.range and not self.stream.delivered:
            return self.stream
        self.stream.close()
        if isinstance(self.stream, SparseStream):
            return SparseStream(self.store, self.info, wanted.start, wanted.stop, call=self.call)
        version = self.info.version
        return self.store.get(self.info.key, wanted.start, wanted.size, version=version, call=self.call)


def can_resume(image: Image, store: Store, *, pin: str | None = None) -> bool:
    """Tells whether an upload of the image to `store` is worth going on with, and can be gone on with.

    Not so that of an image without a version, unless it has the `pin` of a manifest that proves it. To a
    store that keeps holes, one with holes goes in one go: in parts they are zeros, which the store may keep,
    and which at least take the time to be looked through. Where they take no room, half of it may be holes.
    """
    if store.uploader is None or image.range.size is None or image.range.size < LEAST:
        return False
    if image.info.version is None and pin is None:
        return False
    if store.extents is None:
        return True
    return _holes(image) <= (image.size // 2 if store.uploader.limits.thin else 0)


def _holes(image: Image) -> int:
    """Gives the bytes in holes, as far as their store tells."""
    if not isinstance(image.stream, SparseStream) or image.store.extents is None:
        return 0
    extents = image.store.extents.extents(image.info.key, version=image.info.version, call=image.call)
    sizes = (each.range.size or 0 for each in extents if each.kind != "data")
    return sum(size for size in sizes if size >= LEAST_HOLE)


def abandon(store: Store, note: Note) -> None:
    """Drops the upload of the note, if there is one. Raises: as `Uploader.abort`; the note stays then."""
    if note.begun is not None and store.uploader is not None:
        with suppress(UploadLostError):
            store.uploader.abort(note.begun.token, call=NO_CALL.within(TIDY, clock=store.clock))


class ResumableUpload:
    """An upload in parts that the note goes on with, or begins.

    Parts that the store holds, and gave an earlier process a receipt for, are not sent again. Where digests
    are wanted the source is read from its start, and what is held counts only if it is, by its CRC-32, what
    was sent: so they prove no less than those of an upload in one go. Memory: that of `Flight`, and of
    `Hasher` where digests are computed.
    """

    def __init__(
        self,
        image: Image,
        store: Store,
        key: str,
        note: Note,
        *,
        identity: Identity,
        report: Report,
        overwrite: bool = False,
        abreast: int = ABREAST,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Takes the note of this very source and target; `tell` hears a sentence of what is unusual.

        `identity` is that of the source, in the words of the note. Raises: UnsupportedError for a store that
        takes no parts.
        """
        if store.uploader is None:
            raise UnsupportedError("the store takes no uploads in parts", key=key, store=store.store_id)
        self._image = image
        self._store = store
        self._uploader: Uploader = store.uploader
        self._key = key
        self._note = note
        self._identity = identity
        self._report = report
        self._overwrite = overwrite
        limits = store.uploader.limits
        self._abreast = 1 if limits.ordered or limits.serial else abreast
        self._tell = tell
        self._cancel = CancelToken() if image.call.cancel is None else image.call.cancel.child()
        self._call = replace(image.call, cancel=self._cancel)
        self._held: dict[int, Part] = {}

    def run(self, *, digest: bool = False, read_back: bool = False) -> ObjectInfo:
        """Stores the image: whole, or not at all. Gives what the store has then.

        `digest` and `read_back` are as in `transfer.upload`. A failure that may pass, and whatever ends this
        process, leave what is stored, and the next one goes on with it; any other leaves nothing.

        Raises: SourceChangedError where the upload was begun with another source, and it stays; as `Uploader`
        and `ByteStream`; DigestMismatchError.
        """
        self._report.total = self._image.size
        begun = self._taken_up() or self._begin()
        try:
            sent = self._send(begun, digest=digest, read_back=read_back)
            info = self._uploader.complete(begun.token, self._parts(), call=self._call)
        except BaseException as exc:
            self._leave(begun, exc)
            raise
        self._prove(info, sent, read_back=read_back)
        self._report.digests.update(sent.whole)
        return info

    def _taken_up(self) -> Begun | None:
        """Gives the upload of an earlier process, with the parts that are held of it; None to begin anew."""
        begun = self._note.begun
        if begun is None:
            return None
        if not self._identity.continues(begun.source):
            raise SourceChangedError(
                "the source is not the one that the upload began with, of which "
                f"{sum(each.part.size for each in self._note.sent.values())} bytes are stored",
                key=self._key,
                store=self._store.store_id,
            )
        if begun.overwrite != self._overwrite:
            meant = "to" if begun.overwrite else "not to"
            self._tell(f"the upload that was under way was {meant} replace an image, and begins anew")
            abandon(self._store, self._note)
            return None
        try:
            held = self._uploader.parts(begun.token, call=self._call)
        except UploadLostError as exc:
            if not self._is_published(begun):
                self._tell(f"the upload that was under way is gone, and begins anew: {exc}")
                with suppress(ImgstoreError):  # what a store itself has noted of it
                    abandon(self._store, self._note)
                return None
            held = [each.part for each in self._note.sent.values()]
        self._held = {part.number: part for part in held if self._counts(part, begun.part_size)}
        self._tell(f"the upload goes on: {self._stored()} of {self._image.size} bytes are stored")
        return begun

    def _is_published(self, begun: Begun) -> bool:
        """Whether an earlier process was ended when the store had made the image."""
        if not self._note.is_whole:
            return False
        try:
            self._uploader.complete(
                begun.token, [each.part for each in self._note.sent.values()], call=self._call
            )
        except UploadLostError:
            return False
        return True

    def _begin(self) -> Begun:
        size = part_size(self._image.size, self._uploader.limits)
        token = self._uploader.begin(self._key, self._image.size, overwrite=self._overwrite, call=self._call)
        begun = Begun(token, self._identity, size, self._overwrite, self._store.clock.time())
        self._note.begin(begun)
        return begun

    def _send(self, begun: Begun, *, digest: bool, read_back: bool) -> Digests:
        """Sends what is not held, and gives the digests of all that are wanted."""
        flight = Flight(self._landed, abreast=self._abreast, size=begun.part_size)
        try:
            with Digester(self._image, digest=digest, chunk=CHUNK if read_back else None) as digester:
                all_of_it = bool(digester.claimed) or digest or read_back
                for numbers in self._runs(begun, whole=all_of_it):
                    self._send_run(begun, numbers, flight, digester)
                flight.drain()
                return digester.found()
        except BaseException:
            self._cancel.cancel()
            raise
        finally:
            flight.close()

    def _runs(self, begun: Begun, *, whole: bool) -> Iterator[range]:
        """Gives the numbers of the parts to be read, in runs of neighbours; notes those that are done."""
        count = -(-self._image.size // begun.part_size)
        if whole:
            yield range(count)
            return
        for part in self._held.values():
            self._report.found(part.size)
        for held, run in itertools.groupby(range(count), key=self._held.__contains__):
            if not held:
                numbers = list(run)
                yield range(numbers[0], numbers[-1] + 1)

    def _send_run(self, begun: Begun, numbers: range, flight: Flight, digester: Digester) -> None:
        size = begun.part_size
        wanted = ByteRange(numbers.start * size, min(numbers.stop * size, self._image.size))
        with closing(self._image.opened(wanted)) as stream:
            for number in numbers:
                offset = number * size
                data = flight.buffer(min(size, self._image.size - offset))
                fill(stream, data)
                digester.hasher.update(data)
                crc = zlib.crc32(data)
                if number in self._held and self._note.sent[number].crc == crc:
                    self._report.found(len(data))
                else:
                    flight.send(partial(self._put, begun.token, number, offset, data, crc))

    def _put(self, token: str, number: int, offset: int, data: memoryview, crc: int) -> Part:
        part = self._uploader.put_part(token, number, offset, data, call=self._call)
        self._note.add(Sent(part, crc))
        return part

    def _landed(self, part: Part) -> None:
        self._held[part.number] = part
        self._report.delivered(part.size)

    def _parts(self) -> list[Part]:
        return [self._held[number] for number in sorted(self._held)]

    def _counts(self, part: Part, size: int) -> bool:
        """Whether a part that the store holds is one that it was sent.

        Without a receipt it may be one that was damaged on its way, of which the process was to hear.
        """
        left = self._image.size - part.number * size
        sent = self._note.sent.get(part.number)
        is_whole = part.offset == part.number * size and part.size == min(size, left)
        return is_whole and sent is not None and sent.part == part

    def _stored(self) -> int:
        return sum(part.size for part in self._held.values())

    def _prove(self, info: ObjectInfo, sent: Digests, *, read_back: bool) -> None:
        """Holds what is published against what was sent; who is ended in that leaves it to the next one."""
        try:
            prove(self._store, info, sent, read_back=read_back, call=self._image.call)
        except BaseException as exc:
            if _may_pass(exc):
                self._tell("all of it is stored but not proven yet, and the same command goes on with that")
            else:
                self._note.forget()
            raise
        self._note.forget()

    def _leave(self, begun: Begun, exc: BaseException) -> None:
        """Keeps what is stored where somebody may go on with it; else drops it."""
        if isinstance(exc, UploadLostError):
            self._note.forget()
        elif isinstance(exc, ConflictError) and not self._is_taken():
            self._tell("somebody else goes on with the upload, and has it now")
        elif _may_pass(exc):
            self._tell(
                f"{self._stored()} of {self._image.size} bytes are stored, and the same command goes on from "
                "there"
            )
        else:
            try:
                abandon(self._store, self._note)
            except ImgstoreError as other:
                self._tell(f"what is stored of the upload is left, and imgstore reap removes it: {other}")
            self._note.forget()

    def _is_taken(self) -> bool:
        """Whether somebody else's image is under the key, and not just another process at this upload."""
        if self._overwrite:
            return False
        try:
            self._store.stat(self._key, call=NO_CALL.within(TIDY, clock=self._store.clock))
        except NotFoundError:
            return False
        except ImgstoreError:
            return False
        return True


def _may_pass(exc: BaseException) -> bool:
    """Whether another run may go on after what ended this one."""
    return not isinstance(exc, Exception) or getattr(exc, "resumable", False) or isinstance(exc, _CURABLE)
