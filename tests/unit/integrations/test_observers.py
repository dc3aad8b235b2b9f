"""Several observers as one."""

from __future__ import annotations

import pytest

from imgstore.integrations import observers
from imgstore.model import Event

EVENT = Event("opened", "fast", "disk")


def test_all_are_told_in_order():
    told = []
    observers(lambda event: told.append((1, event)), lambda event: told.append((2, event)))(EVENT)
    assert told == [(1, EVENT), (2, EVENT)]


def test_none_is_no_trouble():
    observers()(EVENT)


def test_one_that_raises_keeps_no_other_from_being_told_and_still_ends_the_call():
    told = []

    def fail(event):
        raise ArithmeticError(f"first of {event.kind}")

    def fail_later(event):
        raise ValueError("second")

    with pytest.raises(ArithmeticError, match="first of opened"):
        observers(fail, fail_later, told.append)(EVENT)
    assert told == [EVENT]


def test_an_interrupt_goes_through_at_once():
    told = []

    def interrupt(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observers(interrupt, told.append)(EVENT)
    assert told == []
