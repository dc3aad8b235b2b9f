"""Checksums: those of others, in 32 bits, whatever pieces they come in."""

from __future__ import annotations

import sys
import zlib

import pytest
import xxhash

from imgstore import checksum

DATA = bytes(range(256)) * 40
OTHERS = {
    "crc32": zlib.crc32,
    "xxh3": lambda data: xxhash.xxh3_64_intdigest(data) & 0xFFFFFFFF,
}


def test_the_fast_one_is_the_best():
    assert list(checksum.known()) == ["xxh3", "crc32"]


@pytest.mark.parametrize("name", OTHERS)
def test_they_are_what_others_compute(name):
    found = checksum.known()[name]()
    for at in range(0, len(DATA), 1000):
        found.update(memoryview(DATA)[at : at + 1000])
    assert found.value() == OTHERS[name](DATA)
    assert checksum.of_zeros(name, 5000) == OTHERS[name](bytes(5000))


def test_without_xxhash_there_is_that_of_zlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "xxhash", None)
    assert list(checksum.known.__wrapped__()) == ["crc32"]
