"""The stores of a configuration, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, NoReturn, final

from imgstore.errors import ConfigError
from imgstore.store import Store

if TYPE_CHECKING:
    from typing_extensions import Self


@final
class Stores(Mapping[str, Store]):
    """The open stores by their name, each in its layers. Immutable; callable from many threads.

    May be made before a fork and used on both sides: each process makes clients of its own, at first use. Not
    pickled; a StoreRef names an image to another process. A context manager: its end is `close`.
    """

    def __init__(
        self, stores: Mapping[str, Store], drivers: Mapping[str, str], default_id: str | None
    ) -> None:
        """Takes the stores over. `drivers` names the driver of each; `default_id` is one of them, or None."""
        self._stores = dict(stores)
        self._default_id = default_id
        self._open = list(self._stores.values())
        self.drivers: Mapping[str, str] = MappingProxyType(dict(drivers))

    @property
    def default_id(self) -> str:
        """The name of the default store. Raises: ConfigError where there are several and none was chosen."""
        if self._default_id is None:
            raise ConfigError(
                "several stores are enabled and none is the default: set default_store in [imgstore] to one"
                " of " + ", ".join(self._stores)
            )
        return self._default_id

    @property
    def default(self) -> Store:
        """The store that is meant where none is named. Raises: as `default_id`."""
        return self._stores[self.default_id]

    def close(self) -> None:
        """Closes every store, also after one fails to, and raises the first error then.

        New calls raise ValueError; open streams live until they are closed. A second call does nothing.
        """
        failures = []
        stores, self._open = self._open, []
        for store in stores:
            try:
                store.close()
            except Exception as exc:  # noqa: BLE001  # told after the others are closed
                failures.append(exc)
        if failures:
            raise failures[0]

    def __getitem__(self, store_id: str) -> Store:
        return self._stores[store_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stores)

    def __len__(self) -> int:
        return len(self._stores)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        told = ", ".join(f"{each}:{driver}" for each, driver in self.drivers.items())
        return f"<Stores {told}; default {self._default_id}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("stores are not pickled or copied; StoreRef(store_id, key, version) names an image")
