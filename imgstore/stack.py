"""The only place that orders layers, and says what each does to each facet.

Inner to outer: *metrics* sees every attempt; *limit* holds permits and bandwidth for each attempt, so that a
pause between two tries holds none; *resume* splices; *verify* proves what was spliced; *parallel* reads parts
that each have all of that. Settings switch a layer on or off and never reorder.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol, runtime_checkable

from imgstore.clock import SYSTEM, Clock
from imgstore.errors import ConfigError, redact_url
from imgstore.layers.base import Layer
from imgstore.layers.limit import LimitLayer
from imgstore.layers.metrics import MetricsLayer
from imgstore.layers.resume import ResumeLayer
from imgstore.model import Call, Event
from imgstore.retry import TokenBucket
from imgstore.store import Store

if TYPE_CHECKING:
    from imgstore.layers.mirror import Leg, Mirror
    from imgstore.layers.verify import Manifests
    from imgstore.manifest import Manifest

# Tries in a row at a place that others stand in for: a connection may break once. All tries of one place take
# ten seconds and more, in which another could have served.
LEG_ATTEMPTS: Final = 2
RECEIVE_LIMIT: Final = 20.0  # seconds of silence that no window makes longer: connections die unnoticed

_VERIFY: Final = ("off", "if-present", "required")

# What a layer does to a facet: `wrap` adds the layer's own behaviour, `pass` hands out the inner one itself.
FACETS: Mapping[str, Mapping[str, Literal["wrap", "pass"]]] = {
    "metrics": {
        "writer": "wrap",
        "uploader": "wrap",
        "lister": "pass",
        "extents": "pass",
        "device": "pass",
        "copier": "pass",
        "acls": "pass",
        "space": "pass",
    },
    "limit": {
        "writer": "pass",
        "uploader": "pass",
        "lister": "pass",
        "extents": "pass",
        "device": "pass",
        "copier": "pass",
        "acls": "pass",
        "space": "pass",
    },
    "resume": {
        "writer": "wrap",
        "uploader": "wrap",
        "lister": "wrap",
        "extents": "wrap",
        "device": "pass",
        "copier": "pass",
        "acls": "pass",
        "space": "pass",
    },
    "verify": {
        "writer": "wrap",
        "uploader": "wrap",
        "lister": "wrap",
        "extents": "wrap",
        "device": "pass",
        "copier": "wrap",
        "acls": "pass",
        "space": "pass",
    },
    "parallel": {
        "writer": "pass",
        "uploader": "pass",
        "lister": "pass",
        "extents": "pass",
        "device": "pass",
        "copier": "pass",
        "acls": "pass",
        "space": "pass",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSettings:
    """The settings of the layers of one store. Bytes and seconds; None switches off.

    `resume_attempts` of 0 leaves the resume layer out, `verify` of "off" the verify layer, unless
    `store_manifests` asks for a manifest of each image that is stored, as `verify` of "required" does by
    itself. Manifests are beside their images, or in the store `manifest_store`, which `open_stores` knows by
    its name. `parallel` of 1 reads over one connection. See the layers for what each setting means.

    Raises: ConfigError naming the setting and what would do.
    """

    resume_attempts: int = 8
    stall_timeout: float = 15.0
    stall_floor: float = 16 << 10
    deadline: float | None = None
    skip_limit: int = 1 << 30
    proof_limit: float = 2.0
    max_streams: int | None = None
    rate_limit: float | None = None
    verify: Literal["off", "if-present", "required"] = "off"
    manifest_store: str | None = None
    store_manifests: bool | None = None
    parallel: int = 1
    part_size: int = 8 << 20

    @property
    def makes_manifests(self) -> bool:
        """Whether each image that is stored gets a manifest. One without could not be read if required."""
        return self.verify == "required" if self.store_manifests is None else self.store_manifests

    def __post_init__(self) -> None:
        for name in ("resume_attempts", "stall_floor", "skip_limit", "proof_limit"):
            if not getattr(self, name) >= 0:  # NaN is not, either
                raise ConfigError(f"{name} is {getattr(self, name)}; it is 0 or more")
        for name in ("stall_timeout", "deadline", "max_streams", "rate_limit", "parallel", "part_size"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}; it is above 0")
        if self.rate_limit == math.inf:
            raise ConfigError("rate_limit is inf; None lifts the limit")
        if self.verify not in _VERIFY:
            raise ConfigError(f"verify is {self.verify!r}; {', '.join(_VERIFY)} would do")


@runtime_checkable
class Patient(Protocol):
    """A driver that waits for each receive itself: `receive_timeout` seconds at most."""

    receive_timeout: float


def build(
    driver: Store,
    settings: LayerSettings = LayerSettings(),
    *,
    clock: Clock = SYSTEM,
    bucket: TokenBucket | None = None,
    jitter: Callable[[], float] = random.random,
    observe: Callable[[Event], None] | None = None,
) -> Store:
    """Gives `driver` in its layers. `bucket` is shared by all stores of one endpoint.

    `clock` is given to the driver as well, and a receive timeout within the stall window; `observe` is told
    every event of every call. Where `settings` name another store for manifests, `verified` adds their layer.
    """
    driver.clock = clock
    if isinstance(driver, Patient):
        # Silence is a stall as well, and must not outlast the window that a trickle has.
        driver.receive_timeout = min(driver.receive_timeout, settings.stall_timeout, RECEIVE_LIMIT)
    store: Store = MetricsLayer(driver, observe=observe)
    if settings.max_streams is not None or settings.rate_limit is not None:
        store = LimitLayer(store, max_streams=settings.max_streams, rate_limit=settings.rate_limit)
    if settings.resume_attempts:
        store = ResumeLayer(
            store,
            resume_attempts=settings.resume_attempts,
            stall_timeout=settings.stall_timeout,
            stall_floor=settings.stall_floor,
            deadline=settings.deadline,
            skip_limit=settings.skip_limit,
            proof_limit=settings.proof_limit,
            bucket=bucket,
            jitter=jitter,
            observe=observe,
        )
    return store if settings.manifest_store else verified(store, settings, observe=observe)


def verified(
    store: Store,
    settings: LayerSettings,
    *,
    manifests: Store | None = None,
    observe: Callable[[Event], None] | None = None,
) -> Store:
    """Gives `store` with what `settings` say of verifying; `manifests` is where those of its images are.

    What is verified is read over as many connections as they say.

    Without it they are beside their images, and not listed. It stays the caller's to close. Who names one has
    manifests there, which go with their images, whatever the settings say.
    """
    if settings.verify == "off" and not settings.makes_manifests and manifests is None:
        return _parallel(store, settings)
    # a fifth of what `imgstore --help` may take, for those who verify
    from imgstore.layers._manifests import SUFFIX, StoredManifests
    from imgstore.layers.verify import VerifyLayer

    store = VerifyLayer(
        store,
        StoredManifests(store if manifests is None else manifests),
        required=settings.verify == "required",
        proves=settings.verify != "off",
        makes=settings.makes_manifests,
        hide=SUFFIX if manifests is None else "",
        spare=settings.max_streams is None,
        observe=observe,
    )
    return _parallel(store, settings)


def _parallel(store: Store, settings: LayerSettings) -> Store:
    if settings.parallel == 1:
        return store
    from imgstore.layers.parallel import ParallelLayer

    return ParallelLayer(
        store, streams=settings.parallel, part_size=settings.part_size, deadline=settings.deadline
    )


def _parted(store: Store) -> tuple[Store, Callable[[Store], Store]]:
    """Gives `store` without the parallel layer, and what puts that around it again, if there is one."""
    from imgstore.layers.parallel import ParallelLayer

    if isinstance(store, ParallelLayer):
        return store.inner, store.around
    return store, lambda inner: inner


def over_one(store: Store, call: Call) -> tuple[Store, int, Call]:
    """Gives `store` without the parallel layer, for who opens the connections himself.

    Beside it, how many that layer would have open, 1 without one, and `call` within the time that it gives.
    """
    from imgstore.layers.parallel import ParallelLayer

    if not isinstance(store, ParallelLayer):
        return store, 1, call
    return store.inner, store.streams, store.bounded(call)


def followed(store: Store) -> Store:
    """Gives `store` with the manifests beside its images taken along, and not listed, if it does neither yet.

    What is read of it is proven as it was before.
    """
    from imgstore.layers._manifests import SUFFIX, StoredManifests
    from imgstore.layers.verify import VerifyLayer

    inner, parallel = _parted(store)
    if isinstance(inner, VerifyLayer):
        return store
    return parallel(VerifyLayer(inner, StoredManifests(inner), proves=False, hide=SUFFIX))


def makes_manifests(store: Store) -> bool:
    """Whether each image that is stored in `store` gets a manifest."""
    from imgstore.layers.verify import VerifyLayer

    while isinstance(store, Layer):
        if isinstance(store, VerifyLayer) and store.makes:
            return True
        store = store.inner
    return False


def unproven(store: Store) -> tuple[Store, Manifests]:
    """Gives `store` without the layer that proves what is read of it, and the manifests of its images.

    Where no layer knows them they are taken to be beside their images.
    """
    from imgstore.layers._manifests import StoredManifests
    from imgstore.layers.verify import VerifyLayer

    inner, parallel = _parted(store)
    if isinstance(inner, VerifyLayer):
        return parallel(inner.inner), inner.manifests
    return store, StoredManifests(store)


def proven(store: Store, manifest: Manifest, *, observe: Callable[[Event], None] | None = None) -> Store:
    """Gives `store`, whose one image is read, with every byte of it proven by `manifest`."""
    from imgstore.layers._manifests import OneManifest
    from imgstore.layers.verify import VerifyLayer

    inner, parallel = _parted(store)
    return parallel(VerifyLayer(inner, OneManifest(manifest), required=True, observe=observe))


def leg(store: Store, key: str | None = None, *, priority: int = 1, name: str = "") -> Leg:
    """Gives a store in its layers as a leg of a mirror, with the manifests that its verify layer reads by.

    The rest is as in `Leg`.
    """
    from imgstore.layers.mirror import Leg
    from imgstore.layers.verify import VerifyLayer

    inner, _ = _parted(store)
    manifest = inner.manifest if isinstance(inner, VerifyLayer) else None
    return Leg(store, key, priority, name, manifest)


def mirrored(
    sources: Iterable[str | Leg],
    *,
    key: str | None = None,
    manifest: Manifest | None = None,
    settings: LayerSettings = LayerSettings(),
    clock: Clock = SYSTEM,
    observe: Callable[[Event], None] | None = None,
) -> Mirror:
    """Gives one store of the places that hold one image: URLs, the best first, and legs made by `leg`.

    A URL has its place among `sources` for its priority, a leg its own. What URLs may be is said in
    `imgstore.backends.urls`; each gets a stack of `settings`, in which all but the last make `LEG_ATTEMPTS`
    tries in a row at most. They are requested as they stand: those that a manifest names are to be handed
    over only by who trusts whoever wrote it. With `manifest` every byte of every source is proven by it
    before it is delivered, and a read goes on from any to any other.

    The mirror has the image alone, under `key`, else that of the manifest, else that of the first source.
    Closing it closes the sources. `clock` and `observe` are as in `build`; a leg's store has its own.

    Raises: ConfigError for no sources, and for one that is none, or is there twice. Nothing is connected to.
    """
    from imgstore.layers.mirror import Mirror

    places = list(sources)
    hasty = replace(settings, resume_attempts=min(settings.resume_attempts, LEG_ATTEMPTS))
    legs = [
        _leg_at(each, priority, hasty if priority < len(places) else settings, clock, observe)
        if isinstance(each, str)
        else each
        for priority, each in enumerate(places, 1)
    ]
    if key is None and manifest is not None:
        key = manifest.key
    if key is None and legs:
        key = legs[0].key
    if manifest is not None:
        legs = [
            replace(each, store=proven(each.store, manifest, observe=observe), manifest=None) for each in legs
        ]
    return Mirror(legs, key=key, manifest=manifest, clock=clock, observe=observe)


def _leg_at(
    url: str,
    priority: int,
    settings: LayerSettings,
    clock: Clock,
    observe: Callable[[Event], None] | None,
) -> Leg:
    from imgstore.backends.urls import at

    driver, key = at(url)
    driver.store_id = redact_url(url)
    return leg(build(driver, settings, clock=clock, observe=observe), key, priority=priority)
