"""An image that is being written: under a name of its own, which no key leads to, until it is complete."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from imgstore.backends.rbd import names
from imgstore.backends.rbd.bindings import Image
from imgstore.backends.rbd.connection import Connection
from imgstore.backends.rbd.failures import number_of
from imgstore.backends.rbd.options import NEEDED, Settings
from imgstore.backends.rbd.pins import posix, snapshot
from imgstore.backends.rbd.waiting import Wait
from imgstore.errors import LockedError, UploadLostError
from imgstore.model import ObjectInfo

LOG = logging.getLogger(__name__)
T = TypeVar("T")

# In the metadata of the image (`rbd image-meta`), where it outlives the process.
PLAN: Final = "imgstore.upload"
KEY: Final = "imgstore.key"
# An image of unknown size is made larger as it comes: twice, but by no more than rbd takes back quickly.
_GROWTH: Final = (256 << 20, 8 << 30)
_EXCLUSIVE: Final = 0  # RBD_LOCK_MODE_EXCLUSIVE
_PAUSE: Final = 0.1  # seconds between two tries for a lock that another process has


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to become of a draft; `started` in POSIX seconds."""

    key: str
    size: int | None
    digests: Mapping[str, str]
    overwrite: bool
    started: float


class Draft:
    """A draft that is open, and locked: no other process writes to it, or removes it, until `close`.

    The lock is the image's exclusive lock, taken for good (`rbd_lock_acquire`): of a process that was killed
    librbd breaks it when its watch has expired (osd_client_watch_timeout, 30 s), and fences it off. Methods
    block, in threads of their own, and end with `wait`.
    """

    def __init__(self, connection: Connection, image: Image, wait: Wait) -> None:
        """Takes an open image over."""
        self.connection = connection
        self.image = image
        self.wait = wait
        self.image_id, self.name, self.size, self.meta = self._run(lambda: _described(image))

    @property
    def plan(self) -> Plan:
        """What is to become of it. Raises: UploadLostError for an image that was no upload."""
        plan = plan_of(self.meta)
        if plan is None:
            raise lost()
        return plan

    def lock(self, seconds: float) -> None:
        """Locks it. Raises: LockedError where another process has it locked for longer than `seconds`."""
        limit = self.wait.after(seconds)
        while True:
            try:
                # a draft whose owner was killed is waited for inside
                self._run(lambda: self.image.lock_acquire(_EXCLUSIVE))
            except Exception as exc:
                if number_of(exc) != errno.EROFS:
                    raise
                if self.wait.passed(limit):
                    raise LockedError("another process is writing this upload just now") from exc
            else:
                # its last writer may have been at it until now
                _, self.name, self.size, self.meta = self._run(lambda: _described(self.image))
                return
            self.wait.pause(_PAUSE)

    def note(self, name: str, value: str | None) -> None:
        """Puts down or removes one of the image's metadata, durably."""
        if value is None:
            self._run(lambda: self.image.metadata_remove(name))
            del self.meta[name]
        else:
            self._run(lambda: self.image.metadata_set(name, value))
            self.meta[name] = value

    def reach(self, stop: int) -> None:
        """Makes it large enough for what is to be written up to `stop`."""
        if stop > self.size:
            least, most = _GROWTH
            self.size = stop + min(max(self.size, least), most)
            self._run(lambda: self.image.resize(self.size))

    def finish(self, size: int) -> ObjectInfo:
        """Gives it its size and its protected snapshot, after which it is what its key is to have."""
        settings = self.connection.settings
        return self._run(lambda: _finish(self.image, size, settings, self.plan.key))

    def finished(self) -> ObjectInfo | None:
        """Describes it, if it has its protected snapshot already."""
        return self._run(lambda: _look(self.image, self.connection.settings, self.plan.key))

    def reopen(self) -> None:
        """Takes the snapshot back, so that it can be written again."""
        self._run(lambda: drop_snapshots(self.image))

    def close(self) -> None:
        """Closes and so unlocks it, in the background."""
        self.connection.detach(lambda: self.connection.close(self.image))

    def close_now(self) -> None:
        """Closes and so unlocks it."""
        self._run(lambda: self.connection.close(self.image))

    def _run(self, work: Callable[[], T]) -> T:
        return self.connection.run(work, self.wait)


def create(connection: Connection, plan: Plan, wait: Wait) -> Draft:
    """Makes a draft for `plan`, locked; whoever leaves before it is there has it removed."""
    name = names.draft()
    image = connection.run(
        lambda: _create(connection, plan, name), wait, undo=lambda each: _undo(connection, each, name)
    )
    try:
        draft = Draft(connection, image, wait)
        draft.lock(0.0)
    except BaseException:
        connection.detach(lambda: _undo(connection, image, name))
        raise
    return draft


def reopened(connection: Connection, image_id: str, wait: Wait) -> Draft:
    """Opens the draft, or what became of it, by its id. Raises: UploadLostError."""
    try:
        image = connection.run(
            lambda: connection.open(image_id=image_id, writable=True), wait, undo=connection.close
        )
    except Exception as exc:
        if number_of(exc) in {errno.ENOENT, errno.EINVAL}:
            raise lost() from exc
        raise
    try:
        return Draft(connection, image, wait)
    except BaseException:
        connection.detach(lambda: connection.close(image))
        raise


def plan_of(meta: Mapping[str, str]) -> Plan | None:
    """Gives the plan that the metadata of an image tells, if it does, and this version can read it."""
    try:
        plan = Plan(**json.loads(meta[PLAN]))
    except (KeyError, ValueError, TypeError):
        return None
    return plan if _is_sound(plan) else None


def _is_sound(plan: Any) -> bool:
    return (
        isinstance(plan.key, str)
        and (plan.size is None or (type(plan.size) is int and plan.size >= 0))
        and isinstance(plan.digests, dict)
        and isinstance(plan.overwrite, bool)
        and isinstance(plan.started, (int, float))
    )


def lost() -> UploadLostError:
    """Gives the error for an upload that the pool does not know."""
    return UploadLostError("there is no such upload; it was aborted or never begun, or its image was removed")


@dataclass(frozen=True, slots=True)
class Own:
    """An image of the driver's own that no key leads to; `created` in POSIX seconds."""

    image_id: str
    name: str
    created: float
    meta: Mapping[str, str]


def own(
    connection: Connection, found: Iterable[str], wanted: Callable[[str], bool], wait: Wait
) -> Iterator[Own]:
    """Describes those of the names `found` that are `wanted`; what goes meanwhile is left out."""
    for name in filter(wanted, found):
        described = connection.run(lambda name=name: _own(connection, name), wait)  # type: ignore[misc]
        if described is not None:
            yield described


def remove(connection: Connection, name: str) -> None:
    """Removes an image with its manifest and snapshots; it is no error if it is gone. Blocks.

    Raises: what the bindings raise; EBUSY while a process has it open, or was killed some seconds ago.
    """
    with contextlib.suppress(*_absent(connection)):
        image = connection.open(name, writable=True)
        try:
            drop_manifest(connection, image.id())
            drop_snapshots(image)
        finally:
            connection.close(image)
        connection.rbd.remove(connection.pool, name)


def drop_manifest(connection: Connection, image_id: str) -> None:
    """Removes the manifest of an image that goes, if it has one. Blocks."""
    with contextlib.suppress(connection.bindings.rados.ObjectNotFound):
        connection.pool.remove_object(names.manifest(image_id))


def drop_snapshots(image: Image) -> None:
    """Removes all snapshots. Blocks. Raises: what the bindings raise; EBUSY for one that has clones."""
    for each in list(image.list_snaps()):
        if image.is_protected_snap(each["name"]):
            image.unprotect_snap(each["name"])
        image.remove_snap(each["name"])


def discard(draft: Draft, wait: Wait, seconds: float) -> None:
    """Removes a draft that came to nothing, as far as that goes in `seconds`; the rest is for `abort`."""
    connection = draft.connection
    try:
        connection.run(lambda: _undo(connection, draft.image, draft.name), wait, seconds=seconds)
    except Exception as exc:  # noqa: BLE001  # what went wrong before is what the caller hears of
        LOG.warning("the unfinished image %r is left in the pool: %s", draft.name, exc)


def _absent(connection: Connection) -> tuple[type[Exception], ...]:
    return (connection.bindings.rbd.ImageNotFound,)


def _undo(connection: Connection, image: Image, name: str) -> None:
    connection.close(image)
    remove(connection, name)


def _create(connection: Connection, plan: Plan, name: str) -> Image:
    connection.rbd.create(connection.pool, name, plan.size or 0, **_layout(connection))
    try:
        image = connection.open(name, writable=True)
        image.metadata_set(PLAN, json.dumps(asdict(plan)))
    except BaseException:
        with contextlib.suppress(Exception):
            connection.rbd.remove(connection.pool, name)
        raise
    return image


def _layout(connection: Connection) -> dict[str, Any]:
    settings: Settings = connection.settings
    needed = connection.rbd.features_from_string(",".join(NEEDED))
    wanted = settings.features or connection.cluster.conf_get("rbd_default_features") or ""
    named = wanted if isinstance(wanted, str) else ",".join(wanted)
    features = int(named) if named.isdigit() else connection.rbd.features_from_string(named)
    layout = {
        "order": settings.object_size.bit_length() - 1,
        "old_format": False,
        "features": features | needed,
        "stripe_unit": settings.stripe_unit,
        "stripe_count": settings.stripe_count,
        "data_pool": settings.data_pool,
    }
    return {name: value for name, value in layout.items() if value is not None}


def _described(image: Image) -> tuple[str, str, int, dict[str, str]]:
    return image.id(), image.get_name(), image.size(), dict(image.metadata_list())


def _own(connection: Connection, name: str) -> Own | None:
    try:
        image = connection.open(name)
    except Exception as exc:
        if number_of(exc) == errno.ENOENT:
            return None
        raise
    try:
        return Own(image.id(), name, posix(image.create_timestamp()), dict(image.metadata_list()))
    finally:
        connection.close(image)


def _finish(image: Image, size: int, settings: Settings, key: str) -> ObjectInfo:
    image.flush()
    drop_snapshots(image)
    if image.size() != size:
        image.resize(size)
    image.create_snap(settings.snapshot)
    image.protect_snap(settings.snapshot)
    info = _look(image, settings, key)
    if info is None:
        raise lost()
    return info


def _look(image: Image, settings: Settings, key: str) -> ObjectInfo | None:
    snap = snapshot(image, settings.snapshot)
    if snap is None or not image.is_protected_snap(settings.snapshot):
        return None
    modified = posix(image.get_snap_timestamp(snap["id"]))
    return ObjectInfo(key, int(snap["size"]), f"{image.id()}-{snap['id']}", modified)
