"""Drivers by name: entry points of the group `imgstore.drivers`, of which only the named one is imported."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Final, NoReturn

from stevedore.driver import DriverManager
from stevedore.exception import MultipleMatches, NoMatches

from imgstore.errors import ConfigError
from imgstore.store import Store

GROUP: Final = "imgstore.drivers"
# What enabled_stores names in place of a driver where a store is made of others; no driver can be called so.
MIRROR: Final = "mirror"


def load(name: str) -> type[Store]:
    """Gives the class of the driver `name`; no other driver is imported.

    Raises: ConfigError for a name that is not installed or installed twice, for a driver that cannot be
    imported, and for what is no driver.
    """
    try:
        found: object = DriverManager(GROUP, name, on_load_failure_callback=_failed).driver
    except NoMatches:
        raise ConfigError(_unknown(name)) from None
    except MultipleMatches:
        raise ConfigError(f"several packages bring a driver {name!r}: {_values(name)}; keep one") from None
    if not (isinstance(found, type) and issubclass(found, Store)):
        raise ConfigError(f"its entry point {_values(name)} gives no subclass of imgstore.Store")
    return found


def nearest(name: str, known: Iterable[str], prefix: str = "", likeness: float = 0.6) -> str:
    """Gives ` (did you mean 'x'?)` for the known name most like `name`, nothing where none is.

    `prefix` goes before it; not counted, since what two names share anyhow makes them no more alike.
    `likeness` is how alike they must be, 1 for equal.
    """
    like = difflib.get_close_matches(name, sorted(known), n=1, cutoff=likeness)
    return f" (did you mean {prefix + like[0]!r}?)" if like else ""


def _failed(_: object, point: EntryPoint, exc: BaseException) -> NoReturn:
    told = f"it cannot be imported from {point.value}: {type(exc).__name__}: {exc}"
    if isinstance(exc, ImportError):
        told += _remedy(point.name)
    raise ConfigError(" ".join(told.split())) from exc


def _remedy(name: str) -> str:
    """Says which extra brings what is missing, where the driver's package has one of the driver's name.

    Not of our own: on PyPI there is another project of this name, and our drivers say what they need.
    """
    for point in entry_points(group=GROUP, name=name):
        package = point.dist
        if package is None or package.name == "imgstore":
            continue
        if name in (package.metadata.get_all("Provides-Extra") or ()):
            return f"; pip install '{package.name}[{name}]' brings what it needs"
    return ""


def _unknown(name: str) -> str:
    installed = {point.name for point in entry_points(group=GROUP)} | {MIRROR}
    listed = ", ".join(sorted(installed))
    return f"no driver of that name is installed{nearest(name, installed)}; there are: {listed}"


def _values(name: str) -> str:
    return ", ".join(sorted({point.value for point in entry_points(group=GROUP, name=name)}))
