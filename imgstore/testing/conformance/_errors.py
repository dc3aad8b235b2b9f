"""Cases: keys, errors, and what is said of them."""

from __future__ import annotations

import copy
import inspect
import io
import logging
import pickle
import traceback
from collections.abc import Callable

from imgstore import errors
from imgstore.errors import (
    ImgstoreError,
    NotFoundError,
    PermanentError,
    RangeNotSatisfiableError,
    StoreError,
    UnsafeLocationError,
)
from imgstore.store import FACETS
from imgstore.testing.conformance._base import SIZE, Suite, expect, fresh_key, needs, pattern, raises

NO_KEYS = (
    "", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "../a", "a\0b", "a" * 1025, "é" * 513, "\ud800",
)  # fmt: skip

# What somebody's normalising makes one: percent signs, case, Unicode forms, spaces, dots, the marks of URLs.
LOOKALIKES = (
    "a b", "a%20b", "a+b", "a%2Bb", "A b", "\u00e4", "a\u0308", "%2e%2e", "dot.", "dot", " dot", "dot ",
    "a\\b", "a?b", "a#b", "a&b=c", "*", "~a", "...", "-", "a\nb", "a:b", "'a'", '"a"', "%", "%zz",
    "\u202e", "\U0001f600",
)  # fmt: skip


class Unheard(Exception):  # noqa: N818  # no error of a store: the point of it
    """An exception that no driver can know."""


class ErrorCases(Suite):
    """What keys may be, and what errors and translations promise."""

    def test_what_is_no_key(self) -> None:
        for key in NO_KEYS:
            for what, act in (("stat", self.subject.stat), ("get", self.read)):
                with raises(UnsafeLocationError, f"{what} of {key[:40]!r}, which is no key"):
                    act(key)

    def test_keys_are_never_normalised(self) -> None:
        folder = fresh_key("")
        for number, name in enumerate(LOOKALIKES):
            self.seeded.append(folder + name)
            self.seed(folder + name, pattern(600, number))
        for number, name in enumerate(LOOKALIKES):
            expect(
                self.read(folder + name), pattern(600, number), 0, 600, f"the key {name!r} among lookalikes"
            )

    def test_lookalike_of_a_key_is_not_found(self) -> None:
        for name, other in (
            ("a b", "a%20b"),
            ("a%20b", "a b"),
            ("a+b", "a b"),
            ("ab", "AB"),
            ("\u00e4", "a\u0308"),
        ):
            folder = self.image(pattern(10), name)[: -len(name)]
            with raises(NotFoundError, f"get of {other!r} where there is only {name!r}"):
                self.read(folder + other)

    def test_longest_key(self) -> None:
        folder = fresh_key("")
        rest = 1024 - len(folder)
        name = "/".join(["x" * 199] * (rest // 200)) + "/" + "y" * (rest % 200)
        key = self.image(pattern(100), name[:rest])
        got = self.read(key)
        expect(got, pattern(100), 0, 100, f"a key of {len(key)} bytes")

    def test_folder_of_a_key_is_no_image(self) -> None:
        folder = self.image(pattern(10)).rpartition("/")[0]
        with raises(NotFoundError, "get of a key that is only the beginning of another"):
            self.read(folder)

    def test_stat_of_a_missing_key(self) -> None:
        with raises(NotFoundError, "stat of a key without an image"):
            self.subject.stat(fresh_key())

    def test_get_of_a_missing_key(self) -> None:
        for offset, length in ((0, None), (10, 5)):
            with raises(NotFoundError, "get of a key without an image"):
                self.read(fresh_key(), offset, length)

    def test_errors_name_key_and_store(self) -> None:
        for what, key, kind, act in self._failures():
            with raises(kind, what) as caught:
                act()
            error = caught.error
            assert error.key == key, f"{what}: the error names the key {error.key!r}, not {key!r}"
            assert error.store == self.subject.store_id, f"{what}: the error names the store {error.store!r}"

    def test_errors_have_an_errno(self) -> None:
        for what, _, kind, act in self._failures():
            with raises(kind, what) as caught:
                act()
            assert caught.error.errno, f"{what}: errno is not set"

    def test_errors_survive_pickling(self) -> None:
        for what, _, kind, act in self._failures():
            with raises(kind, what) as caught:
                act()
            for again in (pickle.loads(pickle.dumps(caught.error)), copy.copy(caught.error)):  # noqa: S301
                assert type(again) is type(caught.error), (
                    f"{what}: pickled, the error becomes a {type(again)}"
                )
                assert vars(again) == vars(caught.error), (
                    f"{what}: pickled, the error loses {vars(caught.error)}"
                )
                assert str(again) == str(caught.error), f"{what}: pickled, the error loses its message"

    def test_no_secret_is_shown(self) -> None:
        log = io.StringIO()
        handler = logging.StreamHandler(log)
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            shown = [repr(self.subject), *self._told()]
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
        for secret in self.secrets():
            for text in (*shown, log.getvalue()):
                assert secret not in text, f"a secret is shown in: {text.replace(secret, '<the secret>')}"

    def test_translate_of_the_unknown(self) -> None:
        exc = Unheard("something new")
        error = self.subject.translate(exc)
        assert isinstance(error, PermanentError), (
            f"an unknown exception becomes {type(error).__name__}, not PermanentError: a bug is no weather"
        )
        assert error.__cause__ is exc, "the error for an unknown exception has it as its cause"

    def test_translate_keeps_store_errors(self) -> None:
        for kind in vars(errors).values():
            if isinstance(kind, type) and issubclass(kind, StoreError):
                error = kind("as it was", key="k", offset=5)
                same = self.subject.translate(error)
                assert same is error, (
                    f"translate turns a {kind.__name__} into {same!r}; it comes back unchanged"
                )
                assert (error.key, error.offset) == ("k", 5), (
                    f"translate changes the fields of a {kind.__name__}"
                )

    def test_translate_is_pure(self) -> None:
        for exc in (
            Unheard("x"),
            OSError(5, "x"),
            TimeoutError("x"),
            ConnectionResetError(104, "x"),
            KeyError("x"),
        ):
            before = (exc.args, dict(vars(exc)))
            one, two = self.subject.translate(exc), self.subject.translate(exc)
            assert isinstance(one, ImgstoreError), (
                f"translate gives {one!r}, which is none of imgstore.errors"
            )
            assert (type(one), str(one)) == (type(two), str(two)), (
                f"translate of {exc!r} gives {one!r}, then {two!r}"
            )
            assert (exc.args, dict(vars(exc))) == before, f"translate changes the exception {exc!r}"

    def test_options_are_the_arguments(self) -> None:
        self.check_options(self.subject, type(self.subject))

    def check_options(self, store: object, kind: type) -> None:
        """Fails unless the options of `store` are the keyword-only arguments of `kind`."""
        options = {each.dest for each in kind.OPTIONS}  # type: ignore[attr-defined]
        given = inspect.signature(kind).parameters.values()
        arguments = {each.name for each in given if each.kind is each.KEYWORD_ONLY}
        assert options == arguments, (
            f"only in OPTIONS: {options - arguments}, only arguments: {arguments - options}"
        )

    def test_facets_are_there_or_none(self) -> None:
        for name in FACETS:
            facet = getattr(self.subject, name)
            assert facet is None or not isinstance(facet, (bool, str)), (
                f"{name} is {facet!r}, not an object or None"
            )

    @needs("unreachable")
    def test_unreachable_place_fails_at_first_use(self) -> None:
        with self.unreachable() as store:  # an error here: the constructor does I/O
            with raises(StoreError, "stat in a place that does not answer") as caught:
                store.stat(fresh_key())
            assert not isinstance(caught.error, NotFoundError), (
                "a place that is not there is no missing image"
            )

    def _failures(self) -> list[tuple[str, str, type[StoreError], Callable[[], object]]]:
        key, missing = self.image(pattern(SIZE)), fresh_key()
        return [
            ("stat of a missing key", missing, NotFoundError, lambda: self.subject.stat(missing)),
            ("get of a missing key", missing, NotFoundError, lambda: self.read(missing)),
            ("get behind the end", key, RangeNotSatisfiableError, lambda: self.read(key, SIZE + 1)),
        ]

    def _told(self) -> list[str]:
        """Gives whatever is shown of streams, infos and errors."""
        key = self.image(pattern(100))
        with self.subject.get(key) as stream:
            told = [repr(stream), repr(stream.info), repr(self.subject.stat(key))]
        failures: list[tuple[type[ImgstoreError], Callable[[], object]]] = [
            (kind, act) for _, _, kind, act in self._failures()
        ]
        failures.append((StoreError, lambda: self.read(key, version="kit-no-such-version")))
        failures.append((UnsafeLocationError, lambda: self.read("../x")))
        for kind, act in failures:
            with raises(kind, "a call that must fail") as caught:
                act()
            error = caught.error
            told += [str(error), repr(error), repr(vars(error)), "".join(traceback.format_exception(error))]
        return told
