"""The record of each pending upload: a small object that holds its token.

A listing of pending uploads tells neither whose they are nor what they are to become. What has no record is
somebody else's, and is left alone. A record is written before its upload is begun, again when the service has
given that an ID, and removed with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from imgstore.backends.s3.objects import Objects
from imgstore.backends.s3.pending import Pending
from imgstore.errors import NotFoundError, StoreError, UploadLostError
from imgstore.model import Call


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it lies in the bucket: its object's key, when it was last written, what it says."""

    name: str
    written: float
    pending: Pending


class Records:
    """The records of one store."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def write(self, pending: Pending, call: Call) -> None:
        """Writes the record of `pending`, in the place of an earlier one. Raises: as `Wire.ask`."""
        data = memoryview(pending.token.encode())
        self._objects.write(
            "PutObject",
            call,
            Key=self._objects.bucket.record(pending.marker),
            Body=data,
            ContentType="text/plain",
            **self._objects.integrity.of_object(data),
        )

    def forget(self, pending: Pending, call: Call) -> None:
        """Removes the record of an upload that has ended; one that stays is removed when all are read."""
        with contextlib.suppress(StoreError):
            self.remove(self._objects.bucket.record(pending.marker), call)

    def remove(self, name: str, call: Call) -> None:
        self._objects.ask("DeleteObject", call, Key=name)

    def all(self, call: Call) -> list[Record]:
        """Gives all records; what is none is left alone. Raises: as `Wire.ask`."""
        found = [self._read(name, written, call) for name, written in self._names(call)]
        return [each for each in found if each is not None]

    def _names(self, call: Call) -> Iterator[tuple[str, float]]:
        for page in self._objects.pages(self._objects.bucket.records, call):
            for each in page:
                yield str(each["Key"]), each["LastModified"].timestamp()

    def _read(self, name: str, written: float, call: Call) -> Record | None:
        try:
            answer = self._objects.ask("GetObject", call, Key=name)
            token = answer.document["Body"].read().decode()
            return Record(name, written, Pending.of(token, self._objects.bucket.name))
        except (NotFoundError, UploadLostError, UnicodeDecodeError):
            return None  # gone in the meantime, or no record of ours
