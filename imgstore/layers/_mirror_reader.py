"""A range of an image, read from one leg of a mirror after the other."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, Literal

from imgstore.errors import DigestMismatchError, ImgstoreError, VersionChangedError
from imgstore.layers._mirror_legs import Attempts, Legs, Proof
from imgstore.layers._mirror_plan import difference
from imgstore.model import ANY, ByteRange, Call, CancelToken, Event, ObjectInfo, Version
from imgstore.stream import ByteStream, Opened


class MirroredReader:
    """The raw reader of a range: streams of the legs, one after the other."""

    def __init__(
        self, legs: Legs, key: str, wanted: ByteRange, version: Version, call: Call, *, store: str
    ) -> None:
        """Opens nothing yet. `store` is the mirror's id. Raises: as `Legs.route`."""
        self._legs = legs
        self._now = legs.clock.now
        self._key = key
        self._start = self._at = wanted.start
        self._stop = wanted.stop
        self._version = version
        self._cancel = call.cancel.child() if call.cancel is not None else CancelToken()
        self._call = replace(call, cancel=self._cancel)
        self._attempts = Attempts(legs, key, version, self._call, store=store)
        self._store = store
        self._info: ObjectInfo | None = None
        self._proof: Proof | None = None  # of what the first leg serves
        self._hash: Any = None  # of a whole read that only its digest proves
        self._leg = -1
        self._served: set[int] = set()
        self._stream: ByteStream | None = None
        self._count = 0  # bytes of the open stream, and the seconds that they took
        self._seconds = 0.0
        self._held = 0.0  # by the streams before

    def begin(self) -> Opened:
        """Opens the first leg that can be had."""
        return Opened(self, *self._attempts.first_good(self._at, self._open))

    @property
    def held(self) -> float:
        return self._held + self._attempts.held + (0.0 if self._stream is None else self._stream.held)

    def readinto(self, buffer: memoryview, /) -> int:
        while (stream := self._stream) is not None:
            began = self._now() - stream.held
            try:
                count = stream._fill(buffer)
            except ImgstoreError as exc:
                self._seconds += self._now() - stream.held - began
                self._go_on(exc)
            else:
                self._seconds += self._now() - stream.held - began
                self._take(buffer[:count])
                return count
        return 0

    def abort(self) -> None:
        self._cancel.cancel()

    def close(self) -> None:
        if self._stream is not None:
            self._leave()
            if self._count:
                self._legs.standings.served(self._leg)

    def _open(self, number: int) -> tuple[ObjectInfo, ByteRange]:
        """Opens the rest of the range at one leg."""
        store, key = self._legs.place(number, self._key)
        began = self._now()
        stream = store._stream(key, self._at, self._stop, self._attempts.asked, self._attempts.call)
        try:
            info = self._judged(number, stream)
        except BaseException:
            stream.close()
            raise
        self._leg, self._stream = number, stream
        self._served.add(number)
        self._count, self._seconds = 0, self._now() - began - stream.held
        self._emit("source", self._legs.names[number])
        return info, stream.range

    def _judged(self, number: int, stream: ByteStream) -> ObjectInfo:
        """Gives what the mirror says of the image that a leg serves, if it is the image of this read.

        Raises: VersionChangedError, ManifestError.
        """
        told, proof = self._legs.described(number, self._key, stream.info, self._legs.proof(stream))
        version, begun = self._version, self._info
        if isinstance(version, str) and self._attempts.asked is not None:
            told, proof = replace(told, version=version), None  # a leg's own, which it has been held to
        other = None if begun is None else difference(begun, told)
        wanted = version if begun is None else begun.version
        if other is None and version is not ANY and wanted not in {None, told.version}:
            other = "its digest is another, or not told"
        if other is not None:
            raise VersionChangedError(f"{self._legs.names[number]} holds another image: {other}")
        if told.size is None or (proof is None and version is not ANY):
            self._attempts.route.bind(number)
        if begun is None:
            self._learn(told, proof, stream.range)
        return told

    def _learn(self, info: ObjectInfo, proof: Proof | None, served: ByteRange) -> None:
        """Notes what the first leg says of the image, and whether its bytes have to be hashed here."""
        self._info = info
        self._stop = served.stop
        # under ANY the caller has a proof of its own
        self._proof = proof if self._version is not ANY else None
        if self._proof == "digest" and len(self._legs) > 1 and served == ByteRange(0, info.size):
            self._hash = hashlib.new(self._digest[0], usedforsecurity=False)

    @property
    def _digest(self) -> tuple[str, str]:
        """The algorithm and the value of the digest that is the version."""
        name, _, value = str(self._info and self._info.version).partition(":")
        return name, value

    def _take(self, data: memoryview) -> None:
        """Counts what a leg gave; at the end of the range it is done."""
        self._at += len(data)
        self._count += len(data)
        if self._hash is not None:
            self._hash.update(data)
        if not data or self._at == self._stop:
            self._leave()
            if self._hash is not None and self._hash.hexdigest() != self._digest[1]:
                raise self._lied(f"the image's bytes do not have the {self._digest[0]} that was promised")
            self._legs.standings.served(self._leg)

    def _go_on(self, error: ImgstoreError) -> None:
        """Goes on with the next leg after `error` of the one that was serving. Raises: what ends the read."""
        self._leave()
        # A bad chunk is never given; but the digest of the whole is compared when all is given.
        condemns = isinstance(error, DigestMismatchError) and not error.chunks and self._proof == "digest"
        if condemns and self._at > self._start:
            raise self._lied(str(error)) from error
        self._attempts.failed(self._leg, self._at, error)
        self._attempts.first_good(self._at, self._open)
        self._emit("resumed", self._store, attempt=self._attempts.route.attempts, error=error)

    def _lied(self, message: str) -> DigestMismatchError:
        """Gives the error of a read with wrong bytes, nobody knows which; all who gave some have to rest."""
        names = ", ".join(self._legs.names[number] for number in sorted(self._served))
        error = DigestMismatchError(f"{message}; they came from {names}", offset=self._start)
        for number in self._served:
            self._legs.standings.failed(number, self._now(), error)
        return error

    def _leave(self) -> None:
        """Closes the open stream and notes how fast it was."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._held += stream.held
            stream.close()
            self._legs.standings.measured(self._leg, self._now(), self._count, self._seconds)

    def _emit(self, kind: Literal["source", "resumed"], store: str, **fields: Any) -> None:
        self._legs.emit(self._call, Event(kind, store, self._key, offset=self._at, **fields))
