"""The mirror: several stores that hold one image's content become one store, read-only.

Which leg serves, and when another takes over, is decided in `_mirror_plan`; here it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from imgstore.clock import SYSTEM, Clock
from imgstore.errors import ImgstoreError
from imgstore.layers._mirror_extents import ProvenExtents
from imgstore.layers._mirror_legs import Attempts, Leg, Legs
from imgstore.layers._mirror_reader import MirroredReader
from imgstore.manifest import Manifest
from imgstore.model import ByteRange, Call, Event, ObjectInfo, Version
from imgstore.steps import Step
from imgstore.store import Store, unknown
from imgstore.stream import Opened

__all__ = ["Leg", "Mirror"]


class Mirror(Store):
    """Reads from the best of its legs, and goes on with the next where one dies, stalls or lies.

    Legs are chosen by priority, then by measured speed. One that failed rests for 30 seconds, after each
    further failure twice as long, to ten minutes; meanwhile it is asked only when all others have failed. One
    call has one stream open at a time, tries a leg again only where the read has got on since it failed, and
    twice at most.

    A read goes on with another leg only where both are proven to hold the same bytes: by equal manifests that
    they prove each byte by, by an equal SHA-256 (or 384, or 512) of the whole image that both tell, or by the
    caller, who says `version=ANY`. What proves it is then the version: the manifest's pin, or `sha256:...`.
    Elsewhere the version is `NAME:VERSION`, that of one leg, and a read stays with the leg that it began
    with. A whole read under a digest alone is hashed here, too: no leg sees all of it.

    Events: `source` whenever a leg begins to serve, `failed` for each leg that did not (its store is the
    mirror, that of its error the leg), `resumed` when the read goes on after a break.

    Memory: a few numbers for each leg and stream. Closing the mirror closes the stores of its legs, unless
    they are borrowed.
    """

    def __init__(
        self,
        legs: Sequence[Leg],
        *,
        key: str | None = None,
        manifest: Manifest | None = None,
        clock: Clock = SYSTEM,
        observe: Callable[[Event], None] | None = None,
        borrowed: bool = False,
    ) -> None:
        """Joins `legs`; the stores of `borrowed` ones stay the caller's to close.

        `key` is the one image that the mirror has; by default that which `manifest` names. Without either it
        has every key, and each leg the same ones. `manifest` says that every leg proves each byte by it: all
        stores are in verify layers that require it; where it proves chunks to be zeros, the mirror has
        `extents`. `observe` is the mirror's own, as that of the metrics layer.

        Raises: ConfigError for no legs, for names that are not unique or hold a colon, for a leg with a key
        of its own where the mirror's is not said.
        """
        self.store_id = "mirror"
        self.clock = clock
        self.legs = tuple(legs)
        self._borrowed = borrowed
        self._legs = Legs(self.legs, key, manifest, clock=clock, observe=observe)
        self.extents = ProvenExtents.of(self, self._legs.key, manifest)

    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        reader = MirroredReader(self._legs, key, ByteRange(start, stop), version, call, store=self.store_id)
        try:
            return reader.begin()
        except BaseException:
            reader.close()
            raise

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        attempts = Attempts(self._legs, key, None, call, store=self.store_id, operation="stat")

        def attempt(number: int) -> ObjectInfo:
            store, own = self._legs.place(number, key)
            info = store.stat(own, call=attempts.call)
            told, _ = self._legs.described(number, key, info, self._legs.manifest(number, key, attempts.call))
            self._legs.standings.served(number)
            return told

        return attempts.first_good(0, attempt)

    def translate(self, exc: Exception) -> ImgstoreError:
        return exc if isinstance(exc, ImgstoreError) else unknown(exc)

    @property
    def location(self) -> str:
        """The names of the legs and their priorities, as a configuration has them."""
        return ", ".join(f"{leg.name}:{leg.priority}" for leg in self.legs)

    def steps(self, key: str | None) -> Sequence[Step]:
        """Gives a step for each leg (`imgstore.steps`): that it holds the image `key`, and what proves it."""
        from imgstore.layers._mirror_steps import Way

        return Way(self._legs, key).steps()

    def close(self) -> None:
        super().close()
        if not self._borrowed:
            for leg in self.legs:
                leg.store.close()
