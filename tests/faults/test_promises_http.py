"""What is promised of reads over HTTP: bytes received, breaks survived, and an end within a second."""

from __future__ import annotations

import random
import socket
import threading
import time

import pytest

from imgstore.clock import SYSTEM
from imgstore.errors import DeadlineExceededError, OperationCancelledError, RetriesExhaustedError
from imgstore.model import Call, CancelToken
from imgstore.testing import server as wire
from tests.faults import rows
from tests.faults.rows import BUFFER, IMAGE, PATH, TRIES, K, N

rig = rows.rig
secure = rows.secure
authority = rows.authority

pytestmark = pytest.mark.promise

LARGE = random.Random(64).randbytes(64 << 20)
PROMPT = 1.0  # seconds in which a cancel or a deadline ends any wait
SLACK = 3


@pytest.mark.wide
def test_p2_a_thousand_cuts_cost_no_byte_twice(rig, promise):
    rig.put(LARGE)
    step = len(LARGE) // 1001  # more than the progress that refunds a try
    places = [number * step for number in range(1, 1001)]
    rig.script(*(wire.Cut(at=place) for place in places))
    began = time.monotonic()
    assert rig.read(jitter=lambda: 0.5) == LARGE
    seconds = time.monotonic() - began
    assert rig.server.unused(PATH) == 0
    assert rig.spans == list(zip([0, *places], [*places, len(LARGE)], strict=True))
    promise("P2", "bytes sent again by the server, 1000 cuts in 64 MiB", rig.sent - len(LARGE), 0)
    assert sum(rig.clock.pauses) <= 1000 * 0.1 + 1e-6
    assert seconds < SLACK * 10  # 10 ms a connection
    assert rig.counted("delivered") == len(LARGE)


def test_p3_ten_drops_behind_nine_tenths_cost_no_more_than_the_size(rig, promise):
    rig.put(LARGE)
    places = [len(LARGE) * part // 100 for part in range(90, 100)]
    rig.script(*(wire.Cut(at=place) for place in places))
    assert rig.read() == LARGE
    promise("P3", "bytes sent, of the size: cut", rig.sent / len(LARGE), 1.0)


def test_p3_nor_do_resets_at_nine_tenths_of_ten_parts(rig, promise):
    rig.put(LARGE)
    size = 6 << 20
    got = b""
    for part in range(10):
        at = part * size + size * 9 // 10
        rig.server.trap(PATH, wire.Reset(at=at))
        got += rig.read(part * size, size)
    assert got == LARGE[: len(got)]
    assert rig.requests == 20
    promise("P3", "bytes sent, of the size: reset in ten parts", rig.sent / len(got), 1.02)


def test_p3_what_the_kernel_took_ahead_of_a_dropped_stream_is_lost(rig):
    rig.put(LARGE)
    store, key = rig.store()
    with store.get(key) as stream:
        assert stream.read(K) == LARGE[:K]
        while rig.log.body_bytes(PATH) == K:
            time.sleep(0.001)
    rig.log.wait_closed()
    assert rig.sent > K


def test_p4_no_number_of_breaks_ends_a_read_that_goes_on(rig, promise):
    step = BUFFER  # of progress between two breaks: as little as refunds a try
    rig.script(*(wire.Cut(at=place) for place in range(step, N, step)))
    assert rig.read(resume_attempts=1) == IMAGE
    promise("P4", "bytes of progress between two breaks that are enough", step, 64 << 10)


@pytest.mark.parametrize("step", [1, 1000])
def test_p4_eight_tries_without_progress_end_it(rig, promise, step):
    rig.script(*(wire.Cut(at=number * step) for number in range(1, 20)))
    broken = rig.fails(RetriesExhaustedError, resume_attempts=8)
    assert rig.requests == broken.error.attempts
    promise("P4", "tries in a row without progress", rig.requests, 8)
    assert len(broken.data) == 8 * step


def test_p16_what_is_told_is_what_the_server_sent(rig, promise):
    told = []
    rig.script(wire.Cut(at=K), wire.WholeInstead(), wire.Status(503))
    rig.read(call=Call(observe=told.append))
    rig.read(call=Call(observe=told.append))
    assert told == rig.events
    assert rig.sent == 2 * N + K
    promise("P16", "bytes told of wrongly", abs(rig.counted("delivered") - rig.sent), 0)
    assert rig.counted("refetched") == K
    kinds = [event.kind for event in told if event.kind not in {"delivered", "refetched"}]
    assert kinds == ["opened", "failed", "opened", "resumed", "failed", "opened"]


def test_p9_only_one_owner_tries_again(rig, promise):
    rig.script(then=wire.Status(503, {"Retry-After": "0"}))
    rig.fails(RetriesExhaustedError, resume_attempts=TRIES)
    promise("P9", "requests for each try of the resume layer", rig.requests / TRIES, 1)


class Waits:
    """Every place in which a read may wait. Each prepares a rig and gives the options of the store."""

    def lookup(self, rig):
        def resolve(host, port):
            self.answered.wait(10)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", rig.server.port))]

        return {"url": "http://images.test" + PATH, "resolve": resolve}

    def connect(self, rig):
        rig.server.fill_backlog()
        return {}

    def accept(self, rig):
        rig.server.greet([wire.Stall()] * 9)
        return {}

    def head(self, rig):
        rig.script(then=wire.Stall())
        return {}

    def slow_head(self, rig):
        rig.script(then=wire.HeaderTrickle(20))
        return {}

    def interim(self, rig):
        rig.script(then=wire.HeaderFlood(None, pause=0.05))
        return {}

    def redirect(self, rig):
        rig.script(wire.Redirect(PATH), then=wire.Stall())
        return {}

    def first_byte(self, rig):
        rig.script(then=wire.Stall(body_at=0))
        return {}

    def body(self, rig):
        rig.script(then=wire.Stall(at=K))
        return {}

    def slow_body(self, rig):
        rig.script(then=wire.Trickle(200, at=K))
        return {}

    def chunk(self, rig):
        rig.script(then=(wire.NoLength(), wire.Stall(at=K)))
        return {}

    def skipping(self, rig):
        rig.script(wire.Cut(at=K), then=(wire.WholeInstead(), wire.Stall(at=K // 2)))
        return {}

    def proving(self, rig):
        rig.put(etag=None)
        rig.script(wire.Cut(at=K), then=wire.Stall(at=K // 2))
        return {}

    def reopening(self, rig):
        rig.script(wire.Cut(at=K), then=wire.Stall())
        return {}

    def pause(self, rig):
        rig.script(then=wire.Status(503, {"Retry-After": "15"}))
        return {"clock": SYSTEM}

    def bandwidth(self, rig):
        return {"clock": SYSTEM, "rate_limit": BUFFER / 10}

    def permit(self, rig):
        """Held by a stream that `hold` opens."""
        return {"max_streams": 1}

    def __init__(self):
        self.answered = threading.Event()


PLACES = [name for name in vars(Waits) if not name.startswith("_")]


@pytest.fixture
def waits():
    made = Waits()
    yield made
    made.answered.set()


def ended(rig, kind, call, options, end):
    """Reads to the error of `kind`, and gives the seconds from `end`, a point in time, to it."""
    store, key = rig.store(**options)
    got = bytearray()
    held = store.get(key) if "max_streams" in options else None
    with pytest.raises(kind) as raised:
        rows.read(store, key, call=call, into=got)
    seconds = time.monotonic() - end[0]
    assert type(raised.value) is kind
    assert got == IMAGE[: len(got)]
    if held is not None:
        held.close()
    rig.log.wait_closed()
    return seconds


@pytest.mark.parametrize("place", PLACES)
def test_p8_a_cancel_from_another_thread_ends_any_wait(rig, promise, waits, place):
    options = getattr(waits, place)(rig)
    token, end = CancelToken(), []

    def cancel():
        end.append(time.monotonic())
        token.cancel()

    timer = rows.later(0.2, cancel)
    seconds = ended(rig, OperationCancelledError, Call(cancel=token), options, end)
    timer.join()
    assert seconds >= 0
    promise("P8", "seconds from a cancel to the end of a wait, threefold slack", seconds, SLACK * PROMPT)


@pytest.mark.parametrize("place", [name for name in PLACES if name != "pause"])
def test_p8_a_deadline_ends_any_wait(rig, promise, waits, place):
    options = getattr(waits, place)(rig)
    call = Call().within(0.3)
    end = [time.monotonic() + 0.3]
    seconds = ended(rig, DeadlineExceededError, call, options, end)
    assert seconds > -0.01
    promise("P8", "seconds from a deadline to the end of a wait, threefold slack", seconds, SLACK * PROMPT)


def test_p8_a_lookup_goes_on_behind_the_deadline(rig, waits):
    options = waits.lookup(rig)
    began = threading.active_count()
    ended(rig, DeadlineExceededError, Call().within(0.2), options, [time.monotonic() + 0.2])
    assert threading.active_count() == began + 1  # until the resolver answers


def test_p8_a_pause_beyond_the_deadline_is_not_begun(rig, waits):
    options = waits.pause(rig)
    began = [time.monotonic()]
    assert ended(rig, DeadlineExceededError, Call().within(10), options, began) < SLACK * PROMPT


def test_p8_a_store_has_its_own_deadline(rig):
    rig.script(then=wire.Stall(at=K))
    end = [time.monotonic() + 0.3]
    assert ended(rig, DeadlineExceededError, Call(), {"deadline": 0.3}, end) < SLACK * PROMPT


@pytest.mark.parametrize("where", ["handshake", "body"])
def test_p8_over_tls_too(secure, authority, where):
    options = {"ca_file": str(authority.ca)}
    if where == "handshake":
        secure.server.greet([wire.Stall()] * 9)
    secure.script(then=wire.Stall(at=K))
    call = Call().within(0.3)
    assert ended(secure, DeadlineExceededError, call, options, [time.monotonic() + 0.3]) < SLACK * PROMPT


def test_p8_a_cancelled_stream_ends_its_reader(rig):
    rig.script(then=wire.Stall(at=K))
    store, key = rig.store()
    with store.get(key) as stream:
        stream.read(K)
        timer = rows.later(0.1, stream.cancel)
        began = time.monotonic()
        with pytest.raises(OperationCancelledError):
            stream.read(1)
        timer.join()
        assert time.monotonic() - began < SLACK * PROMPT
        rig.log.wait_closed()
