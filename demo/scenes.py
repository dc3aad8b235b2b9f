"""What is done to the connection, scene by scene, and how each must end. All places are in the image."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from demo.images import Image
from imgstore.testing.server import (
    AUTO,
    BodyDelay,
    Cut,
    Fault,
    Flip,
    Header,
    IgnoreIfMatch,
    Reset,
    ShiftRange,
    Stall,
    Status,
    Swap,
    Trickle,
    WholeInstead,
)

Faults = Iterable["Fault | tuple[Fault, ...] | None"]

# Where a reply is to be refused by its headers, the server holds the body back this long: then a refusal
# costs no byte at all, and the figures of both sides must be equal.
HELD = BodyDelay(10)


class Ending(enum.Enum):
    """How a copy may end: the exit status of `imgstore cp`, and what is left."""

    COPIED = (0, "byte-identical")
    DAMAGED = (4, "refused as damaged, nothing left")
    CHANGED = (5, "refused as changed, nothing left")
    INTERRUPTED = (130, "interrupted, nothing under its name")

    def __init__(self, status: int, words: str) -> None:
        self.status = status
        self.words = words


def nothing(image: Image) -> Faults:
    """A server that does as it should."""
    return ()


@dataclass(frozen=True)
class Scene:
    """One copy through one kind of trouble.

    `faults` gives, for each request in order, what the server does to it. `cost` is the number of bytes of
    the image that must cross the connection, to the byte. `etag` None takes the image's validator away.
    `interrupt` says after how many bytes Ctrl-C comes. `packaged` has the scene played with Debian's image
    too, `others` shows what curl and wget make of it.
    """

    name: str
    sentence: str
    faults: Callable[[Image], Faults] = nothing
    options: tuple[str, ...] = ()
    ending: Ending = Ending.COPIED
    cost: Callable[[Image], int] = lambda image: image.size
    etag: str | None = AUTO
    interrupt: Callable[[Image], int] | None = None
    packaged: bool = False
    others: bool = False


SCENES = (
    Scene("clean", "Nothing is done to the connection.", packaged=True),
    Scene(
        "cuts",
        "The connection ends ten times, at equal distances. Each time the copy goes on at that very byte.",
        lambda image: [Cut(at=image.size * turn // 11) for turn in range(1, 11)],
        packaged=True,
    ),
    Scene(
        "reset",
        "The connection is reset half-way. What had arrived by then is kept.",
        lambda image: [Reset(at=image.half)],
        packaged=True,
        others=True,
    ),
    Scene(
        "late-cuts",
        "The connection ends ten times near the end: at 90 %, 91 %, up to 99 %. Nothing starts over.",
        lambda image: [Cut(at=image.size * percent // 100) for percent in range(90, 100)],
    ),
    Scene(
        "stall",
        "Half-way the server falls silent and keeps the connection open. A second later the copy leaves it.",
        lambda image: [Stall(at=image.half)],
        options=("--stall-timeout", "1"),
    ),
    Scene(
        "trickle",
        "Half-way the server slows down to 10 bytes a second, enough for no time-out to fire.",
        lambda image: [Trickle(at=image.half, rate=10)],
        options=("--stall-timeout", "1"),
    ),
    Scene(
        "503",
        "Cut half-way, and then the server is busy: 503, come again in a second.",
        lambda image: [Cut(at=image.half), Status(503, {"Retry-After": "1"})],
    ),
    Scene(
        "429",
        "The first request and the first one after a cut are too many: 429, come again in a second.",
        lambda image: [
            Status(429, {"Retry-After": "1"}),
            Cut(at=image.half),
            Status(429, {"Retry-After": "1"}),
        ],
    ),
    Scene(
        "header-cut",
        "The first reply, and the first one after a cut, end in the middle of their headers.",
        lambda image: [Cut(head_at=40), Cut(at=image.half), Cut(head_at=40)],
    ),
    Scene(
        "whole",
        "Cut half-way; then the server ignores the Range and sends all of it with 200. The first half is "
        "skipped, not appended.",
        lambda image: [Cut(at=image.half), WholeInstead()],
        cost=lambda image: image.size + image.half,
        packaged=True,
    ),
    Scene(
        "wrong-range",
        "Cut half-way; then the server sends a range that begins 4096 bytes too late. It is refused by its "
        "headers.",
        lambda image: [Cut(at=image.half), (ShiftRange(4096), HELD)],
        packaged=True,
    ),
    Scene(
        "early-range",
        "Cut half-way; then the server sends a range that begins 4096 bytes too early. These are skipped.",
        lambda image: [Cut(at=image.half), ShiftRange(-4096, 0)],
        cost=lambda image: image.size + 4096,
    ),
    Scene(
        "no-validators",
        "The server offers nothing to tell one version from another, and cuts half-way. The first half is "
        "read again and compared before the copy goes on.",
        lambda image: [Cut(at=image.half)],
        cost=lambda image: image.size + image.half,
        etag=None,
    ),
    Scene(
        "damaged",
        "One byte is flipped on the way. The server had named the image's digest (Repr-Digest) before.",
        lambda image: [(Header("Repr-Digest", image.repr_digest), Flip(at=image.size // 3))],
        ending=Ending.DAMAGED,
    ),
    Scene(
        "swapped",
        "Cut half-way; then the image is another one of the same size. A copy would be half one, half the "
        "other.",
        lambda image: [Cut(at=image.half), Swap(image.changed)],
        ending=Ending.CHANGED,
        cost=lambda image: image.half,
        others=True,
    ),
    Scene(
        "swapped-lying",
        "The same, and the server ignores If-Match: it sends half of the other image as if nothing had "
        "happened.",
        lambda image: [Cut(at=image.half), (Swap(image.changed), IgnoreIfMatch(), HELD)],
        ending=Ending.CHANGED,
        cost=lambda image: image.half,
    ),
    Scene(
        "swapped-unseen",
        "The same on a server without validators: only reading the first half again can show it.",
        lambda image: [Cut(at=image.half), (Swap(image.changed, etag=None), Stall(at=image.half))],
        ending=Ending.CHANGED,
        cost=lambda image: 2 * image.half,
        etag=None,
    ),
    Scene(
        "ctrl-c",
        "Ctrl-C half-way.",
        lambda image: [Stall(at=image.half)],
        ending=Ending.INTERRUPTED,
        cost=lambda image: image.half,
        interrupt=lambda image: image.half,
    ),
)
