"""What a hasher finds, whatever comes in whichever pieces: the same as hashlib in one go."""

from __future__ import annotations

import hashlib
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgstore.errors import ConfigError
from imgstore.hashing import ALGORITHMS, Hasher, algorithms, digest_size, new

DATA = random.Random(5).randbytes(10_000)
CHUNK = 64


def chunk_digests(data, size, algorithm="sha256"):
    pieces = (data[at : at + size] for at in range(0, len(data), size))
    return b"".join(hashlib.new(algorithm, each).digest() for each in pieces)


def hashed(data, *names, **options):
    with Hasher(names, **options) as hasher:
        hasher.update(data)
        return hasher.finish()


@pytest.mark.parametrize("name", [each for each in ALGORITHMS if not each.startswith(("blake3", "xxh3"))])
@pytest.mark.parametrize("threads", [0, 2])
def test_each_algorithm_is_that_of_hashlib(name, threads):
    found = hashed(DATA, name, chunk=(name, 999), threads=threads, piece=100)
    assert found.size == len(DATA)
    assert found.whole == {name: hashlib.new(name, DATA).hexdigest()}
    assert found.chunks == chunk_digests(DATA, 999, name)
    assert digest_size(name) == hashlib.new(name).digest_size


# From the designers' own: BLAKE3's test_vectors.json (input_len 3: 0 1 2), and XXH3 of nothing with seed 0.
@pytest.mark.parametrize(
    "name, data, digest",
    [
        ("blake3", b"\0\1\2", "e1be4d7a8ab5560aa4199eea339849ba8e293d55ca0a81006726d184519e647f"),
        ("xxh3_64", b"", "2d06800538d394c2"),
        ("xxh3_128", b"", "99aa06d3014798d86001c324468d497f"),
    ],
)
def test_the_algorithms_of_packages(name, data, digest):
    assert hashed(data, name).whole == {name: digest}
    assert digest_size(name) * 2 == len(digest)
    whole = new(name)
    whole.update(memoryview(DATA))
    assert hashed(DATA, name, threads=2, piece=100).whole == {name: whole.hexdigest()}


def test_all_at_once():
    names = [each for each in ALGORITHMS if each in hashlib.algorithms_available]
    assert len(names) == 12
    found = hashed(DATA, *names, chunk=("sha512", CHUNK), threads=3, piece=1000)
    assert found.whole == {name: hashlib.new(name, DATA).hexdigest() for name in names}
    assert found.chunks == chunk_digests(DATA, CHUNK, "sha512")


@pytest.mark.parametrize("package", ["blake3", "xxhash"])
def test_a_package_that_is_missing_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    name = {"blake3": "blake3", "xxhash": "xxh3_64"}[package]
    cure = rf"pip install '{package}>=\d\.0'"
    with pytest.raises(ConfigError, match=rf"^{name} needs the package {package}: {cure}$"):
        Hasher([name])


def test_an_unknown_algorithm_is_refused_with_what_there_is():
    for options in ({"algorithms": ["sha255"]}, {"chunk": ("sha255", 1)}):
        with pytest.raises(ConfigError, match=r"'sha255'; there are md5, .* xxh3_128"):
            Hasher(**options)


def test_what_the_system_forbids_is_refused(monkeypatch):
    def forbid(name, **_):
        raise ValueError("[digital envelope routines] unsupported")

    monkeypatch.setattr(algorithms.hashlib, "new", forbid)
    with pytest.raises(ConfigError, match="allows no md5"):
        Hasher(["md5"])


@pytest.mark.parametrize(
    "options, what",
    [
        ({"piece": 0}, "a piece is at least 1, not 0"),
        ({"chunk": ("sha256", 0)}, "a chunk is at least 1, not 0"),
        ({"threads": -1}, "the number of threads is at least 0, not -1"),
        ({"memory": 0}, "the memory is at least 1, not 0"),
    ],
)
def test_numbers_without_a_sense_are_refused(options, what):
    with pytest.raises(ValueError, match=what):
        Hasher(["md5"], **options)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 127, 128, 129, 191, 192, 193])
@pytest.mark.parametrize("piece", [1, 32, 63, 64, 65, 128, 1000])
@pytest.mark.parametrize("zeros", [False, True])
def test_sizes_around_the_borders_of_chunks(size, piece, zeros):
    data = bytes(size) if zeros else DATA[:size]
    with Hasher(["md5"], chunk=("sha256", CHUNK), threads=0, piece=piece) as hasher:
        if zeros:
            hasher.skip(size)
        else:
            hasher.update(data)
        assert hasher.size == size
        found = hasher.finish()
    assert found.size == size
    assert found.whole == {"md5": hashlib.md5(data).hexdigest()}
    assert found.chunks == chunk_digests(data, CHUNK)


# A number of zeros, or bytes that are not; the lengths make borders of chunks and pieces meet now and then.
steps = st.lists(st.one_of(st.integers(0, 400), st.binary(max_size=40), st.just(DATA[:CHUNK])), max_size=12)


@given(
    steps=steps,
    chunk=st.sampled_from([1, 3, 16, CHUNK, 100, 1000]),
    piece=st.sampled_from([1, 7, CHUNK, 200]),
    memory=st.sampled_from([None, 1, 500]),
    threads=st.sampled_from([0, 1, 3]),
)
def test_any_mixture_of_data_and_holes(steps, chunk, piece, memory, threads):
    whole = b"".join(bytes(each) if isinstance(each, int) else each for each in steps)
    with Hasher(
        ["md5", "sha512"], chunk=("sha256", chunk), threads=threads, memory=memory, piece=piece
    ) as hasher:
        for each in steps:
            if isinstance(each, int):
                hasher.skip(each)
            else:
                hasher.update(each)
        found = hasher.finish()
    assert found.size == len(whole)
    assert found.whole == {name: hashlib.new(name, whole).hexdigest() for name in ("md5", "sha512")}
    assert found.chunks == chunk_digests(whole, chunk)


@given(cuts=st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_bytes_received_into_the_buffer_are_as_good(cuts):
    taken = 0
    with Hasher(["sha256"], chunk=("sha256", CHUNK), threads=0, memory=300, piece=100) as hasher:
        for cut in cuts:
            room = hasher.buffer()
            assert len(room) >= 50
            count = min(cut, len(room))
            room[:count] = DATA[taken : taken + count]
            hasher.filled(count)
            # what was filled can still be read: a copy writes it while it is hashed
            assert room[:count] == DATA[taken : taken + count]
            taken += count
        found = hasher.finish()
    assert found.whole == {"sha256": hashlib.sha256(DATA[:taken]).hexdigest()}
    assert found.chunks == chunk_digests(DATA[:taken], CHUNK)


def test_what_was_received_but_not_told_does_not_count():
    with Hasher(["md5"], threads=0) as hasher:
        hasher.buffer()[:3] = b"bad"
        hasher.update(b"good")
        hasher.buffer()[:4] = b"torn"
        hasher.filled(0)
        assert hasher.finish().whole == {"md5": hashlib.md5(b"good").hexdigest()}


@pytest.mark.parametrize("count", [-1, 11])
def test_more_than_the_buffer_held_is_refused(count):
    with Hasher(["md5"], threads=0, piece=10) as hasher:
        hasher.buffer()
        with pytest.raises(ValueError, match=f"{count} bytes cannot be filled in a buffer of 10"):
            hasher.filled(count)


def test_a_hole_of_less_than_nothing_is_refused():
    with Hasher(["md5"], threads=0) as hasher, pytest.raises(ValueError, match="at least 0 bytes, not -1"):
        hasher.skip(-1)


def test_nothing_to_compute_is_no_work():
    found = hashed(DATA, piece=100)
    assert (found.size, found.whole, found.chunks) == (len(DATA), {}, b"")


def test_any_buffer_of_bytes_will_do():
    import array

    numbers = array.array("I", range(100))
    for data in (b"abc", bytearray(b"abc"), memoryview(b"abc"), numbers, memoryview(DATA)[::1]):
        assert hashed(data, "md5").whole == {"md5": hashlib.md5(bytes(data)).hexdigest()}


class Counting:
    """Notes what reaches a digest; gives back a true one."""

    def __init__(self, name="sha256"):
        self.taken = []
        self._true = hashlib.new(name)

    def update(self, data):
        self.taken.append(len(data))
        self._true.update(data)

    def digest(self):
        return self._true.digest()

    def hexdigest(self):
        return self._true.hexdigest()


def test_chunks_of_zeros_are_hashed_once(monkeypatch):
    from imgstore.hashing import _chunks

    made = []
    monkeypatch.setattr(_chunks, "new", lambda name: made.append(Counting()) or made[-1])
    data = bytes(1000) + DATA[:10] + bytes(990) + bytes(5000) + DATA[:1] + bytes(2049)
    with Hasher(chunk=("sha256", 1000), threads=0, piece=1000) as hasher:
        hasher.skip(1000)
        hasher.update(DATA[:10])
        hasher.skip(600)
        hasher.skip(5390)  # what it ends with is zeros from the border of a chunk on
        hasher.update(DATA[:1])
        hasher.skip(2049)
        found = hasher.finish()
    assert found.chunks == chunk_digests(data, 1000)
    # the first of zeros, the two with data in them, and the tail
    assert sum(sum(each.taken) for each in made) == 1000 + 1000 + 1000 + 50


def test_a_hole_of_128_gib_needs_no_memory(monkeypatch):
    """No digest of the whole here: it would have to take every zero."""
    import tracemalloc

    with Hasher(chunk=("md5", 1 << 26), threads=0) as hasher:
        hasher.skip(1 << 26)  # these are hashed
        tracemalloc.start()
        try:
            hasher.skip((1 << 37) - (1 << 26))
            found = hasher.finish()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert found.size == 1 << 37
    assert found.chunks == found.chunks[:16] * (1 << 11)
    assert peak < 1 << 18  # the digests themselves are 32 KiB, and are copied once


def test_with_no_digest_bytes_are_counted_in_no_memory_until_it_is_closed(monkeypatch):
    monkeypatch.setattr("imgstore.hashing._schedule.paged", lambda _: pytest.fail("memory was asked for"))
    hasher = Hasher()
    hasher.update(DATA)
    hasher.update(memoryview(DATA))
    found = hasher.finish()
    assert (found.size, found.whole, found.chunks) == (2 * len(DATA), {}, b"")
    with pytest.raises(ValueError, match="closed"):
        hasher.update(b"")
