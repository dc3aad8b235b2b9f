from __future__ import annotations

import pytest

from imgstore.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    NotFoundError,
    OperationCancelledError,
)
from imgstore.layers.limit import LimitLayer
from imgstore.model import Call, CancelToken
from tests.unit.layers.scripted import DATA, Attempt, ScriptedStore


class Permits:
    """A semaphore whose waits are told to `on_wait`, and take their time on the scripted clock."""

    def __init__(self, free, clock):
        self.free, self.most, self.clock = free, free, clock
        self.waits: list[float] = []
        self.on_wait = lambda: None

    def acquire(self, timeout):
        if not self.free:
            self.waits.append(timeout)
            self.clock.elapsed += timeout
            self.on_wait()
            return False
        self.free -= 1
        return True

    def release(self):
        self.free += 1
        assert self.free <= self.most, "a permit was given back twice"


def limited(*attempts, max_streams=None, rate_limit=None):
    inner = ScriptedStore(*attempts)
    inner._open = _unguarded(inner._open, inner)
    layer = LimitLayer(inner, max_streams=max_streams, rate_limit=rate_limit)
    if max_streams is not None:
        layer._permits = Permits(max_streams, inner.clock)
    return layer, inner


def _unguarded(real, inner):
    """Lets several streams be open at once."""

    def opened(*args):
        raws, inner.raws = inner.raws, []
        try:
            return real(*args)
        finally:
            inner.raws = raws + inner.raws

    return opened


def test_without_limits_nothing_waits():
    store, inner = limited()
    streams = [store.get("image") for _ in range(50)]
    assert [stream.read() for stream in streams] == [DATA] * 50
    assert inner.clock.slept == []
    assert streams[0].held == 0


def test_a_range_and_its_version_are_passed_on():
    store, inner = limited(max_streams=1, rate_limit=1e9)
    with store.get("image", 5, 7, version="v1") as stream:
        assert stream.read() == DATA[5:12]
        assert stream.info.version == "v1"
    assert inner.asked == [(5, 12, "v1")]


def test_real_permits_count():
    inner = ScriptedStore()
    store = LimitLayer(inner, max_streams=2)
    first = store.get("image", 0, 10)
    first.close()
    with store.get("image", 0, 10), pytest.raises(DeadlineExceededError):
        inner.raws.clear()  # the script allows one at a time
        with store.get("image", 0, 10):
            time = inner.clock.time()
            inner.clock.time = iter([time, time, time + 5]).__next__
            store.get("image", 0, 10, call=Call(deadline=time + 1))


@pytest.mark.parametrize("most", [1, 3])
def test_one_stream_too_many_waits_until_another_is_closed(most):
    store, inner = limited(max_streams=most)
    streams = [store.get("image") for _ in range(most)]
    permits = store._permits
    assert permits.waits == []
    permits.on_wait = lambda: streams[0].close() if len(permits.waits) == 3 else None
    late = store.get("image")
    assert len(permits.waits) == 3
    assert late.read() == DATA
    assert len(inner.asked) == most + 1


def test_a_wait_for_a_permit_looks_up_often_enough_to_end_within_a_second():
    store, _inner = limited(max_streams=1)
    stream = store.get("image")
    store._permits.on_wait = stream.close
    store.get("image")
    assert all(0.05 <= seconds <= 1 / 3 for seconds in store._permits.waits)


def test_the_wait_for_a_permit_is_told_as_held():
    store, inner = limited(max_streams=1)
    first = store.get("image")
    store._permits.on_wait = lambda: first.close() if len(store._permits.waits) == 5 else None
    before = inner.clock.elapsed
    second = store.get("image")
    assert second.held == pytest.approx(inner.clock.elapsed - before)
    assert second.held == pytest.approx(sum(store._permits.waits))


def test_the_deadline_ends_the_wait_for_a_permit():
    store, inner = limited(max_streams=1)
    first = store.get("image")
    with pytest.raises(DeadlineExceededError) as raised:
        store.get("image", call=Call(deadline=inner.clock.time() + 1.5))
    assert 1.5 <= inner.clock.elapsed <= 2.5
    assert (raised.value.store, len(inner.asked)) == ("scripted", 1)
    first.close()
    assert store._permits.free == 1


def test_cancelling_ends_the_wait_for_a_permit():
    store, inner = limited(max_streams=1)
    token = CancelToken()
    store._permits.on_wait = token.cancel
    with store.get("image"), pytest.raises(OperationCancelledError) as raised:
        store.get("image", call=Call(cancel=token))
    assert raised.value.store == "scripted"
    assert len(store._permits.waits) == 1
    assert len(inner.asked) == 1


@pytest.mark.parametrize("refusal", [NotFoundError("no"), KeyboardInterrupt()])
def test_an_open_that_fails_gives_its_permit_back(refusal):
    store, _ = limited(Attempt(refuse=refusal), max_streams=1)
    for _ in range(3):
        with pytest.raises(type(refusal)):
            store.get("image")
    assert store._permits.free == 1


def test_the_end_gives_the_permit_back_and_closing_does_not_again():
    store, _ = limited(max_streams=1)
    stream = store.get("image")
    assert store._permits.free == 0
    stream.read()
    assert store._permits.free == 1
    stream.close()
    stream.close()
    assert store._permits.free == 1


def test_closing_in_mid_read_gives_the_permit_back():
    store, inner = limited(max_streams=1)
    stream = store.get("image")
    stream.read(10)
    stream.close()
    assert store._permits.free == 1
    assert inner.raws[0].closed


def test_a_read_that_breaks_gives_the_permit_back():
    store, _ = limited(Attempt(at=10, error=ConnectionLostError("lost")), max_streams=1)
    stream = store.get("image")
    stream.read(10)
    with pytest.raises(ConnectionLostError):
        stream.read(1)
    assert store._permits.free == 1
    stream.close()
    assert store._permits.free == 1


def test_a_close_that_fails_gives_the_permit_back_all_the_same():
    store, inner = limited(max_streams=1)
    stream = store.get("image")

    def close():
        raise OSError("the kernel says no")

    inner.raws[0].close = close
    with pytest.raises(OSError, match="the kernel"):
        stream.close()
    assert store._permits.free == 1


def test_a_receive_takes_at_most_a_quarter_of_a_second_of_the_bandwidth():
    store, inner = limited(rate_limit=1000)
    with store.get("image") as stream:
        assert [stream.readinto(bytearray(4000)) for _ in range(5)] == [250] * 5
        assert stream.readinto(bytearray(100)) == 100
    assert inner.clock.slept == pytest.approx([0, 0.25, 0.25, 0.25, 0.25, 0.25])


@pytest.mark.parametrize("rate, burst", [(1, 1), (3.9, 1), (4, 1), (8, 2), (1e6, 250_000)])
def test_the_slowest_rate_still_moves(rate, burst):
    store, _ = limited(rate_limit=rate)
    with store.get("image") as stream:
        assert stream.readinto(bytearray(len(DATA))) == burst


def test_a_read_at_a_rate_takes_its_time():
    store, inner = limited(rate_limit=65536)
    with store.get("image") as stream:
        assert stream.read() == DATA
        assert inner.clock.elapsed == pytest.approx(4 - 0.25)
        assert stream.held == pytest.approx(inner.clock.elapsed)


def test_the_bandwidth_is_shared_by_all_streams():
    store, inner = limited(rate_limit=1000)
    with store.get("image", 0, 1000) as one, store.get("image", 0, 1000) as other:
        for _ in range(4):
            one.read(250)
            other.read(250)
    assert inner.clock.elapsed == pytest.approx(2 - 0.25)


def test_threads_take_turns_at_the_bandwidth():
    store, _ = limited(rate_limit=1000)
    bandwidth, turns = store._bandwidth, []

    class Turns:
        def __enter__(self):
            turns.append(bandwidth._free_at)

        def __exit__(self, *_):
            turns.append(bandwidth._free_at)

    bandwidth._lock = Turns()
    bandwidth.debt()
    bandwidth.charge(250)
    assert turns == [1000.0, 1000.0, 1000.0, 1000.25]


def test_bandwidth_that_nobody_used_is_not_saved_up():
    store, inner = limited(rate_limit=1000)
    with store.get("image", 0, 1000) as stream:
        inner.clock.elapsed += 100
        began = inner.clock.elapsed
        stream.read()
        assert inner.clock.elapsed - began == pytest.approx(0.75)


def test_what_is_skipped_costs_bandwidth_too():
    store, inner = limited(Attempt(serve_from=0), rate_limit=1000)
    with store.get("image", 750, 250) as stream:
        assert stream.read() == DATA[750:1000]
    assert inner.clock.elapsed == pytest.approx(0.75)


def test_held_adds_up_permit_bandwidth_and_what_the_store_inside_was_held():
    store, inner = limited(max_streams=1, rate_limit=1000)
    first = store.get("image")
    store._permits.on_wait = first.close
    stream = store.get("image", 0, 500)
    waited = sum(store._permits.waits)
    stream.read(500 - 1)
    inner.raws[1].held = 5.0
    assert stream.held == pytest.approx(waited + 0.25 + 5.0)


def test_the_deadline_ends_the_wait_for_bandwidth():
    store, inner = limited(rate_limit=4)
    stream = store.get("image", call=Call(deadline=inner.clock.time() + 0.3))
    stream.readinto(bytearray(1))
    stream.readinto(bytearray(1))
    with pytest.raises(DeadlineExceededError) as raised:
        stream.readinto(bytearray(1))
    assert inner.clock.slept == pytest.approx([0, 0.25, 0.05])
    assert raised.value.store == "scripted"
    assert raised.value.offset == 2


def test_cancelling_ends_the_wait_for_bandwidth():
    store, inner = limited(rate_limit=4)
    token = CancelToken()
    stream = store.get("image", call=Call(cancel=token))
    stream.readinto(bytearray(1))
    woken = []

    def sleep(seconds, wake):
        token.cancel()
        woken.append(wake.wait(0))

    inner.clock.sleep = sleep
    with pytest.raises(OperationCancelledError):
        stream.readinto(bytearray(1))
    assert woken == [True]
    assert inner.raws[0].aborted


def test_cancelling_the_stream_alone_ends_its_wait_for_bandwidth():
    store, inner = limited(rate_limit=4)
    token = CancelToken()
    stream = store.get("image", call=Call(cancel=token))
    other = store.get("image", call=Call(cancel=token))
    woken = []

    def sleep(seconds, wake):
        stream.cancel()
        woken.append(wake.wait(0))

    inner.clock.sleep = sleep
    with pytest.raises(OperationCancelledError):
        stream.readinto(bytearray(1))
    assert woken == [True]
    assert inner.raws[0].aborted
    assert not token.cancelled
    assert other.readinto(bytearray(1)) == 1


def test_an_image_of_unknown_size_is_limited_like_any_other():
    store, inner = limited(Attempt(size=None, data=DATA[:1000]), max_streams=1, rate_limit=1000)
    stream = store.get("image")
    assert stream.read() == DATA[:1000]
    assert inner.clock.elapsed == pytest.approx(1.0)  # the end is asked for when all is paid
    assert store._permits.free == 1


def test_after_a_fork_the_permits_are_those_of_the_new_process(monkeypatch):
    store, _inner = limited(max_streams=1)
    inherited = store.get("image")
    monkeypatch.setattr("imgstore.layers.limit.os.getpid", lambda: -1)
    with store.get("image"):
        inherited.close()
        assert not store._permits.acquire(blocking=False)
    assert store._permits.acquire(blocking=False)
    assert not store._permits.acquire(blocking=False)


def test_a_refused_open_says_how_long_it_waited_for_its_permit():
    store, _inner = limited(Attempt(), Attempt(refuse=ConnectionLostError("refused")), max_streams=1)
    first = store.get("image")
    permits = store._permits
    permits.on_wait = lambda: first.close() if len(permits.waits) == 5 else None
    with pytest.raises(ConnectionLostError) as caught:
        store.get("image")
    assert caught.value.held == pytest.approx(sum(permits.waits))
    assert caught.value.held > 0
