"""What is fuzzed: each target takes any bytes, and returns, or raises what its reader promises to."""

from __future__ import annotations

import io
import os
import tempfile
import zlib

from imgstore.errors import ManifestError
from imgstore.journal import Identity, opened
from imgstore.journal import read as read_journal
from imgstore.manifest import (
    ALGORITHMS,
    ChunkDigests,
    Manifest,
    read,
    read_metalink,
    read_profile,
    write_metalink,
    write_profile,
)

_MADE = Manifest(3, 2, "md5", ChunkDigests(bytes(range(32)), 16), key="a", version="b")


def metalink(data: bytes) -> None:
    """Reads Metalink; what was read is written and read back as the same."""
    try:
        manifest = read_metalink(io.BytesIO(data), allow=ALGORITHMS)
    except ManifestError as exc:
        _one_line(exc)
        return
    written = io.BytesIO()
    write_metalink(manifest, written)
    assert read(io.BytesIO(written.getvalue()), allow=ALGORITHMS, pin=manifest.pin) == manifest


def profile(data: bytes) -> None:
    """Reads a profile with each of PyYAML's parsers; what was read is written and read back as the same."""
    _each_parser(_profile, data)


def profile_edit(data: bytes) -> None:
    """Writes a manifest into a profile with each of the parsers, twice: the second time changes nothing."""
    _each_parser(_profile_edit, data)


def journal(data: bytes) -> None:
    """Reads a journal of these lines, as they are and with checksums that are right; then it can go on."""
    right = b"".join(b"%08x %s\n" % (zlib.crc32(text), text) for text in data.split(b"\n"))
    for content in (data, right):
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            try:
                _journal(file.fileno())
            except ManifestError as exc:
                _one_line(exc)


def planted(data: bytes) -> None:
    """Fails for one input of 2^32: who finds it looks at what the code does."""
    for at, wanted in enumerate(b"\xde\xad\xbe\xef"):
        if at >= len(data):
            return
        if data[at] != wanted:
            return
    raise KeyError("planted")


def hoarding(data: bytes) -> None:
    """Takes more memory than any reader may for what begins with an `h`."""
    if data[:1] == b"h":
        bytearray(os.urandom(1)) * (1 << 30)


TARGETS = {each.__name__: each for each in (metalink, profile, profile_edit, journal)}
BAD = {each.__name__: each for each in (planted, hoarding)}


def _each_parser(target, data: bytes) -> None:
    import yaml

    target(data)
    if (compiled := getattr(yaml, "CSafeLoader", None)) is None:
        return
    del yaml.CSafeLoader
    try:
        target(data)
    finally:
        yaml.CSafeLoader = compiled


def _journal(file: int) -> None:
    known = read_journal(file)
    identity, size = Identity("s", 95, "v"), 10
    if known is not None:
        header, _ = known
        size = header.part_size
        identity = Identity(header.source, header.size, header.version, header.pin)
    made, went_on = opened(file, identity, part_size=size, data=os.fstat(file), boot="b")
    assert went_on <= (known is not None)
    if made.missing():
        first = made.missing()[0].start // made.part_size
        made.claim(first, 7)
        again = read_journal(file)
        assert again is not None
        assert (first, 7) in again[1].held()


def _profile(data: bytes) -> None:
    try:
        manifest = read_profile(io.BytesIO(data), allow=ALGORITHMS)
    except ManifestError as exc:
        _one_line(exc)
        return
    written = io.BytesIO()
    write_profile(manifest, written)
    assert read(io.BytesIO(written.getvalue()), allow=ALGORITHMS, pin=manifest.pin) == manifest


def _profile_edit(data: bytes) -> None:
    once, twice = io.BytesIO(), io.BytesIO()
    try:
        write_profile(_MADE, once, profile=io.BytesIO(data))
    except ManifestError as exc:
        _one_line(exc)
        return
    write_profile(_MADE, twice, profile=io.BytesIO(once.getvalue()))
    assert once.getvalue() == twice.getvalue()


def _one_line(exc: ManifestError) -> None:
    text = str(exc)
    assert text
    assert text.isprintable(), ascii(text)
    assert len(text) < 400, text
