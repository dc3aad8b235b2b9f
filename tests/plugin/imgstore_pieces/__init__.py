"""A driver from elsewhere: images that `split` has cut into pieces."""

from __future__ import annotations

import os

from oslo_config import cfg

from imgstore.errors import ConnectionLostError, NotFoundError, StorageIOError
from imgstore.model import ByteRange, ObjectInfo
from imgstore.secret import reveal
from imgstore.store import Store, unknown
from imgstore.stream import Opened


class PiecesStore(Store):
    """Each image is a folder whose files, in the order of their names, follow one another."""

    OPTIONS = (
        cfg.StrOpt("folder", required=True, help="The folder of the images' folders."),
        cfg.IntOpt("breaks_after", help="Bytes after which every stream breaks off, as over a bad line."),
        cfg.StrOpt("passphrase", secret=True, help="What each image's folder has in its file .passphrase."),
    )

    def __init__(self, *, folder, breaks_after=None, passphrase=None):
        self._folder = folder
        self._breaks_after = breaks_after
        self._passphrase = passphrase

    def _stat(self, key, call):
        return self._find(key)[0]

    def _open(self, key, start, stop, version, call):
        info, pieces = self._find(key)
        stop = info.size if stop is None else min(stop, info.size)
        return Opened(
            _Reader(pieces, start, stop, self._breaks_after), info, ByteRange(start, max(start, stop))
        )

    def translate(self, exc):
        if isinstance(exc, FileNotFoundError):
            return NotFoundError("there are no such pieces")
        return (
            StorageIOError(str(exc.strerror), errno=exc.errno) if isinstance(exc, OSError) else unknown(exc)
        )

    def _find(self, key):
        folder = os.path.join(self._folder, key)
        with open(os.path.join(folder, ".passphrase")) as file:
            if file.read() != reveal(self._passphrase):
                raise PermissionError(13, "the passphrase is another")
        paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name[0] != "."]
        found = [os.stat(path) for path in paths]
        version = "-".join(f"{each.st_ino:x}.{each.st_mtime_ns:x}" for each in found)
        pieces = [(path, each.st_size) for path, each in zip(paths, found, strict=True)]
        return ObjectInfo(key, sum(size for _, size in pieces), version), pieces


class _Reader:
    """A position in the pieces of one image."""

    def __init__(self, pieces, at, stop, breaks_after):
        self._pieces, self._at, self._stop = pieces, at, stop
        self._breaks_at = stop if breaks_after is None else at + breaks_after

    def readinto(self, buffer):
        if self._at == self._stop:
            return 0
        if self._at == self._breaks_at:
            raise ConnectionLostError("the stream broke off")
        path, offset, size = self._find()
        wanted = min(len(buffer), size - offset, self._stop - self._at, self._breaks_at - self._at)
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            count = file.readinto(buffer[:wanted])
        self._at += count
        return count

    def _find(self):
        offset = self._at
        for path, size in self._pieces:
            if offset < size:
                return path, offset, size
            offset -= size
        raise FileNotFoundError(2, "a piece is gone")

    def abort(self):
        self._breaks_at = self._at

    def close(self):
        self._pieces = []
