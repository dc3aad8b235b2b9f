"""Puts and deletes of whole images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from imgstore.backends._intake import Digests, Intake
from imgstore.backends.rbd import draft, manifests, publish
from imgstore.backends.rbd.cluster import Cluster, Session
from imgstore.backends.rbd.draft import Draft, Plan
from imgstore.backends.rbd.failures import fail, is_foreign, typed
from imgstore.backends.rbd.names import is_manifest
from imgstore.backends.rbd.outflow import Outflow, stretches
from imgstore.backends.rbd.waiting import Wait
from imgstore.errors import AlreadyExistsError, ConflictError, ImgstoreError
from imgstore.model import NO_CALL, Call, ObjectInfo
from imgstore.store import Source, Store

# Seconds for removing what came to nothing, which goes on in the background then: an interrupt ends in time.
_TIDY: Final = 1.0


class RbdWriter:
    """Writes an image under a name that no key leads to; its protected snapshot and its key's name come last.

    So whoever kills it leaves no image behind, but a draft that `uploads` tells and `abort` removes. Zeros
    are left out with `thin`, and the holes of a source always. An image of unknown size grows as it comes.

    An image that has clones is in use: it is neither deleted nor replaced, unless the option `trash_in_use`
    lets it go to the trash, where its clones keep it. Deleting one that is being read ends the read with an
    error. A cancellation or a deadline ends a put within a second, but for the last steps, when the image is
    complete.
    """

    def __init__(self, owner: Store, cluster: Cluster) -> None:
        self._owner = owner
        self._cluster = cluster

    def put(
        self,
        key: str,
        source: Source,
        size: int | None = None,
        *,
        overwrite: bool = False,
        digests: Mapping[str, str] | None = None,
        call: Call = NO_CALL,
    ) -> ObjectInfo:
        self._owner._admit(key, call)
        of_manifest = is_manifest(key)
        intake = Intake(source, size, Digests(digests), self._owner.clock, call)
        plan = Plan(key, size, intake.digests.expected, overwrite, self._owner.clock.time())
        wait = Wait(call, self._owner.clock)
        try:
            with self._cluster.connected(wait) as session:
                if of_manifest:
                    return manifests.store(session, key, intake, overwrite=overwrite, wait=wait)
                session.run(lambda: publish.check(session, key, overwrite=overwrite), wait)
                return self._stored(session, plan, intake, wait)
        except Exception as exc:
            if exc is intake.failure or not (isinstance(exc, ImgstoreError) or is_foreign(exc)):
                raise
            fail(self._owner, key, AlreadyExistsError(str(exc)) if isinstance(exc, ConflictError) else exc)

    def delete(self, key: str, *, version: str | None = None, call: Call = NO_CALL) -> None:
        self._owner._admit(key, call)
        wait = Wait(call, self._owner.clock)
        with typed(self._owner, key):
            remove = manifests.remove if is_manifest(key) else publish.delete
            with self._cluster.connected(wait) as session:
                session.run(lambda: remove(session, key, version), wait)

    def _stored(self, session: Session, plan: Plan, intake: Intake, wait: Wait) -> ObjectInfo:
        image = draft.create(session, plan, wait)
        settled = Wait(NO_CALL, self._owner.clock)
        try:
            size = _fill(image, intake, wait, thin=session.settings.thin)
            image.wait = settled  # from here on it is a matter of moments, and half of it would be worse
            info = image.finish(size)
            image.close_now()
            session.run(
                lambda: publish.publish(
                    session, image.image_id, image.name, plan.key, overwrite=plan.overwrite
                ),
                settled,
            )
        except BaseException:
            draft.discard(image, settled, _TIDY)
            raise
        return ObjectInfo(info.key, info.size, info.version, info.modified, intake.digests.expected)


def _fill(image: Draft, intake: Intake, wait: Wait, *, thin: bool) -> int:
    """Writes all that the source gives, and gives the number of bytes."""
    outflow, at = Outflow(image.connection, image.image, wait), 0
    for piece in intake.pieces():
        if isinstance(piece, int):
            at += piece
            continue
        data = bytes(piece)
        image.reach(at + len(data))
        for zeros, start, stop in stretches(data, at) if thin else [(False, 0, len(data))]:
            if not zeros:
                outflow.write(data[start:stop], at + start)
        at += len(data)
    outflow.drain()
    return at
