"""Metalink 4 is read as RFC 5854 has it, written so that it is read back, and refused where it is hostile."""

from __future__ import annotations

import codecs
import io
import tracemalloc
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imgstore.errors import ConfigError, ManifestError, StorageIOError
from imgstore.manifest import (
    CHUNK_LIMIT,
    STRONG,
    ChunkDigests,
    Manifest,
    SourceUrl,
    read_metalink,
    write_metalink,
)
from imgstore.manifest.bounded import BLOCK
from imgstore.manifest.markup import DEPTH_LIMIT, NAME_LIMIT, TEXT_LIMIT, TOKEN_LIMIT
from imgstore.manifest.metalink import METALINK
from tests.unit.manifest.making import SAMPLES, damaged, digest, made, manifests

DATA = bytes(range(256)) * 40  # what the samples were made of
ANY_ALGORITHM = {"md5", "sha1"} | STRONG


def written(manifest):
    stream = io.BytesIO()
    write_metalink(manifest, stream)
    return stream.getvalue()


def read(document, **options):
    data = document if isinstance(document, bytes) else document.encode()
    return read_metalink(io.BytesIO(data), **options)


def sample(called, **options):
    return read((SAMPLES / f"{called}.meta4").read_bytes(), **options)


def file(inside, head="", name="root.img"):
    document = f'<metalink xmlns="{METALINK}"><file name="{name}">{inside}</file></metalink>'
    return head + document


HASH = f"<hash>{digest(b'x')}</hash>"
PIECES = f'<pieces type="sha-256" length="1">{HASH}</pieces>'
GOOD = f"<size>1</size>{PIECES}"


class Trickle:
    """Gives a byte at a time, as a bad connection does."""

    def __init__(self, data):
        self._stream = io.BytesIO(data)

    def read(self, size):
        return self._stream.read(min(size, 1))


@settings(max_examples=50)
@given(manifests())
def test_what_is_written_is_read_back(manifest):
    document = written(manifest)
    back = read(document, allow=ANY_ALGORITHM, pin=manifest.pin)
    assert back == manifest
    assert written(back) == document


def test_it_is_read_from_whatever_reads():
    manifest = made(DATA, 1000, key="a", version="b")
    assert read_metalink(Trickle(written(manifest))) == manifest


def test_what_is_written_is_metalink():
    sources = (
        SourceUrl("https://a.example/root.img?a=1&b=<2>", 7, "de"),
        SourceUrl("ftp://b.example/root.img"),
    )
    digests = {"sha256": digest(DATA), "sha1": digest(DATA, "sha1"), "sha3_256": digest(DATA, "sha3_256")}
    manifest = made(
        DATA, 4096, "sha512", digests=digests, key="disks/root.img", version='W/"1"', sources=sources
    )
    root = ET.fromstring(written(manifest))
    space = "{urn:ietf:params:xml:ns:metalink}"
    (entry,) = root.findall(f"{space}file")
    assert entry.get("name") == "disks/root.img"
    assert entry.findtext(f"{space}size") == "10240"
    assert {each.get("type"): each.text for each in entry.findall(f"{space}hash")} == {
        "sha-1": digests["sha1"],
        "sha-256": digests["sha256"],
        "sha3-256": digests["sha3_256"],
    }
    pieces = entry.find(f"{space}pieces")
    assert pieces.attrib == {"type": "sha-512", "length": "4096"}
    assert [each.text for each in pieces] == [each.hex() for each in manifest.chunks]
    assert [(each.text, dict(each.attrib)) for each in entry.findall(f"{space}url")] == [
        ("https://a.example/root.img?a=1&b=<2>", {"priority": "7", "location": "de"}),
        ("ftp://b.example/root.img", {"priority": "999999"}),
    ]
    # others know no element of ours: each lies in our own namespace
    own = [each.tag for each in root.iter() if not each.tag.startswith(space)]
    assert own == ["{urn:x-imgstore:manifest}image"]


def test_mirrorbrain():
    manifest = sample("mirrorbrain", allow=["sha1"])
    assert manifest == replace(
        made(DATA, 2048, "sha1"),
        digests={name: digest(DATA, name) for name in ("md5", "sha1", "sha256")},
        sources=(
            SourceUrl("http://ftp.example.de/pub/leap/Leap-NET-x86_64.iso", 1, "de"),
            SourceUrl("ftp://ftp.example.de/pub/leap/Leap-NET-x86_64.iso", 2, "de"),
            SourceUrl("http://mirror.example.com/leap/Leap-NET-x86_64.iso", 3, "us"),
            SourceUrl("http://nowhere.example.net/leap/Leap-NET-x86_64.iso?a=1&b=2", 4),
        ),
    )


def test_weak_pieces_leave_a_small_image_to_its_strong_digest():
    manifest = sample("mirrorbrain")
    assert (manifest.algorithm, manifest.chunk_size) == ("sha256", 10240)
    assert manifest.matches(0, DATA)


def test_metalink_cli():
    manifest = sample("metalink-cli")
    assert manifest.chunks == made(DATA, 4096, "sha512").chunks
    assert manifest.sources == (
        SourceUrl("http://releases.example.com/12.04/server.img", 100, "gb"),
        SourceUrl("rsync://releases.example.com/12.04/server.img"),
    )
    assert (manifest.key, manifest.version) == (None, None)


def test_one_of_several_is_chosen_by_name():
    data = sample("several", name="disks/data.img")
    assert (data.size, data.digests) == (10, {"sha256": digest(b"0123456789")})
    assert sample("several", name="disks/root.img").size == 10240
    with pytest.raises(
        ManifestError, match=r"line 49: there are several <file>: .*'disks/data.img', 'disks/root.img'"
    ):
        sample("several")
    with pytest.raises(
        ManifestError, match=r"no <file> named 'root.img'; one of 'disks/data.img', 'disks/root"
    ):
        sample("several", name="root.img")


@pytest.mark.parametrize(
    "allow,algorithm",
    [(STRONG, "sha384"), ({"md5", "sha256"}, "sha256"), ({"md5"}, "md5"), (["sha256"], "sha256")],
)
def test_strongest_allowed_pieces_prove(allow, algorithm):
    chunk_size = 4096 if algorithm == "sha384" else 1024
    manifest = sample("several", name="disks/root.img", allow=allow)
    assert (manifest.algorithm, manifest.chunk_size) == (algorithm, chunk_size)
    assert manifest.chunks == made(DATA, chunk_size, algorithm).chunks


def test_namespaces_decide_and_prefixes_do_not():
    manifest = sample("prefixed")
    assert manifest.chunks == made(DATA, 5000).chunks
    assert manifest.digests == {"blake2b": digest(DATA, "blake2b"), "sha3_256": digest(DATA, "sha3_256")}
    assert manifest.sources == (SourceUrl("http://example.com/root.img?x=1&y=2"),)


def test_unknown_algorithm_is_the_caller_s_mistake():
    for allow in (["crc32"], "sha256"):
        with pytest.raises(ConfigError):
            sample("mirrorbrain", allow=allow)


def test_what_only_weaker_digests_prove_is_refused():
    document = file(
        f'<size>1</size><pieces type="md5" length="1"><hash>{digest(b"x", "md5")}</hash></pieces>'
    )
    with pytest.raises(
        ManifestError, match="line 1: chunk digests of sha256, sha384, sha512 are missing: there are md5"
    ):
        read(document)
    assert read(document, allow=["md5"]).algorithm == "md5"


def test_digest_of_a_large_image_proves_no_chunk():
    whole = f'<hash type="sha-256">{digest(b"x")}</hash>'
    assert len(read(file(f"<size>{CHUNK_LIMIT}</size>{whole}")).chunks) == 1
    with pytest.raises(ManifestError, match="are missing: there are none"):
        read(file(f"<size>{CHUNK_LIMIT + 1}</size>{whole}"))


def test_empty_image_needs_no_digest():
    assert read(file("<size>0</size>")).size == 0


def test_both_encodings_of_xml_are_read():
    assert read(file(GOOD).encode("utf-16")).size == 1
    assert read(file(GOOD, '<?xml version="1.0" encoding="US-ASCII"?>')).size == 1


def test_no_codec_of_python_is_asked_for_an_encoding():
    asked = []
    codecs.register(asked.append)
    try:
        with pytest.raises(ManifestError, match="the encoding is 'x-hostile'"):
            read(file(GOOD, '<?xml version="1.0" encoding="x-hostile"?>'))
    finally:
        codecs.unregister(asked.append)
    assert asked == []


def test_pin_is_asked_for_and_checked():
    manifest = made(DATA, 1000, digests={"md5": digest(DATA, "md5")})
    document = written(manifest)
    assert read(document, pin=manifest.pin.upper()) == manifest
    with pytest.raises(ManifestError, match=f"another than the pinned one: it has the pin {manifest.pin}"):
        read(document, pin=made(DATA, 999).pin)


def test_file_that_was_tampered_with_contradicts_its_own_pin():
    document = written(made(DATA, 1000))
    at = document.index(b"<hash>") + 6
    other = document[:at] + (b"0" if document[at : at + 1] == b"1" else b"1") + document[at + 1 :]
    with pytest.raises(
        ManifestError, match=r"the pin in the file is 'sha256:.*that of its content is another"
    ):
        read(other)


HOSTILE = {
    "nothing": ("", "line 1: not well-formed: no element found"),
    "no XML": ("size: 5", "line 1: not well-formed: syntax error"),
    "cut": (file(GOOD)[:-11], "not well-formed: no element found"),
    "cut in a tag": (file(GOOD)[:-5], "not well-formed: unclosed token"),
    "something behind": (file(GOOD) + "<again/>", "junk after document element"),
    "another document": ("<html><body/></html>", "the document is 'html'; <metalink xmlns="),
    "no namespace": ("<metalink/>", "the document is 'metalink'"),
    "version 3": ('<metalink xmlns="http://www.metalinker.org/" version="3.0"/>', "Metalink 3; Metalink 4"),
    "no file": ('<metalink xmlns="urn:ietf:params:xml:ns:metalink"/>', "there is no <file>"),
    "DTD": (file(GOOD, "<!DOCTYPE metalink>"), "document type"),
    "laughs": (
        file(
            "<size>&b;</size>",
            '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        ),
        "document type",
    ),
    "external entity": (
        file("<size>&e;</size>", '<!DOCTYPE m [<!ENTITY e SYSTEM "file:///etc/passwd">]>'),
        "document type",
    ),
    "external DTD": (file(GOOD, '<!DOCTYPE m SYSTEM "http://example.com/m.dtd">'), "document type"),
    "undefined entity": (file("<size>&e;</size>"), "undefined entity"),
    "unbound prefix": (file("<x:size/>"), "unbound prefix"),
    "encoding": (
        file(GOOD, '<?xml version="1.0" encoding="iso-8859-1"?>'),
        "encoding is 'iso-8859-1'; UTF-8",
    ),
    "encoding of Python": (file(GOOD, '<?xml version="1.0" encoding="idna"?>'), "encoding is 'idna'"),
    "no UTF-8": (file(GOOD).encode() + b"\xff", "not well-formed"),
    "deep": (file("<x>" * DEPTH_LIMIT + "</x>" * DEPTH_LIMIT), "deeper than 32"),
    "names": (file("".join(f"<x{i}/>" for i in range(NAME_LIMIT + 1))), "1024 different names"),
    "attribute names": (
        file("".join(f"<x a{i}=''/>" for i in range(NAME_LIMIT + 1))),
        "1024 different names",
    ),
    "prefixes": (
        file("".join(f"<x xmlns:p{i}='u'/>" for i in range(NAME_LIMIT + 1))),
        "1024 different names",
    ),
    "long text": (file(f"<url>http://{'x' * TEXT_LIMIT}</url>"), "a text of more than 16384 characters"),
    "text in pieces": (file(f"<size>{'1<!-- -->' * (TEXT_LIMIT + 1)}</size>"), "a text of more than 16384"),
    "long comment": (file(f"<!--{'x' * (TOKEN_LIMIT + 2 * BLOCK)}-->"), "more than 262144 bytes"),
    "element in a text": (file("<size>1<b/></size>"), "an element lies within one that holds text only"),
    "same file twice": (file(f'{GOOD}</file><file name="root.img">{GOOD}'), "'root.img'> is there twice"),
    "no name": (file(GOOD).replace(' name="root.img"', ""), "<file> has no name"),
    "empty name": (file(GOOD, name=""), "no safe name of a file: key '' has 0 bytes"),
    "upwards": (file(GOOD, name="../../etc/cron.d/x"), "no safe name of a file"),
    "inner upwards": (file(GOOD, name="a/../../b"), "no safe name of a file"),
    "absolute": (file(GOOD, name="/etc/passwd"), "no safe name of a file"),
    "size missing": (file(PIECES), "the size of the image is missing"),
    "size twice": (file("<size>1</size>" + GOOD), "the size is given twice"),
    "size negative": (file(f"<size>-1</size>{PIECES}"), "the size is '-1'; a whole number from 0"),
    "size of Python": (file(f"<size>1_0</size>{PIECES}"), "the size is '1_0'"),
    "size in Arabic digits": (file(f"<size>\u0661</size>{PIECES}"), "the size is '\u0661'"),
    "size as a float": (file(f"<size>1e308</size>{PIECES}"), "the size is '1e308'"),
    "size too large": (file(f"<size>{1 << 63}</size>{PIECES}"), "the size is '9223372036854775808'"),
    "size endless": (
        file(f"<size>{'9' * 9999}</size>{PIECES}"),
        "the size is '999.*\\.\\.\\.; a whole number",
    ),
    "size below": (file(f"<size>0</size>{PIECES}"), "1 chunk digests for 0 bytes in chunks of 1; 0 would do"),
    "gap": (file(f"<size>2</size>{PIECES}"), "1 chunk digests for 2 bytes in chunks of 1; 2 would do"),
    "overlap": (file(f"<size>1</size>{PIECES.replace(HASH, HASH * 2)}"), "2 chunk digests for 1 bytes"),
    "no length": (file(GOOD.replace(' length="1"', "")), "the length of the pieces is ''"),
    "length 0": (file(GOOD.replace('"1"', '"0"')), "the chunk size is 0; a whole number from 1"),
    "length 2^63": (
        file(GOOD.replace('"1"', f'"{1 << 63}"')),
        "the length of the pieces is '9223372036854775808'",
    ),
    "length of a byte": (file(f"<size>{1 << 62}</size>{PIECES}"), "chunks of 1 bytes are too many"),
    "pieces twice": (file(GOOD + PIECES), "the sha256 of the chunks are given twice"),
    "digest cut": (file(GOOD.replace(HASH, HASH.replace("</", "0</"))), "the digest of chunk 0 is"),
    "digest spaced": (
        file(
            GOOD.replace(HASH, f"<hash>{' '.join(digest(b'x')[i : i + 2] for i in range(0, 62, 2))}</hash>")
        ),
        "the digest of chunk 0 is '2d 71 .*; 64 hexadecimal digits of sha256 would do",
    ),
    "digest of another": (
        file(GOOD.replace("sha-256", "sha-512")),
        "128 hexadecimal digits of sha512 would do",
    ),
    "hash without a type": (file(f"<hash>{digest(b'x')}</hash>{GOOD}"), "<hash> of the file has no type"),
    "hash twice": (
        file(2 * f'<hash type="md5">{digest(b"x", "md5")}</hash>' + GOOD),
        "md5 of the image is given twice",
    ),
    "hash in two spellings": (
        file("".join(f'<hash type="{name}">00</hash>' for name in ("sha-1", "SHA1")) + GOOD),
        "the sha1 of the image is given twice",
    ),
    "many hashes": (
        file("".join(f'<hash type="x{i}">00000000</hash>' for i in range(65))),
        "more than 64 digests",
    ),
    "too many elements": (file("<x/>" * 20_000), "elements in 65536 bytes are too many"),
    "hash of no digits": (file(f'<hash type="sha-256">no</hash>{GOOD}'), "the sha256 of the image is 'no'"),
    "hash of another": (
        file(f'<hash type="sha-256">{digest(b"y")}</hash>{GOOD}'),
        "not that of its only chunk",
    ),
    "no URL": (file(f"{GOOD}<url>root.img</url>"), "is no URL"),
    "empty URL": (file(f"{GOOD}<url/>"), "is no URL"),
    "priority 0": (file(f'{GOOD}<url priority="0">http://a/</url>'), "the priority of a location is 0"),
    "priority": (
        file(f'{GOOD}<url priority="first">http://a/</url>'),
        "the priority of a location is 'first'",
    ),
    "too many URLs": (file(GOOD + "<url>http://a/</url>" * 1025), "more than 1024 locations"),
    "ours twice": (
        file(2 * '<i:image xmlns:i="urn:x-imgstore:manifest" key="a"/>' + GOOD),
        "our element of the image is there twice",
    ),
    "key upwards": (
        file('<i:image xmlns:i="urn:x-imgstore:manifest" key="%2e%2e/a"/>' + GOOD),
        "unusable key",
    ),
    "wrong pin": (
        file('<i:image xmlns:i="urn:x-imgstore:manifest" pin="sha256:00"/>' + GOOD),
        "the pin in the file is 'sha256:00'",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_with_their_line(case):
    document, message = HOSTILE[case]
    with pytest.raises(ManifestError, match=message) as caught:
        read(document)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_line_is_that_of_the_fault():
    lines = written(made(DATA, 1000)).replace(b"<hash>", b"<hash>x", 1).splitlines()
    number = next(at for at, line in enumerate(lines, 1) if b"<hash>x" in line)
    with pytest.raises(ManifestError, match=f"^XML, line {number}: the digest of chunk 0"):
        read(b"\n".join(lines))


def test_messages_show_no_secret_of_a_url():
    with pytest.raises(ManifestError) as caught:
        read(file(f"{GOOD}<url>https://user:pass@host/a b?X-Amz-Signature=abc</url>"))
    assert "pass" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_no_more_is_read_than_the_limit():
    document = written(made(DATA, 1000))
    assert read(document, limit=len(document)).size == len(DATA)
    with pytest.raises(ManifestError, match=f"of more than {len(document) - 1} bytes is not read"):
        read(document, limit=len(document) - 1)


class Endless:
    """Zeros, as long as they are asked for, or ten gigabytes of chunks."""

    def __init__(self, head, repeated):
        self.given = 0
        self._ahead = head
        self._repeated = repeated * (1 + BLOCK // len(repeated))

    def read(self, size):
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        if not data:
            data = self._repeated[:size]
            self._ahead = self._repeated[size:]
        self.given += len(data)
        return data


@pytest.mark.parametrize(
    "head,repeated,limit,message",
    [
        (b"", b" ", 1 << 20, "more than 1048576 bytes"),
        (file(GOOD).encode(), b" \n", 1 << 20, "more than 1048576 bytes"),
        (file("<x>").partition("</file>")[0].encode(), b"text ", 1 << 20, "more than 1048576 bytes"),
        (
            file("<pieces type='sha-256' length='1'>").partition("</file>")[0].encode(),
            HASH.encode(),
            1 << 20,
            "more",
        ),
        (b"<metalink xmlns='", b"x", 1 << 30, "more than 262144 bytes"),
    ],
)
def test_endless_file_is_given_up_at_the_limit(head, repeated, limit, message):
    stream = Endless(head, repeated)
    with pytest.raises(ManifestError, match=message):
        read_metalink(stream, limit=limit)
    assert stream.given <= (1 << 20) + 1


def test_failure_of_the_stream_is_its_own():
    class Broken:
        def read(self, size):
            raise StorageIOError("the disk is gone")

    with pytest.raises(StorageIOError, match="the disk is gone"):
        read_metalink(Broken())


def test_memory_is_that_of_the_digests():
    count = 20_000
    manifest = Manifest(count * 4096, 4096, "sha256", ChunkDigests(bytes(range(32)) * count, 32))
    stream = io.BytesIO(written(manifest))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        back = read_metalink(stream)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert back == manifest
    assert after - before < 32 * count + (64 << 10)
    # an eighth more while the buffer grows, and two blocks on their way
    assert peak - before < 36 * count + (512 << 10)


@given(damaged(written(made(DATA[:300], 100, digests={"sha256": digest(DATA[:300])}, key="a", version="b"))))
@example(b"")
def test_damaged_files_are_manifests_or_refused(document):
    try:
        manifest = read(document, allow=ANY_ALGORITHM)
    except ManifestError:
        return
    assert manifest.size <= manifest.chunk_size * len(manifest.chunks)


ELEMENTS = [
    '<file name="a">',
    '<file name="b/c">',
    '<pieces type="sha-256" length="1">',
    '<pieces type="md5" length="2">',
    '<pieces length="0">',
    "<size>1",
    "<size>2",
    "<size>",
    f"<hash>{digest(b'x')}",
    f"<hash type='sha-256'>{digest(b'x')}",
    f"<hash type='md5'>{digest(b'x', 'md5')}",
    "<hash type='sha-1'>",
    "<url>http://a/",
    "<url priority='5' location='de'>http://b/",
    "<metaurl mediatype='torrent'>http://c/",
    "<i:image key='d' version='e'>",
    "<i:image pin='f'>",
    "<x>text",
]


def nested(steps):
    """Opens element after element, each with so many of those before it closed."""
    document, opened = "", []
    for element, closed in steps:
        for _ in range(min(closed, len(opened))):
            document += f"</{opened.pop()}>"
        document += element
        opened.append(element[1:].split(">")[0].split()[0])
    return document + "".join(f"</{name}>" for name in reversed(opened))


@given(st.lists(st.tuples(st.sampled_from(ELEMENTS), st.integers(0, 2)), max_size=10).map(nested))
@example(GOOD.join(["<file name='a'>", "</file>"]))
def test_any_tree_of_elements_is_a_manifest_or_refused(elements):
    head = f'<metalink xmlns="{METALINK}" xmlns:i="urn:x-imgstore:manifest">'
    try:
        manifest = read(f"{head}{elements}</metalink>", allow=ANY_ALGORITHM)
    except ManifestError:
        return
    chunks = map(manifest.chunk_range, range(len(manifest.chunks)))
    assert sum(each.size for each in chunks) == manifest.size
