"""A store of files below one folder or several."""

from __future__ import annotations

import os
from collections.abc import Sequence

from imgstore.backends.filesystem import options
from imgstore.backends.filesystem.copier import FilesystemCopier
from imgstore.backends.filesystem.directories import Directories
from imgstore.backends.filesystem.extents import FilesystemExtents
from imgstore.backends.filesystem.lister import FilesystemLister
from imgstore.backends.filesystem.placing import Placing
from imgstore.backends.filesystem.reader import FileReader
from imgstore.backends.filesystem.space import FilesystemSpace
from imgstore.backends.filesystem.uploads import FilesystemUploader
from imgstore.backends.filesystem.writer import FilesystemWriter
from imgstore.errors import ImgstoreError, VersionChangedError
from imgstore.model import Call, ObjectInfo, Version
from imgstore.publish import file_error
from imgstore.steps import Step
from imgstore.store import Store, unknown
from imgstore.stream import Opened


class FilesystemStore(Store):
    """Regular files below a data directory, which may itself be a link; no link is followed below it.

    A key is the path below it. Its version is the file's inode, size and times: a file that is replaced by a
    rename is read to its end as it was, one that is written to in place ends in VersionChangedError, at the
    latest with its last bytes. A version is given when no later write can leave the same stamp: a file that
    was written to just now is waited for, some milliseconds (docs/decisions/0008-filesystem-versions.md).

    With several data directories, one that is not there never makes an image not found: StorageIOError names
    it, while images in the others can be read and deleted. Nothing is put anywhere until it is back, since it
    may hold the key.
    """

    OPTIONS = options.OPTIONS

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        data_dirs: Sequence[str | os.PathLike[str]] | None = None,
        create_data_dir: bool = False,
        thin: bool = False,
        read_back: bool = False,
        file_mode: str | None = None,
    ) -> None:
        """Raises: ConfigError for options that make no sense."""
        self._directories = Directories(options.directories(data_dir, data_dirs, create=create_data_dir))
        placing = Placing(self, self._directories, options.mode(file_mode))
        self.writer: FilesystemWriter = FilesystemWriter(placing, thin=thin, read_back=read_back)
        self.uploader: FilesystemUploader = FilesystemUploader(placing, thin=thin)
        self.lister: FilesystemLister = FilesystemLister(self, self._directories)
        self.extents: FilesystemExtents = FilesystemExtents(self, self._directories)
        self.copier: FilesystemCopier = FilesystemCopier(placing)
        self.space: FilesystemSpace = FilesystemSpace(self, self._directories)

    @property
    def location(self) -> str:
        """Where the images are."""
        return ", ".join(each.path for each in self._directories.ordered)

    def steps(self, key: str | None) -> Sequence[Step]:
        """Gives a look at each data directory (`imgstore.steps`)."""
        from imgstore.backends.filesystem.check import steps

        return steps(self._directories.ordered)

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        reader = self._reader(key, version, call)
        try:
            served = reader.clip(start, stop)
            reader.begin(served)
        except BaseException:
            reader.close()
            raise
        return Opened(reader, reader.info, served)

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        reader = self._reader(key, None, call)
        reader.close()
        return reader.info

    def _reader(self, key: str, version: Version, call: Call) -> FileReader:
        _, descriptor = self._directories.find(key)
        reader = FileReader(descriptor, key)
        try:
            reader.pin(version, self.clock, call)
        except BaseException as exc:
            reader.close()
            if isinstance(exc, VersionChangedError):
                # To lose its name changes a file's times, too: what is removed just now is not found.
                _, found = self._directories.find(key)
                os.close(found)
            raise
        return reader

    def translate(self, exc: Exception) -> ImgstoreError:
        if isinstance(exc, ImgstoreError):
            return exc
        if isinstance(exc, OSError):
            return file_error(exc, "the file system failed")
        return unknown(exc)
