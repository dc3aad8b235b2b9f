"""The simulated store does what its script says, takes simulated time for it, and logs the truth."""

from __future__ import annotations

import pytest

from imgstore.errors import (
    BadReplyError,
    ConnectionLostError,
    NotFoundError,
    OperationCancelledError,
    PermanentError,
    PermissionDeniedError,
    RangeNotSatisfiableError,
    StorageIOError,
    ThrottledError,
    TimedOutError,
    TruncatedError,
    UnavailableError,
    VersionChangedError,
)
from imgstore.model import ANY, ByteRange, Call, CancelToken
from imgstore.testing.faults import Fault, Kind, Schedule, SimClock, SimStore
from imgstore.testing.faults.script import AT_OPEN, OPEN_TIMEOUT, RECEIVE_TIMEOUT, SLOW_SPELL

DATA = bytes(range(200))


def store(*faults, images=(DATA,), **options):
    return SimStore(images, faults, **options)


class TestClock:
    def test_time_passes_by_waiting_alone(self):
        clock = SimClock()
        before = clock.now(), clock.time()
        clock.sleep(3600)
        assert (clock.now() - before[0], clock.time() - before[1]) == (3600, 3600)
        assert clock.pauses == [3600]

    def test_a_negative_wait_does_not_turn_time_back(self):
        clock = SimClock()
        clock.sleep(-1)
        assert clock.now() == 0

    def test_timers_run_in_order_and_at_their_time(self):
        clock, seen = SimClock(), []
        clock.at(2, lambda: seen.append(("b", clock.now())))
        clock.at(1, lambda: seen.append(("a", clock.now())))
        clock.at(9, lambda: seen.append(("c", clock.now())))
        clock.advance(5)
        assert seen == [("a", 1), ("b", 2)]
        assert clock.now() == 5

    def test_a_wake_cuts_the_wait_short(self):
        clock, token = SimClock(), CancelToken()
        clock.at(2, token.cancel)
        clock.sleep(10, token)
        assert clock.now() == 2

    def test_a_wake_that_is_set_does_not_wait(self):
        clock, token = SimClock(), CancelToken()
        token.cancel()
        clock.sleep(10, token)
        assert clock.now() == 0


class TestHonest:
    @pytest.mark.parametrize("offset, length", [(0, None), (0, 1), (199, None), (7, 50), (7, 10_000)])
    def test_serves_exactly_the_range(self, offset, length):
        sim = store()
        with sim.get("image", offset, length) as stream:
            assert stream.read() == DATA[offset : None if length is None else offset + length]
        assert sim.opened == 0
        assert sim.log[0].reached == min(200, offset + (length or 200))

    def test_what_is_not_there(self):
        with pytest.raises(NotFoundError):
            store().get("other")
        with pytest.raises(RangeNotSatisfiableError):
            store().get("image", 200)

    def test_the_version_is_a_precondition(self):
        sim = store()
        assert sim.get("image", version="v1").read() == DATA
        assert sim.get("image", version=ANY).read() == DATA
        with pytest.raises(VersionChangedError):
            sim.get("image", version="v0")
        assert [each.version for each in sim.log] == ["v1", ANY, "v0"]

    def test_an_unknown_size_is_served_whole(self):
        sim = store(sized=False)
        with sim.get("image", 5) as stream:
            assert stream.info.size is None
            assert stream.read() == DATA[5:]
        assert sim.log[0].served == ByteRange(0, None)

    def test_digests(self):
        assert store().stat("image").digests == {}
        assert set(store(digests="known").stat("image").digests) == {"sha256"}
        assert "sha256" not in store(digests="unknown").stat("image").digests


REFUSALS = {
    Kind.UNAVAILABLE: UnavailableError,
    Kind.THROTTLED: ThrottledError,
    Kind.OPEN_TIMEOUT: TimedOutError,
    Kind.BAD_REPLY: BadReplyError,
    Kind.REFUSED: ConnectionLostError,
    Kind.LATER: BadReplyError,
    Kind.OVERSOLD: BadReplyError,
    Kind.DELETED: NotFoundError,
    Kind.DENIED: PermissionDeniedError,
    Kind.UNSATISFIABLE: RangeNotSatisfiableError,
}


class TestRefusals:
    def test_the_list_is_whole(self):
        assert set(REFUSALS) == AT_OPEN

    @pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.value)
    def test_meets_one_open_and_leaves_nothing_open(self, kind):
        sim = store(Fault(kind, amount=1))
        with pytest.raises(REFUSALS[kind]) as caught:
            sim.get("image")
        assert type(caught.value) is REFUSALS[kind]
        assert sim.opened == 0
        assert sim.get("image").read() == DATA

    def test_time(self):
        sim = store(Fault(Kind.OPEN_TIMEOUT), Fault(Kind.UNAVAILABLE, retry_after=7.0))
        with pytest.raises(TimedOutError):
            sim.get("image")
        assert sim.clock.now() == OPEN_TIMEOUT
        with pytest.raises(UnavailableError) as caught:
            sim.get("image")
        assert caught.value.retry_after == 7.0

    def test_a_deadline_ends_the_wait_for_a_reply(self):
        sim = store(Fault(Kind.OPEN_TIMEOUT))
        with pytest.raises(TimedOutError):
            sim.get("image", call=Call(deadline=sim.clock.time() + 3))
        assert sim.clock.now() == 3

    def test_a_cancel_ends_the_wait_for_a_reply(self):
        sim, token = store(Fault(Kind.OPEN_TIMEOUT)), CancelToken()
        sim.clock.at(2, token.cancel)
        with pytest.raises(OperationCancelledError):
            sim.get("image", call=Call(cancel=token))
        assert sim.clock.now() == 2

    def test_exceptions_of_somebody_else(self):
        sim = store(Fault(Kind.UNKNOWN), Fault(Kind.HOPELESS), Fault(Kind.UNKNOWN, at=10))
        with pytest.raises(PermanentError) as caught:
            sim.get("image")
        assert type(caught.value) is PermanentError
        with pytest.raises(UnavailableError) as hopeless:
            sim.get("image")
        assert not hopeless.value.retryable
        with sim.get("image") as stream, pytest.raises(PermanentError):
            stream.read()
        assert isinstance(SimStore([b""]).translate(OSError(5, "EIO")), StorageIOError)


def broken(fault, **options):
    """Reads until it breaks; gives the error, what came, and the store."""
    sim, buffer, got = store(fault, **options), bytearray(64), b""
    stream = sim.get("image")
    try:
        while count := stream.readinto(buffer):
            got += buffer[:count]
    except Exception as exc:
        assert sim.opened == 0
        return exc, got, sim
    return None, got, sim


class TestBodies:
    @pytest.mark.parametrize("at", [0, 1, 64, 199])
    @pytest.mark.parametrize(
        "kind, flavour, error",
        [
            (Kind.ENDS, 0, TruncatedError),
            (Kind.LOST, 0, ConnectionLostError),
            (Kind.SILENT, 0, TimedOutError),
            (Kind.BROKEN, 0, ConnectionLostError),
            (Kind.BROKEN, 2, TimedOutError),
            (Kind.SUBSET, 0, TruncatedError),
            (Kind.SINGLE, 1, ConnectionLostError),
            (Kind.HOPELESS, 0, UnavailableError),
            (Kind.UNKNOWN, 0, PermanentError),
        ],
    )
    def test_breaks_exactly_there(self, kind, flavour, error, at):
        exc, got, sim = broken(Fault(kind, at=at, flavour=flavour))
        assert type(exc) is error
        assert got == DATA[:at]
        assert sim.log[0].sent == at

    def test_a_break_behind_the_end_is_never_met(self):
        for kind in (Kind.LOST, Kind.ENDS, Kind.SILENT):
            assert broken(Fault(kind, at=200))[:2] == (None, DATA)

    def test_where_the_size_is_unknown_an_early_end_shows(self):
        exc, got, _ = broken(Fault(Kind.ENDS, at=9), sized=False)
        assert (type(exc), got) == (TruncatedError, DATA[:9])
        assert broken(Fault(Kind.LOST, at=200), sized=False)[1] == DATA

    def test_silence_takes_the_receive_timeout(self):
        assert broken(Fault(Kind.SILENT, at=9))[2].clock.now() == RECEIVE_TIMEOUT

    def test_a_trickle_brings_a_byte_a_second(self):
        sim, buffer = store(Fault(Kind.TRICKLE, at=50)), bytearray(64)
        with sim.get("image") as stream:
            assert [stream.readinto(buffer) for _ in range(4)] == [50, 1, 1, 1]
        assert sim.clock.now() == 3

    def test_one_byte_receives(self):
        sim, buffer = store(Fault(Kind.SINGLE, amount=3)), bytearray(64)
        with sim.get("image") as stream:
            assert [stream.readinto(buffer) for _ in range(4)] == [1, 1, 1, 64]

    def test_slow_is_twice_the_floor_and_shorter_than_half_a_window(self):
        sim = store(Fault(Kind.SLOW), images=[bytes(1 << 20)], receive=16384)
        sim.get("image", 0, 32768).read()
        assert sim.clock.now() == 1
        sim = store(Fault(Kind.SLOW), images=[bytes(1 << 20)])
        sim.get("image").read()
        assert sim.clock.now() == SLOW_SPELL < 7.5

    def test_an_abort_ends_a_silence(self):
        sim, token = store(Fault(Kind.SILENT, at=0)), CancelToken()
        sim.clock.at(4, token.cancel)
        with pytest.raises(OperationCancelledError), sim.get("image", call=Call(cancel=token)) as stream:
            stream.read()
        assert sim.clock.now() == 4


class TestShapes:
    @pytest.mark.parametrize(
        "fault, served",
        [
            (Fault(Kind.WHOLE), ByteRange(0, 200)),
            (Fault(Kind.SUPERSET, amount=7), ByteRange(43, 107)),
            (Fault(Kind.SUPERSET, amount=1000), ByteRange(0, 200)),
            (Fault(Kind.SUBSET, at=20), ByteRange(50, 70)),
        ],
    )
    def test_what_is_served(self, fault, served):
        sim = store(fault)
        got = b""
        with sim.get("image", 50, 50) as stream:
            try:
                got = stream.read()
            except TruncatedError:
                assert fault.kind is Kind.SUBSET
        assert sim.log[0].served == served
        if fault.kind is not Kind.SUBSET:
            assert got == DATA[50:100]

    def test_an_overstated_size_runs_dry(self):
        exc, got, _ = broken(Fault(Kind.OVERSTATED, amount=3))
        assert (type(exc), got) == (TruncatedError, DATA)

    def test_damage_is_one_byte(self):
        sim = store(Fault(Kind.DAMAGED))
        got = sim.get("image", 50).read()
        assert [n for n, byte in enumerate(got, 50) if byte != DATA[n]] == [50]
        assert sim.truth(sim.log[0], 40, 60) == DATA[40:50] + got[:10]


class TestVersions:
    def test_a_swap_changes_bytes_and_token(self):
        images = Schedule(0, (), (200, 200)).images()
        sim = store(Fault(Kind.SWAPPED), images=images)
        assert sim.tag == "v1"
        assert sim.get("image").read() == images[1]
        assert sim.tag == "v2"

    def test_the_precondition_fails_unless_it_is_ignored(self):
        images = Schedule(0, (), (200, 200, 200)).images()
        sim = store(Fault(Kind.SWAPPED), Fault(Kind.IGNORED), images=images)
        for _ in range(2):
            with pytest.raises(VersionChangedError):
                sim.get("image", version="v1")
        assert [each.tag for each in sim.log] == [None, "v3"]

    def test_a_new_token_for_the_same_bytes(self):
        sim = store(Fault(Kind.RETAGGED))
        with sim.get("image") as stream:
            assert (stream.info.version, stream.read()) == ("v2", DATA)

    def test_contents_differ_in_every_byte(self):
        contents = Schedule(0, (), (4096,) * 13).images()
        for number, one in enumerate(contents):
            for other in contents[:number]:
                assert all(a != b for a, b in zip(one, other, strict=True))
