"""A store tried out, step by step: the way to it, then what can be done there."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import secrets
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from imgstore.errors import (
    AuthenticationError,
    DigestMismatchError,
    ImgstoreError,
    NoSpaceError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    TransientError,
    UnsupportedError,
)
from imgstore.model import Call
from imgstore.steps import TEST_PREFIX, NotApplicableError, Step
from imgstore.store import Store

LOG = logging.getLogger(__name__)

_SIZE: Final = 64 << 10  # bytes written and read: more than one packet and one block, and no burden
# After these a put has stored nothing, whatever was tried.
_REFUSED: Final = (
    AuthenticationError,
    NoSpaceError,
    NotFoundError,
    PermissionDeniedError,
    UnsupportedError,
)
_CLEANING: Final = 10.0  # seconds for removing what was written, whatever the steps have used up


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step went: `said` is what it found, or what is wrong; `advice` what would help, if it failed."""

    name: str
    result: Literal["ok", "failed", "skipped"]
    said: str
    seconds: float = 0.0
    advice: str = ""
    error: ImgstoreError | None = None


def check(
    store: Store, way: Iterable[Step], key: str | None = None, *, write: bool, seconds: float
) -> Generator[Outcome, None, None]:
    """Tries the `way` that the driver of `store` knows, then listing, reading, writing, deleting and space.

    Gives each outcome as it comes. A step takes at most `seconds`. `key` is an image to read; without it, the
    first that is listed. With `write`, a small image is stored, read back and removed; it goes too when the
    iterator is closed before its end, and a warning names it where that fails.
    """
    trial = Trial(store, key, write=write)
    broken = ""
    try:
        for step in (*way, *trial.steps()):
            if broken:
                yield Outcome(step.name, "skipped", f"{broken} failed")
                continue
            if step.writes and not write:
                yield Outcome(step.name, "skipped", "no writing was asked for")
                continue
            outcome = _tried(step, store, Call().within(seconds, clock=store.clock))
            yield outcome
            if step.vital and outcome.result == "failed":
                broken = step.name
    finally:
        trial.clean_up()


def _tried(step: Step, store: Store, call: Call) -> Outcome:
    began = store.clock.now()
    try:
        said = step.run(call)
    except NotApplicableError as exc:
        return Outcome(step.name, "skipped", str(exc))
    except ImgstoreError as exc:
        return Outcome(
            step.name, "failed", exc.message, store.clock.now() - began, advice=step.advise(exc), error=exc
        )
    return Outcome(step.name, "ok", said, store.clock.now() - began)


class Trial:
    """What every store can be asked to do, once it can be reached. Belongs to one thread."""

    def __init__(self, store: Store, key: str | None, *, write: bool) -> None:
        """Does nothing yet."""
        self._store = store
        self._key = key
        self._write = write
        self._test_key = f"{TEST_PREFIX}{secrets.token_hex(8)}"
        self._state: Literal["nothing", "unknown", "written"] = "nothing"

    def steps(self) -> list[Step]:
        """Gives the steps in order; each stands alone, as a store may allow one and refuse another."""
        tries: dict[str, Callable[[Call], str]] = {
            "list": self._list,
            "read": self._read,
            "write": self._put,
            "delete": self._delete,
            "space": self._space,
        }
        return [Step(name, run, _advice(name), vital=False) for name, run in tries.items()]

    def clean_up(self) -> None:
        """Removes what was written, if it may still be there."""
        writer = self._store.writer
        if self._state == "nothing" or writer is None:
            return
        try:
            writer.delete(self._test_key, call=Call().within(_CLEANING, clock=self._store.clock))
        except NotFoundError:
            pass
        except ImgstoreError as exc:
            LOG.warning("%r may be left in the store: %s", self._test_key, exc)
        self._state = "nothing"

    def _list(self, call: Call) -> str:
        if self._store.lister is None:
            raise NotApplicableError("this store cannot list its images")
        first = next(iter(self._store.lister.list(call=call)), None)
        if first is None:
            return "there is no image yet"
        self._key = self._key or first.key
        return f"the first image is {first.key!r}"

    def _read(self, call: Call) -> str:
        if self._key is None:
            raise NotApplicableError("no image is known; name one, as STORE:KEY")
        with self._store.get(self._key, 0, _SIZE, call=call) as stream:
            return f"{len(stream.read())} bytes of {self._key!r}"

    def _put(self, call: Call) -> str:
        writer = self._store.writer
        if writer is None:
            raise NotApplicableError("this store is only read")
        if not self._write:
            raise NotApplicableError("no writing was asked for")
        data = secrets.token_bytes(_SIZE)
        digests = {"sha256": hashlib.sha256(data).hexdigest()}
        self._state = "unknown"
        try:
            writer.put(self._test_key, io.BytesIO(data), len(data), digests=digests, call=call)
        except _REFUSED:
            self._state = "nothing"
            raise
        self._state = "written"
        with self._store.get(self._test_key, call=call) as stream:
            if stream.read() != data:
                raise DigestMismatchError("what was written reads back otherwise", key=self._test_key)
        return f"{len(data)} bytes, and read back"

    def _delete(self, call: Call) -> str:
        writer = self._store.writer
        if writer is None or self._state != "written":
            raise NotApplicableError("nothing was written")
        writer.delete(self._test_key, call=call)
        try:
            self._store.stat(self._test_key, call=call)
        except NotFoundError:
            self._state = "nothing"
            return "what was written is gone"
        raise PermanentError("what was removed is still there", key=self._test_key)

    def _space(self, call: Call) -> str:
        free = None if self._store.space is None else self._store.space.free(call=call)
        if free is None:
            raise NotApplicableError("the store does not say how much is left")
        if free == 0:
            raise NoSpaceError("no byte is left")
        return f"{free} bytes{_rounded(free)} are free"


def _rounded(size: int) -> str:
    """Gives the size in brackets, in the largest unit of which there is one; nothing below 1 KiB."""
    power = max(0, size.bit_length() - 1) // 10
    return f" ({size / (1 << 10 * power):.1f} {'KMGTPE'[power - 1]}iB)" if power else ""


def _advice(name: str) -> Callable[[ImgstoreError], str]:
    def advise(error: ImgstoreError) -> str:
        if getattr(error, "errno", None) == errno.EROFS:
            return "mount the file system for writing, or use the store for reading only"
        for kind, said in _ADVICE:
            if isinstance(error, kind):
                return said.format(name)
        return "see the message; with --debug, where it comes from"

    return advise


# The first that fits counts.
_ADVICE: Final[tuple[tuple[type[ImgstoreError], str], ...]] = (
    (AuthenticationError, "correct or renew the credentials in the store's section"),
    (PermissionDeniedError, "grant this user the right to {}, or do without"),
    (NoSpaceError, "make room, or have the quota raised"),
    (NotFoundError, "name an image that is there: imgstore ls shows them"),
    (DigestMismatchError, "trust nothing that is stored there until its medium has been examined"),
    (TransientError, "try again later, or look into the service's log"),
)
