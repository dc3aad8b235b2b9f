"""`imgstore reap`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from imgstore.backends import urls
from imgstore.cli.amounts import show_size, show_time
from imgstore.cli.command import Command
from imgstore.cli.configured import every
from imgstore.cli.location import Location, in_store, parse
from imgstore.cli.options import AGE, PLACE, json_option, store_options, timeout_option
from imgstore.cli.output import Terminal, printable
from imgstore.cli.status import DONE, exit_status
from imgstore.errors import ConfigError, ImgstoreError, LockedError, UnsupportedError
from imgstore.model import Call
from imgstore.store import Store, Upload, Uploader

if TYPE_CHECKING:
    from imgstore.transfer.notes import Notes

# As for ls: the widest cell is known when the last one is.
_SIZE: Final = len("1023.9 MiB")
_TIME: Final = len("2026-01-01 00:00:00 UTC")
_RESULT: Final = len("removed")


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look: a folder if there is no `store`; in that, what goes to `key` alone.

    A `key` that is empty, or ends in a slash, stands for all that begin with it.
    """

    shown: str
    store: Store | None = None
    key: str = ""

    def has(self, key: str) -> bool:
        """Tells whether an upload to `key` belongs here."""
        return key == self.key or (self.key[-1:] in {"", "/"} and key.startswith(self.key))

    def name_of(self, key: str) -> str:
        """Gives the place of an upload to `key`, as it would be typed."""
        return self.shown + key[len(self.key) :]


@dataclass(frozen=True, slots=True)
class Found:
    """What was left: where, since when (POSIX seconds), and the bytes it holds, None where nobody tells."""

    where: str
    since: float | None
    result: str
    held: int | None = None
    error: ImgstoreError | None = None


@click.command(
    cls=Command,
    examples=(
        "imgstore reap --dry-run         what is left in all stores, and stays",
        "imgstore reap cold              half uploads to the store cold",
        "imgstore reap --older-than 1d . half images in this folder",
    ),
)
@click.argument("places", type=PLACE, metavar="[STORE|FOLDER]...", nargs=-1)
@click.option(
    "--older-than",
    type=AGE,
    default="7d",
    metavar="TIME",
    help="Leave what began, or was written to, since then: 0, 90m, 2h or 30d. [default: 7d]",
)
@click.option("--dry-run", is_flag=True, help="Show what would go, and remove nothing.")
@json_option
@timeout_option
@store_options
@click.pass_obj
def reap(terminal: Terminal, /, places: Sequence[str], **given: Any) -> int:
    """Remove what ended copies have left: half uploads in STORE, half images in FOLDER.

    Without any, all stores are looked into. s3://BUCKET and swift://CONTAINER are
    stores as well; with /KEY, only uploads to that key are looked at, with a slash
    at its end those to all keys below, and of rbd://POOL/IMAGE those to the image.

    The same cp would have gone on with what goes here. What a process of yours on
    this machine is at stays, however old it is. Uploads from elsewhere tell only
    when they began: a TIME that is shorter than the longest of them takes ends it.

    With --json the last line is an object with removed, found (with --dry-run), live and failed, each a list
    of objects with location, since and held.
    """
    told: dict[str, list[Any]] = {"removed": [], "found": [], "live": [], "failed": []}
    if given["as_json"]:
        terminal.json = lambda: told
    call = Call() if given["timeout"] is None else Call().within(given["timeout"])
    status = DONE
    with ExitStack() as stack:
        todo = _todo(places, terminal, stack)
        reaper = Reaper(given["older_than"], call, dry_run=given["dry_run"])
        for found in reaper.run(todo):
            told[found.result].append(_as_dict(found, terminal))
            if found.error is not None:
                status = max(status, exit_status(found.error))
                terminal.say(terminal.sentence(found.error))
            elif not given["as_json"]:
                terminal.print(_row(found))
    if given["as_json"]:
        terminal.print_json(told)
    else:
        terminal.print(_sum(told))
    return status


class Reaper:
    """Removes what is left and older than so many seconds, or with `dry_run` only finds it."""

    def __init__(self, older_than: float, call: Call, *, dry_run: bool) -> None:
        self._older_than = older_than
        self._call = call
        self._dry_run = dry_run

    def run(self, places: Iterable[Place]) -> Iterator[Found]:
        """Gives what becomes of each. What fails does not end it."""
        for place in places:
            try:
                if place.store is None:
                    yield from self._in_folder(place.shown)
                elif place.store.uploader is not None:
                    yield from self._in_store(place, place.store.uploader)
            except ImgstoreError as exc:
                yield Found(place.shown, None, "failed", error=exc)

    def _in_store(self, place: Place, uploader: Uploader) -> Iterator[Found]:
        from imgstore.transfer.notes import Notes

        notes = Notes()
        found = uploader.uploads(self._older_than, call=self._call)
        uploads = [upload for upload in found if place.has(upload.key)]
        try:
            # In this order: what is in the list and not noted by now, is being begun, or nobody's.
            is_beginning = notes.is_beginning()
            paths = notes.paths()
        except OSError as exc:
            raise _unknown(exc) from exc
        for upload in uploads:
            where, path = place.name_of(upload.key), paths.get(upload.token)
            if path is None and is_beginning:
                yield Found(where, upload.started, "live")
            else:
                yield self._dropped(where, upload, uploader, notes, path)

    def _dropped(
        self, where: str, upload: Upload, uploader: Uploader, notes: Notes, path: str | None
    ) -> Found:
        try:
            note = notes.at(path) if path else None
        except LockedError:
            return Found(where, upload.started, "live")
        except OSError as exc:
            return Found(where, upload.started, "failed", error=_unknown(exc))
        with note or nullcontext():
            try:
                if not self._dry_run:
                    uploader.abort(upload.token, call=self._call)
            except ImgstoreError as exc:
                return Found(where, upload.started, "failed", error=exc)
            # the note may be of another upload by now, which the next run of the same command goes on with
            is_its = note is not None and note.begun is not None and note.begun.token == upload.token
            if note is not None and is_its and not self._dry_run:
                note.forget()
        return Found(where, upload.started, self._done)

    def _in_folder(self, folder: str) -> Iterator[Found]:
        from imgstore.publish.leftovers import leftovers

        for left in leftovers(folder, self._older_than):
            try:
                result = self._done if self._dry_run or left.remove() else "live"
            except ImgstoreError as exc:
                yield Found(left.path, left.since, "failed", left.held, exc)
            else:
                yield Found(left.path, left.since, result, left.held)

    @property
    def _done(self) -> str:
        return "found" if self._dry_run else "removed"


def _todo(places: Sequence[str], terminal: Terminal, stack: ExitStack) -> list[Place]:
    """Gives what each place is.

    Raises: ConfigError for what is neither, UnsupportedError for a store that takes no uploads in parts.
    """
    where = [_location(each) for each in places]
    stores: Mapping[str, Store] = {}
    if not where or any(each is not None and each.kind == "store" for each in where):
        stores = stack.enter_context(every(terminal))
    if not where:
        return [Place(f"{name}:", store) for name, store in stores.items()]
    todo = []
    for text, each in zip(places, where, strict=True):
        if each is None:
            todo.append(Place(text))
            continue
        place = _service(each, stack) if each.kind == "service" else _stored(each, stores)
        if place.store is None or place.store.uploader is None:
            raise UnsupportedError(
                "the store takes no uploads in parts; nothing is left in it", store=each.store
            )
        todo.append(place)
    return todo


def _location(text: str) -> Location | None:
    """Gives the store that `text` names, None where that is a folder. Raises: ConfigError."""
    if text in {".", ".."} or ("/" in text and "://" not in text):
        return None
    where = parse(text) if ":" in text else in_store(text, "")
    if where.kind not in {"store", "service"} or where.key:
        raise ConfigError(f"{where.shown} is neither a store nor a folder; a folder is written with a /")
    return where


def _stored(where: Location, stores: Mapping[str, Store]) -> Place:
    if where.store not in stores:
        known = ", ".join(stores)
        raise ConfigError(
            f"there is no store {where.store!r} (there are: {known}); a folder is written ./{where.store}"
        )
    return Place(where.shown, stores[where.store])


def _service(where: Location, stack: ExitStack) -> Place:
    driver, key = urls.at(where.text)
    driver.store_id = where.shown
    shown = where.shown if key or where.shown.endswith("/") else f"{where.shown}/"
    return Place(shown, stack.enter_context(driver), key)


def _unknown(exc: OSError) -> ImgstoreError:
    from imgstore.publish import file_error

    return file_error(exc, "cannot tell which uploads are live, as their notes cannot be read")


def _as_dict(found: Found, terminal: Terminal) -> dict[str, Any]:
    told: dict[str, Any] = {"location": found.where, "since": found.since, "held": found.held}
    return told if found.error is None else {**told, "error": terminal.fields(found.error)}


def _row(found: Found) -> str:
    size = "" if found.held is None else show_size(found.held)
    since = "" if found.since is None else show_time(found.since)
    return f"{found.result:{_RESULT}}  {since:{_TIME}}  {size:>{_SIZE}}  {printable(found.where)}"


def _sum(told: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    counts = [f"{len(each)} {result}" for result, each in told.items() if each]
    held = sum(each["held"] or 0 for result in ("removed", "found") for each in told[result])
    room = f"; {show_size(held)} in folders" if held else ""
    return f"{', '.join(counts) or 'nothing to remove'}{room}"
