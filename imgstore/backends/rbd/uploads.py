"""Uploads in parts: each is a draft that is filled in any order."""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from imgstore.backends._intake import RECEIVE, Digests
from imgstore.backends.rbd import draft, names, publish
from imgstore.backends.rbd.cluster import Cluster, Session
from imgstore.backends.rbd.draft import KEY, PLAN, Draft, Own, Plan, lost
from imgstore.backends.rbd.failures import number_of, typed
from imgstore.backends.rbd.names import name_of
from imgstore.backends.rbd.outflow import Outflow, stretches
from imgstore.backends.rbd.parts import LIMITS, Parts, check_part, told
from imgstore.backends.rbd.pins import HEAD, Pinned
from imgstore.backends.rbd.reader import RbdReader
from imgstore.backends.rbd.waiting import Wait
from imgstore.errors import ConflictError, InUseError, UploadLostError
from imgstore.model import NO_CALL, Call, ObjectInfo, Part
from imgstore.store import Store, Upload, UploadLimits

LOG = logging.getLogger(__name__)

_TOKEN: Final = re.compile(r"[0-9a-f]{1,64}")  # the id of an image
_WRITER: Final = "imgstore.writer"
# A part waits for those before it, which may take some time each; whoever is killed at one holds the lock for
# osd_client_watch_timeout, 30 s.
_TURNS: Final = 4


class RbdUploader:
    """Keeps an upload in a draft and its metadata; the token is the image's id, which outlives its names.

    A part that `put_part` gave is on the cluster's disks. Parts that overlap replace each other. One part of
    an upload is written at a time; others wait.

    An upload has one writer: the store, in one process, that put a part or completed it last. Whoever wrote
    before gets ConflictError at the next try, and writes nothing. After a process that was killed in the
    midst of a part the next one waits until the cluster has given it up (osd_client_watch_timeout, 30 s) and
    fences it off.

    `complete` may be killed at any point and asked again, by another process too, and gives the same answer
    for as long as the image is there.
    """

    limits: UploadLimits = LIMITS

    def __init__(self, owner: Store, cluster: Cluster) -> None:
        self._owner = owner
        self._cluster = cluster
        self._marks: dict[int, str] = {}  # what this store is called as a writer, by process
        self._taken: set[tuple[str, str]] = set()

    def begin(
        self,
        key: str,
        size: int | None,
        *,
        digests: Mapping[str, str] | None = None,
        overwrite: bool = False,
        call: Call = NO_CALL,
    ) -> str:
        self._owner._admit(key, call)
        expected = Digests(digests).expected  # an unknown name is refused before anything is sent
        wait = Wait(call, self._owner.clock)
        with typed(self._owner, key):
            name_of(key)
            with self._cluster.connected(wait) as session:
                session.run(lambda: publish.check(session, key, overwrite=overwrite), wait)
                upload = draft.create(
                    session, Plan(key, size, expected, overwrite, self._owner.clock.time()), wait
                )
                upload.close_now()
                return upload.image_id

    def put_part(
        self, token: str, number: int, offset: int, data: memoryview, *, call: Call = NO_CALL
    ) -> Part:
        wait = self._admitted(call)
        with self._locked(token, wait) as upload, memoryview(data).cast("B") as view:
            if not names.is_draft(upload.name):
                raise lost()
            part = Part(number, offset, len(view), secrets.token_hex(8))
            check_part(upload.plan, part)
            if upload.finished() is not None:
                upload.reopen()
            parts = Parts(upload)
            parts.forget(lambda held: held.number == number or _overlap(held, part))
            upload.reach(offset + part.size)
            _write(Outflow(upload.connection, upload.image, wait), view, offset)
            parts.add(part)
            return part

    def parts(self, token: str, *, call: Call = NO_CALL) -> Sequence[Part]:
        wait = self._admitted(call)
        with typed(self._owner, ""), self._cluster.connected(wait) as session:
            name, meta = _look(session, token, wait)
            if not names.is_draft(name):
                raise lost()
            return sorted(told(meta), key=lambda part: part.number)

    def complete(self, token: str, parts: Sequence[Part], *, call: Call = NO_CALL) -> ObjectInfo:
        wait = self._admitted(call)
        with self._locked(token, wait) as upload:
            plan, info = upload.plan, upload.finished()
            if names.is_draft(upload.name):
                if info is None:
                    info = self._finish(upload, parts, wait)
                self._publish(upload, plan)
            elif info is None or upload.name != name_of(plan.key):
                raise lost()
            return ObjectInfo(info.key, info.size, info.version, info.modified, plan.digests)

    def abort(self, token: str, *, call: Call = NO_CALL) -> None:
        wait = self._admitted(call)
        with (
            typed(self._owner, ""),
            suppress(UploadLostError),
            self._cluster.connected(wait) as session,
        ):
            name, meta = _look(session, token, wait)
            if _is_left(name, meta, session.run(lambda: session.rbd.list(session.pool), wait)):
                session.run(lambda: _remove(session, token, name, meta), wait)

    def uploads(self, older_than: float = 0.0, *, call: Call = NO_CALL) -> Iterator[Upload]:
        wait = self._admitted(call)
        latest = self._owner.clock.time() - older_than
        with typed(self._owner, ""), self._cluster.connected(wait) as session:
            found = session.run(lambda: session.rbd.list(session.pool), wait)
            left = draft.own(session, found, lambda name: name.startswith(names.OWN), wait)
            told = [
                _upload(each)
                for each in left
                if _is_left(each.name, each.meta, found) and not _is_foreign(each)
            ]
        return iter([each for each in told if each.started <= latest])

    def _admitted(self, call: Call) -> Wait:
        self._owner._admit(None, call)
        return Wait(call, self._owner.clock)

    @contextmanager
    def _locked(self, token: str, wait: Wait) -> Iterator[Draft]:
        """Gives the upload, locked, and with this store as its writer if it is still one."""
        with typed(self._owner, ""):
            _check_token(token)
            with self._cluster.connected(wait) as session:
                upload = draft.reopened(session, token, wait)
                try:
                    with typed(self._owner, upload.plan.key):
                        if names.is_draft(upload.name):
                            upload.lock(_TURNS * session.settings.op_timeout)
                            self._take(upload)
                        yield upload
                except BaseException:
                    upload.close()
                    raise
                upload.close_now()

    def _take(self, upload: Draft) -> None:
        """Makes this store the writer. Raises: ConflictError where another has taken the upload over."""
        mark = self._marks.setdefault(os.getpid(), secrets.token_hex(8))
        slot = (mark, upload.image_id)
        if upload.meta.get(_WRITER) == mark:
            return  # it stays so: also what is complete has no second writer
        if slot in self._taken:
            raise ConflictError("another process has taken this upload over")
        upload.note(_WRITER, mark)
        self._taken.add(slot)

    def _finish(self, upload: Draft, given: Sequence[Part], wait: Wait) -> ObjectInfo:
        parts, plan = Parts(upload), upload.plan
        size = parts.covered(plan, given)
        _check_digests(upload, plan, size, wait)
        parts.forget(lambda part: part.offset + part.size > size)
        info = upload.finish(size)
        parts.forget(lambda _: True)
        return info

    def _publish(self, upload: Draft, plan: Plan) -> None:
        upload.close_now()
        upload.connection.run(
            lambda: publish.publish(
                upload.connection, upload.image_id, upload.name, plan.key, overwrite=plan.overwrite
            ),
            Wait(NO_CALL, self._owner.clock),
        )


def _check_token(token: str) -> None:
    if not _TOKEN.fullmatch(token):
        raise lost()


def _look(session: Session, token: str, wait: Wait) -> tuple[str, dict[str, str]]:
    """Gives the name that the image of an upload has now, and its metadata. Raises: UploadLostError."""
    _check_token(token)

    def look() -> tuple[str, dict[str, str]]:
        image = session.open(image_id=token)
        try:
            return image.get_name(), dict(image.metadata_list())
        finally:
            session.close(image)

    try:
        return session.run(look, wait)
    except Exception as exc:
        if number_of(exc) == errno.ENOENT:
            raise lost() from exc
        raise


def _write(outflow: Outflow, view: memoryview, offset: int) -> None:
    """Writes a part, its zeros too: what an earlier try left there must go."""
    for at in range(0, len(view), RECEIVE):
        piece = bytes(view[at : at + RECEIVE])
        for zeros, start, stop in stretches(piece, offset + at):
            if zeros:
                outflow.zero(offset + at + start, stop - start)
            else:
                outflow.write(piece[start:stop], offset + at + start)
    outflow.drain()


def _check_digests(upload: Draft, plan: Plan, size: int, wait: Wait) -> None:
    """Reads the image back, where it is to have a digest. Raises: DigestMismatchError."""
    digests = Digests(plan.digests)
    if not digests.expected:
        return
    written = Pinned(upload.connection, upload.image, upload.image_id, HEAD, ObjectInfo(plan.key, size, None))
    timeout = upload.connection.settings.op_timeout
    reader = RbdReader(written, 0, size, wait=wait, receive_timeout=timeout, lost=lost, closed=lambda: None)
    buffer = memoryview(bytearray(RECEIVE))
    while count := reader.readinto(buffer):
        digests.update(buffer[:count])
    digests.check()


def _overlap(one: Part, other: Part) -> bool:
    return one.offset < other.offset + other.size and other.offset < one.offset + one.size


def _is_left(name: str, meta: Mapping[str, str], found: Sequence[str]) -> bool:
    """Whether an image is what an upload, a put or a delete left behind, or is still at."""
    if names.is_replaced(name):  # else it is its key's image
        return KEY in meta and name_of(meta[KEY]) in found
    return names.is_draft(name) or names.is_gone(name)


def _is_foreign(left: Own) -> bool:
    """Whether it has a plan that this version cannot read: another's draft, which is left alone."""
    foreign = names.is_draft(left.name) and PLAN in left.meta and draft.plan_of(left.meta) is None
    if foreign:
        LOG.warning("the draft %r is left alone: this version cannot read what it is to become", left.name)
    return foreign


def _upload(left: Own) -> Upload:
    plan = draft.plan_of(left.meta)
    if plan is None:
        return Upload(left.image_id, left.meta.get(KEY, ""), left.created)
    return Upload(left.image_id, plan.key, plan.started)


def _remove(session: Session, image_id: str, name: str, meta: Mapping[str, str]) -> None:
    plan = draft.plan_of(meta) if names.is_draft(name) else None
    try:
        if plan is None:
            draft.remove(session, name)
        else:
            publish.withdraw(session, image_id, name, plan.key)
    except Exception as exc:
        if number_of(exc) == errno.EBUSY:
            raise InUseError(
                "a process is at this upload, or was killed at it in the last osd_client_watch_timeout (30 s)"
            ) from exc
        raise
