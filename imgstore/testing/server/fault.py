"""What a fault is: it may act before the reply is made, on the reply, and on its way."""

from __future__ import annotations

from dataclasses import dataclass

from imgstore.testing.server.channel import Channel
from imgstore.testing.server.reply import Position, Reply
from imgstore.testing.server.request import Request
from imgstore.testing.server.shelf import Shelf, Shelved


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with one exchange. Immutable; the same one may serve many times.

    Several combine as a tuple, and act in its order: first every `prepare`, then every `shape`, then every
    strike at its position.
    """

    def prepare(self, request: Request, shelf: Shelf) -> None:
        """Acts before the reply is made: on what is understood of the request, or on the images."""

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        """Acts on the honest reply. `image` is the one it speaks of, None when there is none."""


@dataclass(frozen=True, kw_only=True)
class Positioned(Fault):
    """A fault that strikes at a place of the reply; see `Position` for what the three offsets mean."""

    at: int | None = None
    body_at: int | None = None
    head_at: int | None = None

    def __post_init__(self) -> None:
        """Refuses two places at once.

        Raises: ValueError.
        """
        if sum(place is not None for place in (self.at, self.body_at, self.head_at)) > 1:
            message = "at most one of at, body_at and head_at"
            raise ValueError(message)

    @property
    def position(self) -> Position:
        """Where it strikes."""
        return Position(self.at, self.body_at, self.head_at)

    def shape(self, reply: Reply, image: Shelved | None) -> None:
        """Puts the strike in its place."""
        reply.on(self.position, self.strike)

    def strike(self, channel: Channel) -> None:
        """What happens there."""
        raise NotImplementedError


Script = tuple[Fault, ...]
"""The faults of one exchange."""


def combined(fault: Fault | tuple[Fault, ...] | None) -> Script:
    """One fault, several, or none, as a tuple."""
    if fault is None:
        return ()
    return fault if isinstance(fault, tuple) else (fault,)
