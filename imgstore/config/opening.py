"""From a configuration to its open stores."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from oslo_config import cfg

from imgstore.clock import SYSTEM, Clock
from imgstore.config import drivers
from imgstore.config.enabled import default_store, enabled_stores
from imgstore.config.files import Sections, check, read_files, stores_told
from imgstore.config.mirrors import MirrorOptions
from imgstore.config.options import DEFAULTS, MAIN, register_opts
from imgstore.config.stores import Stores
from imgstore.config.values import StoreOptions
from imgstore.errors import ConfigError
from imgstore.model import Event
from imgstore.retry import TokenBucket
from imgstore.stack import build, verified
from imgstore.store import Store


@dataclass(frozen=True, slots=True)
class _Plan:
    """A store that is to be built. `preset` goes before the defaults of the driver's options."""

    store_id: str
    driver: str
    make: type[Store]
    options: StoreOptions
    secrets: set[str] = field(default_factory=set, repr=False)
    preset: Mapping[str, Any] = field(default_factory=dict)


def open_stores(
    conf: cfg.ConfigOpts,
    *,
    clock: Clock = SYSTEM,
    executor: Executor | None = None,  # noqa: ARG001  # promised to embedders before a layer needs it
    observe: Callable[[Event], None] | None = None,
    hide: Callable[[Collection[str]], object] | None = None,
) -> Stores:
    """Builds every store that `conf` enables. Nothing is connected to, and no folder is made or looked at.

    `conf` is read now and not again, and gets the options of the stores registered. `clock` is every store's;
    `observe` is told the events of every call, in the thread they happen in. `executor` stays the caller's to
    shut down; no layer uses it: what reads in parallel waits for more than one of its threads at once, and
    has threads of its own. `hide` is given the texts of each store's secrets as they are now, for who shows
    what drivers say and would blot them out.
    Stores of one endpoint share what they may spend on retries.

    Raises: ConfigError for the first store that cannot be built, naming store, driver, option and cause; for
    options and sections that nobody reads; where `conf` has not been called. Nothing stays open then.
    """
    files = read_files(conf)
    register_opts(conf)
    enabled, preset = _enabled(conf, files)
    plans = [*_plans(conf, files, enabled, preset)]
    mirrors = [*_mirrors(conf, enabled)]
    known = {plan.options.group: plan.options.known for plan in plans}
    known.update({each.group: each.known for each in mirrors})
    check(files, {**known, MAIN: set(conf[MAIN]), DEFAULTS: set(conf[DEFAULTS])})
    default_id = default_store(conf, enabled)
    buckets: dict[str, TokenBucket] = {}
    built: dict[str, Store] = {}
    try:
        for plan in plans:
            with _naming(plan.store_id, plan.driver, plan.secrets):
                built[plan.store_id] = _build(plan, buckets, clock, observe)
            if hide is not None:
                hide(plan.secrets)
        stores = {plan.store_id: _verified(plan, built, enabled, observe) for plan in plans}
        joined = {each.store_id: _joined(each, stores, enabled, clock, observe) for each in mirrors}
    except BaseException:
        with contextlib.suppress(Exception):
            Stores(built, {}, None).close()
        raise
    stores.update(joined)
    return Stores({store_id: stores[store_id] for store_id in enabled}, enabled, default_id)


def _build(
    plan: _Plan,
    buckets: dict[str, TokenBucket],
    clock: Clock,
    observe: Callable[[Event], None] | None,
) -> Store:
    settings = plan.options.layers()
    driver = plan.make(**plan.options.arguments(plan.preset, plan.secrets))
    driver.store_id = plan.store_id
    bucket = buckets.setdefault(driver.endpoint, TokenBucket()) if driver.endpoint else None
    return build(driver, settings, clock=clock, bucket=bucket, observe=observe)


def _verified(
    plan: _Plan,
    built: Mapping[str, Store],
    enabled: Mapping[str, str],
    observe: Callable[[Event], None] | None,
) -> Store:
    """Gives the store with its manifests, if those are in another one. Raises: ConfigError."""
    store = built[plan.store_id]
    settings = plan.options.layers()
    named = settings.manifest_store
    if named is None:
        return store
    with _naming(plan.store_id, plan.driver):
        if named not in enabled:
            raise ConfigError(
                f"manifest_store is {named!r}, which is not enabled{drivers.nearest(named, built)}"
            )
        if named not in built:
            raise ConfigError(f"manifest_store is {named!r}, a mirror; a store that it joins would do")
        beside = named == plan.store_id
        return verified(store, settings, manifests=None if beside else built[named], observe=observe)


def _joined(
    mirror: MirrorOptions,
    stores: Mapping[str, Store],
    enabled: Mapping[str, str],
    clock: Clock,
    observe: Callable[[Event], None] | None,
) -> Store:
    """Gives a mirror of some of the `stores`, which it does not close: they are in use by their own names."""
    from imgstore.layers.mirror import Mirror

    with _naming(mirror.store_id, drivers.MIRROR):
        joined = Mirror(mirror.legs(stores, enabled), clock=clock, observe=observe, borrowed=True)
    joined.store_id = mirror.store_id
    return joined


def _enabled(
    conf: cfg.ConfigOpts, files: Mapping[str, Sections]
) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    """Gives the driver of each store by its name, and what goes before the defaults of their options.

    Raises: ConfigError where none is enabled and one seems to be meant.
    """
    if enabled := enabled_stores(conf):
        return enabled, {}
    if told := stores_told(files):
        raise ConfigError(
            f"there is a section [{told[0]}], but enabled_stores in [{MAIN}] names no store; "
            f"it takes {told[0].removeprefix('store_')}:DRIVER"
        )
    return {"local": "filesystem"}, _embedded()


def _plans(
    conf: cfg.ConfigOpts, files: Mapping[str, Sections], enabled: Mapping[str, str], preset: Mapping[str, Any]
) -> Iterator[_Plan]:
    for store_id, driver in enabled.items():
        if driver != drivers.MIRROR:
            with _naming(store_id, driver):
                make = drivers.load(driver)
                options = StoreOptions(conf, files, store_id, make.OPTIONS)
            yield _Plan(store_id, driver, make, options, preset=preset)


def _mirrors(conf: cfg.ConfigOpts, enabled: Mapping[str, str]) -> Iterator[MirrorOptions]:
    for store_id, driver in enabled.items():
        if driver == drivers.MIRROR:
            with _naming(store_id, driver):
                options = MirrorOptions(conf, store_id)
            yield options


def _embedded() -> dict[str, Any]:
    """Gives the options of the store that is there without any configuration (XDG Base Directory)."""
    base = os.environ.get("XDG_DATA_HOME", "")
    if not os.path.isabs(base):  # relative ones are to be ignored, says the specification
        base = os.path.expanduser("~/.local/share")
    if not os.path.isabs(base):
        raise ConfigError("there is no home directory for the store 'local': set HOME or XDG_DATA_HOME")
    return {"data_dir": os.path.join(base, "imgstore", "images"), "create_data_dir": True, "thin": True}


@contextlib.contextmanager
def _naming(store_id: str, driver: str, secrets: Collection[str] = ()) -> Iterator[None]:
    """Turns any failure into a ConfigError of one line that names the store and shows none of `secrets`."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001  # whatever a driver from elsewhere raises
        said = str(exc) if isinstance(exc, ConfigError) else f"{type(exc).__name__}: {exc}"
        told = " ".join(said.split())
        shown = told
        for secret in sorted(secrets, key=len, reverse=True):
            shown = shown.replace(secret, "<secret>")
        error = ConfigError(f"store {store_id!r}, driver {driver!r}: {shown}", store=store_id)
        # A traceback shows the cause: one that tells a secret is left out.
        raise error from (exc if shown == told else None)
