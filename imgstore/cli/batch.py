"""Many images copied by one command: which they are, where each goes, and what became of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from imgstore.cli.amounts import show_count
from imgstore.cli.location import Location, in_store
from imgstore.cli.output import Terminal
from imgstore.errors import (
    AlreadyExistsError,
    ConfigError,
    ImgstoreError,
    NotFoundError,
    OperationCancelledError,
    UnsupportedError,
)
from imgstore.model import Call
from imgstore.publish import file_error, is_pending
from imgstore.publish.beside import is_beside
from imgstore.store import Store
from imgstore.transfer.batch import Batch
from imgstore.transfer.progress import Report

# Of the failures, so many are told in full at the end; the exit status and --json tell of all.
_SHOWN: Final = 100

Copy = Callable[[Location, Location, Report], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One image to be copied; `size` is what a listing says, None where it says nothing."""

    source: Location
    target: Location
    size: int | None


def jobs(
    sources: Iterable[Location],
    target: Location,
    stores: Mapping[str, Store],
    terminal: Terminal,
    *,
    call: Call,
) -> list[Job]:
    """Gives the copies of all images of `sources` into the folder or place in a store `target`.

    A source that is a folder, STORE: or STORE:PREFIX/ gives all that is below it, under the rest of its name;
    any other one image, under its own. What is no regular file in a folder is left out, and told of.

    Raises: ConfigError for a target that is one image or lies in a source, a source without a name, and two
    images that would have one name; NotFoundError for a source that gives none; as `Lister.list`. Memory:
    some 500 bytes an image.
    """
    if target.kind not in {"path", "store"} or (target.key and not target.key.endswith("/")):
        raise ConfigError(f"{target.shown}: -r copies into a folder, STORE: or STORE:PREFIX/")
    if target.kind == "path" and os.path.exists(target.text) and not os.path.isdir(target.text):
        raise ConfigError(f"{target.shown} is a file; -r copies into a folder, STORE: or STORE:PREFIX/")
    found: dict[Location, Job] = {}
    for source in sources:
        if _is_in(target, source):
            raise ConfigError(f"{target.shown} is in {source.shown}, and each run would copy the copies, too")
        count = len(found)
        for image, name, size in _images(source, stores, terminal, call):
            job = Job(image, _below(target, name), size)
            if (other := found.setdefault(job.target, job)) is not job:
                raise ConfigError(
                    f"{other.source.shown} and {image.shown} would both become {job.target.shown}"
                )
        if len(found) == count:
            raise NotFoundError(f"there is no image in {source.shown}")
    return list(found.values())


@dataclass(slots=True)
class Outcome:
    """What became of the images so far: how many were copied or left out, and what the others failed with."""

    copied: int = 0
    skipped: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)


def run(
    todo: Iterable[Job],
    copy: Copy,
    terminal: Terminal,
    batch: Batch,
    outcome: Outcome,
    *,
    skip_existing: bool,
    call: Call,
) -> None:
    """Copies one after the other, and enters in `outcome` what becomes of each.

    With `skip_existing`, those that are there already are left out, and no failures. An interrupt, a reader
    of standard output that went away and the deadline of `call` end it at once.
    """
    for job in todo:
        call.check()
        try:
            _one(job, copy, batch)
        except OperationCancelledError:
            raise
        except ImgstoreError as exc:
            if skip_existing and isinstance(exc, AlreadyExistsError):
                outcome.skipped += 1
                continue
            terminal.where = job.source.shown
            said = {"source": job.source.shown, "target": job.target.shown, **terminal.fields(exc)}
            outcome.failed.append({**said, "message": terminal.sentence(exc)})
        else:
            outcome.copied += 1


def tell(outcome: Outcome, count: int, terminal: Terminal) -> None:
    """Says what became of `count` images, but for those that were copied."""
    if outcome.skipped:
        terminal.say(f"{show_count(outcome.skipped, 'image')} left out: there already")
    for each in outcome.failed[:_SHOWN]:
        terminal.say(f"not copied: {each['message']}")
    if outcome.failed:
        terminal.say(f"{len(outcome.failed)} of {show_count(count, 'image')} not copied")
    if left := count - outcome.copied - outcome.skipped - len(outcome.failed):
        said = f"{left} of {show_count(count, 'image')} not copied yet"
        terminal.say(f"{said}; with --skip-existing the same command takes the rest")


def expected(todo: Iterable[Job]) -> int | None:
    """Gives the bytes of all, None where the size of one is not known."""
    total = 0
    for job in todo:
        if job.size is None:
            return None
        total += job.size
    return total


def _one(job: Job, copy: Copy, batch: Batch) -> None:
    copied = False
    report = batch.begin()
    try:
        if job.target.kind == "path":
            _make_folder(os.path.dirname(job.target.text))
        copy(job.source, job.target, report)
        copied = True
    finally:
        batch.end(copied=copied)


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path or ".", exist_ok=True)
    except (FileExistsError, NotADirectoryError) as exc:  # the image itself does not exist
        raise ConfigError(f"cannot create the folder {path}: there is a file in its way") from exc
    except OSError as exc:
        raise file_error(exc, f"cannot create the folder {path}") from exc


def _below(target: Location, name: str) -> Location:
    if target.kind == "store":
        return in_store(target.store, target.key + name)
    path = os.path.join(target.text, name)
    return Location("path", path, path)


def _is_in(target: Location, source: Location) -> bool:
    """Whether a place for copies is one of those, or below one, that the images of `source` come from."""
    if target.kind == source.kind == "path":
        below = os.path.join(os.path.realpath(target.text), "")
        return below.startswith(os.path.join(os.path.realpath(source.text), ""))
    is_place = not source.key or source.key.endswith("/")
    return source.kind == "store" == target.kind and is_place and target.text.startswith(source.text)


def _images(
    source: Location, stores: Mapping[str, Store], terminal: Terminal, call: Call
) -> Iterator[tuple[Location, str, int | None]]:
    """Gives the images of a source: where each is, its name below the source, and its size."""
    if source.kind == "store" and (not source.key or source.key.endswith("/")):
        yield from _listed(source, stores[source.store], call)
    elif source.kind == "path" and os.path.isdir(source.text):
        yield from _walked(source.text, terminal)
    elif not source.name:
        raise ConfigError(f"{source.shown} has no name that its copy could get")
    else:
        size = os.path.getsize(source.text) if os.path.isfile(source.text) else None
        yield source, source.name, size if source.kind == "path" else None


def _listed(source: Location, store: Store, call: Call) -> Iterator[tuple[Location, str, int | None]]:
    from imgstore.stack import followed

    lister = followed(store).lister  # which shows no manifests
    if lister is None:
        raise UnsupportedError("this store cannot list its images; name each", store=source.store)
    for info in lister.list(source.key, call=call):
        yield in_store(source.store, info.key), info.key.removeprefix(source.key), info.size


def _walked(folder: str, terminal: Terminal) -> Iterator[tuple[Location, str, int | None]]:
    def failed(exc: OSError) -> None:
        raise file_error(exc, f"cannot list {exc.filename}") from exc

    for place, folders, files in os.walk(folder, onerror=failed):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in sorted([*files, *links]):
            path = os.path.join(place, name)
            found = os.lstat(path)
            if not stat.S_ISREG(found.st_mode):
                terminal.say(f"{path} left out: it is no regular file")
            elif not is_pending(name) and not is_beside(name, files):  # half a copy, which is being made
                yield Location("path", path, path), os.path.relpath(path, folder), found.st_size
