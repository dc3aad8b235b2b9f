"""What a listing leaves out: said once, since a copy of everything would be without it."""

from __future__ import annotations

import logging

LOG = logging.getLogger(__name__)


class LeftOut:
    """Objects whose names are no keys, counted during one listing. Belongs to one thread."""

    def __init__(self, store: str, place: str) -> None:
        """`place` is the bucket or container of `store`."""
        self._store = store
        self._place = place
        self._count = 0
        self._first = ""

    def add(self, name: str, size: object) -> None:
        """Notes one, unless it is a folder that a console made: that has no byte, and ends in a slash."""
        if size == 0 and name.endswith("/"):
            return
        self._first = self._first or name
        self._count += 1

    def tell(self) -> None:
        """Warns of them at the end of the listing, if there were any."""
        if self._count:
            LOG.warning(
                "store %s: %d of the objects in %s are left out of the list: no key is called %r",
                self._store,
                self._count,
                self._place,
                self._first,
            )
