"""Rows C8 and C12: bytes that change once they are stored, with and without a break on their way (P14)."""

from __future__ import annotations

import hashlib
import os

import pytest

from imgstore.backends.filesystem import FilesystemStore
from imgstore.backends.memory import MemoryStore
from imgstore.errors import DigestMismatchError, ManifestError, NotFoundError
from imgstore.publish import PendingFile
from imgstore.stack import proven
from imgstore.testing import server as wire
from imgstore.transfer.copy import copy
from imgstore.transfer.progress import Report
from imgstore.transfer.sparse import open_source
from imgstore.transfer.upload import upload
from imgstore.transfer.verify import repair, verify
from tests.faults import rows
from tests.faults.rows import IMAGE, N
from tests.manifests import manifest_of

rig = rows.rig

CHUNK = 256 << 10
BREAK = 5 * CHUNK + 12_345
BAD = 2 * CHUNK + 99

both = pytest.mark.parametrize("drop", [False, True], ids=["whole", "broken"])


@pytest.fixture
def source(rig, drop):
    """A stream of the image, whose connection breaks in its midst if there is to be a `drop`."""
    if drop:
        rig.server.trap(rows.PATH, wire.Cut(at=BREAK))
    store, key = rig.store()
    with store.get(key) as stream:
        yield stream
    assert rig.sent == N
    assert ("resumed" in rig.kinds()) is drop


@pytest.fixture
def meddler(monkeypatch):
    """Has a byte of each file change through another descriptor, after the last write and before its name."""
    publish = PendingFile.publish

    def meddled(self, size=None):
        file = os.open(f"/proc/self/fd/{self._file}", os.O_RDWR)
        try:
            (byte,) = os.pread(file, 1, BAD)
            os.pwrite(file, bytes([byte ^ 1]), BAD)
        finally:
            os.close(file)
        return publish(self, size)

    monkeypatch.setattr(PendingFile, "publish", meddled)


def damaged(data, at=BAD):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def put(way, source, folder, *, read_back, overwrite=False):
    if way == "path":
        with PendingFile(folder / "disk", overwrite=overwrite, read_back=read_back) as target:
            copy(source, target, report=Report())
    else:
        with FilesystemStore(data_dir=folder, read_back=read_back) as store:
            upload(source, store, "disk", report=Report(), overwrite=overwrite)


ways = pytest.mark.parametrize("way", ["path", "store"])


@both
@ways
@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
@pytest.mark.usefixtures("meddler")
def test_c8_a_file_that_is_read_back_is_not_published_when_the_disk_changed_it(
    source, tmp_path, way, overwrite
):
    if overwrite:
        (tmp_path / "disk").write_bytes(b"old")
    with pytest.raises(DigestMismatchError, match="the disk gives back other bytes"):
        put(way, source, tmp_path, read_back=True, overwrite=overwrite)
    assert os.listdir(tmp_path) == ["disk"] * overwrite
    if overwrite:
        assert (tmp_path / "disk").read_bytes() == b"old"


@both
@ways
def test_c8_one_that_is_as_it_was_written_is(source, tmp_path, way, monkeypatch):
    advised, advise = [], os.posix_fadvise
    monkeypatch.setattr(os, "posix_fadvise", lambda *given: (advise(*given), advised.append(given[1:])))
    put(way, source, tmp_path, read_back=True)
    assert (tmp_path / "disk").read_bytes() == IMAGE
    assert advised == [(0, 0, os.POSIX_FADV_DONTNEED)]


@both
@ways
@pytest.mark.usefixtures("meddler")
def test_c8_by_default_what_was_right_on_receipt_counts(source, tmp_path, way):
    put(way, source, tmp_path, read_back=False)
    assert (tmp_path / "disk").read_bytes() == damaged(IMAGE)


class Rotting(MemoryStore):
    """Stores other bytes than it was given, and `says` of them what it likes."""

    def __init__(self, data, **says):
        super().__init__()
        self._data, self._says, self._put = data, says, self.writer.put
        self.writer.put = self._rot

    def _rot(self, key, source, size=None, **options):
        self._put(key, source, size, **options)
        image = self._images.find(key)
        return self._images.publish(key, self._data, overwrite=True, digests=self._says or image.info.digests)


@both
@pytest.mark.parametrize(
    "data, chunks",
    [(damaged(IMAGE, N - 1), (1,)), (IMAGE[:-1], (1,)), (IMAGE + b"more", (1,)), (b"", (0, 1))],
    ids=["flipped", "short", "long", "empty"],
)
def test_c8_an_image_that_a_store_gives_back_otherwise_is_removed(source, data, chunks):
    with Rotting(data) as store:
        with pytest.raises(DigestMismatchError, match="gives back") as raised:
            upload(source, store, "disk", report=Report(), read_back=True)
        assert raised.value.chunks == chunks
        with pytest.raises(NotFoundError):
            store.stat("disk")


@both
def test_c8_what_a_store_says_it_holds_is_compared_with_what_was_sent(source):
    with Rotting(IMAGE, sha256=hashlib.sha256(b"other").hexdigest(), md5="0" * 32) as store:
        report = Report()
        with pytest.raises(DigestMismatchError, match="another sha256"):
            upload(source, store, "disk", report=report, digest=True)
        assert report.digests == {}
        with pytest.raises(NotFoundError):
            store.stat("disk")


@both
def test_c8_an_image_that_is_right_stays(source):
    with Rotting(IMAGE, sha256=hashlib.sha256(IMAGE).hexdigest().upper()) as store:
        upload(source, store, "disk", report=Report(), digest=True, read_back=True)
        assert rows.read(store, "disk") == IMAGE


@both
def test_c8_an_image_of_somebody_else_by_then_is_not_removed(source):
    with Rotting(IMAGE, sha256="0" * 64) as store:
        rot = store.writer.put

        def overtaken(key, *args, **options):
            info = rot(key, *args, **options)
            store._images.publish(key, b"another's", overwrite=True, digests={})
            return info

        store.writer.put = overtaken
        with pytest.raises(DigestMismatchError):
            upload(source, store, "disk", report=Report(), digest=True)
        assert rows.read(store, "disk") == b"another's"


def holed(path, number):
    """Writes the image without chunk `number`, in whose place there is a hole."""
    whole = manifest_of(IMAGE, CHUNK).chunk_range(number)
    with open(path, "wb") as file:
        file.write(IMAGE[: whole.start])
        file.seek(whole.stop)
        file.write(IMAGE[whole.stop :])
    return whole


@pytest.mark.parametrize("number", [0, 7])
def test_c12_a_hole_where_there_was_data_is_never_read_as_zeros(tmp_path, number):
    whole = holed(tmp_path / "disk", number)
    with FilesystemStore(data_dir=tmp_path) as store:
        layer = proven(store, manifest_of(IMAGE, CHUNK))
        for start, stop in ((whole.start, whole.stop), (whole.start + 5, whole.start + 6)):
            with pytest.raises(DigestMismatchError) as raised:
                rows.read(layer, "disk", start, stop - start)
            assert raised.value.chunks == (number,)
        kinds = {extent.kind for extent in layer.extents.extents("disk")}
        assert kinds == {"data"}, "the file's own map would have it passed over"


@pytest.mark.parametrize("size", [0, CHUNK, N + CHUNK], ids=["empty", "cut off", "longer"])
def test_c12_an_image_of_which_only_a_hole_is_left_is_never_copied(tmp_path, size):
    with open(tmp_path / "disk", "wb") as file:
        file.truncate(size)
    with FilesystemStore(data_dir=tmp_path) as store:
        layer = proven(store, manifest_of(bytes(CHUNK) + IMAGE[CHUNK:], CHUNK))
        with pytest.raises(ManifestError, match=f"the store's {size}"):
            open_source(layer, "disk")


@both
def test_c12_after_a_crash_only_the_chunks_it_took_are_fetched_again(rig, tmp_path, drop):
    manifest = manifest_of(IMAGE, CHUNK)
    whole = holed(tmp_path / "disk", 7)
    with FilesystemStore(data_dir=tmp_path) as store:
        found = verify(store, "disk", manifest, report=Report())
    assert found.chunks == (7,)
    if drop:
        rig.server.trap(rows.PATH, wire.Cut(at=whole.start + 1000))
    store, key = rig.store()
    repair(tmp_path / "disk", found, store, key, report=Report())
    assert (tmp_path / "disk").read_bytes() == IMAGE
    assert rig.sent == CHUNK
    assert len(rig.spans) == 1 + drop
    with FilesystemStore(data_dir=tmp_path) as again, open_source(again, "disk") as stream:
        assert stream.read(10) == IMAGE[:10]
        assert verify(again, "disk", manifest, report=Report()).chunks == ()
