"""How a mirror proves that each of its legs holds an image, and that all hold the same one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from imgstore.errors import ImgstoreError, VersionChangedError
from imgstore.layers._mirror_legs import Legs
from imgstore.layers._mirror_plan import difference
from imgstore.model import Call, ObjectInfo
from imgstore.steps import NotApplicableError, Step

_BY: Final = {"chunks": "proven by its manifest", "digest": "proven by its digest", None: "not proven"}


class Way:
    """The steps of one check, a leg each; none is vital, since the mirror serves as long as one does."""

    def __init__(self, legs: Legs, key: str | None) -> None:
        """Does nothing yet. `key` is an image to look for, if any."""
        self._legs = legs
        self._key = key
        self._first: tuple[str, ObjectInfo] | None = None  # the leg that had it, and what it said of it

    def steps(self) -> Sequence[Step]:
        """Gives the steps in the order of the legs."""
        return [
            Step(f"leg {name}", self._look(number), self._advice(name), vital=False)
            for number, name in enumerate(self._legs.names)
        ]

    def _look(self, number: int) -> Callable[[Call], str]:
        def run(call: Call) -> str:
            if self._key is None:
                raise NotApplicableError("no image is known; name one, as STORE:KEY")
            store, key = self._legs.place(number, self._key)
            with store.get(key, 0, 1, call=call) as stream:
                stream.read()
                told, proof = self._legs.described(number, self._key, stream.info, self._legs.proof(stream))
            self._compare(self._legs.names[number], told)
            return f"{told.size} bytes, {_BY[proof]}: version {told.version}"

        return run

    def _compare(self, name: str, told: ObjectInfo) -> None:
        """Raises: VersionChangedError where this leg's image is not that of the legs before."""
        first, info = self._first = self._first or (name, told)
        if (why := difference(info, told)) is not None:
            raise VersionChangedError(f"it holds another image than {first}: {why}")

    def _advice(self, name: str) -> Callable[[ImgstoreError], str]:
        def advise(error: ImgstoreError) -> str:
            if isinstance(error, VersionChangedError):
                return f"copy the right image to {name}, or take {name} out of the legs"
            return f"imgstore check {name} says more; until then the other legs serve"

        return advise
