"""The token of a store: kept in the process, renewed before its end and after a refusal, once for all."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Protocol

from imgstore.backends._http.transport import Transport
from imgstore.clock import Clock
from imgstore.errors import (
    ConfigError,
    DeadlineExceededError,
    ImgstoreError,
    OperationCancelledError,
    TimedOutError,
)
from imgstore.model import Call


@dataclass(frozen=True, slots=True)
class Access:
    """What a login gave: the account's URL and the token, which ends at `expires` (POSIX seconds)."""

    url: str
    token: str = field(repr=False)
    expires: float | None = None


class Login(Protocol):
    """Asks the identity service. Callable from any thread; keeps nothing."""

    def __call__(self, call: Call) -> Access: ...


class _Run:
    """One login, which other threads may wait for."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.error: ImgstoreError | None = None


class Tokens:
    """Gives the token of this process. Callable from any thread; no lock is held while one is fetched."""

    def __init__(self, login: Login, transport: Transport, clock: Clock, *, expire_soon: float) -> None:
        self._login = login
        self._transport = transport
        self._clock = clock
        self._soon = expire_soon
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._held: Access | None = None
        self._renew_at: float | None = None
        self._run: _Run | None = None

    def current(self, call: Call, *, refused: Access | None = None) -> Access:
        """Gives the access to use; a new one in place of `refused`, which the server did not accept.

        Raises: as the login; TimedOutError where another thread's login takes longer than a reply may.
        """
        if self._pid != os.getpid():
            self._after_fork()
        watch = self._transport.watch(call)
        while True:
            with self._lock:
                held = self._held
                if held is not None and held is not refused and not self._ends_soon():
                    return held
                run = self._run
                first = run is None
                if run is None:
                    run = self._run = _Run()
            if first:
                return self._begin(run, call)
            while not run.over.wait(watch.pause()):
                pass
            if run.error is not None:
                raise type(run.error)(run.error.message, request_id=run.error.request_id) from run.error

    def _begin(self, run: _Run, call: Call) -> Access:
        try:
            access = self._login(call)
        except (OperationCancelledError, DeadlineExceededError, TimedOutError):
            raise  # that was this caller's time; the others try for themselves
        except (ImgstoreError, ConfigError) as exc:
            run.error = exc
            raise
        else:
            now = self._clock.time()
            with self._lock:
                self._held = access
                self._renew_at = None
                if access.expires is not None:
                    # a token that lives for less than that is not renewed at each use
                    self._renew_at = access.expires - min(self._soon, (access.expires - now) / 2)
            return access
        finally:
            with self._lock:
                self._run = None
            run.over.set()

    def _ends_soon(self) -> bool:
        return self._renew_at is not None and self._clock.time() >= self._renew_at

    def _after_fork(self) -> None:
        """Takes a lock of its own: in a child the owner of the old one may be gone for ever."""
        self._lock = threading.Lock()
        self._run = None
        self._pid = os.getpid()
