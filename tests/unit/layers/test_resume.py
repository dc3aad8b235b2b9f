from __future__ import annotations

import hashlib
import logging
import pickle

import pytest

from imgstore.errors import (
    BadReplyError,
    ConnectionLostError,
    DeadlineExceededError,
    DigestMismatchError,
    NotFoundError,
    OperationCancelledError,
    PermanentError,
    ProtocolViolationError,
    RetriesExhaustedError,
    StalledError,
    ThrottledError,
    TimedOutError,
    TruncatedError,
    VersionChangedError,
)
from imgstore.layers.resume import ResumeLayer
from imgstore.model import ANY, Call, CancelToken
from imgstore.retry import TokenBucket
from tests.unit.layers.scripted import DATA, Attempt, ScriptedStore

LOST = ConnectionLostError("the peer hung up", request_id="req-7")
SHA256 = hashlib.sha256(DATA).hexdigest()


def resuming(*attempts, **settings):
    settings.setdefault("jitter", lambda: 0.5)
    inner = ScriptedStore(*attempts)
    return ResumeLayer(inner, **settings), inner


def read_all(store, offset=0, length=None, *, version=None, call=None, piece=10_000):
    with store.get("image", offset, length, version=version, call=call or Call()) as stream:
        return b"".join(bytes(view) for view in stream.chunks(piece))


def events_of(store, **arguments):
    events = []
    try:
        read_all(store, call=Call(observe=events.append), **arguments)
    finally:
        kinds = [event.kind for event in events]
    return events, kinds


def test_a_clean_read_asks_once():
    store, inner = resuming()
    assert read_all(store) == DATA
    assert inner.asked == [(0, None, None)]


def test_a_break_goes_on_at_the_byte_with_the_version():
    store, inner = resuming(Attempt(at=100_001, error=LOST), Attempt())
    assert read_all(store) == DATA
    assert inner.asked == [(0, None, None), (100_001, None, "v1")]


def test_a_range_stays_the_range_that_was_asked():
    store, inner = resuming(Attempt(at=5000, error=LOST), Attempt())
    assert read_all(store, 1000, 9000) == DATA[1000:10_000]
    assert inner.asked == [(1000, 10_000, None), (5000, 10_000, "v1")]


def test_a_break_is_told_once_the_read_goes_on():
    store, _ = resuming(Attempt(at=7, error=LOST), Attempt(refuse=TimedOutError("slow")), Attempt())
    events, _kinds = events_of(store)
    (event,) = events
    assert (event.kind, event.store, event.key, event.offset) == ("resumed", "scripted", "image", 7)
    assert event.attempt == 3
    assert isinstance(event.error, TimedOutError)


def test_a_clean_early_end_is_a_break():
    store, inner = resuming(Attempt(at=7), Attempt())
    assert read_all(store) == DATA
    assert [asked[0] for asked in inner.asked] == [0, 7]


def test_a_failure_behind_the_last_byte_asks_nothing_more():
    store, inner = resuming(Attempt(at=len(DATA), error=LOST))
    assert read_all(store) == DATA
    assert len(inner.asked) == 1


def test_the_first_open_is_tried_again_too():
    store, inner = resuming(Attempt(refuse=LOST), Attempt(refuse=TimedOutError("slow")), Attempt())
    assert read_all(store) == DATA
    assert inner.clock.slept == [0.1, 0.2]


def test_a_permanent_error_costs_one_request():
    store, inner = resuming(Attempt(refuse=NotFoundError("no such image")))
    with pytest.raises(NotFoundError) as raised:
        store.get("image")
    assert len(inner.asked) == 1
    assert raised.value.key == "image"
    assert raised.value.store == "scripted"


def test_deleted_in_mid_read():
    store, _ = resuming(Attempt(at=5000, error=LOST), Attempt(refuse=NotFoundError("gone")))
    with pytest.raises(NotFoundError) as raised:
        read_all(store)
    assert raised.value.offset == 5000
    assert raised.value.attempts == 2


@pytest.mark.parametrize("judge", [True, False])
def test_replaced_in_mid_read_is_never_mixed(judge):
    other = Attempt(data=DATA[::-1], version="v2", judge_version=judge)
    store, _ = resuming(Attempt(at=5000, error=LOST), other)
    stream = store.get("image")
    assert stream.read(5000) == DATA[:5000]
    with pytest.raises(VersionChangedError) as raised:
        stream.read(1)
    assert raised.value.offset == 5000
    assert stream.delivered == 5000
    with pytest.raises(VersionChangedError):
        stream.read(1)


def test_exhaustion_tells_the_last_failure_and_how_often():
    store, inner = resuming(Attempt(at=5000, error=LOST))
    with pytest.raises(RetriesExhaustedError, match=r"8 tries in a row .* the peer hung up") as raised:
        read_all(store)
    assert raised.value.__cause__ is LOST
    assert raised.value.request_id == "req-7"
    assert raised.value.offset == 5000
    assert len(inner.asked) == 8
    again = pickle.loads(pickle.dumps(raised.value))
    assert (again.offset, again.attempts, str(again.__cause__)) == (5000, 8, "the peer hung up")


def test_a_store_that_lies_each_time_violates_its_protocol():
    store, inner = resuming(Attempt(serve_from=500), resume_attempts=3)
    with pytest.raises(ProtocolViolationError):
        store.get("image", 100)
    assert len(inner.asked) == 3


def test_progress_refunds_so_that_any_number_of_breaks_is_survived():
    store, inner = resuming(*[Attempt(at=n * 65536, error=LOST) for n in range(1, 4)], resume_attempts=1)
    inner.attempts.append(Attempt())
    assert read_all(store) == DATA
    assert len(inner.asked) == 4


def test_what_is_served_before_the_offset_is_skipped():
    store, _ = resuming(Attempt(at=100_000, error=LOST), Attempt(serve_from=0))
    events, kinds = events_of(store)
    assert sum(event.count for event in events if event.kind == "refetched") == 100_000
    assert kinds[-1] == "resumed"
    store, _inner = resuming(Attempt(serve_from=0))
    assert read_all(store, 70_000, 10) == DATA[70_000:70_010]


def test_more_than_the_skip_limit_is_not_skipped():
    store, inner = resuming(Attempt(serve_from=0), skip_limit=69_999, resume_attempts=2)
    with pytest.raises(ProtocolViolationError, match="70000 bytes before"):
        store.get("image", 70_000)
    assert len(inner.asked) == 2
    assert all(raw.closed for raw in inner.raws)


def test_without_a_version_the_prefix_is_compared():
    store, inner = resuming(Attempt(at=150_000, error=LOST, version=None), Attempt(version=None))
    events, kinds = events_of(store)
    assert inner.asked == [(0, None, None), (0, None, None)]
    assert sum(event.count for event in events if event.kind == "refetched") == 150_000
    assert kinds.count("resumed") == 1


def test_without_a_version_the_bytes_are_those_of_one_version():
    store, _ = resuming(Attempt(at=150_000, error=LOST, version=None), Attempt(version=None))
    assert read_all(store, 3, 200_000) == DATA[3:200_003]


@pytest.mark.parametrize("changed_at", [0, 1, 149_999])
def test_without_a_version_a_change_of_any_byte_is_found(changed_at):
    other = bytearray(DATA)
    other[changed_at] ^= 1
    store, _ = resuming(
        Attempt(at=150_000, error=LOST, version=None), Attempt(data=bytes(other), version=None)
    )
    stream = store.get("image")
    assert stream.read(150_000) == DATA[:150_000]
    with pytest.raises(VersionChangedError) as raised:
        stream.read(1)
    assert raised.value.offset == 150_000


def test_what_is_received_again_passes_through_64_kib():
    store, _ = resuming(Attempt(serve_from=0))
    events = []
    store.get("image", 200_000, 10, call=Call(observe=events.append)).read()
    assert [(event.kind, event.count) for event in events] == [
        *[("refetched", 65_536)] * 3,
        ("refetched", 200_000 - 3 * 65_536),
    ]


def test_only_what_is_received_again_is_told_so():
    store, _ = resuming(
        Attempt(at=150_000, error=LOST, version=None),
        Attempt(at=100_000, error=LOST, version=None),
        Attempt(version=None),
    )
    events, _kinds = events_of(store)
    assert sum(event.count for event in events if event.kind == "refetched") == 250_000


def test_a_size_learnt_while_proving_ends_the_read():
    receives = []

    def hang_up_on_the_third():
        receives.append(None)
        if len(receives) == 3:
            raise LOST

    first = Attempt(size=None, version=None, before=hang_up_on_the_third)
    store, inner = resuming(first, Attempt(version=None))
    assert read_all(store, piece=200_000) == DATA
    assert len(inner.asked) == 2


@pytest.mark.parametrize("version, digests", [(None, {}), (None, {"md5": hashlib.md5(DATA).hexdigest()})])
def test_a_hash_that_guards_against_accidents_is_no_matter_of_security(version, digests, monkeypatch):
    new, asked = hashlib.new, []

    def watched(name, **options):
        asked.append(options)
        return new(name, **options)

    monkeypatch.setattr(hashlib, "new", watched)  # a FIPS build refuses md5 else
    attempt = {"version": version, "digests": digests}
    store, _ = resuming(Attempt(at=5000, error=LOST, **attempt), Attempt(**attempt))
    assert read_all(store) == DATA
    assert asked
    assert all(options == {"usedforsecurity": False} for options in asked)


def test_nothing_stays_open_where_the_first_open_fails_late(monkeypatch):
    store, inner = resuming(Attempt(digests={"sha256": SHA256}))
    kept = []
    inner.get = lambda *args, **options: kept.append(ScriptedStore.get(inner, *args, **options)) or kept[-1]

    def refuse(name, **options):
        raise ValueError(name)

    monkeypatch.setattr(hashlib, "new", refuse)
    with pytest.raises(PermanentError):
        store.get("image")
    assert inner.raws[0].closed


def test_a_break_in_the_proof_begins_it_again():
    store, inner = resuming(
        Attempt(at=150_000, error=LOST, version=None),
        Attempt(at=100_000, error=LOST, version=None),
        Attempt(version=None),
    )
    assert read_all(store) == DATA
    assert len(inner.asked) == 3


def test_the_callers_proof_makes_ours_needless():
    store, inner = resuming(Attempt(at=5000, error=LOST, version=None), Attempt(version=None))
    assert read_all(store, version=ANY) == DATA
    assert inner.asked[1] == (5000, None, ANY)


def test_a_digest_known_before_is_compared_before_the_last_byte():
    attempt = Attempt(digests={"sha256": SHA256}, version=None, at=5000, error=LOST)
    bad = bytearray(DATA)
    bad[70_000] ^= 1
    store, inner = resuming(attempt, Attempt(data=bytes(bad), version=None))
    stream = store.get("image")
    with pytest.raises(DigestMismatchError):
        for _ in stream.chunks(10_000):
            pass
    assert stream.delivered < len(DATA)
    assert all(raw.closed for raw in inner.raws)
    store, _ = resuming(attempt, Attempt(version=None))
    assert read_all(store) == DATA


def test_a_digest_is_compared_on_a_clean_read_as_on_a_resumed_one():
    store, _ = resuming(Attempt(digests={"sha256": "00" * 32}))
    with pytest.raises(DigestMismatchError):
        read_all(store)


def test_an_image_of_unknown_size_is_resumed_by_its_version():
    store, inner = resuming(Attempt(size=None, at=5000, error=LOST), Attempt(size=None))
    assert read_all(store) == DATA
    assert inner.asked[1] == (5000, None, "v1")


def test_an_unknown_size_with_a_digest_is_compared_at_its_end():
    store, _ = resuming(Attempt(size=None, digests={"sha256": "00" * 32}))
    with pytest.raises(DigestMismatchError):
        read_all(store)


def whole_but_unproven(digest):
    """An image of unknown size whose body just stops; its end is proven by nothing but `digest`."""
    receives = []

    def stop_after_all():
        receives.append(None)
        if len(receives) > 2:
            raise TruncatedError("nothing proves the end", retryable=False)

    return Attempt(size=None, digests={"sha256": digest}, before=stop_after_all)


def test_an_end_that_the_digest_proves_is_one():
    store, inner = resuming(whole_but_unproven(SHA256))
    with store.get("image") as stream:
        assert b"".join(bytes(piece) for piece in stream.chunks(len(DATA) // 2)) == DATA
        assert stream.range.stop == len(DATA)
    assert len(inner.asked) == 1


def test_an_end_that_the_digest_belies_is_none():
    store, _ = resuming(whole_but_unproven("00" * 32))
    with pytest.raises(TruncatedError):
        read_all(store, piece=len(DATA) // 2)


def test_an_end_that_nothing_could_prove_is_none():
    unproven = TruncatedError("nothing proves the end", retryable=False)
    store, _ = resuming(Attempt(size=None, version=None, at=5000, error=unproven))
    with pytest.raises(TruncatedError):
        read_all(store)


def test_only_an_early_end_can_be_proven_by_the_digest():
    attempt = whole_but_unproven(SHA256)
    receives = []

    def stop_after_all():
        receives.append(None)
        if len(receives) > 2:
            raise PermanentError("another matter")

    attempt.before = stop_after_all
    store, _ = resuming(attempt)
    with pytest.raises(PermanentError, match="another matter"):
        read_all(store, piece=len(DATA) // 2)


def test_an_early_end_of_a_known_size_is_none_whatever_the_digest_says():
    half = hashlib.sha256(DATA[: len(DATA) // 2]).hexdigest()
    early = Attempt(at=len(DATA) // 2, digests={"sha256": half})
    store, inner = resuming(early, Attempt())
    with pytest.raises(DigestMismatchError):
        read_all(store)
    assert len(inner.asked) == 2


def test_an_end_that_cannot_be_proven_is_not_tried_again():
    unproven = TruncatedError("nothing proves the end", retryable=False)
    store, inner = resuming(Attempt(size=None, at=5000, error=unproven))
    with pytest.raises(TruncatedError):
        read_all(store)
    assert len(inner.asked) == 1


def test_a_trickle_is_replaced_by_another_stream():
    store, inner = resuming(Attempt(each=1, seconds=1.0), Attempt(), stall_timeout=15.0)
    events, kinds = events_of(store)
    assert kinds == ["stalled", "resumed"]
    assert [event.offset for event in events] == [15, 15]
    assert type(events[0].error) is type(events[1].error) is StalledError
    assert inner.asked[1][0] == 15
    assert 15.0 <= inner.clock.elapsed <= 16.0


def test_a_stalled_byte_is_delivered_before_the_stream_is_dropped():
    store, inner = resuming(Attempt(each=1, seconds=20.0), Attempt())
    stream = store.get("image")
    buffer = bytearray(10)
    assert stream.readinto(buffer) == 1
    assert inner.raws[0].closed
    assert stream.read() == DATA[1:]


def test_a_stalled_stream_is_closed_before_the_pause_even_if_others_hold_it():
    store, inner = resuming(Attempt(each=1, seconds=20.0), Attempt())
    kept = []
    inner.get = lambda *args, **options: kept.append(ScriptedStore.get(inner, *args, **options)) or kept[-1]
    stream = store.get("image")
    stream.readinto(bytearray(10))
    assert inner.raws[0].closed


def test_the_pause_counts_and_nothing_else_is_made_up():
    store, inner = resuming(Attempt(each=1, seconds=1.0), resume_attempts=3)
    with pytest.raises(RetriesExhaustedError):
        read_all(store)
    assert [start for start, _, _ in inner.asked] == [0, 15, 30]


def test_short_waits_are_no_stall():
    slow = {"each": 1, "seconds": 1.0}
    store, inner = resuming(
        Attempt(refuse=LOST, opening=0.5),
        Attempt(at=1, error=LOST, opening=0.5, **slow),
        Attempt(opening=0.5, **slow),
    )
    events = []
    with store.get("image", 0, 12, call=Call(observe=events.append)) as stream:
        assert stream.read() == DATA[:12]
    assert [event.kind for event in events] == ["resumed"]
    assert len(inner.asked) == 3


def test_time_held_on_our_own_side_is_no_stall():
    def hold():
        inner.raws[-1].held = getattr(inner.raws[-1], "held", 0.0) + 60.0
        inner.clock.elapsed += 60.0

    store, inner = resuming(Attempt(each=1, seconds=1.0, before=hold))
    with store.get("image", 0, 12) as stream:
        assert stream.read() == DATA[:12]
    assert len(inner.asked) == 1


def test_a_failure_after_a_time_held_is_no_stall():
    def hold():
        inner.raws[-1].held = getattr(inner.raws[-1], "held", 0.0) + 60.0
        inner.clock.elapsed += 60.0

    slow = {"each": 1, "seconds": 1.0, "before": hold}
    store, inner = resuming(Attempt(at=1, error=LOST, **slow), Attempt(**slow))
    with store.get("image", 0, 12) as stream:
        assert stream.read() == DATA[:12]
    assert len(inner.asked) == 2


def test_time_held_before_hides_no_stall():
    def hold():
        inner.raws[-1].held = 500.0

    store, inner = resuming(Attempt(each=1, seconds=1.0, before=hold), Attempt())
    stream = store.get("image")
    hold()
    stream.read()
    assert inner.asked[1][0] == 15


def test_a_wait_for_a_permit_inside_is_no_stall():
    class Held(ScriptedStore):
        def _open(self, *args):
            opened = super()._open(*args)
            self.clock.elapsed += 100.0
            opened.raw.held = 100.0
            return opened

    inner = Held(Attempt(each=1, seconds=1.0))
    with ResumeLayer(inner).get("image", 0, 9) as stream:
        assert stream.read() == DATA[:9]
    assert len(inner.asked) == 1


def test_the_callers_own_time_is_no_stall():
    store, inner = resuming(Attempt(each=100))
    stream = store.get("image")
    for _ in range(100):
        stream.read(100)
        inner.clock.elapsed += 60.0
    assert len(inner.asked) == 1


def test_silence_counts_as_a_stall():
    store, _ = resuming(Attempt(at=5000, error=TimedOutError("silence")), Attempt())
    _, kinds = events_of(store)
    assert kinds == ["stalled", "resumed"]


def test_a_slow_open_is_no_stall():
    store, _ = resuming(Attempt(refuse=TimedOutError("slow")), Attempt())
    assert events_of(store)[1] == []
    store, _ = resuming(Attempt(at=9, error=LOST), Attempt(refuse=TimedOutError("slow")), Attempt())
    assert events_of(store)[1] == ["resumed"]


def test_a_failure_that_ends_the_read_is_neither_told_nor_logged_as_a_try(caplog):
    store, _ = resuming(Attempt(at=5000, error=TimedOutError("silence")), resume_attempts=1)
    events = []
    with pytest.raises(RetriesExhaustedError):
        read_all(store, call=Call(observe=events.append))
    assert events == []
    assert caplog.records == []


def test_retry_after_is_waited_out():
    store, inner = resuming(Attempt(refuse=ThrottledError("busy", retry_after=7.0)), Attempt())
    read_all(store)
    assert inner.clock.slept == [7.1]


def test_the_deadline_ends_the_tries():
    store, inner = resuming(Attempt(refuse=LOST, opening=1.0), deadline=5.0)
    with pytest.raises(DeadlineExceededError) as raised:
        store.get("image")
    assert inner.clock.elapsed == pytest.approx(5.0)
    assert raised.value.__cause__ is LOST


def test_a_pause_that_would_outlast_the_deadline_is_not_begun():
    store, inner = resuming(Attempt(refuse=ThrottledError("busy", retry_after=15.0)), deadline=10.0)
    with pytest.raises(DeadlineExceededError) as raised:
        store.get("image")
    assert inner.clock.slept == []
    assert isinstance(raised.value.__cause__, ThrottledError)


def test_a_pause_of_all_the_time_that_is_left_is_not_begun():
    store, inner = resuming(Attempt(refuse=ThrottledError("busy", retry_after=10.0)), deadline=10.0)
    with pytest.raises(DeadlineExceededError):
        store.get("image")
    assert inner.clock.slept == []


def test_the_deadline_ends_a_read_between_two_receives():
    store, inner = resuming(Attempt(each=1, seconds=1.0), stall_floor=0)
    call = Call(deadline=inner.clock.time() + 10)
    stream = store.get("image", call=call)
    with pytest.raises(DeadlineExceededError) as raised:
        stream.read()
    assert raised.value.offset == 10
    assert raised.value.resumable


def test_a_step_of_the_wall_clock_moves_no_deadline():
    inner = ScriptedStore(Attempt(at=10, error=LOST), Attempt())
    store = ResumeLayer(inner, jitter=lambda: 0.0)
    start = inner.clock.time()
    stream = store.get("image", call=Call(deadline=start + 10))
    stream.read(10)
    inner.clock.time = lambda: start + 31_536_000.0  # a year on, as after a wrong clock was set right
    assert stream.read(10) == DATA[10:20]


def test_cancelling_in_a_pause():
    store, inner = resuming(Attempt(at=10, error=LOST))
    token = CancelToken()
    stream = store.get("image", call=Call(cancel=token))
    stream.read(10)
    inner.clock.sleep = lambda seconds, wake: token.cancel()
    with pytest.raises(OperationCancelledError) as raised:
        stream.read(10)
    assert raised.value.offset == 10
    assert len(inner.asked) == 1


def test_cancelling_the_stream_reaches_the_driver():
    store, inner = resuming()
    stream = store.get("image")
    stream.cancel()
    assert inner.raws[0].aborted
    assert inner.calls[0].cancel.cancelled
    with pytest.raises(OperationCancelledError):
        stream.read(1)


def test_closing_closes_the_inner_stream():
    store, inner = resuming()
    stream = store.get("image")
    stream.read(10)
    stream.close()
    assert inner.raws[0].closed


def test_an_interrupt_closes_everything_and_passes():
    def interrupt():
        raise KeyboardInterrupt

    store, inner = resuming(Attempt(before=interrupt))
    stream = store.get("image")
    with pytest.raises(KeyboardInterrupt):
        stream.read(1)
    assert inner.raws[0].closed
    with pytest.raises(OperationCancelledError):
        stream.read(1)


def test_a_bug_in_a_driver_is_not_tried_again():
    store, inner = resuming(Attempt(at=10, error=KeyError("bug")))
    with pytest.raises(PermanentError) as raised:
        read_all(store)
    assert isinstance(raised.value.__cause__, KeyError)
    assert len(inner.asked) == 1


def test_all_calls_of_an_endpoint_share_their_bucket():
    bucket = TokenBucket()
    requests = 0
    for _ in range(100):
        store, inner = resuming(Attempt(refuse=LOST), bucket=bucket)
        with pytest.raises(RetriesExhaustedError):
            store.get("image")
        requests += len(inner.asked)
    assert requests == 100 + 100


def test_one_warning_a_second_and_none_lost_to_debug(caplog):
    store, inner = resuming(*[Attempt(at=n, error=LOST) for n in (10, 20, 30)], resume_attempts=9)
    inner.attempts.append(Attempt())
    with caplog.at_level(logging.DEBUG, logger="imgstore.layers.resume"):
        read_all(store)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "DEBUG", "DEBUG"]
    message = caplog.records[0].getMessage()
    for told in ("scripted: get of 'image'", "offset 10", "try 2", "ConnectionLostError", "req-7"):
        assert told in message


def test_a_warning_a_second(caplog):
    store, inner = resuming()
    for elapsed in (0.0, 0.75, 1.0, 1.25, 2.0):
        inner.clock.elapsed = elapsed
        store.warn("get", "image", 0, 1, LOST)
    assert [record.levelname for record in caplog.records] == [
        "WARNING", "DEBUG", "WARNING", "DEBUG", "WARNING",
    ]  # fmt: skip


def test_a_stat_has_the_deadline_of_the_layer_and_its_name_in_the_log(caplog):
    store, inner = resuming(Attempt(refuse=LOST), Attempt(), deadline=9.0)
    began = inner.clock.time()
    assert store.stat("image").size == len(DATA)
    assert {call.deadline for call in inner.calls} == {began + 9.0}
    assert "scripted: stat of 'image' goes on at offset 0, try 2" in caplog.text


def test_stat_is_tried_again_and_costs_what_it_must():
    inner = ScriptedStore()
    failures = [LOST, BadReplyError("odd")]

    def stat(key, call):
        if failures:
            raise failures.pop(0)
        return "info"

    inner._stat = stat
    assert ResumeLayer(inner, jitter=lambda: 0.5).stat("image") == "info"
    assert inner.clock.slept == [0.1, 0.2]


@pytest.mark.parametrize(
    "cause, final", [(LOST, RetriesExhaustedError), (BadReplyError("odd"), ProtocolViolationError)]
)
def test_stat_gives_up(cause, final):
    inner = ScriptedStore()
    tries = []

    def stat(key, call):
        tries.append(key)
        raise cause

    inner._stat = stat
    with pytest.raises(final) as raised:
        ResumeLayer(inner, resume_attempts=3).stat("image")
    assert (len(tries), raised.value.attempts, raised.value.key) == (3, 3, "image")
    assert raised.value.__cause__ is cause


def test_stat_keeps_to_the_deadline():
    inner = ScriptedStore()

    def stat(key, call):
        raise ThrottledError("busy", retry_after=15)

    inner._stat = stat
    with pytest.raises(DeadlineExceededError) as raised:
        ResumeLayer(inner, deadline=10.0).stat("image")
    assert isinstance(raised.value.__cause__, ThrottledError)


def test_what_cannot_be_retried_is_not():
    inner = ScriptedStore()
    tries = []

    def stat(key, call):
        tries.append(key)
        raise TruncatedError("once", retryable=False)

    inner._stat = stat
    with pytest.raises(TruncatedError):
        ResumeLayer(inner).stat("image")
    assert len(tries) == 1


def test_an_open_stream_goes_on_after_its_store_was_closed():
    store, inner = resuming(Attempt(at=5000, error=LOST), Attempt())
    stream = store.get("image")
    stream.read(10)
    store.close()
    assert stream.read() == DATA[10:]
    with pytest.raises(ValueError, match="closed"):
        store.get("image")
    assert len(inner.asked) == 2


def test_an_empty_image_has_its_digest_compared_too():
    store, _ = resuming(Attempt(data=b"", digests={"sha256": SHA256}))
    with pytest.raises(DigestMismatchError):
        store.get("image")
    store, _ = resuming(Attempt(data=b"", digests={"sha256": hashlib.sha256(b"").hexdigest()}))
    assert read_all(store) == b""


def test_what_a_refused_open_waited_for_a_permit_is_no_stall():
    held = ConnectionLostError("refused")
    held.held = 20.0
    slow = Attempt(each=2 * 16384, seconds=1.5)
    store, inner = resuming(Attempt(refuse=held, opening=20.0), slow, stall_timeout=15.0)
    assert read_all(store, piece=65536) == DATA
    assert len(inner.asked) == 2


def test_a_reply_that_is_refused_is_told_of_as_a_failed_attempt():
    store, _ = resuming(Attempt(serve_from=0), skip_limit=69_999, resume_attempts=2)
    events = []
    with pytest.raises(ProtocolViolationError):
        store.get("image", 70_000, call=Call(observe=events.append))
    assert [(event.kind, type(event.error)) for event in events] == [("failed", BadReplyError)] * 2
