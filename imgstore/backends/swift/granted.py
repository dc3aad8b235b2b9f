"""Access for other tenants: the ACLs of an image's own containers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgstore.backends.swift.failures import RefusedError, typed
from imgstore.backends.swift.layout import segments_of
from imgstore.errors import UnsafeLocationError
from imgstore.model import NO_CALL, Call

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore

# Swift's word for everybody, signed in or not; with .rlistings the names may be listed, too.
_PUBLIC = ".r:"


class SwiftAcls:
    """Says who may read or write an image, by projects: an id, or `PROJECT:USER`; `*` is everybody.

    Only with `multi_tenant`, where each image has its containers. Both get the same: a large image is read
    through its segments. The projects of the option `admin_tenants` are always among them.
    """

    def __init__(self, owner: SwiftStore, admins: Sequence[str]) -> None:
        self._owner = owner
        self._admins = tuple(_entry(each) for each in admins)

    def set(self, key: str, read: Sequence[str], write: Sequence[str], *, call: Call = NO_CALL) -> None:
        owner = self._owner
        owner._admit(key, call)
        fields = self.fields(read, write)
        with typed(owner, key):
            container = owner.layout.place(key)
            owner.service.post_container(container, fields, call=call)
            try:
                owner.service.post_container(segments_of(container), fields, call=call)
            except RefusedError as exc:
                if exc.status != 404:  # it has no segments
                    raise

    def fields(self, read: Sequence[str], write: Sequence[str]) -> dict[str, str]:
        """Gives the fields of a container that let these projects in. Raises: UnsafeLocationError."""
        readers = [_PUBLIC + "*" if each == "*" else _entry(each) for each in read]
        return {
            "X-Container-Read": ",".join([*readers, *self._admins]),
            "X-Container-Write": ",".join([*map(_entry, write), *self._admins]),
        }


def _entry(tenant: str) -> str:
    if not tenant or not tenant.isprintable() or set(tenant) & {",", " "} or tenant.startswith("."):
        raise UnsafeLocationError(f"{tenant[:80]!r} names no project; PROJECT or PROJECT:USER would do")
    return tenant if ":" in tenant else f"{tenant}:*"
