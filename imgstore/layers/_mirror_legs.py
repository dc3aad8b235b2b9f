"""The legs of a mirror, and what one call tries at one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, TypeVar
from urllib.parse import quote

from imgstore.clock import Clock
from imgstore.errors import ConfigError, ImgstoreError, NotFoundError, VersionChangedError
from imgstore.layers._mirror_plan import STRONG, Route, Standings, by_digest, is_content, pinned
from imgstore.layers.base import proof_of
from imgstore.manifest import Manifest
from imgstore.model import Call, Event, ObjectInfo, Version
from imgstore.store import Store
from imgstore.stream import ByteStream

LOG = logging.getLogger(__name__)

T = TypeVar("T")

# What proves that another leg has the same bytes: a manifest of chunks, or a digest of the whole.
Proof: TypeAlias = Literal["chunks", "digest"]

_QUIET: Final = 1.0  # one warning a second tells all there is to know of a leg that comes and goes


@dataclass(frozen=True, slots=True)
class Leg:
    """One place of a mirror: a store in all its layers.

    `key`: what the image is called there, None: as it is asked for. `priority`: 1 is the best; legs of equal
    priority are chosen by how fast they serve. `name`: what versions, events and messages call it, by default
    the store's id; no secret may be in it. `manifest`: gives the manifest that the store proves each byte of
    an image by, None for one that it does not prove: for `stat`, as a stream says it itself. `stack.leg`
    takes it from the store's verify layer.
    """

    store: Store
    key: str | None = None
    priority: int = 1
    name: str = ""
    manifest: Callable[[str, Call], Manifest | None] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.store.store_id)


class Legs:
    """The legs of one mirror, how they have served, what proves them equal. Callable from many threads."""

    def __init__(
        self,
        legs: Sequence[Leg],
        key: str | None,
        manifest: Manifest | None,
        *,
        clock: Clock,
        observe: Callable[[Event], None] | None,
    ) -> None:
        """Raises: ConfigError for legs that make no mirror."""
        self._legs = tuple(legs)
        self.names = [leg.name for leg in self._legs]
        self._tokens = [quote(name) for name in self.names]  # without the colon that ends them in a version
        self.key = key if key is not None or manifest is None else manifest.key
        self.clock = clock
        # the version that it may name is that of the store it was made in
        self._manifest = manifest and replace(manifest, version=None)
        self.standings = Standings([leg.priority for leg in self._legs])
        self._observe = observe
        self._quiet_until = float("-inf")
        self._check()

    def __len__(self) -> int:
        return len(self._legs)

    def place(self, number: int, key: str) -> tuple[Store, str]:
        """Gives the store of a leg, and what it calls the image."""
        leg = self._legs[number]
        return leg.store, leg.key or key

    def route(self, key: str, version: Version) -> tuple[Route, Version]:
        """Gives the way through the legs that may hold `version`, and what each of them is asked for.

        Raises: NotFoundError for a key that the mirror does not have; VersionChangedError for a token that is
        none of its own.
        """
        if self.key is not None and key != self.key:
            raise NotFoundError(f"the mirror has the one image {self.key!r}, not {key!r}")
        every = range(len(self))
        if not isinstance(version, str):
            return Route(self.names, every), version
        if is_content(version):
            return Route(self.names, every), None
        name, colon, own = version.partition(":")
        if not colon or name not in self._tokens:
            raise VersionChangedError(f"the version that was asked for of {key!r} is none of the mirror's")
        return Route(self.names, [self._tokens.index(name)]), own

    def proof(self, stream: ByteStream) -> Manifest | None:
        """Gives what a leg's stream proves each byte by, None where it does not."""
        return self._manifest or proof_of(stream)

    def manifest(self, number: int, key: str, call: Call) -> Manifest | None:
        """Gives what a leg would prove an image by, were it opened now; None where it would not.

        Raises: as `Leg.manifest`.
        """
        leg = self._legs[number]
        if self._manifest is not None or leg.manifest is None:
            return self._manifest
        return leg.manifest(leg.key or key, call)

    def described(
        self, number: int, key: str, info: ObjectInfo, manifest: Manifest | None
    ) -> tuple[ObjectInfo, Proof | None]:
        """Gives what the mirror says of an image that a leg describes by `info`, and what proves it.

        Raises: ManifestError where `manifest` is of another image.
        """
        if manifest is not None:
            return replace(info, key=key, version=pinned(info, manifest)), "chunks"
        if (token := by_digest(info)) is not None:
            return replace(info, key=key, version=token), "digest"
        own = None if info.version is None else f"{self._tokens[number]}:{info.version}"
        return replace(info, key=key, version=own), None

    def emit(self, call: Call, event: Event) -> None:
        """Tells the observers, if there are any."""
        for observe in (call.observe, self._observe):
            if observe is not None:
                observe(event)

    def warn(self, number: int, event: Event) -> None:
        """Logs one line for a leg that failed; at most one a second, the rest at DEBUG."""
        now = self.clock.now()
        level = logging.WARNING if now >= self._quiet_until else logging.DEBUG
        if level == logging.WARNING:
            self._quiet_until = now + _QUIET
        error = event.error
        LOG.log(
            level,
            "store %s: %s of %r leaves %s at offset %d after %s: %s (request id %s)",
            event.store,
            event.operation,
            event.key,
            self.names[number],
            event.offset,
            type(error).__name__,
            error,
            getattr(error, "request_id", None),
        )

    def _check(self) -> None:
        if not self._legs:
            raise ConfigError("a mirror of no stores can give nothing; one leg would do")
        for name in self.names:
            if not name or name in STRONG:
                raise ConfigError(f"a leg cannot be called {name!r}; a name that is no digest's would do")
        if len(set(self.names)) < len(self.names):
            raise ConfigError(
                f"the legs of a mirror are called {', '.join(self.names)}; a name for each would do"
            )
        one = self._manifest is not None or any(leg.key is not None for leg in self._legs)
        if one and self.key is None:
            raise ConfigError("a mirror of one image needs to know its key; the argument 'key' would do")


class Attempts:
    """One call: what is tried at one leg after the other, until it ends by itself or the call is over.

    Belongs to one thread.
    """

    def __init__(
        self, legs: Legs, key: str, version: Version, call: Call, *, store: str, operation: str = "get"
    ) -> None:
        """`store` is the mirror's id. Raises: as `Legs.route`."""
        self.route, self.asked = legs.route(key, version)
        self._legs = legs
        self._clock = legs.clock
        self._call = call
        self._event = Event("failed", store, key, operation=operation)
        self.held = 0.0  # seconds that opens waited on our own side before they failed
        remaining = call.remaining(self._clock)
        # The deadline is kept on the clock that never steps, and told anew to each leg.
        self._limit = None if remaining is None else self._clock.now() + remaining

    @property
    def call(self) -> Call:
        """The call as a leg is told of it now."""
        if self._limit is None:
            return self._call
        return replace(self._call, deadline=self._clock.time() + self._limit - self._clock.now())

    def first_good(self, at: int, attempt: Callable[[int], T]) -> T:
        """Gives what `attempt` gives for the first leg that does not fail at offset `at`.

        Raises: as `Route.verdict` when all have failed, and as `failed`.
        """
        standings, now = self._legs.standings, self._clock.now
        while (number := self.route.next(at, standings.ranked(now()))) is not None:
            standings.begun(number, now())
            try:
                return attempt(number)
            except ImgstoreError as exc:
                self.failed(number, at, exc)
        error = self.route.verdict(self._event.key)
        error.held = self.held
        raise error

    def failed(self, number: int, at: int, error: ImgstoreError) -> None:
        """Notes and tells that a leg failed at offset `at`.

        Raises: OperationCancelledError, DeadlineExceededError where it failed because the call is over.
        """
        try:
            self.call.check(self._clock)
        except ImgstoreError as over:
            raise over from error
        self.held += error.held
        error.store = error.store or self._legs.place(number, self._event.key)[0].store_id
        self._legs.standings.failed(number, self._clock.now(), error)
        self.route.failed(number, at, error)
        event = replace(self._event, offset=at, error=error)
        self._legs.emit(self._call, event)
        self._legs.warn(number, event)
