"""Cases: which image the bytes are of."""

from __future__ import annotations

import hashlib

from imgstore.errors import NotFoundError, VersionChangedError
from imgstore.model import ANY
from imgstore.testing.conformance._base import SIZE, Suite, expect, marked, needs, pattern, raises


class IdentityCases(Suite):
    """What sizes, versions and digests promise, also while the image changes."""

    def test_stat_tells_the_size(self) -> None:
        for size in (0, 1, 511, 513, 4096, SIZE):
            info = self.subject.stat(self.image(pattern(size)))
            assert info.size == size, f"stat tells size {info.size} of an image of {size} bytes"

    def test_infos_name_the_key(self) -> None:
        key = self.image(pattern(10))
        with self.subject.get(key) as stream:
            named = {"stat": self.subject.stat(key).key, "get": stream.info.key}
        assert set(named.values()) == {key}, f"the infos of {key!r} name {named}"

    def test_stat_and_get_agree(self) -> None:
        key = self.image(pattern(SIZE))
        told = self.subject.stat(key)
        with self.subject.get(key) as stream:
            served = stream.info
        for name in ("size", "version", "digests"):
            a, b = getattr(told, name), getattr(served, name)
            assert a == b, f"stat tells {name}={a!r}, get serves {name}={b!r}"

    def test_digests_are_of_the_bytes(self) -> None:
        data = pattern(SIZE)
        for name, value in self.subject.stat(self.image(data)).digests.items():
            true = hashlib.new(name, data).hexdigest()
            assert value == true, f"the {name} digest of the bytes is {true}; stat tells {value}"

    def test_version_is_stable(self) -> None:
        key = self.image(pattern(SIZE))
        told = {self.subject.stat(key).version for _ in range(3)}
        assert len(told) == 1, f"one unchanged image has several versions: {told}"

    def test_get_with_the_version(self) -> None:
        data = pattern(SIZE)
        key = self.image(data)
        with self.subject.get(key) as stream:
            version = stream.info.version
        for offset in (0, 1000):
            expect(self.read(key, offset, version=version), data, offset, SIZE, f"get(version={version!r})")

    def test_get_with_any_version(self) -> None:
        data = pattern(SIZE)
        expect(self.read(self.image(data), 5, version=ANY), data, 5, SIZE, "get(version=ANY)")

    @needs("replace")
    def test_stat_after_a_replacement(self) -> None:
        key = self.image(pattern(SIZE))
        old = self.subject.stat(key)
        self.replace(key, pattern(SIZE + 5))
        new = self.subject.stat(key)
        assert new.size == SIZE + 5, f"stat after a replacement tells size {new.size}, not {SIZE + 5}"
        assert new.version is None or new.version != old.version, (
            "stat after a replacement tells the old version"
        )

    @needs("replace")
    def test_get_after_a_replacement(self) -> None:
        key = self.image(marked(SIZE, 0))
        self.read(key)
        self.replace(key, marked(SIZE, 1))
        expect(self.read(key), marked(SIZE, 1), 0, SIZE, "get after a replacement")
        expect(
            self.read(key, 7, version=ANY), marked(SIZE, 1), 7, SIZE, "get(version=ANY) after a replacement"
        )

    @needs("replace")
    def test_versions_differ(self) -> None:
        key = self.image(marked(SIZE, 0))
        with self.subject.get(key) as stream:
            old = stream.info.version
        self.replace(key, marked(SIZE, 1))
        with self.subject.get(key) as stream:
            new = stream.info.version
        assert new is None or old != new, (
            f"two images under one key have the version {old!r}; equal means equal bytes"
        )

    @needs("replace")
    def test_another_version_is_never_served(self) -> None:
        old, new = marked(SIZE, 0), marked(SIZE, 1)
        key = self.image(old)
        with self.subject.get(key) as stream:
            version = stream.info.version
        self.replace(key, new)
        for token in (version or "kit-no-such-version", "kit-no-such-version"):
            for offset in (0, 1000):
                try:
                    got = self.read(key, offset, version=token)
                except VersionChangedError:
                    continue
                assert token == version, "get with a version that never was served bytes"
                expect(got, old, offset, SIZE, "get with the version of a replaced image")

    @needs("replace")
    def test_info_describes_the_bytes(self) -> None:
        key = self.image(marked(SIZE, 0))
        told = self.subject.stat(key)
        self.replace(key, marked(SIZE - 9, 1))
        with self.subject.get(key) as stream:
            got, info = stream.read(), stream.info
        expect(got, marked(SIZE - 9, 1), 0, SIZE - 9, "get of an image replaced after stat")
        assert info.size == SIZE - 9, f"the stream's info tells size {info.size} beside {len(got)} bytes"
        assert info.version is None or info.version != told.version, (
            "the stream's info is the one of an older stat"
        )

    @needs("replace")
    def test_replacement_during_a_read(self) -> None:
        for size in (SIZE, SIZE - 1000, SIZE + 1000):
            key = self.image(marked(SIZE, 0))
            with self.subject.get(key) as stream:
                got = stream.read(10_000)
                self.replace(key, marked(size, 1))
                try:
                    got += stream.read()
                except VersionChangedError:
                    got += marked(SIZE, 0)[len(got) :]
            new = sum(each >> 7 for each in got)
            assert not new, f"an image replaced while it was read: {new} bytes of the new one follow the old"
            expect(got, marked(SIZE, 0), 0, SIZE, "an image replaced while it was read")

    @needs("remove")
    def test_removal_during_a_read(self) -> None:
        data = pattern(SIZE)
        key = self.image(data)
        with self.subject.get(key) as stream:
            got = stream.read(10_000)
            self.remove(key)
            offset = None
            try:
                got += stream.read()
            except NotFoundError as error:
                offset = error.offset or 0
                got += data[len(got) :]
        assert offset is None or offset >= 10_000, (
            f"gone after 10000 bytes, yet the error's offset is {offset}"
        )
        expect(got, data, 0, SIZE, "an image removed while it was read")

    @needs("remove")
    def test_stat_after_a_removal(self) -> None:
        key = self.image(pattern(10))
        self.subject.stat(key)
        self.remove(key)
        with raises(NotFoundError, "stat of a removed image"):
            self.subject.stat(key)

    @needs("remove")
    def test_get_after_a_removal(self) -> None:
        key = self.image(pattern(10))
        version = self.subject.stat(key).version
        self.remove(key)
        for wanted in (None, version):
            with raises(
                (NotFoundError, VersionChangedError) if wanted else NotFoundError, "get of a removed image"
            ):
                self.read(key, version=wanted)
