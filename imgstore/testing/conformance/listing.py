"""The suite of stores with a lister."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import ClassVar

from imgstore.errors import DeadlineExceededError, OperationCancelledError
from imgstore.model import Call, CancelToken, ObjectInfo
from imgstore.testing.conformance._base import (
    PROMPT,
    SIZE,
    Suite,
    expect,
    footprint,
    fresh_key,
    needs,
    pattern,
    raises,
    wait_until,
)

# In the order of their UTF-8 bytes: neither a dictionary's, nor UTF-16's, nor that of a walk by folders.
NAMES = (
    "A", "B/c", "B0", "Z", "a b", "a-b", "a.b", "a/b", "a/c/d", "a0", "b", "\u00e4", "\uffee", "\U0001f600",
)  # fmt: skip


class ListSuite(Suite):
    """Every image once, in order; needs the hooks `store` and `seed`, and a store with a lister."""

    many: ClassVar[int] = 60  # more than a page of the store's, where that is within reason

    def list(self, prefix: str = "", call: Call | None = None) -> list[ObjectInfo]:
        """Gives the whole listing."""
        facet = self.subject.lister
        assert facet is not None, "the store has no lister; this suite is for those that have one"
        return list(facet.list(prefix) if call is None else facet.list(prefix, call=call))

    def folder(self, *names: str) -> str:
        """Seeds an image under each name in a folder of its own, which it gives."""
        folder = fresh_key("")
        for number, name in enumerate(names):
            self.seeded.append(folder + name)
            self.seed(folder + name, pattern(100 + number))
        return folder

    def test_every_image_once(self) -> None:
        names = [f"{number:04}" for number in range(self.many)]
        folder = self.folder(*names)
        found = sorted(info.key for info in self.list(folder))
        missing = {folder + name for name in names} - set(found)
        assert not missing, f"{len(missing)} of {self.many} images are not listed, {min(missing)!r} for one"
        assert len(found) == self.many, f"{self.many} images are listed {len(found)} times"

    def test_order_is_that_of_the_bytes(self) -> None:
        folder = self.folder(*sorted(NAMES, reverse=True))
        found = [info.key[len(folder) :] for info in self.list(folder)]
        wanted = sorted(found, key=str.encode)
        assert found == wanted, f"the keys come in the order {found}, not by their UTF-8 bytes: {wanted}"

    def test_list_without_a_prefix(self) -> None:
        folder = self.folder("a", "b")
        found = {info.key for info in self.list()}
        assert {folder + "a", folder + "b"} <= found, "a list without a prefix leaves images out"

    def test_prefix_is_no_folder(self) -> None:
        folder = self.folder("ab/c", "ab0", "abc", "b", "aB")
        found = sorted(info.key[len(folder) :] for info in self.list(folder + "ab"))
        assert found == ["ab/c", "ab0", "abc"], f"the prefix 'ab' finds {found}"

    def test_prefix_is_no_pattern(self) -> None:
        folder = self.folder("a*", "aa", "a?", "[a]", "a%61", "a_")
        for prefix in ("a*", "a?", "[a]", "a%61", "a_"):
            found = [info.key[len(folder) :] for info in self.list(folder + prefix)]
            assert found == [prefix], f"the prefix {prefix!r} finds {found}"

    def test_prefix_that_is_a_key(self) -> None:
        folder = self.folder("one", "one more")
        found = {info.key[len(folder) :] for info in self.list(folder + "one")}
        assert found == {"one", "one more"}, f"the prefix 'one' finds {found}"

    def test_prefix_that_nothing_has(self) -> None:
        assert self.list(fresh_key("none")) == [], "a prefix that no key has finds something"

    def test_sizes(self) -> None:
        folder = self.folder("a", "b", "c")
        sizes = {info.key[len(folder) :]: info.size for info in self.list(folder)}
        assert set(sizes.values()) <= {100, 101, 102, None}, (
            f"images of 100, 101 and 102 bytes are listed as {sizes}"
        )
        assert all(size in (100 + "abc".index(name), None) for name, size in sizes.items()), (
            f"sizes are {sizes}"
        )

    def test_versions_are_acceptable_to_get(self) -> None:
        folder = self.folder("a", "b")
        for number, info in enumerate(sorted(self.list(folder), key=lambda info: info.key)):
            if info.version is not None:
                got = self.read(info.key, version=info.version)
                expect(got, pattern(100 + number), 0, 100 + number, "get with the version of a listing")

    @needs("remove")
    def test_removed_image_is_not_listed(self) -> None:
        folder = self.folder("a", "b")
        self.list(folder)
        self.remove(folder + "a")
        found = [info.key[len(folder) :] for info in self.list(folder)]
        assert found == ["b"], f"after the removal of 'a' from 'a', 'b' the list tells {found}"

    @needs("replace")
    def test_replaced_image_is_listed_anew(self) -> None:
        folder = self.folder("a")
        old = self.list(folder)[0]
        self.replace(folder + "a", pattern(SIZE))
        (new,) = self.list(folder)
        assert new.size in (SIZE, None), f"a list after a replacement by {SIZE} bytes tells size {new.size}"
        assert new.version is None or new.version != old.version, (
            "a list after a replacement tells the old version"
        )

    def test_dropped_listing_gives_everything_back(self) -> None:
        folder = self.folder("a", "b", "c")
        self.list(folder)
        before = footprint()
        for _ in range(10):
            assert self.subject.lister is not None
            next(self.subject.lister.list(folder))
        gc.collect()
        calm = wait_until(lambda: all(a <= b for a, b in zip(footprint(), before, strict=True)), PROMPT)
        assert calm, f"(descriptors, threads) were {before}, and are {footprint()} after ten dropped listings"

    def test_called_off(self) -> None:
        folder = self.folder("a")
        token = CancelToken()
        token.cancel()
        with raises(OperationCancelledError, "list with a cancelled token"):
            self.list(folder, Call(cancel=token))
        with raises(DeadlineExceededError, "list with a deadline in the past"):
            self.list(folder, Call(deadline=1.0))

    def test_closed_store_lists_nothing(self) -> None:
        folder = self.folder("a")
        act: Callable[[], object] = lambda: self.list(folder)  # noqa: E731
        act()
        self.subject.close()
        with raises(ValueError, "list of a closed store"):
            act()
