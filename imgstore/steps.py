"""How a driver proves, step by step, that the way to its images is open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from imgstore.errors import ImgstoreError
from imgstore.model import Call

# Begins the key of whatever a step asks for or stores on its own: nobody takes that for an image.
TEST_PREFIX: Final = "imgstore-check-"


class NotApplicableError(Exception):
    """A step says that there is nothing to prove here, and why; it is no failure."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that must hold for a store to work.

    `run` proves it and says in one line what it found. It raises an ImgstoreError for what is wrong, and
    NotApplicableError. `advise` says in one line what would help against such an error. After a `vital` step
    that failed, those behind it make no sense. One that `writes` is left out where nothing may be written.
    """

    name: str
    run: Callable[[Call], str]
    advise: Callable[[ImgstoreError], str]
    vital: bool = True
    writes: bool = False


@runtime_checkable
class Checkable(Protocol):
    """A driver that can say where its images are, and prove the way there."""

    @property
    def location(self) -> str:
        """Where the images are, for a person; no secret is in it."""

    def steps(self, key: str | None) -> Sequence[Step]:
        """Gives the steps of the way, in order; nothing is done yet. `key` is an image to try it on, if any.

        They are run in this order, in one thread, each at most once; one may use what another found.
        """
