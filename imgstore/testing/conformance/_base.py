"""What all suites share: the hooks that a driver author fills in, and the tools of the cases."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

from imgstore.model import NO_CALL, Call, Version
from imgstore.store import Store

LOG = logging.getLogger(__name__)

BLOCK = 1 << 16
SIZE = 3 * BLOCK + 17  # a few of the usual buffers, and no multiple of anything
PROMPT = 1.0  # seconds within which a cancellation or a deadline ends any wait

Case = TypeVar("Case", bound=Callable[..., None])
_numbers = itertools.count(1)


def needs(hook: str) -> Callable[[Case], Case]:
    """Marks a case that only runs where the author filled in the optional `hook`."""

    def mark(case: Case) -> Case:
        case.needs = hook  # type: ignore[attr-defined]
        return case

    return mark


def at_once(streams: int) -> Callable[[Case], Case]:
    """Marks a case that has several `streams` open at once."""

    def mark(case: Case) -> Case:
        case.streams = streams  # type: ignore[attr-defined]
        return case

    return mark


class Suite:
    """The hooks. Subclass a suite, fill them in, and let pytest collect the class.

    The hooks talk of one place: what `seed` puts there is what a store of `store()` serves. A case calls
    `store()` once, or twice where a second process is meant, and closes what it got. `seed`, `replace` and
    `remove` may work behind the store's back, by any means: a file written, a request sent with another
    library, the driver's own writer. Keys are never used twice, so the place need not be emptied between
    cases; `seeded` lists them for whoever wants to.

    A case whose optional hook is left as it stands here is left out, and so is one that needs more streams at
    once than the store allows (`streams`); `left_out` lists those. `alone` says that nobody else takes room
    in the place, so that a case may hold what is free before against what is free after.
    """

    streams: ClassVar[float] = float("inf")
    alone: ClassVar[bool] = False
    left_out: ClassVar[dict[str, str]] = {}
    ran: ClassVar[int] = 0

    def store(self) -> Store:
        """Gives a store over the place."""
        raise NotImplementedError

    def seed(self, key: str, data: bytes) -> None:
        """Puts an image there. The suites only seed keys that are not taken."""
        raise NotImplementedError

    def replace(self, key: str, data: bytes) -> None:
        """Optional: replaces the image under `key` by another; open readers may be at work."""
        raise NotImplementedError

    def remove(self, key: str) -> None:
        """Optional: removes the image under `key`; open readers may be at work."""
        raise NotImplementedError

    def stall(self, key: str) -> None:
        """Optional: a body of `key` opened from now on gives at least a byte, then waits without an end."""
        raise NotImplementedError

    def unreachable(self) -> Store:
        """Optional: gives a store whose place does not exist or does not answer."""
        raise NotImplementedError

    def full(self) -> Store:
        """Optional: gives a store with a writer, and with room for less than `SIZE` bytes."""
        raise NotImplementedError

    def secrets(self) -> Sequence[str]:
        """Gives the credentials that the store was built with: strings that must never be shown."""
        return ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.store is Suite.store:
            return
        cls.left_out, cls.ran = {}, 0
        for name in [name for name in dir(cls) if name.startswith("test_")]:
            case = next(each.__dict__[name] for each in cls.__mro__ if each.__dict__.get(name))
            hook = getattr(case, "needs", None)
            if hook is not None and getattr(cls, hook) is getattr(Suite, hook):
                cls.left_out[name] = f"needs the hook {hook}"
                case = None
            elif getattr(case, "streams", 1) > cls.streams:
                cls.left_out[name] = f"needs {case.streams} streams at once"
                case = None
            setattr(cls, name, case)

    @classmethod
    def cases(cls) -> list[str]:
        """Gives the names of the cases that run, in alphabetical order."""
        return [name for name in dir(cls) if name.startswith("test_") and getattr(cls, name)]

    def setup_method(self) -> None:
        """Begins a case; an override calls it first."""
        self.seeded: list[str] = []
        self._subject: Store | None = None
        type(self).ran += 1

    def teardown_method(self) -> None:
        """Ends a case; an override calls it."""
        if self._subject is not None:
            self._subject.close()

    @classmethod
    def teardown_class(cls) -> None:
        """Says how many cases ran."""
        LOG.info(
            "%s: %d cases ran, %d were left out %s", cls.__name__, cls.ran, len(cls.left_out), cls.left_out
        )

    @property
    def subject(self) -> Store:
        """The store under test."""
        if self._subject is None:
            self._subject = self.store()
            # errors must name their store, and so it needs a name
            self._subject.store_id = self._subject.store_id or "kit"
        return self._subject

    def image(self, data: bytes, name: str = "image") -> str:
        """Seeds `data` under a key of its own, which it gives."""
        key = fresh_key(name)
        self.seeded.append(key)
        self.seed(key, data)
        return key

    def read(
        self,
        key: str,
        offset: int = 0,
        length: int | None = None,
        *,
        version: Version = None,
        call: Call = NO_CALL,
    ) -> bytes:
        """Reads one range with one stream."""
        with self.subject.get(key, offset, length, version=version, call=call) as stream:
            return stream.read()

    def lacks(self, facet: str) -> bool:
        """Tells whether the store lacks the optional `facet`; a case about it then has nothing to prove."""
        missing = getattr(self.subject, facet) is None
        if missing:
            LOG.info("%s: the store has no %s, nothing to prove", type(self).__name__, facet)
        return missing


def fresh_key(name: str = "image") -> str:
    """Gives a key that no case has used, in this process or another."""
    return f"kit-{os.getpid()}-{next(_numbers)}/{name}"


@functools.lru_cache(maxsize=64)
def pattern(size: int, seed: int = 0) -> bytes:
    """Gives `size` bytes in which no stretch of a few bytes occurs twice, so that a shift shows."""
    return random.Random(f"{size} {seed}").randbytes(size)


@functools.lru_cache(maxsize=16)
def marked(size: int, generation: int) -> bytes:
    """Gives a pattern each of whose bytes tells its generation, 0 or 1, by its highest bit."""
    return pattern(size, generation).translate(bytes(each & 0x7F | generation << 7 for each in range(256)))


def expect(got: bytes, image: bytes, start: int, stop: int, what: str) -> None:
    """Fails unless `got` is image[start:stop], and says in which way it is not."""
    wanted = image[start:stop]
    if got == wanted:
        return
    same = next((at for at, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), None)
    said = f"{what}: wrong bytes; asked for [{start}, {stop}), got {len(got)} bytes of {len(wanted)}"
    if same is None:
        raise AssertionError(said + ", right as far as they go")
    place = image.find(got[same : same + 16])
    said += f", the first wrong one at offset {start + same}"
    if place >= 0 and len(got) - same >= 4:
        said += f", where the bytes of offset {place} stand"
    raise AssertionError(said)


class Caught:
    """The error that `raises` caught."""

    error: Any = None


@contextlib.contextmanager
def raises(kind: type[BaseException] | tuple[type[BaseException], ...], what: str) -> Iterator[Caught]:
    """Fails unless the block raises `kind`."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    wanted = " or ".join(each.__name__ for each in kinds)
    caught = Caught()
    try:
        yield caught
    except kinds as exc:
        caught.error = exc
    except Exception as exc:
        raise AssertionError(f"{what}: wanted {wanted}, got {type(exc).__name__}: {exc}") from exc
    else:
        raise AssertionError(f"{what}: wanted {wanted}, but nothing was raised")


class Background:
    """Runs `work` in a thread of its own."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self.result: object = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name="conformance")
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as exc:  # noqa: BLE001  # whatever it is, the case judges it
            self.error = exc

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def join(self, seconds: float = 10.0) -> bool:
        """Waits for the end; tells whether it came."""
        self._thread.join(seconds)
        return not self.running


def footprint() -> tuple[int, int]:
    """Gives how many descriptors and threads this process has; without /proc only the threads."""
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    return descriptors, threading.active_count()


def wait_until(true: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Waits until `true()`, at most `seconds`; tells whether it is."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
