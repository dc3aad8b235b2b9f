"""The digests of uploads on their way: computed from parts as they are put, nearly in order."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from imgstore.backends.s3.pending import Pending
from imgstore.errors import DigestMismatchError
from imgstore.model import Part

# Uploads of one process whose digests are kept at a time; of one that fell out the image is read back.
_KNOWN: Final = 64


class Proof:
    """What this process knows of one upload: its digests after each part from the first on, and how it ended.

    Callable from many threads.
    """

    def __init__(self, digests: Mapping[str, str]) -> None:
        self._expected = digests
        self._lock = threading.Lock()
        start = {name: hashlib.new(name, usedforsecurity=False) for name in digests}
        # (end offset, hashes up to it) by the number of the part before: -1 for the start
        self._after: dict[int, tuple[int, dict[str, Any]]] = {-1: (0, start)}
        self._tags: dict[int, str] = {}
        self.proven = not digests
        self.joined = False  # whether the service may have made the image of the parts

    def add(self, number: int, offset: int, data: memoryview) -> bool:
        """Hashes a part if the one before it was; tells whether it did. One put again takes its place."""
        if not self._expected:
            return True
        with self._lock:
            before = self._after.get(number - 1)
            if before is None or before[0] != offset:
                return False
            hashes = {name: each.copy() for name, each in before[1].items()}
            for each in hashes.values():
                each.update(data)
            known = self._after.get(number)
            if known is None or not _equal(known[1], hashes):
                self._after = {at: each for at, each in self._after.items() if at < number}
                self._after[number] = offset + data.nbytes, hashes
            return True

    def stored(self, part: Part) -> None:
        """Notes the receipt of a part, by which it is known again."""
        with self._lock:
            self._tags[part.number] = part.tag

    def judge(self, parts: Sequence[Part]) -> None:
        """Compares the digests of `parts`; where these are known and right, the image is `proven`.

        Raises: DigestMismatchError.
        """
        with self._lock:
            known = self._after.get(len(parts) - 1)
            same = all(self._tags.get(part.number) == part.tag for part in parts)
            if known is None or not same or known[0] != sum(part.size for part in parts):
                return
            for name, each in known[1].items():
                if each.hexdigest() != self._expected[name]:
                    raise DigestMismatchError(f"the bytes have another {name} digest")
            self.proven = True


class Proofs:
    """The proofs of the uploads that this process has to do with."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Proof] = OrderedDict()

    def begin(self, pending: Pending) -> None:
        """Keeps a proof for an upload from its first part on."""
        with self._lock:
            self._known[pending.marker] = Proof(pending.digests)
            while len(self._known) > _KNOWN:
                self._known.popitem(last=False)

    def find(self, pending: Pending) -> Proof:
        """Gives the proof of an upload, a new one if this process has put none of it."""
        with self._lock:
            known = self._known.get(pending.marker)
        if known is None:
            self.begin(pending)
            return self.find(pending)
        return known

    def forget(self, pending: Pending) -> None:
        with self._lock:
            self._known.pop(pending.marker, None)


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(each.digest() == other[name].digest() for name, each in one.items())
