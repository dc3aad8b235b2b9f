"""Numbers handed to a thread that does something with them, one batch after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Batches:
    """Has `work` called with what `add` was given, in its order, in a thread of its own.

    A batch is worked when it has `enough` numbers, or is `patience` seconds old. Whoever adds waits while
    `most` wait already. The first error of `work` is final: every later call raises it.

    The thread starts with the first number, and ends with `finish` or `stop`; where the process has no more
    threads, whoever adds does the work. Callable from many threads.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[list[int]], None],
        *,
        enough: int = 1,
        patience: float = 0.0,
        most: int | None = None,
    ) -> None:
        """Starts nothing; `name` is the thread's."""
        self._name = name
        self._work = work
        self._enough = enough
        self._patience = patience
        self._most = most
        self._waiting: list[int] = []
        self._due = 0.0
        self._ending = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_alone = False

    def add(self, number: int) -> None:
        """Hands one over. Raises: what `work` has raised; without a thread, what it raises."""
        with self._changed:
            if self._thread is None and not self._is_alone:
                self._start()
            while self._most is not None and len(self._waiting) >= self._most and self._error is None:
                self._changed.wait()
            self._check()
            if not self._waiting:
                self._due = time.monotonic() + self._patience
            self._waiting.append(number)
            if self._is_alone:
                self._work_all()
            self._changed.notify_all()

    def finish(self) -> None:
        """Returns when all is done and the thread has ended. Raises: what `work` has raised."""
        self._end()
        self._check()

    def stop(self) -> None:
        """Returns when the thread has ended: after the batch it is at, and no other. Idempotent."""
        with self._changed:
            self._waiting.clear()
        self._end()

    def _end(self) -> None:
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread, self._is_alone = None, True

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._is_due():
                    left = self._due - time.monotonic() if self._waiting else None
                    self._changed.wait(left)
                if not self._waiting:
                    return
                # Whoever adds may go on only when room is made, which is when this batch is done.
                batch = list(self._waiting)
            try:
                self._work(batch)
            except BaseException as exc:  # noqa: BLE001 - raised by whoever adds or ends
                with self._changed:
                    self._error = exc
                    self._waiting.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                del self._waiting[: len(batch)]
                self._due = time.monotonic() + self._patience
                self._changed.notify_all()

    def _is_due(self) -> bool:
        if self._ending:
            return True
        return bool(self._waiting) and (len(self._waiting) >= self._enough or time.monotonic() >= self._due)

    def _work_all(self) -> None:
        try:
            self._work(self._waiting)
        except BaseException as exc:
            self._error = exc
            raise
        finally:
            self._waiting = []
