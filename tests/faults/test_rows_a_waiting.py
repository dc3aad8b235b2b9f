"""Rows A7-A9, A11-A15, A30 and A33: silence, slowness, refusals and the pauses between two tries."""

from __future__ import annotations

import io
import random
import socket
import threading
import time
from collections.abc import Callable
from email.utils import formatdate

import pytest

from imgstore import stack
from imgstore.backends.memory import MemoryStore
from imgstore.errors import (
    ConnectionLostError,
    DeadlineExceededError,
    RetriesExhaustedError,
    StalledError,
    StoreError,
    TimedOutError,
)
from imgstore.model import Call
from imgstore.retry import TokenBucket
from imgstore.testing import server as wire
from tests.faults import rows
from tests.faults.rows import BUFFER, IMAGE, TRIES, K, N

rig = rows.rig

WINDOW = 0.5
# Time has a threefold slack on machines that others use; bytes have none.
SLACK = 3
QUICK = {"stall_timeout": WINDOW, "receive_timeout": WINDOW}


def timed(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


@pytest.mark.parametrize("at", [0, 1, K, N - 1])
def test_a7_a_silence_is_left_for_a_new_connection(rig, at):
    rig.script(wire.Stall(at=at))
    seconds = timed(lambda: rig.read(**QUICK))
    assert seconds < SLACK * (WINDOW + 1)
    assert rig.log.connections == 2
    assert rig.spans == [span for span in [(0, at), (at, N)] if span[0] < span[1]]


def test_a7_a_lasting_silence_ends(rig):
    rig.script(then=wire.Stall(at=K))
    broken = rig.fails(RetriesExhaustedError, **QUICK)
    assert len(broken.data) == K
    assert type(broken.error.__cause__) is TimedOutError
    assert rig.requests == TRIES + 1  # the first one brought something


@pytest.mark.parametrize("rate", [1, 2000])
def test_a8_a_trickle_is_left_for_a_faster_reply(rig, promise, rate):
    rig.script(wire.Trickle(rate, at=K))
    seconds = timed(lambda: rig.read(**QUICK))
    promise(
        "P7", "seconds until a trickle was left, window 0.5 s, threefold slack", seconds, SLACK * (WINDOW + 1)
    )
    assert rig.kinds() >= {"stalled", "resumed"}
    assert rig.requests == 2
    assert rig.spans[0][1] == rig.spans[1][0] < K + 2000 * SLACK * (WINDOW + 1)


def test_a8_a_lasting_trickle_ends(rig):
    rig.script(wire.Trickle(100, at=K), then=wire.Trickle(100, body_at=0))
    broken = rig.fails(RetriesExhaustedError, **QUICK)
    assert type(broken.error.__cause__) is StalledError
    assert rig.requests == TRIES + 1


def test_a8_it_ends_at_the_deadline(rig):
    rig.script(wire.Trickle(100, at=K), then=wire.Trickle(100, body_at=0))
    call = Call().within(2 * WINDOW)
    seconds = timed(lambda: rig.fails(DeadlineExceededError, call=call, resume_attempts=100, **QUICK))
    assert seconds < 2 * WINDOW + SLACK


def test_a8_twice_the_floor_is_no_stall(rig):
    rig.put(IMAGE[: 48 << 10])
    rig.script(wire.Trickle(32 << 10, body_at=0))
    assert rig.read(stall_floor=16 << 10, stall_timeout=1) == rig.image
    assert rig.requests == 1


HEADERS = {
    "trickle": wire.HeaderTrickle(50),
    "slow flood": wire.HeaderFlood(None, pause=0.05),
    "silence within": wire.Stall(head_at=20),
    "silence": wire.Stall(),
}


@pytest.mark.parametrize("fault", HEADERS.values(), ids=HEADERS)
def test_a9_slow_headers_are_left_for_a_new_connection(rig, fault):
    rig.script(fault)
    seconds = timed(lambda: rig.read(open_timeout=WINDOW))
    assert WINDOW <= seconds < SLACK * (WINDOW + 1)
    assert (rig.requests, rig.sent) == (2, N)


def test_a9_lasting_ones_end(rig):
    rig.script(then=wire.HeaderTrickle(50))
    error = rig.fails(RetriesExhaustedError, open_timeout=0.3).error
    assert type(error.__cause__) is TimedOutError
    assert rig.requests == TRIES


def test_a11_silence_after_accept_is_left_for_a_new_connection(rig):
    rig.server.greet([wire.Stall()])
    seconds = timed(lambda: rig.read(open_timeout=WINDOW))
    assert seconds < SLACK * (WINDOW + 1)
    assert rig.log.connections == 2


def addresses(*servers):
    """What a resolver gives for a name that stands for `servers`, one after the other."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each.host, each.port)) for each in servers]


def test_a11_an_address_that_answers_nothing_is_passed_over(rig):
    hole = rig.another()
    hole.fill_backlog()
    store = {
        "url": f"http://images.test:{rig.server.port}{rows.PATH}",
        "resolve": lambda host, port: addresses(hole, rig.server),
        "connect_timeout": WINDOW,
    }
    seconds = timed(lambda: rig.read(**store))
    assert WINDOW <= seconds < SLACK * (WINDOW + 1)
    assert rig.spans == [(0, N)]


def test_a11_only_such_addresses_end_the_try(rig):
    rig.server.fill_backlog()
    error = rig.fails(RetriesExhaustedError, connect_timeout=0.2, resume_attempts=2).error
    assert type(error.__cause__) is TimedOutError


@pytest.mark.parametrize("down", [1, 4])
def test_a12_a_server_that_comes_back_is_found(rig, down):
    rig.server.refuse()

    def meanwhile():
        if len(rig.clock.pauses) == down:
            rig.server.accept_again()

    rig.clock.meanwhile = meanwhile
    assert rig.read(resume_attempts=8) == IMAGE
    assert len(rig.clock.pauses) == down
    assert all(0 <= pause <= 0.2 * 2**number for number, pause in enumerate(rig.clock.pauses))


def test_a12_also_in_mid_read(rig):
    def meanwhile():
        rig.server.accept_again()

    store, key = rig.store(resume_attempts=8)
    rig.script(wire.Cut(at=K))
    with store.get(key) as stream:
        data = stream.read(K)
        rig.server.refuse()
        rig.clock.meanwhile = meanwhile
        data += b"".join(map(bytes, stream.chunks(BUFFER)))
    assert data == IMAGE
    assert rig.spans == [(0, K), (K, N)]


def test_a12_the_tries_are_bounded_and_their_pauses_grow(rig):
    rig.server.refuse()
    error = rig.fails(RetriesExhaustedError, resume_attempts=8).error
    assert type(error.__cause__) is ConnectionLostError
    assert error.attempts == 8
    assert len(rig.clock.pauses) == 7
    assert len(set(rig.clock.pauses)) == 7
    assert all(0 <= pause <= 0.2 * 2**number for number, pause in enumerate(rig.clock.pauses))


@pytest.mark.parametrize("refusal", [socket.gaierror(socket.EAI_AGAIN, "try again"), None])
def test_a13_a_failed_lookup_is_tried_again(rig, refusal):
    answers = iter([refusal, addresses(rig.server)])

    def resolve(host, port):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer or []

    url = f"http://images.test:{rig.server.port}{rows.PATH}"
    assert rig.read(url=url, resolve=resolve) == IMAGE


def test_a13_a_name_is_looked_up_for_each_connection(rig):
    moved = rig.another()
    moved.put(rows.PATH, IMAGE, etag='"v1"')
    asked = []

    def resolve(host, port):
        asked.append((host, port))
        return addresses(rig.server if len(asked) == 1 else moved)

    rig.script(wire.Cut(at=K))
    assert rig.read(url="http://images.test" + rows.PATH, resolve=resolve) == IMAGE
    assert asked == [("images.test", 80)] * 2
    assert rig.spans == [(0, K)]
    moved.log.wait_idle()
    assert moved.log[0].range_taken == (K, N)


WISHES = {
    "1": (1, 1),
    "0": (0, 0),
    "20": (20, 20),
    "21": (20, 20),
    "1000000000": (20, 20),
    "9" * 400: (20, 20),
    "-1": (0, 0),
    "1.5": (0, 0),
    "soon": (0, 0),
    "": (0, 0),
    formatdate(0, usegmt=True): (0, 0),
    formatdate(2**32, usegmt=True): (20, 20),
    "Mon, 99 Jan 2001 00:00:00 GMT": (0, 0),
}


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("wish,pause", WISHES.items())
def test_a14_retry_after_is_honoured_within_reason(rig, code, wish, pause):
    rig.script(wire.Status(code, {"Retry-After": wish}))
    assert rig.read() == IMAGE
    least, most = pause
    assert least <= rig.clock.pauses[0] <= most + 0.2
    assert rig.requests == 2


def test_a14_a_date_is_read_by_the_servers_clock(rig):
    dates = {"Date": formatdate(10**9, usegmt=True), "Retry-After": formatdate(10**9 + 7, usegmt=True)}
    rig.script(wire.Status(503, dates))
    assert rig.read() == IMAGE
    assert 7 <= rig.clock.pauses[0] <= 7.2


def test_a14_a_lasting_refusal_exhausts_the_tries(rig):
    rig.script(then=wire.Status(503, {"Retry-After": "1"}))
    rig.fails(RetriesExhaustedError)
    assert rig.requests == TRIES
    assert all(1 <= pause <= 1.8 for pause in rig.clock.pauses)


def test_a14_a_wish_beyond_the_deadline_ends_at_once(rig):
    rig.script(then=wire.Status(503, {"Retry-After": "10"}))
    seconds = timed(lambda: rig.fails(DeadlineExceededError, call=Call().within(5)))
    assert seconds < SLACK
    assert (rig.requests, rig.clock.pauses) == (1, [])


def test_a15_an_outage_costs_a_tenth_more_requests(rig, promise):
    bucket, base = TokenBucket(), 1000
    rig.script(then=wire.Status(500))
    store, key = rig.store(bucket=bucket)

    def worker():
        for _ in range(base // 4):
            with pytest.raises(StoreError):
                store.get(key)

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    promise("P9", "requests sent for each that was asked for, 4 threads", (rig.requests - 10) / base, 1.1)
    assert bucket.tokens < TokenBucket.RETRY_COST


def test_a15_a_read_that_a_retry_saved_earns_it_back(rig):
    bucket = TokenBucket()
    rig.script(wire.Status(500), wire.Status(500))
    assert rig.read(bucket=bucket) == IMAGE
    assert bucket.tokens == TokenBucket.CAPACITY


def test_a30_jitter_costs_time_and_nothing_else(rig):
    places = sorted(random.Random(30).sample(range(N), 30))
    rig.script(tuple(wire.Stall(random.Random(at).uniform(0, 0.03), at=at) for at in places))
    assert rig.read(**QUICK) == IMAGE
    assert (rig.requests, rig.sent) == (1, N)


@pytest.mark.parametrize("hung_up", [False, True])
def test_a33_a_caller_that_rests_is_no_stall(rig, hung_up):
    rig.script(*([wire.Cut(at=K)] if hung_up else []))
    store, key = rig.store()
    with store.get(key) as stream:
        data = stream.read(1000)
        rig.clock.skip(600)
        data += stream.read(1000)
        rig.clock.skip(600)
        data += b"".join(map(bytes, stream.chunks(BUFFER)))
    assert data == IMAGE
    assert "stalled" not in rig.kinds()
    assert rig.spans == ([(0, K), (K, N)] if hung_up else [(0, N)])


def test_a33_nor_over_memory():
    clock, events = rows.Clock(), []
    driver = MemoryStore()
    driver.writer.put("disk", io.BytesIO(IMAGE))
    with stack.build(driver, clock=clock, observe=events.append) as store, store.get("disk") as stream:
        data = stream.read(1000)
        clock.skip(600)
        data += b"".join(map(bytes, stream.chunks(BUFFER)))
    assert data == IMAGE
    assert {event.kind for event in events} == {"opened", "delivered"}
