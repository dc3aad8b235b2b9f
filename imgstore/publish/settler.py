"""What is claimed of a half image, made durable now and then behind the back of who writes."""

from __future__ import annotations

import os
import threading
import time
from typing import Final

from imgstore.journal import Journal
from imgstore.publish.failures import typed

# What a power loss may cost, in bytes and in seconds.
_BYTES: Final = 64 << 20
_SECONDS: Final = 2.0


class Settler:
    """Syncs the half image `file` every 64 MiB or two seconds, and settles what was claimed before.

    Its thread starts with the first part and ends with `stop`; where the process has no more threads, whoever
    claims a part now and then waits for the disk. The first error is final. Callable from many threads.
    """

    def __init__(self, file: int, found: Journal, path: str) -> None:
        """`path` is what errors name."""
        self._file = file
        self._journal = found
        self._path = path
        self._enough = max(1, _BYTES // found.part_size)
        self._claimed: list[int] = []
        self._due = 0.0
        self._ending = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_alone = False

    def add(self, number: int) -> None:
        """Takes a part that was claimed. Raises: what a sync has raised: NoSpaceError, StorageIOError..."""
        with self._changed:
            if self._error is not None:
                raise self._error
            if self._thread is None and not self._is_alone:
                self._start()
            if not self._claimed:
                self._due = time.monotonic() + _SECONDS
            self._claimed.append(number)
            if len(self._claimed) == 1 or self._is_due():
                self._changed.notify()
            if self._is_alone and self._is_due():
                self._settle(self._taken())

    def stop(self) -> None:
        """Returns when the thread has ended; what is not settled yet stays so. Idempotent."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join()

    def finish(self) -> None:
        """Stops, where all is to be published. Raises: what a sync has raised.

        The kernel tells of a failed write once: another sync of the file would know nothing of it.
        """
        self.stop()
        if self._error is not None:
            raise self._error

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="imgstore-sync", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread, self._is_alone = None, True

    def _run(self) -> None:
        while numbers := self._next():
            try:
                self._settle(numbers)
            except BaseException as exc:  # noqa: BLE001 - raised by whoever claims the next part
                self._error = exc
                return

    def _next(self) -> list[int]:
        """Waits until parts are to be settled and gives them; none at the end."""
        with self._changed:
            while not self._ending and not self._is_due():
                self._changed.wait(self._due - time.monotonic() if self._claimed else None)
            return [] if self._ending else self._taken()

    def _is_due(self) -> bool:
        return len(self._claimed) >= self._enough or (bool(self._claimed) and time.monotonic() >= self._due)

    def _taken(self) -> list[int]:
        numbers, self._claimed = self._claimed, []
        return numbers

    def _settle(self, numbers: list[int]) -> None:
        with typed(f"cannot write {self._path}"):
            os.fdatasync(self._file)
            self._journal.settle(numbers)
