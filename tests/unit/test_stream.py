"""ByteStream, step by step: what each receive, lie and failure of a raw reader becomes."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from imgstore import stream as module
from imgstore.errors import (
    BadReplyError,
    ConnectionLostError,
    DeadlineExceededError,
    NotFoundError,
    OperationCancelledError,
    PermanentError,
    RangeNotSatisfiableError,
    TruncatedError,
    UnavailableError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.model import ANY, NO_CALL, ByteRange, Call, CancelToken, ObjectInfo
from imgstore.stream import ByteStream, Opened

DATA = bytes(range(256)) * 5


class Raw:
    """Serves its steps: bytes, or a count that is a lie, or an exception; at the end 0."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.asked = []
        self.aborts = 0
        self.closes = 0

    def readinto(self, buffer):
        self.asked.append(len(buffer))
        step = self.steps.pop(0) if self.steps else b""
        if isinstance(step, bytes):
            buffer[: len(step)] = step[: len(buffer)]
            if len(step) > len(buffer):
                self.steps.insert(0, step[len(buffer) :])
            return min(len(step), len(buffer))
        if isinstance(step, BaseException):
            raise step
        return step(buffer) if callable(step) else step

    def abort(self):
        self.aborts += 1

    def close(self):
        self.closes += 1


class Clock:
    """Both clocks stand at `at`, apart by an hour."""

    at = 100.0

    def now(self):
        return self.at

    def time(self):
        return self.at + 3600


def translate(exc):
    return UnavailableError(f"translated {exc}")


def stream_of(
    raw, start=0, stop=None, *, version=None, call=NO_CALL, clock=None, size=1280, served=None, there="v1"
):
    """A stream over `raw`, which serves the range `served` (all of it) of an image of `size` bytes."""
    info = ObjectInfo("k", size, there)
    body = Opened(raw, info, ByteRange(*(served or (0, size))))
    return ByteStream(
        body,
        start,
        stop,
        version=version,
        translate=translate,
        store="s",
        call=call,
        clock=clock or Clock(),
    )


def drained(stream, size=64):
    got, buffer = b"", bytearray(size)
    while count := stream.readinto(buffer):
        got += buffer[:count]
    return got


# What is judged when a body is opened


@pytest.mark.parametrize("version", [None, "v1", ANY])
def test_the_wanted_version_or_any_is_accepted(version):
    assert stream_of(Raw(DATA), version=version).read() == DATA


@pytest.mark.parametrize("wanted, there", [("v1", "v2"), ("v1", None), ("", "v1")])
def test_another_version_is_refused(wanted, there):
    raw = Raw(DATA)
    with pytest.raises(VersionChangedError, match="another version") as caught:
        stream_of(raw, 5, version=wanted, there=there)
    assert (caught.value.key, caught.value.store) == ("k", "s")
    assert raw.closes == 0


def test_the_version_is_judged_before_the_range():
    with pytest.raises(VersionChangedError):
        stream_of(Raw(), 99, version="v2", size=10, served=(0, 10))


@pytest.mark.parametrize("start, size", [(1, 0), (10, 10), (11, 10), (1 << 62, 10), (1, 1)])
def test_a_start_behind_the_end_is_refused(start, size):
    raw = Raw()
    with pytest.raises(RangeNotSatisfiableError, match=rf"offset {start} .*\({size} bytes\)") as caught:
        stream_of(raw, start, size=size, served=(start, None))
    assert (caught.value.key, caught.value.store) == ("k", "s")
    assert raw.closes == 0


def test_the_last_byte_is_within_the_image():
    assert stream_of(Raw(b"z"), 9, size=10, served=(9, 10)).read() == b"z"


def test_an_unknown_size_refuses_no_start():
    assert stream_of(Raw(b"z"), 9, size=None, served=(9, None)).read() == b"z"


@pytest.mark.parametrize(
    "start, size, served",
    [
        (0, 10, (1, 10)),  # begins later than asked
        (5, 10, (6, 10)),
        (0, None, (1, None)),
        (0, 10, (0, 11)),  # goes on behind the end of the image
        (0, 10, (0, None)),  # has no end although the image has one
        (0, 0, (0, None)),
    ],
)
def test_a_body_that_contradicts_the_request_or_itself_is_refused(start, size, served):
    raw = Raw(DATA)
    with pytest.raises(BadReplyError, match=f"asked from {start} on") as caught:
        stream_of(raw, start, size=size, served=served)
    assert (caught.value.key, caught.value.store) == ("k", "s")
    assert raw.closes == 0


# The range


@pytest.mark.parametrize(
    "start, stop, size, told",
    [
        (0, None, 10, (0, 10)),
        (0, 10, 10, (0, 10)),
        (0, 11, 10, (0, 10)),
        (3, 1 << 62, 10, (3, 10)),
        (3, 9, 10, (3, 9)),
        (9, 10, 10, (9, 10)),
        (0, None, None, (0, None)),
        (0, 7, None, (0, 7)),
        (0, None, 0, (0, 0)),
        (0, 5, 0, (0, 0)),
    ],
)
def test_the_range_is_clipped_at_the_end_of_the_image(start, stop, size, told):
    stream = stream_of(Raw(DATA), start, stop, size=size, served=(start, size))
    assert stream.range == ByteRange(*told)
    assert stream.delivered == 0
    assert stream.info == ObjectInfo("k", size, "v1")


def test_an_empty_image_is_an_empty_stream_that_asks_for_nothing():
    raw = Raw(DATA)
    stream = stream_of(raw, size=0, served=(0, 0))
    assert raw.closes == 1
    assert [stream.readinto(bytearray(5)), stream.read(), stream.read(5)] == [0, b"", b""]
    assert list(stream.chunks()) == []
    assert raw.asked == []


def test_a_range_of_an_image_that_is_not_empty_is_not_closed_at_once():
    raw = Raw(DATA)
    stream = stream_of(raw, 0, 1)
    assert raw.closes == 0
    stream.close()


# readinto


def test_each_readinto_is_one_receive():
    raw = Raw(b"a" * 10, b"b" * 20, b"c" * 1250)
    stream = stream_of(raw)
    buffer = bytearray(2000)
    assert [stream.readinto(buffer) for _ in range(5)] == [10, 20, 1250, 0, 0]
    assert raw.asked == [1280, 1270, 1250]


def test_the_driver_is_never_given_room_behind_the_range():
    raw = Raw(DATA)
    stream = stream_of(raw, 0, 100)
    buffer = bytearray(b"\xa5" * 64)
    assert stream.readinto(buffer) == 64
    buffer = bytearray(b"\xa5" * 64)
    assert stream.readinto(buffer) == 36
    assert buffer == DATA[64:100] + b"\xa5" * 28
    assert raw.asked == [64, 36]


def test_the_body_is_closed_with_the_last_byte_and_not_before():
    raw = Raw(DATA)
    stream = stream_of(raw, 0, 10)
    stream.readinto(bytearray(9))
    assert (raw.closes, stream.delivered) == (0, 9)
    stream.readinto(bytearray(9))
    assert (raw.closes, stream.delivered) == (1, 10)


def test_the_end_is_zero_again_and_again_and_asks_for_nothing():
    raw = Raw(DATA)
    stream = stream_of(raw, 0, 10)
    assert drained(stream) == DATA[:10]
    asked = list(raw.asked)
    assert [stream.readinto(bytearray(1)) for _ in range(3)] == [0, 0, 0]
    assert raw.asked == asked


@pytest.mark.parametrize("buffer", [bytearray(), b"", b"abc", memoryview(b"abc"), memoryview(bytearray())])
def test_a_buffer_that_cannot_be_filled_is_refused(buffer):
    raw = Raw(DATA)
    stream = stream_of(raw)
    for method in (stream.readinto, stream.discard):
        with pytest.raises(ValueError, match="writable buffer of at least one byte"):
            method(buffer)
    assert raw.asked == []
    assert stream.read() == DATA


def test_a_buffer_of_larger_items_is_filled_by_bytes():
    buffer = memoryview(bytearray(16)).cast("I")
    assert stream_of(Raw(DATA)).readinto(buffer) == 16
    assert bytes(buffer) == DATA[:16]


def test_a_buffer_of_one_byte():
    assert drained(stream_of(Raw(DATA), 0, 5), 1) == DATA[:5]


# Bytes before the range


def test_bytes_before_the_range_are_thrown_away():
    raw = Raw(DATA)
    stream = stream_of(raw, 100, 110)
    assert stream.lead == 100
    assert stream.readinto(bytearray(64)) == 10
    assert raw.asked == [64, 36, 10]
    assert (stream.lead, stream.delivered) == (0, 10)


def test_the_bytes_after_the_lead_are_the_right_ones():
    for start in (1, 63, 64, 65, 128):
        assert drained(stream_of(Raw(DATA[:7], DATA[7:]), start)) == DATA[start:]


def test_a_range_of_one_byte_has_its_lead_too():
    stream = stream_of(Raw(DATA), 100, 101)
    assert stream.lead == 100
    assert drained(stream) == DATA[100:101]


def test_discard_throws_away_step_by_step_and_then_nothing():
    raw = Raw(DATA[:30], DATA[30:])
    stream = stream_of(raw, 100)
    buffer = bytearray(64)
    assert [stream.discard(buffer) for _ in range(4)] == [30, 64, 6, 0]
    assert raw.asked == [64, 64, 6]
    assert (stream.lead, stream.delivered) == (0, 0)
    assert drained(stream) == DATA[100:]


def test_an_end_within_the_lead_is_truncated():
    raw = Raw(DATA[:50])
    stream = stream_of(raw, 100)
    with pytest.raises(TruncatedError, match="before offset 100") as caught:
        stream.readinto(bytearray(64))
    assert (caught.value.offset, stream.delivered, stream.lead, raw.closes) == (100, 0, 50, 1)


def test_an_end_in_discard_is_truncated():
    with pytest.raises(TruncatedError, match="before offset 100"):
        stream_of(Raw(), 100).discard(bytearray(64))


def test_an_empty_image_has_no_lead():
    stream = stream_of(Raw(), size=0, served=(0, 0))
    assert (stream.lead, stream.discard(bytearray(1))) == (0, 0)


# Ends


@pytest.mark.parametrize("at", [0, 1, 63, 64, 65, 1279])
def test_an_early_end_is_truncated_at_the_exact_offset(at):
    raw = Raw(DATA[:at])
    stream = stream_of(raw)
    with pytest.raises(TruncatedError, match=f"after {at} of 1280$") as caught:
        drained(stream)
    assert (stream.delivered, caught.value.offset, raw.closes) == (at, at, 1)
    assert (caught.value.key, caught.value.store) == ("k", "s")
    assert caught.value.resumable


def test_the_offset_of_an_error_counts_from_the_start_of_the_image():
    stream = stream_of(Raw(DATA[100:150]), 100, served=(100, 1280))
    with pytest.raises(TruncatedError, match="after 150 of 1280") as caught:
        drained(stream)
    assert (caught.value.offset, stream.delivered) == (150, 50)


def test_an_image_of_unknown_size_ends_where_the_body_does():
    raw = Raw(DATA[:100])
    stream = stream_of(raw, size=None, served=(0, None))
    assert drained(stream) == DATA[:100]
    assert (stream.range, stream.delivered, raw.closes) == (ByteRange(0, 100), 100, 1)
    asked = len(raw.asked)
    assert (stream.readinto(bytearray(1)), stream.read()) == (0, b"")
    assert len(raw.asked) == asked


def test_an_image_of_unknown_size_from_an_offset():
    stream = stream_of(Raw(DATA[:100]), 40, size=None, served=(0, None))
    assert drained(stream) == DATA[40:100]
    assert stream.range == ByteRange(40, 100)


def test_a_range_with_an_end_of_an_image_of_unknown_size():
    raw = Raw(DATA)
    stream = stream_of(raw, 0, 100, size=None, served=(0, None))
    assert drained(stream) == DATA[:100]
    assert raw.closes == 1


def test_a_range_is_clipped_at_the_proven_end_of_an_image_of_unknown_size():
    stream = stream_of(Raw(DATA[:100]), 40, 1000, size=None, served=(0, None))
    assert drained(stream) == DATA[40:100]
    assert (stream.range, stream.delivered) == (ByteRange(40, 100), 60)


# What drivers give and raise


def test_a_store_without_a_name_names_none():
    body = Opened(Raw(), ObjectInfo("k", 5, "v"), ByteRange(0, 5))
    with pytest.raises(TruncatedError) as caught:
        ByteStream(body, 0, None, translate=translate).read()
    assert caught.value.store == ""


@pytest.mark.parametrize("lie", [None, -1, 11, 1 << 40, 1.5, "5"])
def test_a_count_that_cannot_be_is_an_error(lie):
    raw = Raw(lie)
    stream = stream_of(raw)
    with pytest.raises(PermanentError, match="for a buffer of 10 bytes") as caught:
        stream.readinto(bytearray(10))
    assert type(caught.value) is PermanentError
    assert (stream.delivered, caught.value.offset, raw.closes) == (0, 0, 1)


def test_a_full_buffer_is_a_count_that_can_be():
    assert stream_of(Raw(DATA)).readinto(bytearray(10)) == 10


def test_a_count_is_a_plain_integer():
    count = stream_of(Raw(True)).readinto(bytearray(10))
    assert (count, type(count)) == (1, int)


def test_a_foreign_exception_is_translated_and_is_the_cause():
    failure = OSError(5, "EIO")
    raw = Raw(b"a" * 10, failure)
    stream = stream_of(raw)
    with pytest.raises(UnavailableError, match="translated") as caught:
        drained(stream)
    error = caught.value
    assert error.__cause__ is failure
    assert (error.key, error.store, error.offset, raw.closes) == ("k", "s", 10, 1)


def test_an_error_of_ours_comes_out_unchanged():
    cause = OSError(5, "EIO")
    failure = NotFoundError("gone")
    failure.__cause__ = cause
    stream = stream_of(Raw(b"a" * 10, failure))
    with pytest.raises(NotFoundError) as caught:
        drained(stream)
    assert caught.value is failure
    assert failure.__cause__ is cause
    assert (failure.key, failure.store, failure.offset) == ("k", "s", 10)


def test_an_error_of_ours_without_a_cause_stays_without():
    failure = ConnectionLostError("cut")
    with pytest.raises(ConnectionLostError):
        stream_of(Raw(failure)).read()
    assert failure.__cause__ is None


def test_fields_that_an_error_has_are_kept():
    failure = ConnectionLostError("cut", key="other", store="inner", offset=0)
    stream = stream_of(Raw(b"a" * 10, failure))
    with pytest.raises(ConnectionLostError):
        drained(stream)
    assert (failure.key, failure.store, failure.offset) == ("other", "inner", 0)


def test_the_first_error_is_final_and_closes_the_body():
    raw = Raw(b"a" * 10, OSError(5, "EIO"), DATA)
    stream = stream_of(raw)
    with pytest.raises(UnavailableError) as first:
        drained(stream)
    for method in (stream.readinto, stream.discard):
        with pytest.raises(UnavailableError) as again:
            method(bytearray(5))
        assert again.value is first.value
    assert (len(raw.asked), raw.closes, stream.delivered) == (2, 1, 10)


def test_an_error_in_the_lead_is_final_too():
    raw = Raw(OSError(5, "EIO"), DATA)
    stream = stream_of(raw, 100)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            stream.readinto(bytearray(5))
    assert len(raw.asked) == 1


def test_an_interrupt_comes_out_and_ends_the_stream():
    raw = Raw(b"a" * 10, KeyboardInterrupt(), DATA)
    stream = stream_of(raw)
    with pytest.raises(KeyboardInterrupt):
        drained(stream)
    assert raw.closes == 1
    with pytest.raises(OperationCancelledError, match="interrupted") as caught:
        stream.readinto(bytearray(5))
    assert caught.value.offset == 10


# Deadline and cancellation


def call_until(seconds, clock):
    return Call(deadline=clock.time() + seconds)


def test_the_deadline_ends_the_read_at_its_time_and_not_before():
    clock = Clock()
    raw = Raw(b"a" * 10, b"b" * 10, b"c" * 10)
    stream = stream_of(raw, call=call_until(5, clock), clock=clock)
    clock.at += 4.999
    assert stream.readinto(bytearray(99)) == 10
    clock.at += 0.001
    with pytest.raises(DeadlineExceededError, match="deadline passed") as caught:
        stream.readinto(bytearray(99))
    assert (caught.value.offset, caught.value.key, caught.value.store) == (10, "k", "s")
    assert (len(raw.asked), raw.closes) == (1, 1)


def test_a_deadline_is_kept_by_the_clock_that_never_steps():
    clock = Clock()
    stream = stream_of(Raw(DATA), call=call_until(5, clock), clock=clock)
    clock.time = lambda: 0.0
    clock.at += 5
    with pytest.raises(DeadlineExceededError):
        stream.readinto(bytearray(1))


def test_a_stream_at_its_end_has_no_deadline():
    clock = Clock()
    stream = stream_of(Raw(DATA), 0, 10, call=call_until(5, clock), clock=clock)
    drained(stream)
    clock.at += 99
    stream.cancel()
    assert stream.readinto(bytearray(1)) == 0


def test_the_deadline_is_looked_at_in_discard():
    clock = Clock()
    stream = stream_of(Raw(DATA), 100, call=call_until(5, clock), clock=clock)
    clock.at += 5
    with pytest.raises(DeadlineExceededError):
        stream.discard(bytearray(1))


def test_cancel_aborts_the_body_and_ends_the_read():
    raw = Raw(DATA)
    stream = stream_of(raw)
    stream.readinto(bytearray(10))
    stream.cancel()
    assert (raw.aborts, raw.closes) == (1, 0)
    for _ in range(2):
        with pytest.raises(OperationCancelledError, match="cancelled") as caught:
            stream.readinto(bytearray(10))
    assert (caught.value.offset, raw.closes, len(raw.asked)) == (10, 1, 1)


def test_what_a_cancelled_receive_raises_is_the_cause():
    failure = OSError(9, "closed")
    stream = stream_of(Raw(b"a" * 10, lambda buffer: stream.cancel() or raising(failure)))
    with pytest.raises(OperationCancelledError) as caught:
        drained(stream)
    assert caught.value.__cause__ is failure
    assert caught.value.offset == 10


def test_an_error_of_ours_from_a_cancelled_receive_is_the_cause_too():
    failure = ConnectionLostError("aborted")
    stream = stream_of(Raw(lambda buffer: stream.cancel() or raising(failure)))
    with pytest.raises(OperationCancelledError) as caught:
        drained(stream)
    assert caught.value.__cause__ is failure


def raising(failure):
    raise failure


def test_the_token_cancels_the_stream():
    token = CancelToken()
    raw = Raw(DATA)
    stream = stream_of(raw, call=Call(cancel=token))
    token.cancel()
    assert raw.aborts == 1
    with pytest.raises(OperationCancelledError):
        stream.readinto(bytearray(1))


def test_a_token_that_was_cancelled_before_cancels_the_stream():
    token = CancelToken()
    token.cancel()
    stream = stream_of(Raw(DATA), call=Call(cancel=token))
    with pytest.raises(OperationCancelledError):
        stream.readinto(bytearray(1))


def test_a_token_does_not_keep_the_stream():
    token = CancelToken()
    raw = Raw(DATA)
    stream = stream_of(raw, call=Call(cancel=token))
    gone = weakref.ref(stream)
    del stream
    gc.collect()
    assert gone() is None
    token.cancel()
    assert (raw.aborts, raw.closes) == (0, 1)


def test_cancel_after_close_does_nothing():
    raw = Raw(DATA)
    stream = stream_of(raw)
    stream.close()
    stream.cancel()
    assert raw.aborts == 0
    with pytest.raises(ValueError, match="closed"):
        stream.readinto(bytearray(1))


# close


def test_close_closes_the_body_once():
    raw = Raw(DATA)
    with stream_of(raw) as stream:
        stream.readinto(bytearray(1))
    assert raw.closes == 1
    for _ in range(2):
        stream.close()
    assert (raw.closes, raw.aborts) == (1, 0)


def test_a_closed_stream_cannot_be_read_also_at_its_end():
    done, failed = stream_of(Raw(DATA), 0, 10), stream_of(Raw())
    drained(done)
    with pytest.raises(TruncatedError):
        failed.read()
    for stream in (done, failed, stream_of(Raw(DATA))):
        stream.close()
        for method in (stream.readinto, stream.discard):
            with pytest.raises(ValueError, match="the stream is closed"):
                method(bytearray(5))


class Unclosable(Raw):
    def close(self):
        raise OSError(5, "EIO")


def assert_close_fails(stream):
    with pytest.raises(OSError, match="EIO"):
        stream.close()


def test_a_body_that_cannot_be_closed_is_closed_all_the_same():
    stream = stream_of(Unclosable(DATA))
    assert_close_fails(stream)
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.readinto(bytearray(1))


def test_a_body_that_cannot_be_closed_takes_nothing_back():
    for data, served in ((DATA, {"stop": 10}), (DATA[:10], {"size": None, "served": (0, None)})):
        stream = stream_of(Unclosable(data), **served)
        assert drained(stream) == DATA[:10]
        assert_close_fails(stream)
    empty = stream_of(Unclosable(), size=0, served=(0, 0))
    assert empty.read() == b""
    assert_close_fails(empty)


def test_a_body_that_cannot_be_closed_hides_no_error():
    stream = stream_of(Unclosable(DATA[:10]))
    for _ in range(2):
        with pytest.raises(TruncatedError):
            drained(stream)
    assert_close_fails(stream)


def test_a_dropped_stream_closes_its_body():
    raw = Raw(DATA)
    stream_of(raw)
    gc.collect()
    assert raw.closes == 1


def test_a_stream_that_never_came_to_be_leaves_its_body_to_the_caller():
    raw = Raw(DATA)
    with pytest.raises(VersionChangedError):
        stream_of(raw, version="other")
    gc.collect()
    assert raw.closes == 0


# Two threads


class Pending:
    """A stream whose receive waits in a thread of its own, until `go` or an abort."""

    def __init__(self):
        self.inside, self.go = threading.Event(), threading.Event()
        self.raw = Raw(self.wait)
        self.raw.abort = self.abort
        self.aborted = False
        self.stream = stream_of(self.raw)
        self.result = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        assert self.inside.wait(10)

    def wait(self, buffer):
        self.inside.set()
        assert self.go.wait(10)
        if self.aborted:
            raise ConnectionResetError(104, "aborted")
        buffer[:3] = b"abc"
        return 3

    def abort(self):
        self.aborted = True
        self.go.set()

    def run(self):
        try:
            self.result = self.stream.readinto(bytearray(10))
        except Exception as exc:
            self.result = exc

    def ended(self):
        self.go.set()
        self.thread.join(10)
        return self.result


def test_a_second_reader_is_refused_and_disturbs_nothing():
    pending = Pending()
    for act in (pending.stream.readinto, pending.stream.discard):
        with pytest.raises(UnsupportedError, match="two threads") as caught:
            act(bytearray(5))
        assert (caught.value.key, caught.value.store) == ("k", "s")
    assert pending.ended() == 3
    assert pending.stream.delivered == 3
    pending.raw.steps = [DATA[3:]]
    assert pending.stream.read() == DATA[3:]


def test_cancel_ends_a_pending_receive():
    pending = Pending()
    pending.stream.cancel()
    result = pending.ended()
    assert isinstance(result, OperationCancelledError)
    assert isinstance(result.__cause__, ConnectionResetError)
    assert pending.raw.closes == 1


def test_close_ends_a_pending_receive_and_waits_for_it():
    pending = Pending()
    pending.stream.close()
    assert isinstance(pending.result or pending.ended(), OperationCancelledError)
    with pytest.raises(ValueError, match="closed"):
        pending.stream.readinto(bytearray(1))


# read


def test_read_fills_what_was_asked_from_many_receives():
    stream = stream_of(Raw(*(DATA[n : n + 7] for n in range(0, 1280, 7))))
    assert [stream.read(n) for n in (0, 1, 20, 1000)] == [b"", DATA[:1], DATA[1:21], DATA[21:1021]]
    assert stream.read(1000) == DATA[1021:]
    assert stream.read(1) == b""


@pytest.mark.parametrize("size", [-1, -99])
def test_read_of_all(size):
    stream = stream_of(Raw(DATA[:100], DATA[100:]))
    assert stream.read(5) == DATA[:5]
    assert stream.read(size) == DATA[5:]
    assert stream.read(size) == b""


def test_read_asks_for_no_more_than_it_may():
    raw = Raw(DATA)
    stream_of(raw).read(10)
    assert raw.asked == [10]


def test_read_of_nothing_asks_for_nothing_even_when_closed():
    raw = Raw(DATA)
    stream = stream_of(raw)
    stream.close()
    assert stream.read(0) == b""
    assert raw.asked == []


def test_read_gives_bytes():
    assert type(stream_of(Raw(DATA)).read(5)) is bytes


def test_an_error_in_read_comes_out():
    stream = stream_of(Raw(DATA[:100]))
    with pytest.raises(TruncatedError) as caught:
        stream.read()
    assert (caught.value.offset, stream.delivered) == (100, 100)


@pytest.fixture
def limit(monkeypatch):
    monkeypatch.setattr(module, "READ_ALL_LIMIT", 100)
    return 100


def test_the_limit_of_read_of_all_is_64_mib():
    assert module.READ_ALL_LIMIT == 64 * 1024 * 1024


def test_read_of_all_up_to_the_limit(limit):
    assert stream_of(Raw(DATA), 0, limit).read() == DATA[:limit]
    raw = Raw(DATA)
    with pytest.raises(ValueError, match="101 bytes"):
        stream_of(raw, 0, limit + 1).read()
    assert raw.asked == []


def test_read_of_what_is_left_up_to_the_limit(limit):
    stream = stream_of(Raw(DATA), 0, limit + 5)
    assert stream.read(5) + stream.read() == DATA[: limit + 5]


@pytest.mark.parametrize("size", [100, 101, 102, 250, 1279, 1280, 5000])
def test_read_of_a_size_has_no_limit(limit, size):
    for unknown in (False, True):
        served = {"size": None, "served": (0, None)} if unknown else {}
        assert stream_of(Raw(DATA[:33], DATA[33:]), **served).read(size) == DATA[:size]


def test_read_of_all_of_unknown_size_up_to_the_limit(limit):
    unknown = {"size": None, "served": (0, None)}
    for step in (7, limit, 10_000):
        pieces = [DATA[n : min(n + step, limit)] for n in range(0, limit, step)]
        assert stream_of(Raw(*pieces), **unknown).read() == DATA[:limit]
    stream = stream_of(Raw(DATA[: limit + 2]), **unknown)
    with pytest.raises(ValueError, match="64 MiB"):
        stream.read()
    assert stream.delivered == limit + 1


def test_an_absurd_size_allocates_nothing():
    assert stream_of(Raw(DATA), size=None, served=(0, None)).read(1 << 62) == DATA
    assert stream_of(Raw(DATA)).read(1 << 62) == DATA


# chunks


def test_chunks_are_the_receives_from_one_buffer():
    raw = Raw(DATA[:10], DATA[10:100], DATA[100:])
    stream = stream_of(raw)
    assert [bytes(piece) for piece in stream.chunks(64)][:4] == [
        DATA[:10],
        DATA[10:74],
        DATA[74:100],
        DATA[100:164],
    ]
    assert stream.delivered == 1280
    assert set(raw.asked) <= set(range(65))


def test_a_chunk_is_released_when_the_next_is_asked_for():
    pieces = stream_of(Raw(DATA)).chunks(1000)
    first = next(pieces)
    assert bytes(first) == DATA[:1000]
    second = next(pieces)
    with pytest.raises(ValueError, match="released"):
        first[0]
    assert bytes(second) == DATA[1000:]
    assert next(pieces, None) is None
    with pytest.raises(ValueError, match="released"):
        second[0]


def test_the_usual_chunk_is_a_mebibyte():
    raw = Raw()
    with pytest.raises(TruncatedError):
        next(stream_of(raw, size=1 << 30, served=(0, 1 << 30)).chunks())
    assert raw.asked == [1 << 20]


def test_chunks_have_at_least_one_byte():
    assert [bytes(each) for each in stream_of(Raw(DATA), 0, 3).chunks(1)] == [b"\0", b"\1", b"\2"]
    for size in (0, -1):
        with pytest.raises(ValueError, match=f"not {size}"):
            next(stream_of(Raw(DATA)).chunks(size))


def test_what_was_read_before_is_not_in_the_chunks():
    stream = stream_of(Raw(DATA))
    stream.read(10)
    assert b"".join(map(bytes, stream.chunks(100))) == DATA[10:]


# What is told of the time on our own side


def test_held_is_what_the_body_tells():
    raw = Raw(DATA)
    stream = stream_of(raw)
    assert stream.held == 0.0
    raw.held = 2
    assert (stream.held, type(stream.held)) == (2.0, float)
