"""A Manifest is whole and free of contradictions, or is not made."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgstore.errors import ImgstoreError, ManifestError
from imgstore.manifest import (
    ALGORITHMS,
    CHUNK_LIMIT,
    CHUNK_SIZE,
    ENTRY_LIMIT,
    LIMIT,
    ChunkDigests,
    SourceUrl,
    chunk_size_for,
    most_chunks,
    write_metalink,
    write_profile,
)
from imgstore.model import ByteRange
from tests.unit.manifest import making

DATA = bytes(range(250)) * 4  # 1000 bytes


def made(data=DATA, chunk_size=300, algorithm="sha256", **more):
    return making.made(data, chunk_size, algorithm, **more)


WHOLE_OF_X = {n: {"sha512": hashlib.sha512(b"x" * n).hexdigest()} for n in (1000, 2000)}
WHOLE = {"sha256": hashlib.sha256(DATA).hexdigest(), "md5": hashlib.md5(DATA).hexdigest()}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_chunk_is_proven_and_nothing_else(algorithm):
    manifest = made(algorithm=algorithm)
    parts = [DATA[each.start : each.stop] for each in map(manifest.chunk_range, range(4))]
    assert b"".join(parts) == DATA
    for number, part in enumerate(parts):
        assert manifest.matches(number, part)
        assert manifest.matches(number, memoryview(bytearray(part)))
        assert not manifest.matches(number, part[:-1])
        assert not manifest.matches(number, bytes([part[0] ^ 1]) + part[1:])
    assert not manifest.matches(0, parts[1])


def test_last_chunk_ends_with_the_image():
    manifest = made()
    assert manifest.chunk_range(2) == ByteRange(600, 900)
    assert manifest.chunk_range(3) == ByteRange(900, 1000)
    for number in (-1, 4):
        with pytest.raises(IndexError):
            manifest.chunk_range(number)
        with pytest.raises(IndexError):
            manifest.matches(number, b"")


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 1100))
def test_covering_names_the_chunks_that_a_range_touches(one, other, chunk_size):
    start, stop = min(one, other), max(one, other)
    manifest = made(chunk_size=chunk_size)
    touched = {at // chunk_size for at in range(start, stop)}
    assert set(manifest.covering(start, stop)) == touched


@pytest.mark.parametrize("bounds", [(-1, 5), (5, 4), (0, 1001), (1001, 1001)])
def test_covering_refuses_what_is_outside(bounds):
    with pytest.raises(ValueError, match="does not lie in an image of 1000 bytes"):
        made().covering(*bounds)


def test_empty_image_has_no_chunks():
    manifest = made(b"")
    assert len(manifest.chunks) == 0
    assert list(manifest.covering(0, 0)) == []


def test_chunk_digests_are_a_sequence():
    digests = ChunkDigests(bytes(range(60)), 20)
    assert [digests[0], digests[1], digests[2]] == list(digests) == list(digests[:])
    assert digests[-1] == bytes(range(40, 60))
    assert digests[1:] == (digests[1], digests[2])
    assert digests == ChunkDigests(bytes(range(60)), 20)
    assert hash(digests) == hash(ChunkDigests(bytes(range(60)), 20))
    assert digests != ChunkDigests(bytes(range(60)), 30)
    assert digests != list(digests)
    assert repr(digests) == "<3 digests of 20 bytes>"
    with pytest.raises(IndexError):
        digests[3]


PINNED = made(digests=WHOLE, key="a", version="1", sources=(SourceUrl("http://a/"),))


def test_pin_is_of_what_proves_and_of_nothing_else():
    assert PINNED.pin == replace(PINNED, key=None, version=None, sources=()).pin
    assert PINNED.pin == replace(PINNED, digests=dict(reversed(WHOLE.items()))).pin
    others = [
        replace(PINNED, digests={}),
        replace(PINNED, digests={"sha256": WHOLE["sha256"]}),
        replace(PINNED, digests={**WHOLE, "md5": "0" * 32}),
        replace(PINNED, size=1001),
        replace(PINNED, chunk_size=301),
        replace(PINNED, chunks=ChunkDigests(PINNED.chunks.data[::-1], 32)),
        made(chunk_size=1000, digests=WHOLE),
        made(algorithm="sha512", digests=WHOLE),
    ]
    assert len({each.pin for each in (PINNED, *others)}) == len(others) + 1


def test_pin_is_what_the_docstring_says():
    head = (
        f"imgstore-manifest 1\nsize 1000\nchunk-size 300\ndigest md5 {WHOLE['md5']}\n"
        f"digest sha256 {WHOLE['sha256']}\nchunks sha256 4\n"
    )
    assert PINNED.pin == "sha256:" + hashlib.sha256(head.encode() + PINNED.chunks.data).hexdigest()


def test_manifests_travel():
    assert pickle.loads(pickle.dumps(PINNED)) == PINNED
    assert hash(pickle.loads(pickle.dumps(PINNED))) == hash(PINNED)


def test_sources_are_kept_best_first():
    last, first, second = SourceUrl("http://c/"), SourceUrl("http://a/", 1, "de"), SourceUrl("http://b/", 1)
    assert made(sources=(last, first, second)).sources == (first, second, last)


def test_source_shows_no_secret():
    source = SourceUrl("https://user:pass@host/image?X-Amz-Signature=abc")
    assert repr(source) == "SourceUrl('https://host/image?...', 999999, None)"
    with pytest.raises(ManifestError) as caught:
        SourceUrl("https://user:pass@host/ima ge?X-Amz-Signature=abc")
    assert "pass" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_manifest_belongs_to_itself():
    whole = dict(WHOLE)
    manifest = made(digests=whole)
    whole["md5"] = "ff"
    assert manifest.digests == WHOLE


WRONG = {
    "size below": (
        {"size": 999, "chunk_size": 200},
        "4 chunk digests for 999 bytes in chunks of 200; 5 would",
    ),
    "gap": ({"size": 1201}, "5 would do"),
    "surplus": ({"size": 900}, "3 would do"),
    "negative size": ({"size": -1}, "the size is -1; a whole number from 0"),
    "huge size": ({"size": 1 << 63}, "the size is 9223372036854775808"),
    "endless size": ({"size": 10**5000}, "the size is a huge number"),
    "float size": ({"size": 1e308}, "the size is 1e\\+308"),
    "truth for a size": ({"size": True}, "the size is True"),
    "no chunk size": ({"chunk_size": 0}, "the chunk size is 0; a whole number from 1 to 268435456"),
    "huge chunk size": ({"chunk_size": 1 << 63}, "the chunk size is"),
    "chunk past its limit": ({"chunk_size": CHUNK_LIMIT + 1}, "the chunk size is 268435457"),
    "too many chunks": (
        {"size": ENTRY_LIMIT + 1, "chunk_size": 1},
        "16777217 chunks of 1 bytes are too many",
    ),
    "weaker algorithm": ({"algorithm": "crc32"}, "chunks cannot be proven by 'crc32'; md5, sha1, sha256"),
    "another width": ({"algorithm": "sha512"}, "chunk digests of 32 bytes are none of sha512, which has 64"),
    "digest cut": ({"digests": {"sha256": WHOLE["sha256"][:-2]}}, "the sha256 of the image .* 64 digits"),
    "upper case": ({"digests": {"sha256": WHOLE["sha256"].upper()}}, "lower-case"),
    "bytes": ({"digests": {"sha256": b"0" * 64}}, "lower-case"),
    "half a byte": ({"digests": {"blake3": "012345678"}}, "the blake3 of the image is '012345678'"),
    "name": ({"digests": {"SHA-256": WHOLE["sha256"]}}, "'SHA-256' is no name of a digest"),
    "many digests": ({"digests": {f"x{i}": "0" * 8 for i in range(65)}}, "65 digests of the image are too"),
    "only chunk": ({"chunk_size": 1000, "chunks": ChunkDigests(bytes(32), 32)}, "not that of its only chunk"),
    "key": ({"key": "../etc/passwd"}, "made of an image with an unusable key: .*'\\.\\.' segment"),
    "absolute key": ({"key": "/etc/passwd"}, "unusable key"),
    "key of a wrong type": ({"key": 5}, "a key is a string"),
    "empty version": ({"version": ""}, "the version '' is none"),
    "long version": ({"version": "x" * 1025}, "the version 'xxx.*\\.\\.\\. is none"),
    "version of a wrong type": ({"version": 7}, "the version 7 is none"),
    "half a character": ({"version": "\ud800"}, "is none"),
    "locations": ({"sources": (SourceUrl("http://a/"),) * 1025}, "1025 locations are too many"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_contradicts_itself_is_refused(name):
    changes, message = WRONG[name]
    with pytest.raises(ManifestError, match=message) as caught:
        replace(made(digests=WHOLE), **changes)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, (ImgstoreError, ValueError))


@pytest.mark.parametrize(
    "arguments",
    [
        ("image.raw",),
        ("//host/image",),
        ("http:",),
        ("http://host/a b",),
        ("http://host/\n",),
        ("http://host/\ufffe",),
        ("http://host/" + "x" * 8192,),
        (None,),
        ("http://host/", 0),
        ("http://host/", 1_000_000),
        ("http://host/", "1"),
        ("http://host/", 1, "deu"),
        ("http://host/", 1, "DE"),
        ("http://host/", 1, 49),
    ],
)
def test_what_is_no_location_is_refused(arguments):
    with pytest.raises(ManifestError):
        SourceUrl(*arguments)


def test_digests_of_parts_are_refused():
    for data, width in ((b"123", 2), (b"12", 0), (b"", -1)):
        with pytest.raises(ManifestError, match="no whole number of digests"):
            ChunkDigests(data, width)


@pytest.mark.parametrize("write", [write_metalink, write_profile])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_manifest_of_a_huge_image_is_small_enough_to_be_read(algorithm, write):
    """By what a chunk adds to a file, since the real one would take seconds."""
    sizes = []
    for count in (1000, 2000):
        file = io.BytesIO()
        write(made(b"x" * count, 1, algorithm, digests=WHOLE_OF_X[count]), file)
        sizes.append(len(file.getvalue()))
    each = (sizes[1] - sizes[0]) / 1000
    assert sizes[0] + each * most_chunks(algorithm) <= LIMIT
    most = most_chunks(algorithm) * CHUNK_SIZE
    assert [chunk_size_for(size, algorithm) for size in (None, 0, most, most + 1, 2 * most + 1)] == [
        CHUNK_SIZE * factor for factor in (1, 1, 1, 2, 4)
    ]
