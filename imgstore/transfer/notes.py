"""Notes of uploads that are under way, so that another process can go on with them.

A note is a hint: what is stored of an upload, its store alone knows. It says which upload that is, of what,
and of each part that was sent what it was. Its records are those of `imgstore.records`. One that is lost or
torn costs an upload that begins anew; nothing in it is secret.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from imgstore import records
from imgstore.errors import ImgstoreError, LockedError
from imgstore.journal import Identity
from imgstore.model import Part

LOG = logging.getLogger(__name__)

FORMAT: Final = 1
_SUFFIX: Final = ".upload"
_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# A token of S3 may have 16 KiB, and a version 4.
_LINE_LIMIT: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload as it began: of which source, in parts of how many bytes, and when (POSIX seconds)."""

    token: str
    source: Identity
    part_size: int
    overwrite: bool
    started: float


@dataclass(frozen=True, slots=True)
class Sent:
    """A part that the store took, and the CRC-32 of the bytes that it was sent."""

    part: Part
    crc: int


class Note:
    """The note of one upload, and the lock that makes the upload this process's until `close`.

    `begun` and `sent`, by number, are what an earlier process has noted; `begun` is None where none did. What
    cannot be written is lost, and told once. `add` may be called from many threads.
    """

    def __init__(self, path: str, file: int) -> None:
        """Reads the open file `file`, which is locked, and takes it over. Raises: OSError."""
        self._path = path
        self._file = file
        self._lock = threading.Lock()
        self._told = self._gone = False
        self.begun: Begun | None = None
        self.sent: dict[int, Sent] = {}
        with open(file, "rb", closefd=False) as lines:
            for text in records.texts(iter(lambda: lines.readline(_LINE_LIMIT), b"")):
                self._apply(text)

    @property
    def is_whole(self) -> bool:
        """Whether every part was sent, and the image may have been published."""
        begun = self.begun
        return begun is not None and len(self.sent) == -(-begun.source.size // begun.part_size)

    def begin(self, begun: Begun) -> None:
        """Notes an upload, in the place of an earlier one; durable when this returns."""
        self.begun = begun
        self.sent = {}
        try:
            os.ftruncate(self._file, 0)
        except OSError as exc:
            self._tell(exc)
        else:
            self._append({"upload": FORMAT, **asdict(begun)}, durable=True)

    def add(self, sent: Sent) -> None:
        """Notes a part, as one that is held in the place of an earlier one."""
        part = sent.part
        with self._lock:
            self.sent[part.number] = sent
            self._append([part.number, part.offset, part.size, part.tag, sent.crc], durable=False)

    def forget(self) -> None:
        """Removes the note, as there is no upload any more."""
        self.begun = None
        self.sent = {}
        if not self._gone:  # else the name may be another's by now
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._gone = True

    def close(self) -> None:
        """Lets the upload go; a note of none is removed."""
        if self.begun is None:
            self.forget()
        os.close(self._file)

    def __enter__(self) -> Note:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, record: Any, *, durable: bool) -> None:
        try:
            records.append(self._file, record, durable=durable)
        except (OSError, ImgstoreError) as exc:
            self._tell(exc)

    def _tell(self, exc: Exception) -> None:
        if not self._told:
            LOG.warning("%s cannot be written, so another run may send parts again: %s", self._path, exc)
        self._told = True

    def _apply(self, text: bytes) -> None:
        """Enters a record; one of another format, and what follows it, is none."""
        # somebody may have written anything, checksum and all
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            record = json.loads(text)
            if isinstance(record, dict) and record.pop("upload", None) == FORMAT:
                self.begun = Begun(**{**record, "source": Identity(**record["source"])})
            elif isinstance(record, list) and self.begun is not None:
                number, offset, size, tag, crc = record
                self.sent[number] = Sent(Part(number, offset, size, tag), crc)


class Notes:
    """The notes of one user, a file each, which its lock (flock(2)) makes that of one process at a time."""

    def __init__(self, folder: str | None = None) -> None:
        """Takes the folder, by default `uploads` in the user's state folder (XDG Base Directory, 0.8)."""
        self._folder = folder or os.path.join(_state(), "imgstore", "uploads")

    def opened(self, target: str, source: str) -> Note:
        """Gives the note of the upload of `source` to `target`, an empty one where there is none.

        Both are text that names the place and is the same at each run; the note has its digest alone.

        Raises: LockedError where another process is at that upload; OSError where no notes can be kept.
        """
        os.makedirs(self._folder, 0o700, exist_ok=True)
        while True:
            note = _opened(self._path(target, source), _FLAGS | os.O_CREAT)
            if note is not None:
                return note

    def is_whole(self, target: str, source: str) -> bool:
        """Tells whether all of `source` was sent to `target`, by what is noted and nobody is at."""
        try:
            note = self.at(self._path(target, source))
        except OSError:
            return False
        if note is None:
            return False
        with note:
            return note.is_whole

    def paths(self) -> dict[str, str]:
        """Gives where the note of each upload is, by token, whoever is at it. Raises: OSError."""
        return {token: path for path in self._all() for token in _token(path)}

    def is_beginning(self) -> bool:
        """Tells whether a process is about to note an upload that it may have begun. Raises: OSError."""
        for path in self._all():
            try:
                note = None if list(_token(path)) else self.at(path)
            except LockedError:
                return True
            if note is not None:
                note.close()
        return False

    def at(self, path: str) -> Note | None:
        """Gives the note at `path`, None where there is none any more. Raises: LockedError, OSError."""
        try:
            return _opened(path, _FLAGS)
        except FileNotFoundError:
            return None

    def _all(self) -> list[str]:
        try:
            names = os.listdir(self._folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [os.path.join(self._folder, name) for name in names if name.endswith(_SUFFIX)]

    def _path(self, target: str, source: str) -> str:
        name = hashlib.sha256(f"{target}\0{source}".encode("utf-8", "surrogateescape")).hexdigest()
        return os.path.join(self._folder, name[:32] + _SUFFIX)


def _state() -> str:
    given = os.environ.get("XDG_STATE_HOME", "")
    return given if os.path.isabs(given) else os.path.expanduser("~/.local/state")


def _opened(path: str, flags: int) -> Note | None:
    """Opens and locks the note at `path`; None where it lost that name before it was locked.

    Raises: LockedError, OSError.
    """
    file = os.open(path, flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file), os.lstat(path)):
            return Note(path, file)
    except BlockingIOError:
        os.close(file)
        raise LockedError("another process is at this upload; wait for it to end, or end it") from None
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None


def _token(path: str) -> Iterator[str]:
    """Gives the token in a note, which a process may be about to write or to remove."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        with open(os.open(path, _FLAGS), "rb") as lines:
            found = list(records.texts([lines.readline(_LINE_LIMIT)]))
        yield from (str(json.loads(text)["token"]) for text in found)
