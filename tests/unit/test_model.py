"""The values: ranges, infos, calls, cancellation and keys."""

from __future__ import annotations

import dataclasses
import gc
import pickle
import threading

import pytest

from imgstore.errors import DeadlineExceededError, OperationCancelledError, UnsafeLocationError
from imgstore.model import (
    ANY,
    NO_CALL,
    AnyVersion,
    ByteRange,
    Call,
    CancelToken,
    Event,
    Extent,
    ObjectInfo,
    Part,
    StoreRef,
    check_key,
)


class Clock:
    def __init__(self, at=1000.0):
        self.at = at

    def time(self):
        return self.at

    def now(self):
        raise AssertionError("a deadline is POSIX time")


@pytest.mark.parametrize("start, stop, size", [(0, 0, 0), (0, 1, 1), (5, 5, 0), (5, 9, 4), (3, None, None)])
def test_a_range(start, stop, size):
    each = ByteRange(start, stop)
    assert (each.start, each.stop, each.size) == (start, stop, size)


@pytest.mark.parametrize("start, stop", [(-1, 5), (-1, None), (5, 4), (1, 0), (0, -1)])
def test_what_is_no_range(start, stop):
    with pytest.raises(ValueError, match="not a byte range"):
        ByteRange(start, stop)


def test_a_range_is_shown_half_open():
    assert str(ByteRange(2, 5)) == "[2, 5)"
    assert str(ByteRange(2, None)) == "[2, ...)"
    assert str(ByteRange(2, 2)) == "[2, 2)"


VALUES = [
    ByteRange(1, 2),
    ObjectInfo("k", 5, "v", 1.5, {"sha256": "00"}),
    Extent(ByteRange(0, 1), "hole"),
    Part(1, 2, 3, "t"),
    Event("opened", "s", "k"),
    StoreRef("s", "k", None),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen_slotted_equal_hashable_and_picklable(value):
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)
    assert not hasattr(value, "__dict__")
    again = pickle.loads(pickle.dumps(value))
    assert again == value
    assert hash(again) == hash(value)


def test_an_info_without_more():
    info = ObjectInfo("k", None, None)
    assert (info.modified, info.digests) == (None, {})
    assert ObjectInfo("k", None, None).digests is not info.digests


def test_infos_that_differ():
    info = ObjectInfo("k", 5, "v", 1.5, {"md5": "0"})
    for name, other in (("key", "l"), ("size", 6), ("version", None), ("modified", 2.5), ("digests", {})):
        assert dataclasses.replace(info, **{name: other}) != info


def test_an_event_without_more():
    event = Event("failed", "s", "k")
    assert dataclasses.astuple(event) == ("failed", "s", "k", "get", 0, 0, 0.0, 0, None, False)


def test_any_is_itself_and_no_token():
    assert repr(ANY) == "ANY"
    assert pickle.loads(pickle.dumps(ANY)) is ANY
    assert isinstance(ANY, AnyVersion)
    assert not isinstance(ANY, str)
    assert ANY != "any"


# Calls


def test_a_call_without_bounds():
    assert (NO_CALL.deadline, NO_CALL.cancel, NO_CALL.observe) == (None, None, None)
    assert NO_CALL.remaining(Clock()) is None
    NO_CALL.check(Clock())
    NO_CALL.emit(Event("opened", "s", "k"))


def test_remaining_counts_down_and_below_zero():
    clock = Clock()
    call = Call(deadline=1005.0)
    assert call.remaining(clock) == 5.0
    clock.at = 1007.0
    assert call.remaining(clock) == -2.0


def test_the_deadline_is_over_at_its_very_time():
    clock = Clock()
    call = Call(deadline=1005.0)
    clock.at = 1004.999
    call.check(clock)
    clock.at = 1005.0
    with pytest.raises(DeadlineExceededError, match="deadline has passed") as caught:
        call.check(clock, key="k", store="s")
    assert (caught.value.key, caught.value.store) == ("k", "s")


def test_a_deadline_of_zero_is_one():
    with pytest.raises(DeadlineExceededError):
        Call(deadline=0.0).check(Clock())


def test_within_narrows_and_never_widens():
    clock = Clock()
    assert NO_CALL.within(5, clock=clock).deadline == 1005.0
    assert Call(deadline=1003.0).within(5, clock=clock).deadline == 1003.0
    assert Call(deadline=1009.0).within(5, clock=clock).deadline == 1005.0
    assert Call(deadline=0.0).within(5, clock=clock).deadline == 0.0


def test_within_keeps_the_rest():
    token, told = CancelToken(), []
    call = Call(cancel=token, observe=told.append)
    narrowed = call.within(5, clock=Clock())
    assert narrowed.cancel is token
    narrowed.emit(Event("opened", "s", "k"))
    assert told == [Event("opened", "s", "k")]
    assert call.deadline is None


def test_a_cancelled_call_may_not_go_on():
    token = CancelToken()
    call = Call(cancel=token, deadline=0.0)
    with pytest.raises(DeadlineExceededError):
        call.check(Clock())
    token.cancel()
    with pytest.raises(OperationCancelledError, match="cancelled") as caught:
        call.check(Clock(), key="k", store="s")
    assert (caught.value.key, caught.value.store) == ("k", "s")
    with pytest.raises(OperationCancelledError):
        Call(cancel=token).check()


# Cancellation


class Listener:
    def __init__(self):
        self.calls = 0

    def called(self):
        self.calls += 1


def test_a_token_is_cancelled_for_good():
    token = CancelToken()
    assert not token.cancelled
    assert not token.wait(0)
    for _ in range(2):
        token.cancel()
        assert token.cancelled
        assert token.wait(0)
        assert token.wait()


def test_a_wait_ends_with_the_cancellation():
    token = CancelToken()
    results = []
    thread = threading.Thread(target=lambda: results.append(token.wait(10)))
    thread.start()
    token.cancel()
    thread.join(10)
    assert results == [True]


def test_listeners_are_called_once():
    token = CancelToken()
    listeners = [Listener() for _ in range(3)]
    for each in listeners:
        token.subscribe(each.called)
    assert [each.calls for each in listeners] == [0, 0, 0]
    token.cancel()
    token.cancel()
    assert [each.calls for each in listeners] == [1, 1, 1]


def test_a_late_listener_is_called_at_once():
    token, listener = CancelToken(), Listener()
    token.cancel()
    token.subscribe(listener.called)
    assert listener.calls == 1
    token.cancel()
    assert listener.calls == 1


def test_a_listener_that_is_gone_is_forgotten():
    token = CancelToken()
    kept = Listener()
    token.subscribe(kept.called)
    for _ in range(5):
        token.subscribe(Listener().called)
    gc.collect()
    token.subscribe(kept.called)
    assert len(token._listeners) == 2
    token.cancel()
    assert kept.calls == 2


def test_a_listener_may_subscribe_and_cancel():
    token = CancelToken()

    class Again(Listener):
        def called(self):
            super().called()
            token.cancel()
            if self.calls == 1:
                token.subscribe(self.called)

    listener = Again()
    token.subscribe(listener.called)
    token.cancel()
    assert listener.calls == 2


def test_a_listener_that_fails_keeps_the_others_from_nothing():
    token = CancelToken()

    class Failing(Listener):
        def called(self):
            super().called()
            raise OSError(9, f"EBADF of {listeners.index(self)}")

    listeners = [Failing(), Listener(), Failing(), Listener()]
    for each in listeners:
        token.subscribe(each.called)
    with pytest.raises(OSError, match="EBADF of 0"):
        token.cancel()
    assert [each.calls for each in listeners] == [1, 1, 1, 1]


def test_a_child_is_cancelled_with_its_parent_and_alone():
    parent = CancelToken()
    one, two = parent.child(), parent.child()
    grandchild = two.child()
    one.cancel()
    assert [each.cancelled for each in (parent, one, two, grandchild)] == [False, True, False, False]
    parent.cancel()
    assert two.cancelled
    assert grandchild.cancelled
    assert parent.child().cancelled


# Keys


@pytest.mark.parametrize(
    "key",
    [
        "a", "a/b/c", "a b", "...", ".a", "a.", "a..b", "..a", "a/...", "\u00e4", "a\u0308", "\U0001f600",
        "%2e%2e", "a\\..\\b",
        "-", "~", "*", "a\nb", "a\r\nb", "\ufeff", "x" * 1024, "\u00e9" * 512, "a?b#c", "C:", "\uff0e\uff0e",
    ],
)  # fmt: skip
def test_keys_come_back_as_they_are(key):
    assert check_key(key) is key


@pytest.mark.parametrize(
    "key, said",
    [
        ("", "0 bytes; a key has 1 to 1024"),
        ("x" * 1025, "1025 bytes"),
        ("\u00e9" * 513, "1026 bytes"),
        ("a\0b", "NUL"),
        ("\0", "NUL"),
        ("/a", "leading '/'"),
        ("/", "segment"),
        ("a/", "empty"),
        ("a//b", "empty"),
        (".", "segment"),
        ("..", "segment"),
        ("a/.", "segment"),
        ("./a", "segment"),
        ("a/../b", "segment"),
        ("../../etc/shadow", "segment"),
        ("\ud800", "not valid Unicode"),
        (b"a", "not bytes"),
        (None, "not NoneType"),
        (5, "not int"),
    ],
)
def test_what_is_no_key(key, said):
    with pytest.raises(UnsafeLocationError, match=said) as caught:
        check_key(key)
    assert len(str(caught.value)) < 300
    assert caught.value.__suppress_context__ is ("Unicode" in said)
    pickle.dumps(caught.value)


def test_a_refused_key_is_named():
    with pytest.raises(UnsafeLocationError, match=r"'a/\.\./b'"):
        check_key("a/../b")
    for key, named in (("a/../b", "a/../b"), ("a\0b", "a\0b"), ("x" * 2000, "x" * 1024)):
        with pytest.raises(UnsafeLocationError) as caught:
            check_key(key)
        assert caught.value.key == named


@pytest.mark.parametrize("length, shown", [(80, "'" + "/" * 80 + "'"), (81, "'" + "/" * 77 + "...'")])
def test_a_long_key_is_shown_shortened(length, shown):
    with pytest.raises(UnsafeLocationError) as caught:
        check_key("/" * length)
    assert f"key {shown} has" in str(caught.value)
