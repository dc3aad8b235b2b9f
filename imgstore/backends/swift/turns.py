"""One writer at a time under one key, which Swift itself does not see to."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import random
import secrets
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from imgstore.backends.swift.failures import RefusedError
from imgstore.backends.swift.layout import TURNS, segments_of
from imgstore.errors import StoreError, UnavailableError
from imgstore.model import Call

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore

LOG = logging.getLogger(__name__)

# Seconds after which a writer is taken for dead. One that is slower than that loses this guard, and still
# has If-None-Match.
_STALE: Final = 30.0
# Seconds between two looks, on the average: about as long as the three requests of a turn.
_PAUSE: Final = 0.05
_CLEANING: Final = 5.0


@contextlib.contextmanager
def turn(owner: SwiftStore, key: str, call: Call) -> Iterator[None]:
    """Runs the block while no other store of this kind is in it for the same key.

    Swift compares `If-None-Match: *` when a PUT begins, and so two that overlap both succeed; radosgw ignores
    it. Hence each writer first puts an object of its own beside the others', then lists them, and goes on
    only where it is alone: of two that overlap at least one sees the other. Of those that see each other the
    one with the lowest name stays and waits, the others step back.

    This is as good as the listing. Swift's may lag after a failure of a container server.

    Raises: UnavailableError where others keep it from its turn; RefusedError, TransientError.
    """
    place = segments_of(owner.layout.place(key))
    prefix = f"{TURNS}{hashlib.sha256(key.encode()).hexdigest()}/"
    mine = prefix + secrets.token_hex(8)
    until = owner.clock.now() + 2 * _STALE
    try:
        owner.placing.put(place, mine, b"", call=call, headers={"X-Delete-After": "86400"})
        while others := _others(owner, place, prefix, mine, call):
            if owner.clock.now() > until:
                raise UnavailableError("other writers are at this key; try again later")
            stays = mine < min(others)
            if not stays:
                owner.service.remove(place, mine, call=call)
            owner.clock.sleep(_PAUSE * (0.5 + random.random()), call.cancel)
            call.check(owner.clock, key=key, store=owner.store_id)
            if not stays:
                owner.publisher.check_free(key, call)
                mine = prefix + secrets.token_hex(8)
                owner.placing.put(place, mine, b"", call=call, headers={"X-Delete-After": "86400"})
        yield
    finally:
        _leave(owner, place, mine)


def _others(owner: SwiftStore, place: str, prefix: str, mine: str, call: Call) -> list[str]:
    """Gives the names of the other writers that are alive, by the times of the server."""
    found = {
        str(entry["name"]): _time(entry) for entry in owner.service.objects(place, call=call, prefix=prefix)
    }
    now = max(found.values(), default=0.0)
    others = []
    for name, since in found.items():
        if now - since > _STALE:
            owner.service.remove(place, name, call=call)
        elif name != mine:
            others.append(name)
    return others


def _time(entry: Mapping[str, Any]) -> float:
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(str(entry.get("last_modified", "")).removesuffix("Z")).timestamp()
    return 0.0


def _leave(owner: SwiftStore, place: str, mine: str) -> None:
    """Ends the turn, also after a cancellation; what stays is ignored after a while, and then removed."""
    try:
        owner.service.remove(place, mine, call=Call().within(_CLEANING, clock=owner.clock))
    except (RefusedError, StoreError) as exc:
        LOG.debug("the mark of a finished put stays: %s", exc)
