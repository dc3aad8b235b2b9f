"""The room that quotas leave."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from imgstore.backends._http_range import Reply
from imgstore.backends.swift.failures import RefusedError, typed
from imgstore.model import NO_CALL, Call

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore


class SwiftSpace:
    """Knows the quotas of the account and, where all images are in one, of the container.

    A quota holds approximately: Swift counts what is stored with a delay.
    """

    def __init__(self, owner: SwiftStore) -> None:
        self._owner = owner

    def free(self, *, call: Call = NO_CALL) -> int | None:
        owner = self._owner
        owner._admit(None, call)
        with typed(owner, ""):
            rooms = []
            with contextlib.suppress(RefusedError):  # who may only write one container may not ask
                rooms.append(_room(owner.service.head_account(call=call), "account"))
            if owner.layout.single:
                with contextlib.suppress(RefusedError):
                    reply = owner.service.head_container(owner.layout.container, call=call)
                    rooms.append(_room(reply, "container"))
            return min((room for room in rooms if room is not None), default=None)


def _room(reply: Reply, of: str) -> int | None:
    """Gives what the quota of an account or container leaves, None without one."""
    quota = _number(reply, f"x-{of}-meta-quota-bytes") or _number(reply, f"x-{of}-quota-bytes")
    used = _number(reply, f"x-{of}-bytes-used")
    return None if quota is None or used is None else max(quota - used, 0)


def _number(reply: Reply, name: str) -> int | None:
    text = reply.single(name)
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 20 else None
