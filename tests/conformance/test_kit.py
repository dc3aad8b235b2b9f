"""The kit itself: what it leaves out, what it counts, and what it tells a driver author."""

from __future__ import annotations

import io
import logging
import unittest

import pytest

from imgstore.backends.memory import MemoryStore
from imgstore.errors import NotFoundError
from imgstore.testing import ReadSuite, Suite, WriteSuite, needs, run_suite
from imgstore.testing.conformance._base import Background, expect, fresh_key, marked, pattern, raises


class Few(Suite):
    """A suite of few cases."""

    def test_always(self):
        assert self.subject.store_id == "kit"

    @needs("replace")
    def test_with_replace(self):
        pass

    @needs("stall")
    def test_with_stall(self):
        pass

    def test_fails(self):
        raise AssertionError("as it should")

    def test_breaks(self):
        raise KeyError("x")

    def test_skips(self):
        raise unittest.SkipTest("not today")


class Plain(Few):
    def store(self):
        return MemoryStore()


class Replacing(Plain):
    def replace(self, key, data):
        pass


def test_cases_whose_hook_is_not_filled_in_are_left_out():
    assert Plain.left_out == {
        "test_with_replace": "needs the hook replace",
        "test_with_stall": "needs the hook stall",
    }
    assert Plain.cases() == ["test_always", "test_breaks", "test_fails", "test_skips"]
    assert Plain.test_with_stall is None, "pytest collects no None"


def test_a_hook_that_a_subclass_fills_in_brings_its_cases_back():
    assert Replacing.left_out == {"test_with_stall": "needs the hook stall"}
    assert "test_with_replace" in Replacing.cases()


def test_a_report_counts_and_names(caplog):
    with caplog.at_level(logging.INFO):
        report = run_suite(Plain)
    assert report.red == ["test_breaks", "test_fails"]
    assert report.outcomes["test_always"] is None
    assert report.left_out["test_skips"] == "not today"
    assert str(report) == (
        "3 cases ran, 2 failed, 3 were left out\n  test_breaks: 'x'\n  test_fails: as it should\n"
    )
    assert "Plain: 4 cases ran, 2 were left out" in caplog.text


def test_two_suites_in_one_class():
    class Both(ReadSuite, WriteSuite):
        def setup_method(self):
            super().setup_method()
            self.memory = MemoryStore()

        def store(self):
            return self.memory

        def seed(self, key, data):
            self.memory.writer.put(key, io.BytesIO(data))

    report = run_suite(Both)
    assert not report.red, report
    assert len(report.outcomes) == len(Both.cases()) > 90


def test_the_hooks_must_be_filled_in():
    suite = Suite()
    for act in (
        suite.store,
        lambda: suite.seed("k", b""),
        lambda: suite.replace("k", b""),
        lambda: suite.remove("k"),
        lambda: suite.stall("k"),
        suite.unreachable,
        suite.full,
    ):
        with pytest.raises(NotImplementedError):
            act()
    assert suite.secrets() == ()


def test_wrong_bytes_are_told_in_full():
    image = pattern(1000)
    expect(image[10:20], image, 10, 20, "get")
    for got, said in (
        (image[11:21], "first wrong one at offset 10, where the bytes of offset 11 stand"),
        (image[10:15], "got 5 bytes of 10, right as far as they go"),
        (image[10:25], "got 15 bytes of 10, right as far as they go"),
        (image[10:19] + b"?", "the first wrong one at offset 19"),
    ):
        with pytest.raises(AssertionError, match=said):
            expect(got, image, 10, 20, "get")


def test_what_is_not_raised_is_told():
    with raises(NotFoundError, "a read") as caught:
        raise NotFoundError("gone")
    assert str(caught.error) == "gone"
    with pytest.raises(AssertionError, match="a read: wanted NotFoundError, but nothing was raised"):  # noqa: SIM117
        with raises(NotFoundError, "a read"):
            pass
    with pytest.raises(AssertionError, match="wanted NotFoundError or KeyError, got ValueError: x"):  # noqa: SIM117
        with raises((NotFoundError, KeyError), "a read"):
            raise ValueError("x")


def test_patterns_tell_places_and_generations():
    data = pattern(200_000)
    assert len({data[at : at + 8] for at in range(200_000 - 8)}) == 200_000 - 8
    assert {each >> 7 for each in marked(5000, 0)} == {0}
    assert {each >> 7 for each in marked(5000, 1)} == {1}


def test_keys_are_never_used_twice():
    assert len({fresh_key() for _ in range(100)}) == 100


def test_what_happens_in_the_background_is_kept():
    def fail():
        raise KeyError("x")

    assert Background(lambda: None).join()
    background = Background(fail)
    assert background.join()
    assert isinstance(background.error, KeyError)
    assert not background.running


def test_cases_that_need_more_streams_than_there_may_be_are_left_out():
    class One(ReadSuite):
        streams = 1

        def store(self):
            return MemoryStore()

    assert One.left_out["test_interleaved_streams"] == "needs 3 streams at once"
    assert One.left_out["test_streams_of_two_images"] == "needs 2 streams at once"
    assert "test_interleaved_streams" in ReadSuite.cases()
