from __future__ import annotations

import pytest

from imgstore.layers._stall import StallMeter

WINDOW, FLOOR = 16.0, 1000.0


def trickle(meter: StallMeter, count: int, step: float, limit: float = 1000.0) -> float | None:
    """Feeds `count` bytes each `step` seconds; gives the time of the verdict."""
    elapsed = 0.0
    while elapsed < limit:
        elapsed += step
        if meter.received(step, count):
            return elapsed
    return None


@pytest.fixture
def meter() -> StallMeter:
    return StallMeter(WINDOW, FLOOR)


def test_a_trickle_is_found_after_one_window(meter):
    assert trickle(meter, 1, 1.0) == WINDOW


def test_a_trickle_after_a_fast_start_is_found_within_a_window_and_a_sixteenth(meter):
    meter.received(0.001, 1 << 30)
    found = trickle(meter, 1, 0.25)
    assert found is not None
    assert WINDOW - 1 <= found <= WINDOW + WINDOW / 16 + 0.25


@pytest.mark.parametrize("step", [0.01, 0.25, 1.0, 3.0])
def test_twice_the_floor_is_never_stalled(meter, step):
    assert trickle(meter, int(2 * FLOOR * step), step) is None


def test_the_floor_itself_is_enough(meter):
    assert trickle(meter, 1000, 1.0) is None


def test_just_below_the_floor_is_stalled(meter):
    assert trickle(meter, 999, 1.0) == WINDOW


def test_the_callers_own_time_does_not_count(meter):
    assert not any(meter.received(0.0, 1) for _ in range(100_000))


def test_opening_and_pausing_count_as_waiting(meter):
    meter.opened()
    meter.waited(WINDOW / 2)
    assert trickle(meter, 1, 1.0) == WINDOW / 2


def test_a_new_stream_has_half_a_window_however_long_its_opening_took(meter):
    meter.waited(WINDOW * 5)
    meter.opened()
    assert trickle(meter, 1, 0.5) == WINDOW / 2


def test_a_new_stream_of_twice_the_floor_is_not_dropped_for_its_opening(meter):
    meter.waited(WINDOW * 5)
    meter.opened()
    assert trickle(meter, 2000, 1.0) is None


def test_a_wait_alone_is_no_verdict_on_a_stream(meter):
    meter.waited(WINDOW * 5)
    meter.opened()
    assert not meter.received(0.0, 1)


def test_bytes_of_the_stream_before_count_in_the_window(meter):
    for _ in range(8):
        assert not meter.received(1.0, 1999)
    meter.opened()
    assert trickle(meter, 1, 1.0) == 9  # 8 + 9 = 17: the first second has left the window by then


def test_a_verdict_begins_a_new_window(meter):
    assert trickle(meter, 1, 1.0) == WINDOW
    meter.opened()
    assert trickle(meter, 1, 1.0) == WINDOW


def test_nothing_of_the_old_window_is_left_after_a_verdict(meter):
    assert meter.received(WINDOW, 15_999)
    assert meter.received(WINDOW, 15_999)
    assert not meter.received(WINDOW, 16_000)


def test_a_fast_second_after_a_verdict_leaves_the_window_in_its_turn(meter):
    assert trickle(meter, 1, 1.0) == WINDOW
    assert not meter.received(1.0, 1 << 30)
    assert trickle(meter, 1, 1.0) == WINDOW


def test_a_stream_is_judged_after_half_a_window_also_if_the_one_before_was_waited_on_for_long(meter):
    for _ in range(10):
        assert not meter.received(1.0, 2000)
    meter.opened()
    meter.waited(WINDOW * 5)
    assert trickle(meter, 1, 0.5) == WINDOW / 2


def test_the_first_stream_has_half_a_window_too(meter):
    meter.waited(WINDOW)
    assert not meter.received(WINDOW / 2 - 0.5, 1)
    assert meter.received(0.5, 1)


def test_a_wait_brings_no_byte():
    meter = StallMeter(WINDOW, 0.25)
    for _ in range(1000):
        meter.waited(1.0)
    meter.opened()
    assert trickle(meter, 0, 1.0) == WINDOW / 2


def test_a_single_long_wait_is_a_verdict(meter):
    assert meter.received(WINDOW, 15_999)


def test_a_single_long_wait_that_brings_enough_is_none(meter):
    assert not meter.received(WINDOW, 16_000)


def test_memory_is_bounded(meter):
    for _ in range(100_000):
        meter.received(0.01, 10_000)
    assert len(meter._buckets) <= 17
