"""The store: what drivers implement, what layers wrap, what callers use."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, final, overload

from imgstore.clock import SYSTEM, Clock
from imgstore.errors import ImgstoreError, PermanentError
from imgstore.model import NO_CALL, Call, Extent, ObjectInfo, Part, Version, check_key
from imgstore.stream import ByteStream, Opened

if TYPE_CHECKING:
    from oslo_config.cfg import Opt
    from typing_extensions import Self

FACETS = ("writer", "uploader", "lister", "extents", "device", "copier", "acls", "space")


class Source(Protocol):
    """Where an upload comes from. `read(n)` may give fewer bytes than asked, none only at the end.

    One that has `readinto(memoryview)`, too, may be asked that way instead, so that nothing is copied. A
    facet never closes or seeks it.
    """

    def read(self, size: int, /) -> bytes: ...


class SparseSource(Source, Protocol):
    """A source that knows its holes: stretches of zeros that need neither be read nor stored."""

    def hole(self) -> int:
        """Passes over the hole that begins here, or a piece of it, and gives the bytes; 0 where none is.

        A writer that keeps holes asks before each `read`; to one that never asks, holes read as zeros. What
        is passed over counts against the size and belongs to the digests.
        """


class Writer(Protocol):
    """Stores and deletes whole images. Callable from many threads."""

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
        """Stores all that `source` gives under `key`, atomically: readers see nothing or the whole image.

        With `size` or `digests` (lower-case hexadecimal by name of `hashlib`) a source that gives anything
        else publishes nothing: DigestMismatchError, or SourceChangedError for the size. What the source
        raises is raised unchanged, and nothing is published.

        Raises: AlreadyExistsError without `overwrite` where the key is taken, NoSpaceError, StorageIOError,
        PermissionDeniedError, TransientError.
        """

    def delete(self, key: str, *, version: str | None = None, call: Call = NO_CALL) -> None:
        """Removes the image; with `version` only that one. Open readers end exactly or with NotFoundError.

        Raises: NotFoundError, VersionChangedError, InUseError.
        """


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """The parts that a store takes: sizes in bytes, their number, whether they must be put in order.

    The last part may be smaller than `min_part`. `thin` says that zeros in a part take no room, `serial` that
    parts of one upload are stored one at a time, each at a cost that does not depend on its size.
    """

    min_part: int
    max_part: int
    max_parts: int
    ordered: bool
    thin: bool = False
    serial: bool = False


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that was begun and neither completed nor aborted; `started` in POSIX seconds."""

    token: str
    key: str
    started: float


class Uploader(Protocol):
    """Uploads in parts that outlive a process. A token is opaque, can be kept, and holds no secret."""

    limits: UploadLimits

    def begin(
        self,
        key: str,
        size: int | None,
        *,
        digests: Mapping[str, str] | None = None,
        overwrite: bool = False,
        call: Call = NO_CALL,
    ) -> str:
        """Begins an upload of `size` bytes and gives its token. Nothing is visible until `complete`."""

    def put_part(
        self, token: str, number: int, offset: int, data: memoryview, *, call: Call = NO_CALL
    ) -> Part:
        """Stores part `number` (from 0), which begins at `offset`. Putting it again replaces it.

        Raises: UploadLostError, ValueError for a part that the limits forbid.
        """

    def parts(self, token: str, *, call: Call = NO_CALL) -> Sequence[Part]:
        """Gives the parts that the store holds, by number: the truth that a journal only guesses at."""

    def complete(self, token: str, parts: Sequence[Part], *, call: Call = NO_CALL) -> ObjectInfo:
        """Publishes the image. Idempotent: asked again after a lost reply it gives the same answer.

        Raises: ConflictError where another writer took the key, DigestMismatchError, UploadLostError.
        """

    def abort(self, token: str, *, call: Call = NO_CALL) -> None:
        """Drops the upload and its parts. Idempotent."""

    def uploads(self, older_than: float = 0.0, *, call: Call = NO_CALL) -> Iterator[Upload]:
        """Gives the pending uploads that began at least `older_than` seconds ago."""


class Lister(Protocol):
    """Lists images."""

    def list(self, prefix: str = "", *, call: Call = NO_CALL) -> Iterator[ObjectInfo]:
        """Gives every image whose key starts with `prefix`, in ascending order of the key's UTF-8 bytes.

        A `version` in it is acceptable to `get`, or None.
        """


class Extents(Protocol):
    """Tells where an image holds data."""

    def extents(
        self,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        version: str | None = None,
        call: Call = NO_CALL,
    ) -> Iterator[Extent]:
        """Gives adjoining extents that cover [start, stop) exactly, in order; `stop` None: to the end.

        Raises: NotFoundError, VersionChangedError, RangeNotSatisfiableError.
        """


class Copier(Protocol):
    """Copies inside one service, without the bytes passing through this process."""

    def copy(
        self, source_key: str, target_key: str, *, overwrite: bool = False, call: Call = NO_CALL
    ) -> ObjectInfo:
        """Makes `target_key` the same image as `source_key`, atomically.

        Raises: as `Writer.put`, and NotFoundError.
        """


class Acls(Protocol):
    """Grants other tenants access."""

    def set(self, key: str, read: Sequence[str], write: Sequence[str], *, call: Call = NO_CALL) -> None: ...


class Space(Protocol):
    """Knows how much room is left."""

    def free(self, *, call: Call = NO_CALL) -> int | None:
        """Gives the bytes that can still be stored, None where the store does not say."""


class LazyOptions(Sequence["Opt"]):
    """The options of a driver, made when somebody first looks at them.

    Only configuration looks, and to import oslo.config takes longer than to copy a small image. Callable from
    many threads.
    """

    def __init__(self, make: Callable[[], Sequence[Opt]]) -> None:
        """Takes what makes them; it imports oslo.config itself."""
        self._made = functools.cache(make)

    def __len__(self) -> int:
        return len(self._made())

    @overload
    def __getitem__(self, at: int) -> Opt: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Opt]: ...
    def __getitem__(self, at: int | slice) -> Opt | Sequence[Opt]:
        return self._made()[at]


class Store(abc.ABC):
    """A place that holds images by key and gives back any byte range of them exactly, or a typed error.

    Callable from many threads. A constructor does no I/O; clients are made at first use, one for each
    process.

    A driver implements `_open` and `translate`, and should implement `_stat`; optional abilities are facets:
    the object that does it, or None. Options in `OPTIONS` have the names of the constructor's keyword-only
    arguments. One that is secret may be given as text or as a callable that gives the text
    (`imgstore.secret`), all lines of a list in one; `reveal` it at each use, so that a renewed one counts.
    """

    OPTIONS: ClassVar[Sequence[Opt]] = ()

    store_id: str = ""
    # What the stores of one service have in common, such as its address: their retries draw on one bucket.
    endpoint: str = ""
    clock: Clock = SYSTEM
    writer: Writer | None = None
    uploader: Uploader | None = None
    lister: Lister | None = None
    extents: Extents | None = None
    device: Any | None = None
    copier: Copier | None = None
    acls: Acls | None = None
    space: Space | None = None
    _closed = False

    def stat(self, key: str, *, call: Call = NO_CALL) -> ObjectInfo:
        """Gives size and version as the store has them now, without reading the image.

        Raises: UnsafeLocationError for what is no key, NotFoundError, PermissionDeniedError,
        TransientError...
        """
        self._admit(key, call)
        try:
            return self._stat(key, call)
        except Exception as exc:  # noqa: BLE001  translate owns what it means
            raise self._translated(exc, key) from _cause(exc)

    @final
    def get(
        self,
        key: str,
        offset: int = 0,
        length: int | None = None,
        *,
        version: Version = None,
        call: Call = NO_CALL,
    ) -> ByteStream:
        """Opens the bytes from `offset` on: `length` of them (at least 1), None for all; clipped at the end.

        With `version`, bytes of that version or VersionChangedError; `ANY` says that the caller proves the
        bytes itself. `stream.info` describes the bytes that are served. An empty image read from 0 is an
        empty stream.

        Raises: ValueError for an offset or length that makes no sense, RangeNotSatisfiableError where
        `offset` is above the size, or at it and the image is not empty; as `stat` otherwise. Nothing stays
        open then.
        """
        self._admit(key, call)
        return self._stream(key, *bounds(offset, length), version, call)

    def _stream(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> ByteStream:
        """Opens a stream for `get` or a layer: one that is open outlives `close`, also when it reopens."""
        call.check(self.clock, key=key, store=self.store_id)
        opened: Opened | None = None
        try:
            opened = self._open(key, start, stop, version, call)
            return ByteStream(
                opened,
                start,
                stop,
                version=version,
                translate=self.translate,
                store=self.store_id,
                call=call,
                clock=self.clock,
            )
        except BaseException as exc:
            if opened is not None:
                opened.raw.close()
            if not isinstance(exc, Exception):
                raise
            raise self._translated(exc, key) from _cause(exc)

    @abc.abstractmethod
    def _open(self, key: str, start: int, stop: int | None, version: Version, call: Call) -> Opened:
        """Opens [start, stop) of `key`, for drivers and layers; arguments are checked, `stop` is not clipped.

        It sends the precondition where `version` is a token and the protocol has one. `call`'s deadline and
        cancellation end it within a second. When it raises, nothing stays open.
        """

    @abc.abstractmethod
    def translate(self, exc: Exception) -> ImgstoreError:
        """Gives the error of `imgstore.errors` that `exc` means. Pure; a StoreError comes back unchanged.

        What it does not know is a PermanentError: a bug must not look like weather.
        """

    def close(self) -> None:
        """Ends the store: new calls raise ValueError; open streams live until they are closed. Idempotent."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stat(self, key: str, call: Call) -> ObjectInfo:
        """Describes `key`. Drivers with a cheaper way than opening the image override this."""
        opened = self._open(key, 0, None, None, call)
        opened.raw.close()
        return opened.info

    def _admit(self, key: str | None, call: Call) -> None:
        """Lets a call begin; `key` is None where it names no image. For the facets of drivers, too."""
        if self._closed:
            raise ValueError(f"store {self.store_id!r} is closed")
        if key is not None:
            check_key(key)
        call.check(self.clock, key=key, store=self.store_id)

    def _translated(self, exc: Exception, key: str) -> ImgstoreError:
        error = exc if isinstance(exc, ImgstoreError) else self.translate(exc)
        error.key = error.key or key
        error.store = error.store or self.store_id
        return error


def unknown(exc: Exception) -> PermanentError:
    """What `translate` gives for an exception no driver knows: it names the type and keeps the cause."""
    error = PermanentError(f"unexpected {type(exc).__name__}")
    error.__cause__ = exc
    return error


def _cause(exc: BaseException) -> BaseException | None:
    return exc.__cause__ if isinstance(exc, ImgstoreError) else exc


def bounds(offset: int, length: int | None) -> tuple[int, int | None]:
    """Gives where the range begins and where it stops. Raises: ValueError for one that makes no sense."""
    start = index(offset)
    if start < 0:
        raise ValueError(f"offset {offset} is negative")
    if length is None:
        return start, None
    if index(length) < 1:
        raise ValueError(f"length {length} is below 1; None reads to the end")
    return start, start + index(length)
