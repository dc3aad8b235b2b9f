"""Manifests to write, and ways to damage what was written."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hypothesis import strategies as st

from imgstore.errors import UnsafeLocationError
from imgstore.manifest import ALGORITHMS, ChunkDigests, Manifest, SourceUrl
from imgstore.model import check_key

SAMPLES = Path(__file__).parent / "samples"


def digest(data, algorithm="sha256"):
    return hashlib.new(algorithm, data).hexdigest()


def made(data, chunk_size, algorithm="sha256", **more):
    parts = [data[at : at + chunk_size] for at in range(0, len(data), chunk_size)]
    digests = b"".join(hashlib.new(algorithm, part).digest() for part in parts)
    return Manifest(len(data), chunk_size, algorithm, ChunkDigests(digests, ALGORITHMS[algorithm]), **more)


def _is_key(text):
    try:
        return check_key(text) == text
    except UnsafeLocationError:
        return False


_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
_sources = st.builds(
    SourceUrl,
    st.text(
        st.characters(exclude_categories=["Cs", "Cc", "Zs"], exclude_characters="\ufffe\uffff"), min_size=1
    ).map("http://".__add__),
    st.integers(1, 999_999),
    st.sampled_from([None, "de", "zz"]),
)


@st.composite
def manifests(draw):
    algorithm = draw(st.sampled_from(sorted(ALGORITHMS)))
    data = draw(st.binary(max_size=200))
    whole = draw(st.sets(st.sampled_from(["md5", "sha1", "sha256", "sha512", "sha3_256", "blake2b"])))
    return made(
        data,
        draw(st.integers(1, 250)),
        algorithm,
        digests={name: digest(data, name) for name in whole},
        key=draw(st.none() | _text.filter(_is_key)),
        version=draw(st.none() | _text),
        sources=tuple(draw(st.lists(_sources, max_size=4))),
    )


@st.composite
def damaged(draw, whole):
    """Gives `whole` with up to four pieces of it cut out, doubled, moved or replaced."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start, stop = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
        stop = min(stop, start + draw(st.integers(0, 100)))
        piece = bytes(data[start:stop])
        new = draw(
            st.sampled_from([b"", piece * 2, b"&x;", b"<", b">", b'"', b"0", b"-1", b"1e308", b"\0", b"\xff"])
            | st.binary(max_size=8)
        )
        at = draw(st.sampled_from([start, draw(st.integers(0, len(data)))]))
        del data[start:stop]
        data[at:at] = new
    return bytes(data)
