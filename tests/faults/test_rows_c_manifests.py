"""Rows C9, C11 and C13: manifests and parts that are not what they should be, with and without a break (P14).

The manifests lie beside the image on a web server, and the break is in the reply that brings one.
"""

from __future__ import annotations

import io

import pytest

from imgstore.backends.http import HttpStore
from imgstore.errors import ManifestError
from imgstore.layers._manifests import SUFFIX
from imgstore.manifest import write_metalink
from imgstore.stack import LayerSettings, build
from imgstore.testing import server as wire
from tests.faults import rows, s3_rig, swift_rig
from tests.faults import s3_server as s3
from tests.faults import swift_server as swift
from tests.faults.rows import IMAGE, N
from tests.manifests import manifest_of

rig = rows.rig

CHUNK = 64 << 10
BESIDE = rows.PATH + SUFFIX

both = pytest.mark.parametrize("drop", [False, True], ids=["whole", "broken"])


def text_of(**fields):
    file = io.BytesIO()
    write_metalink(manifest_of(IMAGE, CHUNK, **fields), file)
    return file.getvalue()


def flipped(text):
    """A digit of the first chunk's digest is another."""
    at = text.index(b"<hash>") + 6
    return text[:at] + (b"0" if text[at : at + 1] != b"0" else b"1") + text[at + 1 :]


def cut_short(text):
    """Two of the chunks are left out, and all else is well-formed."""
    lines = text.splitlines(keepends=True)
    hashes = [number for number, line in enumerate(lines) if b"<hash>" in line]
    return b"".join(line for number, line in enumerate(lines) if number not in hashes[5:7])


def weakened(text):
    """The pin is gone, and MD5 stands for the chunks."""
    weak = text_of(algorithm="md5")
    return b"".join(line for line in weak.splitlines(keepends=True) if b"pin=" not in line)


@pytest.fixture
def reads(rig, drop):
    """Serves a manifest beside the image, and reads the image as it asks; the reply breaks on `drop`."""

    def made(text):
        rig.server.put(BESIDE, text, etag='"m1"')
        if drop:
            rig.server.trap(BESIDE, wire.Cut(at=len(text) // 2))
        driver = HttpStore(url=rig.server.url("/"), trust_env=False)
        settings = LayerSettings(verify="required", resume_attempts=rows.TRIES)
        with build(driver, settings, clock=rig.clock) as store:
            return rows.read(store, rows.PATH.removeprefix("/"))

    return made


@both
def test_c9_a_manifest_whose_connection_breaks_is_read_on(rig, reads, drop):
    assert reads(text_of(key="disk.img", version='"v1"')) == IMAGE
    assert len(rig.log.exchanges(BESIDE)) == 1 + drop
    assert rig.sent == N


@both
@pytest.mark.parametrize("harm", [flipped, cut_short, lambda text: text[:-30], lambda _: b"<html></html>"])
def test_c9_a_damaged_manifest_is_refused_before_the_first_byte(rig, reads, harm, drop):
    with pytest.raises(ManifestError):
        reads(harm(text_of()))
    assert rig.requests == 0


@both
def test_c11_a_weaker_digest_proves_nothing_and_is_refused(rig, reads, drop):
    with pytest.raises(ManifestError, match="sha256"):
        reads(weakened(text_of()))
    assert rig.requests == 0


BREAKS = {"reset": {"reset": True}, "lost reply": {"lose": True}}


@pytest.mark.parametrize("how", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_c13_a_part_stored_wrong_among_breaks_is_sent_again(how, first):
    faults = [s3.Fault(**how), s3.Fault(flip=True)]
    with s3_rig.rig(checks=False) as made:
        made.server.script("UploadPart", None, *(faults if first else faults[::-1]))
        made.store(max_concurrency=1).writer.put("k", io.BytesIO(s3_rig.IMAGE))
        assert made.server.images() == {"k": s3_rig.IMAGE}
        assert made.server.left() == ([], [])


@pytest.mark.parametrize("how", BREAKS.values(), ids=BREAKS)
def test_c13_a_segment_stored_wrong_among_breaks_is_sent_again(how):
    with swift_rig.rig() as made:
        store = made.store()
        view, size = memoryview(swift_rig.IMAGE), swift_rig.SEGMENT
        token = store.uploader.begin("new", len(view))
        segment = "images_segments/new/.*/00000001-"
        made.server.script("PUT", segment, swift.Fault(flip=True))
        made.server.script("PUT", segment, swift.Fault(**how))
        parts = [
            store.uploader.put_part(token, number, at, view[at : at + size])
            for number, at in enumerate(range(0, len(view), size))
        ]
        assert made.server.count("PUT", segment) == 3
        store.uploader.complete(token, parts)
        assert made.server.body_of("images", "new") == swift_rig.IMAGE
