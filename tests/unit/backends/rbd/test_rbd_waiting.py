"""Waits that a deadline, a cancel or an abort ends, and what becomes of the work that is left behind."""

import threading

import pytest

from imgstore.backends.rbd.waiting import Errand, Wait
from imgstore.clock import SYSTEM
from imgstore.errors import DeadlineExceededError, OperationCancelledError, TimedOutError
from imgstore.model import Call, CancelToken


@pytest.fixture
def gate():
    """Gives what holds a piece of work up; it is open at the end."""
    gate = threading.Event()
    yield gate
    gate.set()


def ends(gate, *errands):
    gate.set()
    for errand in errands:
        assert errand.done.wait(5)


def test_what_has_come_is_given(gate):
    assert Errand(lambda: 5).result(Wait(Call(), SYSTEM)) == 5


def test_what_the_work_raises_is_raised():
    errand = Errand(lambda: 1 // 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            errand.result(Wait(Call(), SYSTEM))
    assert errand.failed


def test_a_wait_has_its_limit(gate):
    errand = Errand(gate.wait)
    with pytest.raises(TimedOutError, match=r"within 0\.01 seconds"):
        errand.result(Wait(Call(), SYSTEM), 0.01)
    ends(gate, errand)


def test_a_deadline_ends_a_wait(gate):
    errand = Errand(gate.wait)
    with pytest.raises(DeadlineExceededError):
        errand.result(Wait(Call().within(0.01), SYSTEM), 60)
    ends(gate, errand)


@pytest.mark.parametrize("how", ["cancel", "abort"])
def test_a_cancel_ends_a_wait_within_a_second(gate, how):
    token = CancelToken()
    wait = Wait(Call(cancel=token), SYSTEM)
    errand = Errand(gate.wait)
    threading.Timer(0.01, token.cancel if how == "cancel" else wait.abort).start()
    begun = SYSTEM.now()
    with pytest.raises(OperationCancelledError):
        errand.result(wait)
    assert SYSTEM.now() - begun < 1
    ends(gate, errand)


def test_what_comes_after_somebody_left_is_undone(gate):
    undone, finished = [], threading.Event()

    def work():
        gate.wait()
        return "image"

    errand = Errand(work, undone.append, finished.set)
    errand.leave()
    assert not undone
    ends(gate, errand)
    assert finished.wait(5)
    assert undone == ["image"]


def test_what_had_come_before_is_undone_once():
    undone, finished = [], threading.Event()
    errand = Errand(lambda: "image", undone.append, finished.set)
    assert finished.wait(5)
    errand.leave()
    errand.leave()
    assert undone == ["image"]


def test_what_failed_is_not_undone():
    undone, finished = [], threading.Event()
    errand = Errand(lambda: 1 // 0, undone.append, finished.set)
    assert finished.wait(5)
    errand.leave()
    assert not undone
