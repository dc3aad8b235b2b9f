"""Objects put into containers that may have to be made first."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from imgstore.backends._http_range import Reply
from imgstore.backends.swift.failures import RefusedError
from imgstore.backends.swift.layout import SEGMENTS, segments_of
from imgstore.errors import PermanentError
from imgstore.model import Call

if TYPE_CHECKING:
    from imgstore.backends.swift.driver import SwiftStore

LOG = logging.getLogger(__name__)


class Placing:
    """Puts objects; makes a container that is missing where that is allowed. Callable from any thread."""

    def __init__(self, owner: SwiftStore, *, create: bool) -> None:
        self._owner = owner
        self.makes_containers = create or owner.layout.per_image

    def put(
        self,
        container: str,
        key: str,
        body: bytes | bytearray | memoryview,
        *,
        call: Call,
        headers: Mapping[str, str] = {},
        query: str | None = None,
        etag: str | None = None,
    ) -> Reply:
        """Puts an object, once more where its container had to be made. Raises: RefusedError."""
        service = self._owner.service
        try:
            return service.put(container, key, body, call=call, headers=headers, query=query, etag=etag)
        except RefusedError as exc:
            if exc.status != 404:
                raise
        self.make(container, call)
        return service.put(container, key, body, call=call, headers=headers, query=query, etag=etag)

    def make(self, container: str, call: Call) -> None:
        """Makes a container. Raises: PermanentError where it is the operator's to make; RefusedError."""
        of_segments = container.endswith(SEGMENTS)
        if not self.makes_containers and not of_segments:
            raise PermanentError(
                f"there is no container {container!r}; make it, or set create_container, or correct the"
                " option 'container'"
            )
        fields = {}
        if of_segments:
            fields = self._policy(container.removesuffix(SEGMENTS), call)
        if self._owner.layout.per_image:
            fields |= self._owner.granted.fields((), ())
        self._owner.service.put_container(container, fields, call=call)
        LOG.info("store %s: made container %r", self._owner.store_id, container)

    def remove_own(self, container: str, call: Call) -> None:
        """Removes the containers that were made for one image, if they are empty. Raises: RefusedError."""
        if not self._owner.layout.per_image:
            return
        for each in (segments_of(container), container):
            try:
                self._owner.service.delete_container(each, call=call)
            except RefusedError as exc:
                if exc.status not in {404, 409}:  # gone, or in use again
                    raise

    def _policy(self, container: str, call: Call) -> dict[str, str]:
        """Gives the field that lays segments where their image is: on the same kind of disks."""
        try:
            policy = self._owner.service.head_container(container, call=call).single("x-storage-policy")
        except RefusedError:
            return {}
        return {} if policy is None else {"X-Storage-Policy": policy}
