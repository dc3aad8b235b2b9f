"""A copy into a store: in parts that another run of the same command goes on with, where that can be."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgstore.cli.configured import driver_of
from imgstore.cli.location import Location
from imgstore.cli.output import Terminal
from imgstore.cli.source import Source
from imgstore.errors import LockedError, SourceChangedError
from imgstore.steps import Checkable
from imgstore.store import Store

if TYPE_CHECKING:
    from imgstore.manifest import Manifest
    from imgstore.stream import ByteStream
    from imgstore.transfer.notes import Note
    from imgstore.transfer.progress import Report
    from imgstore.transfer.resumable import Image
    from imgstore.transfer.sparse import SparseStream

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Upload:
    """What goes where: `origin`, which stands for `sources`, under `key` of `store`."""

    origin: Source
    sources: Sequence[Location]
    store: Store
    key: str

    @property
    def source(self) -> str:
        """The places of the source, the same at each run; it may hold secrets and is not to be shown."""
        return "\n".join(each.place for each in self.sources)

    @property
    def target(self) -> str:
        """The place of the target: its name in this configuration, and where that leads."""
        driver = driver_of(self.store)
        where = driver.location if isinstance(driver, Checkable) else ""
        return f"{type(driver).__name__}\n{driver.endpoint}\n{where}\n{self.store.store_id}\n{self.key}"

    @property
    def shown(self) -> str:
        """What messages call the target, one in a configured store."""
        return f"{self.store.store_id}:{self.key}"

    def note(self) -> Note:
        """Gives the note of it. Raises: LockedError; as `Notes.opened`."""
        from imgstore.transfer.notes import Notes

        return Notes().opened(self.target, self.source)

    def mark(self) -> AbstractContextManager[object]:
        """Gives what tells `reap`, while it is open, that this process is at an upload which has no note.

        A put in one go makes its parts an upload, too, and nobody but the store has its token. Where no notes
        can be kept, it tells nothing.
        """
        from imgstore.transfer.notes import Notes

        if self.store.uploader is None:
            return nullcontext()
        try:
            return Notes().opened(self.target, f"{self.source}\nin one go")
        except OSError:  # or another process tells the same
            return nullcontext()


def may_be_done(upload: Upload) -> bool:
    """Tells whether an earlier run sent all of it, so that what is under the key may be its image."""
    from imgstore.transfer.notes import Notes

    return upload.store.uploader is not None and Notes().is_whole(upload.target, upload.source)


def run(upload: Upload, given: dict[str, Any], terminal: Terminal, report: Report) -> None:
    """Stores the image. Raises: as `transfer.upload` and `ResumableUpload.run`."""
    with upload.origin.open() as stream:
        image = _resumable(upload, stream, given["prove"])
        note = None if image is None else _note(upload)
        if image is None or note is None:
            _in_one_go(upload, stream, given, report)
            return
        with note:
            if given["no_resume"]:
                _forget(upload, note)
                _in_one_go(upload, stream, given, report)
            else:
                _in_parts(upload, image, note, given, terminal, report=report)


def _resumable(upload: Upload, stream: ByteStream | SparseStream, manifest: Manifest | None) -> Image | None:
    """Gives the image where its upload can be gone on with."""
    if upload.store.uploader is None or upload.origin.store is None:
        return None
    from imgstore.transfer.resumable import Image, can_resume

    image = Image(upload.origin.store, stream, upload.origin.call)
    return image if can_resume(image, upload.store, pin=_pin(manifest)) else None


def _pin(manifest: Manifest | None) -> str | None:
    return None if manifest is None else manifest.pin


def _note(upload: Upload) -> Note | None:
    try:
        return upload.note()
    except LockedError:
        raise
    except OSError as exc:
        LOG.warning("a copy that is ended will begin anew, as no note of it can be kept: %s", exc)
        return None


def _forget(upload: Upload, note: Note) -> None:
    from imgstore.transfer.resumable import abandon

    abandon(upload.store, note)
    note.forget()


def _in_parts(
    upload: Upload,
    image: Image,
    note: Note,
    given: dict[str, Any],
    terminal: Terminal,
    *,
    report: Report,
) -> None:
    from imgstore.journal import Identity
    from imgstore.stack import makes_manifests
    from imgstore.transfer.resumable import ABREAST, ResumableUpload

    place = hashlib.sha256(upload.source.encode("utf-8", "surrogateescape")).hexdigest()
    identity = Identity(place, image.size, image.info.version, _pin(given["prove"]))
    going = ResumableUpload(
        image,
        upload.store,
        upload.key,
        note,
        identity=identity,
        report=report,
        overwrite=given["force"],
        abreast=given.get("parallel") or ABREAST,
        tell=lambda text: terminal.say(f"{upload.shown}: {text}" if given["recursive"] else text),
    )
    try:
        # What a manifest is made of is read from the store: it is to be what was sent.
        going.run(digest=given["as_json"] or makes_manifests(upload.store), read_back=given["read_back"])
    except SourceChangedError as exc:
        exc.message += "; --no-resume drops that and starts over"
        raise


def _in_one_go(
    upload: Upload, stream: ByteStream | SparseStream, given: dict[str, Any], report: Report
) -> None:
    from imgstore.transfer.upload import upload as put

    with upload.mark():
        put(
            stream,
            upload.store,
            upload.key,
            report=report,
            overwrite=given["force"],
            digest=given["as_json"],
            read_back=given["read_back"],
            call=upload.origin.call,
        )
