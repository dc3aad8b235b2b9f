"""The values that stores and their callers exchange: frozen, slotted, picklable unless said otherwise.

Sizes and offsets are in bytes, times in seconds (POSIX).
"""

from __future__ import annotations

import enum
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from imgstore.clock import SYSTEM, Clock
from imgstore.errors import DeadlineExceededError, OperationCancelledError, UnsafeLocationError

KEY_LIMIT: Final = 1024  # the smallest of the stores' own limits: S3 allows 1024 bytes of UTF-8 in a key
# What the key of an image is given to name its manifest. RFC 5854 §6: the extension of the media type.
MANIFEST_SUFFIX: Final = ".meta4"


class AnyVersion(enum.Enum):
    """The type of `ANY`, apart from `str` so that a token can never be mistaken for it."""

    ANY = "any"

    def __repr__(self) -> str:
        return "ANY"


ANY: Final = AnyVersion.ANY
Version: TypeAlias = "str | AnyVersion | None"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` up to, but not including, `stop`; `stop` None: to an end that is not known yet.

    Raises: ValueError for a negative start or a stop before it.
    """

    start: int
    stop: int | None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.stop is not None and self.stop < self.start):
            raise ValueError(f"not a byte range: [{self.start}, {self.stop})")

    @property
    def size(self) -> int | None:
        """The number of bytes, None while the end is not known."""
        return None if self.stop is None else self.stop - self.start

    def __str__(self) -> str:
        return f"[{self.start}, {'...' if self.stop is None else self.stop})"


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of one image.

    `version`: equal tokens promise equal bytes; None where the store offers no such promise. `digests` are of
    the whole image, lower-case hexadecimal by algorithm name of `hashlib`; an ETag is never one of them.
    """

    key: str
    size: int | None
    version: str | None
    modified: float | None = None
    digests: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Extent:
    """A stretch of one kind: `data`, `zero` (allocated, reads as zeros) or `hole` (not allocated)."""

    range: ByteRange
    kind: Literal["data", "zero", "hole"]


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an upload as the store holds it. `tag` is the store's own receipt, opaque."""

    number: int
    offset: int
    size: int
    tag: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a store or a layer; the only way in which the core makes itself seen.

    `kind` is one of a closed set:

    - `opened`: an attempt is being served from `offset` on; `seconds` it took to open.
    - `delivered`: `count` bytes of the image arrived from the store, wanted or not.
    - `refetched`: `count` of those bytes had been received before (skipped or compared again).
    - `stalled`: the stream fell below the floor at `offset`.
    - `resumed`: the read goes on at `offset` after `error`; `attempt` counts the tries of this call.
    - `repaired`: `count` bytes of a bad chunk at `offset` were replaced by good ones.
    - `source`: from `offset` on the bytes come from `store`.
    - `failed`: an attempt of `operation` ended with `error`; `opening` where none of it had been served.
    """

    kind: Literal["opened", "delivered", "stalled", "resumed", "repaired", "refetched", "source", "failed"]
    store: str
    key: str
    operation: str = "get"
    offset: int = 0
    count: int = 0
    seconds: float = 0.0
    attempt: int = 0
    error: Exception | None = None
    opening: bool = False


class CancelToken:
    """Calls off what was started with it, from any thread and for good.

    Whoever waits either waits on the token or subscribes a method that cuts its wait short.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.RLock()  # a signal handler may cancel while this thread subscribes
        self._listeners: list[weakref.WeakMethod[Callable[[], None]]] = []

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def cancel(self) -> None:
        """Wakes every wait on this token, its children and its listeners. Idempotent."""
        self._event.set()
        with self._lock:
            listeners, self._listeners = self._listeners, []
        failures = []
        for listener in listeners:
            method = listener()
            try:
                if method is not None:
                    method()
            except Exception as exc:  # noqa: BLE001  # one that fails must not leave the others waiting
                failures.append(exc)
        if failures:
            raise failures[0]

    def subscribe(self, method: Callable[[], None]) -> None:
        """Calls the bound `method` once, in the cancelling thread; at once if that has been.

        It is held weakly: it goes with its object, and need not be taken back.
        """
        with self._lock:
            self._listeners = [each for each in self._listeners if each() is not None]
            self._listeners.append(weakref.WeakMethod(method))
        if self.cancelled:
            self.cancel()

    def child(self) -> CancelToken:
        """Gives a token that is cancelled with this one, and can be cancelled alone."""
        token = CancelToken()
        self.subscribe(token.cancel)
        return token

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until cancelled, at most `timeout` seconds; tells whether it is."""
        return self._event.wait(timeout)


@dataclass(frozen=True, slots=True)
class Call:
    """What one call may take and whom it tells. Immutable; passed explicitly, also to other threads.

    `deadline` is a point in time (POSIX seconds) after which the call fails with DeadlineExceededError,
    within a second. `cancel` calls it off. `observe` is told each Event, in the thread it happens in; what it
    raises ends the call, and it must be quick.
    """

    deadline: float | None = None
    cancel: CancelToken | None = None
    observe: Callable[[Event], None] | None = None

    def within(self, seconds: float, *, clock: Clock = SYSTEM) -> Call:
        """Gives this call with at most `seconds` from now on; never later than its own deadline."""
        limit = clock.time() + seconds
        return replace(self, deadline=limit if self.deadline is None else min(limit, self.deadline))

    def remaining(self, clock: Clock = SYSTEM) -> float | None:
        """Seconds until the deadline, negative after it; None without one."""
        return None if self.deadline is None else self.deadline - clock.time()

    def check(self, clock: Clock = SYSTEM, *, key: str | None = None, store: str | None = None) -> None:
        """Returns while the call may go on.

        Raises: OperationCancelledError, DeadlineExceededError.
        """
        if self.cancel is not None and self.cancel.cancelled:
            raise OperationCancelledError("the operation was cancelled", key=key, store=store)
        if self.deadline is not None and clock.time() >= self.deadline:
            raise DeadlineExceededError("the deadline has passed", key=key, store=store)

    def emit(self, event: Event) -> None:
        if self.observe is not None:
            self.observe(event)


NO_CALL: Final = Call()


@dataclass(frozen=True, slots=True)
class StoreRef:
    """Names one version of one image in a configured store: what goes into a task or to another process."""

    store_id: str
    key: str
    version: str | None


def check_key(key: str) -> str:
    """Gives `key` back if it is one: 1 to 1024 bytes of UTF-8, no NUL, no empty, `.` or `..` segment.

    So there is no leading `/` either. Keys are never normalised: two that differ in a byte are two keys.

    Raises: UnsafeLocationError naming the key and the rule.
    """
    if not isinstance(key, str):
        raise UnsafeLocationError(f"a key is a string, not {type(key).__name__}")
    shown = repr(key if len(key) <= 80 else key[:77] + "...")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise UnsafeLocationError(f"key {shown} is not valid Unicode") from None
    if not 1 <= size <= KEY_LIMIT:
        raise UnsafeLocationError(
            f"key {shown} has {size} bytes; a key has 1 to {KEY_LIMIT}", key=key[:KEY_LIMIT]
        )
    if "\0" in key:
        raise UnsafeLocationError(f"key {shown} holds a NUL", key=key)
    if any(segment in {"", ".", ".."} for segment in key.split("/")):
        raise UnsafeLocationError(f"key {shown} has an empty, '.' or '..' segment, or a leading '/'", key=key)
    return key
