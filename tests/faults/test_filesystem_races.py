"""Readers, writers and deleters of one image at once (FAULTS.md I1, I2, I3)."""

from __future__ import annotations

import functools
import hashlib
import io
import threading

import pytest

from imgstore.backends.filesystem import FilesystemStore
from imgstore.errors import AlreadyExistsError, ConflictError, NotFoundError, VersionChangedError

SIZE = 300_000


def image(seed):
    return hashlib.sha256(str(seed).encode()).digest() * (SIZE // 32)


@pytest.fixture
def store(tmp_path):
    return FilesystemStore(data_dir=tmp_path)


def put(store, seed, **options):
    return store.writer.put("f/disk", io.BytesIO(image(seed)), **options)


def together(*works):
    """Runs each of `works` in a thread; gives what they raised."""
    failures = []

    def run(work):
        try:
            work()
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


@pytest.mark.parametrize("by", ["put", "copy", "upload"])
def test_one_of_many_writers_wins(tmp_path, store, by):
    """FAULTS.md I3: exactly one, and its bytes are there."""
    stores = [FilesystemStore(data_dir=tmp_path) for _ in range(4)]
    for seed in range(4):
        store.writer.put(f"source{seed}", io.BytesIO(image(seed)))
    for _ in range(25):
        barrier, won = threading.Barrier(4, timeout=20), []

        def write(seed, barrier=barrier, won=won):
            mine = stores[seed]
            if by == "upload":
                token = mine.uploader.begin("f/disk", None)
                parts = [mine.uploader.put_part(token, 0, 0, memoryview(image(seed)))]
            barrier.wait()
            if by == "upload":
                mine.uploader.complete(token, parts)
            elif by == "copy":
                mine.copier.copy(f"source{seed}", "f/disk")
            else:
                put(mine, seed)
            won.append(seed)

        failures = together(*(lambda seed=seed: write(seed) for seed in range(4)))
        assert len(won) == 1
        assert len(failures) == 3
        lost = ConflictError if by == "upload" else AlreadyExistsError
        assert {type(each) for each in failures} == {lost}
        with store.get("f/disk") as stream:
            assert stream.read() == image(won[0])
        store.writer.delete("f/disk")


def test_readers_among_writers_see_one_version_or_none(store):
    """FAULTS.md I1, I2: a read that began is whole; one that is to begin finds it, another, or none."""
    put(store, 0)
    wholes = {image(seed) for seed in range(6)}
    over = threading.Event()
    seen = set()

    def churn():
        try:
            for turn in range(60):
                put(store, turn % 6, overwrite=True)
                if turn % 5 == 4:
                    store.writer.delete("f/disk")
        finally:
            over.set()

    def read():
        while not over.is_set():
            try:
                info = store.stat("f/disk")
                assert info.version is not None
                stream = store.get("f/disk", version=info.version if len(seen) % 2 else None)
            except (NotFoundError, VersionChangedError) as exc:
                seen.add(type(exc).__name__)
                continue
            with stream:
                assert stream.read() in wholes
            seen.add("whole")

    assert together(churn, read, read) == []
    assert "whole" in seen


def test_a_version_names_the_same_bytes_for_ever(store):
    """FAULTS.md I2: whoever replaces an image, a version that was told is those bytes or an error."""
    told = {}
    for turn in range(40):
        info = put(store, turn, overwrite=True)
        assert info.version not in told
        told[info.version] = turn
        assert store.stat("f/disk").version == info.version
    *old, last = told
    for version in old:
        with pytest.raises(VersionChangedError):
            store.get("f/disk", version=version)
    with store.get("f/disk", version=last) as stream:
        assert stream.read() == image(39)


def test_a_version_is_deleted_once(tmp_path, store):
    for turn in range(30):
        version = put(store, turn).version
        delete = functools.partial(store.writer.delete, "f/disk", version=version)
        failures = together(delete, delete, delete)
        assert len(failures) == 2
        assert {type(each) for each in failures} == {NotFoundError}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("then, kind", [("removed", NotFoundError), ("replaced", VersionChangedError)])
def test_an_image_that_goes_as_it_is_opened_is_not_found(store, monkeypatch, then, kind):
    """Found by its name it was; when its times are looked at, the name is gone, or another's."""
    version = put(store, 1).version
    find, found = store._directories.find, []

    def meanwhile(key):
        found.append(find(key))
        if len(found) == 1:
            store.writer.delete(key)
            if then == "replaced":
                put(store, 2)
        return found[-1]

    monkeypatch.setattr(store._directories, "find", meanwhile)
    with pytest.raises(kind):
        store.get("f/disk", version=version)
