"""Ranged reads of plain, static and dynamic large objects."""

from __future__ import annotations

import logging

from imgstore.backends._http.client import Exchange
from imgstore.backends._http.watch import Watch
from imgstore.backends._http_range import (
    Reply,
    content_length,
    describe,
    judge,
    range_header,
    version_of,
)
from imgstore.backends.swift import dynamic
from imgstore.backends.swift.failures import RefusedError, changed
from imgstore.backends.swift.layout import Layout
from imgstore.backends.swift.service import Service
from imgstore.backends.swift.static import StaticBody, is_static, lost_piece
from imgstore.backends.swift.versions import expecting, is_dynamic, stamped
from imgstore.backends.swift.vouching import Vouching
from imgstore.clock import Clock
from imgstore.errors import RangeNotSatisfiableError
from imgstore.model import ByteRange, Call, ObjectInfo, Version
from imgstore.stream import Opened, RawReader

LOG = logging.getLogger(__name__)


class Nothing:
    """The raw reader of no bytes."""

    def readinto(self, buffer: memoryview, /) -> int:
        return 0

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass


class Reader:
    """Reads from one account. Callable from any thread."""

    def __init__(self, service: Service, layout: Layout, clock: Clock) -> None:
        self._service = service
        self._layout = layout
        self._vouching = Vouching(service, clock)
        self._sends_version = True  # until the service shows that it refuses every one

    def stat(self, key: str, call: Call) -> ObjectInfo:
        """Describes an image. Raises: RefusedError."""
        return self.described(key, self._service.head(self._layout.place(key), key, call=call), call)

    def described(self, key: str, reply: Reply, call: Call) -> ObjectInfo:
        """Gives what the reply to a HEAD says of an image; segments of a dynamic one are listed."""
        if dynamic.manifest_of(reply) is not None:
            return dynamic.look(self._service, key, reply, call).info
        size = content_length(reply)
        if size is None:
            raise reply.bad("no size of the image")
        return describe(stamped(reply), key, size)

    def open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        """Opens [start, stop), as `Store._open`. Raises: RefusedError."""
        container = self._layout.place(key)
        if is_dynamic(version):
            # its manifest would answer a GET with all segments, whatever they are by now
            return self._dynamic(
                key, self._service.head(container, key, call=call), start, stop, version, call
            )
        fields = {"Range": range_header(start, stop)}
        if isinstance(version, str):
            condition = expecting(version)
            fields.update([condition] if self._sends_version else [])
        exchange, watch = self._service.get(
            container, key, fields, call=call, pinned=isinstance(version, str)
        )
        try:
            if exchange.reply.status == 412 and "If-Match" in fields and isinstance(version, str):
                exchange.dismiss()
                self._check_refusal(exchange.reply, container, key, version, call)
                return self.open(key, start, stop, version, call)
            if dynamic.manifest_of(exchange.reply) is not None:
                exchange.drop()
                return self._dynamic(key, exchange.reply, start, stop, version, call)
            return self._opened(exchange, watch, container, key, start, stop, version, call)
        except BaseException:
            exchange.drop()
            raise

    def _opened(  # noqa: PLR0917  # private to this class
        self,
        exchange: Exchange,
        watch: Watch,
        container: str,
        key: str,
        start: int,
        stop: int | None,
        version: Version,
        call: Call,
    ) -> Opened:
        reply = stamped(exchange.reply)
        if reply.status == 416:
            exchange.dismiss()
            return self._unsatisfied(container, key, start, version, call)
        if reply.status == 409 and (lost := lost_piece(self._service, container, key, start, call)):
            raise lost
        if reply.status not in {200, 206}:
            raise RefusedError(reply)
        served = judge(reply, key, start, stop, version)
        if is_static(reply):
            self._vouching.check(container, served.info, exchange.reply, call)
        raw: RawReader = self._service.transport.stream(exchange, served.range.size, watch)
        if is_static(reply):
            raw = StaticBody(raw, self._service, container, key, start=served.range.start, call=call)
        return Opened(raw, served.info, served.range)

    def _check_refusal(self, reply: Reply, container: str, key: str, version: str, call: Call) -> None:
        """Returns where a 412 says nothing about the version: then none is sent any more, only compared.

        Radosgw 16 answers every If-Match for a static large object so, that with its own ETag and `*`, too.

        Raises: VersionChangedError.
        """
        found = self._service.head(container, key, call=call)
        if not is_static(found) or version_of(stamped(found)) != version:
            raise changed(reply)
        self._sends_version = False
        LOG.info("the service refuses every If-Match for large objects; versions are compared only")

    def _dynamic(  # noqa: PLR0917  # private to this class
        self, key: str, reply: Reply, start: int, stop: int | None, version: Version, call: Call
    ) -> Opened:
        if dynamic.manifest_of(reply) is None:
            raise changed(reply)
        found = dynamic.look(self._service, key, reply, call)
        return dynamic.opened(self._service, found, start, stop, version=version, call=call)

    def _unsatisfied(self, container: str, key: str, start: int, version: Version, call: Call) -> Opened:
        """Asks what a 416 leaves open: an empty image read from 0, an offset behind the end, or nonsense."""
        reply = self._service.head(container, key, call=call)
        info = self.described(key, reply, call)
        if isinstance(version, str) and version != info.version:
            raise changed(reply)
        if start == info.size == 0:
            return Opened(Nothing(), info, ByteRange(0, 0))
        if info.size is not None and start >= info.size:
            raise RangeNotSatisfiableError(
                f"offset {start} lies behind the end of the image ({info.size} bytes)",
                request_id=reply.request_id,
            )
        raise reply.bad(f"a refusal of offset {start}, though the image has {info.size} bytes")
