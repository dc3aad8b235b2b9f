"""Who asks: the configured keys, or those that boto3's ordinary chain finds, renewed in mid-transfer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from imgstore.backends._http.watch import SLICE
from imgstore.errors import ConfigError
from imgstore.secret import Secret, reveal


@dataclass(frozen=True, slots=True)
class Keys:
    """One set of credentials, as a request is signed with them. Attributes have the names of botocore's."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    account_id: str | None = None


class Credentials(Protocol):
    """What is asked for keys at each request. Callable from many threads."""

    def current(self) -> Keys:
        """Gives the keys as they are now. Raises: ConfigError, or what botocore raises."""

    def renewed(self, refused: Keys, wait: Callable[[], object]) -> bool:
        """Tells whether there are other keys by now than those that were `refused`; asks once if need be.

        `wait` is called while another thread asks; what it raises ends the wait.
        """


class Given:
    """The keys of the options, each read where it is kept, at each request."""

    def __init__(self, access_key: Secret, secret_key: Secret, session_token: Secret | None) -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self._session_token = session_token

    def current(self) -> Keys:
        token = None if self._session_token is None else _word(self._session_token, "session_token")
        return Keys(_word(self._access_key, "access_key"), _word(self._secret_key, "secret_key"), token)

    def renewed(self, refused: Keys, wait: Callable[[], object]) -> bool:
        return self.current() != refused


def _word(secret: Secret, option: str) -> str:
    text = reveal(secret).strip()
    if not text or not text.isprintable() or not text.isascii():
        raise ConfigError(f"the option '{option}' is no key: one word of visible ASCII would do")
    return text


class Chain:
    """What boto3's chain finds: environment, files, roles, containers, instances.

    Keys that know when they expire renew themselves, in botocore. For others, such as those of a file that a
    program rewrites, the chain is asked anew when the service refuses them: once for all who wait.
    """

    def __init__(self, find: Callable[[], Any]) -> None:
        """Takes what walks the chain and gives botocore's credentials, None where it finds none."""
        self._find = find
        self._lock = threading.Lock()  # over fields, never over the walk
        self._found: Any = None
        self._walking: threading.Event | None = None

    def current(self) -> Keys:
        found = self._found
        if found is None:
            found = self._walk(lambda: None, stale=None)
        return _frozen(found)

    def renewed(self, refused: Keys, wait: Callable[[], object]) -> bool:
        stale = self._found
        if stale is None or _frozen(stale) != refused:
            return True
        return _frozen(self._walk(wait, stale=stale)) != refused

    def _walk(self, wait: Callable[[], object], *, stale: Any) -> Any:
        """Gives credentials other than the object `stale`; one thread asks, the others wait for it."""
        while True:
            with self._lock:
                if self._found is not stale:
                    return self._found
                walking = self._walking
                mine = threading.Event()
                if walking is None:
                    self._walking = mine
            if walking is None:
                return self._ask(mine)
            while not walking.wait(SLICE):
                wait()

    def _ask(self, over: threading.Event) -> Any:
        try:
            found = self._find()
            if found is None:
                from botocore.exceptions import NoCredentialsError

                raise NoCredentialsError
            self._found = found
            return found
        finally:
            self._walking = None
            over.set()


def _frozen(found: Any) -> Keys:
    frozen = found.get_frozen_credentials()
    return Keys(frozen.access_key, frozen.secret_key, frozen.token, getattr(frozen, "account_id", None))
