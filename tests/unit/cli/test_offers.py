"""What is offered to a shell ends early rather than late, and never in an error."""

from __future__ import annotations

import contextlib
import logging
import time

import pytest

from imgstore import errors
from imgstore.cli import offers
from imgstore.cli.output import Terminal
from imgstore.config import Stores
from imgstore.model import ObjectInfo
from imgstore.store import Store


class Slow(Store):
    """Lists a few images and then fails, by the deadline of its caller or otherwise."""

    def __init__(self, failure):
        self.failure = failure
        self.lister = self
        self.deadlines = []
        self.ended = False

    def list(self, prefix="", *, call):
        self.deadlines.append(call.deadline)
        try:
            logging.getLogger("imgstore.test").warning("slow")
            for number in range(3):
                yield ObjectInfo(f"{prefix}{number}", 0, None)
            if self.failure is not None:
                raise self.failure
            while True:
                yield ObjectInfo("again", 0, None)
        finally:
            self.ended = True

    def _open(self, key, start, stop, version, call):
        raise AssertionError("nobody reads")

    def translate(self, exc):
        raise AssertionError("nobody fails")


@pytest.fixture
def opened(monkeypatch):
    def with_failure(failure):
        store = Slow(failure)

        @contextlib.contextmanager
        def every(terminal):
            with Stores({"far": store}, {}, None) as stores:
                yield stores

        monkeypatch.setattr(offers, "every", every)
        return store

    return with_failure


def offered(incomplete):
    return [item.value for item in offers.locations(Terminal(), incomplete, in_stores=True)]


@pytest.mark.parametrize(
    "failure", [errors.DeadlineExceededError("late"), errors.ConfigError("no"), OSError(), ValueError()]
)
def test_a_listing_that_fails_gives_what_it_had(opened, failure, caplog):
    store = opened(failure)
    assert offered("far:x") == ["far:x0", "far:x1", "far:x2"]
    (deadline,) = store.deadlines
    assert 0 < deadline - time.time() <= 2
    assert not caplog.records
    logging.getLogger("imgstore.test").warning("afterwards")
    assert caplog.records


def test_a_listing_without_end_is_cut_and_closed(opened):
    store = opened(None)
    assert len(offered("far:x")) == 100
    assert store.ended
    assert store._closed


def test_a_path_is_no_place_in_a_store(opened):
    store = opened(None)
    assert offered("./far:x") == offered("dir/") == offered("near:x") == []
    assert store.deadlines == []
