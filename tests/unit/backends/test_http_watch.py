"""The watch over waits: who may end one, and how long a slice is."""

from __future__ import annotations

import pytest

from imgstore.backends._http.watch import SLICE, Watch
from imgstore.errors import DeadlineExceededError, OperationCancelledError, TimedOutError
from imgstore.model import Call, CancelToken


class StillClock:
    """A clock that goes when it is told to; its two hands are apart."""

    def __init__(self):
        self.at = 1000.0

    def now(self):
        return self.at

    def time(self):
        return self.at + 1e9

    def sleep(self, seconds, wake=None):
        self.at += seconds


@pytest.fixture
def clock():
    return StillClock()


def test_a_slice_at_most(clock):
    watch = Watch(Call(), clock)
    assert watch.pause() == SLICE <= 0.25
    clock.sleep(1e6)
    assert watch.pause() == SLICE


def test_the_deadline(clock):
    watch = Watch(Call(deadline=clock.time() + 5.1), clock)
    assert watch.pause() == SLICE
    clock.sleep(5.0)
    assert watch.pause() == pytest.approx(0.1, abs=1e-3)
    clock.sleep(0.2)
    with pytest.raises(DeadlineExceededError):
        watch.pause()


def test_the_time_of_a_phase(clock):
    watch = Watch(Call(), clock)
    watch.allow(1.1, "too slow")
    assert watch.pause() == SLICE
    clock.sleep(1.0)
    assert watch.pause() == pytest.approx(0.1)
    clock.sleep(0.1)
    with pytest.raises(TimedOutError, match=r"^too slow$"):
        watch.pause()
    watch.allow(1.0, "again")
    assert watch.pause() == SLICE


def test_the_deadline_goes_before_the_phase(clock):
    watch = Watch(Call(deadline=clock.time() - 1), clock)
    watch.allow(-1, "late")
    with pytest.raises(DeadlineExceededError):
        watch.pause()


def test_cancel_and_abort(clock):
    token = CancelToken()
    watch = Watch(Call(cancel=token, deadline=clock.time() - 1), clock)
    token.cancel()
    with pytest.raises(OperationCancelledError):
        watch.pause()
    other = Watch(Call(), clock)
    other.abort()
    other.abort()
    with pytest.raises(OperationCancelledError):
        other.pause()


def test_points_in_time(clock):
    watch = Watch(Call(), clock)
    point = watch.seconds_from_now(2.0)
    assert not watch.over(point)
    clock.sleep(2.0)
    assert watch.over(point)
