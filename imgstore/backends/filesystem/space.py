"""The room that is left."""

from __future__ import annotations

from imgstore.backends.filesystem.directories import Directories
from imgstore.backends.filesystem.failures import typed
from imgstore.model import NO_CALL, Call
from imgstore.store import Store


class FilesystemSpace:
    """Asks the file systems of the data directories, each once. A quota may leave less than they say."""

    def __init__(self, owner: Store, directories: Directories) -> None:
        self._owner = owner
        self._directories = directories

    def free(self, *, call: Call = NO_CALL) -> int | None:
        self._owner._admit(None, call)
        with typed(self._owner, ""):
            return sum(dict(each.free() for each in self._directories.ordered).values())
