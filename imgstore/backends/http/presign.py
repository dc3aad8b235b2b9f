"""URLs from a command: run once for all who wait, and again when the server no longer takes what it gave."""

from __future__ import annotations

import itertools
import os
import select
import shlex
import signal
import subprocess
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Final, cast

from imgstore.backends._http.address import Address, parse
from imgstore.backends._http.sockets import wait
from imgstore.backends._http.watch import SLICE, Watch
from imgstore.errors import (
    AuthenticationError,
    ConfigError,
    DeadlineExceededError,
    ImgstoreError,
    OperationCancelledError,
    TimedOutError,
    UnsafeLocationError,
)

OUTPUT_LIMIT: Final = 64 << 10  # bytes: no URL is longer
KNOWN_LIMIT: Final = 1024  # URLs kept: a few MiB; one that fell out is asked for again
GRACE: Final = 0.5  # seconds for a killed command to be gone: with a slice, less than a cancel may take


@dataclass(frozen=True, slots=True)
class Presigned:
    """A URL that the command gave. A later one has a higher `generation`."""

    address: Address
    generation: int


class _Run:
    """One run of the command, which others may wait for."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.error: ImgstoreError | None = None


class UrlCommand:
    """Gives URLs by key. Callable from any thread; for one key the command runs once at a time."""

    def __init__(self, command: str | Sequence[str]) -> None:
        """Takes the option `url_command`: a line in the shell's quoting, run without a shell, or its words.

        Raises: ConfigError.
        """
        try:
            self._words = shlex.split(command) if isinstance(command, str) else list(command)
        except ValueError as exc:
            raise ConfigError(f"the option 'url_command' is no command line: {exc}") from None
        if not self._words:
            raise ConfigError("the option 'url_command' is empty; it names a program that prints a URL")
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Presigned] = OrderedDict()
        self._running: dict[str, _Run] = {}
        self._generations = itertools.count(1)

    def __str__(self) -> str:
        return f"what {self._words[0]} gives"  # its arguments may hold a secret

    def url(self, key: str, watch: Watch, *, stale: int = 0) -> Presigned:
        """Gives a URL for `key` whose generation is above `stale`; runs the command if there is none.

        Raises: AuthenticationError where the command fails, ConfigError where it cannot be run or prints
        something else; as `Watch.pause`.
        """
        if key.startswith("-"):
            raise UnsafeLocationError(f"key {key!r} would be an option to the url_command", key=key)
        while True:
            with self._lock:
                known = self._known.get(key)
                if known is not None and known.generation > stale:
                    self._known.move_to_end(key)
                    return known
                run = self._running.get(key)
                first = run is None
                if run is None:
                    run = self._running[key] = _Run()
            if first:
                return self._begin(run, key, watch)
            while not run.over.wait(watch.pause()):
                pass
            if run.error is not None:
                raise type(run.error)(run.error.message) from run.error

    def _begin(self, run: _Run, key: str, watch: Watch) -> Presigned:
        try:
            address = self._ask(key, watch)
        except (OperationCancelledError, DeadlineExceededError, TimedOutError):
            raise  # that was this caller's time; the others try for themselves
        except ImgstoreError as exc:
            run.error = exc
            raise
        else:
            with self._lock:
                known = self._known[key] = Presigned(address, next(self._generations))
                self._known.move_to_end(key)
                while len(self._known) > KNOWN_LIMIT:
                    self._known.popitem(last=False)
            return known
        finally:
            with self._lock:
                del self._running[key]
            run.over.set()

    def _ask(self, key: str, watch: Watch) -> Address:
        try:
            process = subprocess.Popen(  # noqa: S603  # the operator's own command, without a shell
                [*self._words, key],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that what it starts can be ended with it
            )
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "not a command"
            raise ConfigError(f"the url_command {self._words[0]!r} cannot be run: {reason}") from None
        try:
            with cast("IO[bytes]", process.stdout) as pipe:
                output = _read(pipe, watch)
            status = _status(process, watch)
        except BaseException:
            _end(process)
            raise
        if status:
            raise AuthenticationError(
                f"the url_command ended with status {status}; run it by hand with the key to see why", key=key
            )
        return _address(output)


def _read(pipe: IO[bytes], watch: Watch) -> bytes:
    output = b""
    while True:
        if not wait(pipe.fileno(), select.POLLIN, watch):
            continue
        block = os.read(pipe.fileno(), OUTPUT_LIMIT)
        output += block
        if not block:
            return output
        if len(output) > OUTPUT_LIMIT:
            raise ConfigError("the url_command prints more than a URL")


def _status(process: subprocess.Popen[bytes], watch: Watch) -> int:
    while True:
        try:
            return process.wait(min(SLICE, watch.pause()))
        except subprocess.TimeoutExpired:
            continue


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the command with what it started. One that may not be killed, of another user, ends by itself."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        threading.Thread(target=process.wait, name="imgstore-reaper", daemon=True).start()


def _address(output: bytes) -> Address:
    lines = output.decode("utf-8", "replace").split("\n")
    printed = [line.strip() for line in lines if line.strip()]
    if len(printed) != 1:
        raise ConfigError(f"the url_command prints {len(printed)} lines; one URL would do")
    address, user = parse(printed[0], "what the url_command prints")
    if user is not None:
        raise ConfigError(
            "the URL that the url_command prints holds a user; the option 'username' is for that"
        )
    return address
