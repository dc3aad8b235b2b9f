"""SQLite's loop: the n-th operation of the store fails, n = 1, 2, 3... until a run meets no fault.

Once, and from then on for good. Each run ends with the image's bytes or with the one right error, and nothing
stays open. An operation is an open or a receive.
"""

from __future__ import annotations

import itertools

import pytest

from imgstore import stack
from imgstore.errors import (
    BadReplyError,
    ConnectionLostError,
    NotFoundError,
    PermanentError,
    PermissionDeniedError,
    ProtocolViolationError,
    RetriesExhaustedError,
    TimedOutError,
    TruncatedError,
    UnavailableError,
)
from imgstore.model import ANY
from imgstore.store import Store, unknown
from imgstore.stream import Opened
from imgstore.testing.faults import Schedule, SimClock, SimStore

SIZE = 3 * 65536 + 17
RECEIVE = 16384
(DATA,) = Schedule(0, (), (SIZE,)).images()

KINDS = {
    "versioned": ({}, {}),
    "unversioned": ({"versioned": False}, {}),
    "digest": ({"versioned": False, "digests": "known"}, {}),
    "any": ({}, {"version": ANY}),
    "unsized": ({"sized": False}, {}),
}
TRANSIENT = {
    "lost": lambda: ConnectionLostError("lost"),
    "silent": lambda: TimedOutError("silent"),
    "unavailable": lambda: UnavailableError("503"),
    "reset": lambda: ConnectionResetError(104, "reset"),
    "truncated": lambda: TruncatedError("ended"),
    "bad reply": lambda: BadReplyError("nonsense"),
}
PERMANENT = {
    "denied": (lambda: PermissionDeniedError("403"), PermissionDeniedError),
    "gone": (lambda: NotFoundError("404"), NotFoundError),
    "unknown": (lambda: LookupError("a bug"), PermanentError),
    "hopeless": (lambda: UnavailableError("for good", retryable=False), UnavailableError),
}


class Failing(Store):
    """A store whose `nth` operation fails, with `lasting` every one after it too."""

    def __init__(self, inner, nth, fault, *, lasting):
        self.inner, self.nth, self.fault, self.lasting = inner, nth, fault, lasting
        self.store_id, self.clock = inner.store_id, inner.clock
        self.done = self.failed = 0

    def step(self):
        self.done += 1
        if self.done == self.nth or (self.lasting and self.done > self.nth):
            self.failed += 1
            raise self.fault()

    def _open(self, key, start, stop, version, call):
        self.step()
        opened = self.inner._open(key, start, stop, version, call)
        return Opened(FailingBody(self, opened.raw), opened.info, opened.range)

    def translate(self, exc):
        return unknown(exc) if isinstance(exc, LookupError) else self.inner.translate(exc)


class FailingBody:
    def __init__(self, store, raw):
        self.store, self.raw = store, raw
        self.abort, self.close = raw.abort, raw.close

    def readinto(self, buffer):
        self.store.step()
        return self.raw.readinto(buffer)


def run(kind, nth, fault, *, lasting=False, offset=0, length=None):
    """Reads with the n-th operation failing; gives the error, what was delivered, and the stores."""
    options, asked = KINDS[kind]
    sim = SimStore([DATA], clock=SimClock(), receive=RECEIVE, **options)
    failing = Failing(sim, nth, fault, lasting=lasting)
    store = stack.build(failing, clock=sim.clock, jitter=lambda: 0.5)
    got, buffer, error = bytearray(), bytearray(RECEIVE), None
    try:
        with store.get("image", offset, length, **asked) as stream:
            while count := stream.readinto(buffer):
                got += buffer[:count]
    except Exception as exc:
        error = exc
    assert sim.opened == 0
    assert all(each.closed for each in sim.log if each.served is not None)
    assert got == DATA[offset : offset + len(got)]
    return error, got, failing, sim


def until_no_fault():
    """Counts up; the loop that uses it breaks at the first run that meets no fault."""
    return itertools.count(1)


RANGES = [(0, None), (5, None), (5, 70_000)]


def ranges(kind):
    return RANGES[:1] if kind == "unsized" else RANGES


@pytest.mark.parametrize("fault", TRANSIENT)
@pytest.mark.parametrize("kind", KINDS)
def test_once_and_nobody_notices(kind, fault):
    for offset, length in ranges(kind):
        for nth in until_no_fault():
            error, got, failing, sim = run(kind, nth, TRANSIENT[fault], offset=offset, length=length)
            assert error is None, f"operation {nth}"
            assert len(got) == (SIZE - offset if length is None else length)
            if not failing.failed:
                break
            assert len(sim.log) == (1 if nth == 1 else 2)
            # a digest proves a read of the whole image only; else the prefix is read again
            if kind in {"versioned", "any"} or (kind == "digest" and offset == 0):
                assert sum(each.sent for each in sim.log) == len(got)
        assert nth > len(got) // RECEIVE


@pytest.mark.parametrize("fault", TRANSIENT)
@pytest.mark.parametrize("kind", KINDS)
def test_for_good_and_the_tries_run_out(kind, fault):
    right = {"bad reply": ProtocolViolationError}.get(fault, RetriesExhaustedError)
    for nth in until_no_fault():
        error, got, failing, _ = run(kind, nth, TRANSIENT[fault], lasting=True)
        if not failing.failed:
            break
        unsized = kind == "unsized" and fault == "truncated" and nth > 1
        assert type(error) is (TruncatedError if unsized else right), f"operation {nth}: {error!r}"
        # a break right behind 64 KiB is not counted
        assert failing.failed == (9 if len(got) >= 65536 else 8)
        assert len(got) == max(0, nth - 2) * RECEIVE or len(got) == SIZE
        if nth > 1:
            assert error.offset == len(got)
        assert isinstance(error, TruncatedError) or error.__cause__ is not None
    assert error is None
    assert got == DATA


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("fault", PERMANENT)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_final_ends_it_at_once(kind, fault, lasting):
    raised, right = PERMANENT[fault]
    for nth in until_no_fault():
        error, got, failing, _ = run(kind, nth, raised, lasting=lasting)
        if not failing.failed:
            break
        assert type(error) is right, f"operation {nth}: {error!r}"
        assert failing.failed == 1
        if nth > 1:
            assert error.offset == len(got)
    assert error is None
    assert got == DATA
