"""Other software told of what happens here: each module adapts events to one, and needs its own extra."""

from __future__ import annotations

from collections.abc import Callable

from imgstore.model import Event


def observers(*each: Callable[[Event], None]) -> Callable[[Event], None]:
    """Gives one observer that tells every one of `each`, in this order, in the thread of the event.

    One that raises keeps no other from being told; then the first exception is raised, which ends the call.

    >>> seen = []
    >>> observe = observers(seen.append, lambda event: print(event.kind))
    >>> observe(Event("opened", "fast", "disk"))
    opened
    >>> len(seen)
    1
    """

    def observe(event: Event) -> None:
        failure: Exception | None = None
        for tell in each:
            try:
                tell(event)
            except Exception as exc:  # noqa: BLE001  # raised below, once all are told
                failure = failure or exc
        if failure is not None:
            raise failure

    return observe
