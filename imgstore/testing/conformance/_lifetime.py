"""Cases: how streams and stores end, and that nothing stays behind."""

from __future__ import annotations

import gc
import os
import signal
import time
import warnings
from collections.abc import Callable

from imgstore.clock import SYSTEM
from imgstore.errors import (
    DeadlineExceededError,
    NotFoundError,
    OperationCancelledError,
    PermanentError,
    RangeNotSatisfiableError,
    TimedOutError,
    UnsupportedError,
    VersionChangedError,
)
from imgstore.model import Call, CancelToken
from imgstore.store import Store
from imgstore.stream import ByteStream
from imgstore.testing.conformance._base import (
    PROMPT,
    SIZE,
    Background,
    Suite,
    expect,
    footprint,
    fresh_key,
    needs,
    pattern,
    raises,
    wait_until,
)


class LifetimeCases(Suite):
    """What closing, dropping, cancelling, deadlines and forks promise."""

    def leaves_nothing(self, act: Callable[[], object], what: str) -> None:
        """Fails where twenty times `act` leave descriptors or threads."""
        act()
        before = footprint()
        for _ in range(20):
            act()
        gc.collect()
        calm = wait_until(lambda: all(a <= b for a, b in zip(footprint(), before, strict=True)), PROMPT)
        assert calm, f"{what}: (descriptors, threads) were {before}, and are {footprint()} after twenty times"

    def pending(self) -> tuple[ByteStream, Background]:
        """Gives a stream that stalls, and the thread that waits for its next bytes."""
        key = self.image(pattern(SIZE))
        self.stall(key)
        stream = self.subject.get(key)

        def work() -> None:
            while stream.readinto(bytearray(SIZE)):
                pass

        reader = Background(work)
        assert wait_until(lambda: stream.delivered > 0), (
            "the hook stall gives at least a byte before it waits"
        )
        time.sleep(0.01)  # so that the reader is inside its readinto, most of the time
        return stream, reader

    def test_close_in_mid_body(self) -> None:
        data = pattern(SIZE)
        key = self.image(data)
        with self.subject.get(key) as stream:
            stream.read(5000)
        for read in (lambda: stream.read(1), lambda: stream.readinto(bytearray(1))):
            with raises(ValueError, "a read of a closed stream"):
                read()
        expect(self.read(key), data, 0, SIZE, "a new read after one that was closed in mid-body")

    def test_close_again(self) -> None:
        stream = self.subject.get(self.image(pattern(SIZE)))
        for _ in range(3):
            stream.close()

    def test_close_gives_everything_back(self) -> None:
        key = self.image(pattern(SIZE))

        def act() -> None:
            self.subject.get(key).close()
            with self.subject.get(key) as stream:
                stream.read(10)

        self.leaves_nothing(act, "streams closed in mid-body")

    def test_dropped_stream_gives_everything_back(self) -> None:
        key = self.image(pattern(SIZE))

        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            self.leaves_nothing(lambda: self.subject.get(key).read(10), "streams dropped in mid-body")
        assert not told, f"a stream that is dropped warns: {[str(each.message) for each in told]}"

    def test_failed_get_gives_everything_back(self) -> None:
        key = self.image(pattern(SIZE))

        def act() -> None:
            with raises(RangeNotSatisfiableError, "an offset behind the end"):
                self.read(key, SIZE + 1)
            with raises((VersionChangedError, NotFoundError), "a version that never was"):
                self.read(key, version="kit-no-such-version")
            with raises(NotFoundError, "a key without an image"):
                self.read(fresh_key())

        self.leaves_nothing(act, "reads that fail to open")

    def test_cancelled_call_is_not_made(self) -> None:
        key = self.image(pattern(10))
        token = CancelToken()
        token.cancel()
        for what, act in _calls(self.subject, key, Call(cancel=token)):
            with raises(OperationCancelledError, f"{what} with a cancelled token"):
                act()

    def test_deadline_in_the_past(self) -> None:
        key = self.image(pattern(10))
        for what, act in _calls(self.subject, key, Call(deadline=self.subject.clock.time() - 1)):
            with raises(DeadlineExceededError, f"{what} with a deadline in the past"):
                act()

    def test_cancel_between_reads(self) -> None:
        token = CancelToken()
        key = self.image(pattern(SIZE))
        for cancel in (token.cancel, None):
            with self.subject.get(key, 100, call=Call(cancel=token if cancel else None)) as stream:
                stream.read(5000)
                Background(cancel or stream.cancel).join()
                for _ in range(2):
                    with raises(OperationCancelledError, "a read after the cancellation") as caught:
                        stream.read(1)
                    assert caught.error.offset == 5100, (
                        f"cancelled after the bytes up to 5100, the error tells offset {caught.error.offset}"
                    )

    @needs("stall")
    def test_pending_read_is_called_off(self) -> None:
        for what, end in (("cancel", ByteStream.cancel), ("close", ByteStream.close)):
            stream, reader = self.pending()
            with stream:
                begun = time.monotonic()
                end(stream)
                ended = reader.join(max(0.0, PROMPT - time.monotonic() + begun))
            reader.join()
            assert ended, f"{what}() from another thread: the pending read goes on for over {PROMPT} s"
            assert isinstance(reader.error, OperationCancelledError), (
                f"{what}() from another thread: the pending read ends with {reader.error!r}"
            )

    @needs("stall")
    def test_deadline_ends_a_pending_read(self) -> None:
        key = self.image(pattern(SIZE))
        self.stall(key)
        begun = time.monotonic()
        with (
            raises((DeadlineExceededError, TimedOutError), "a read that waits beyond its deadline"),
            self.subject.get(key, call=Call().within(0.03, clock=SYSTEM)) as stream,
        ):
            stream.read()
        late = time.monotonic() - begun - 0.03
        assert late < PROMPT, f"a read ends {late:.1f} s after its deadline, {PROMPT} s are allowed"

    @needs("stall")
    def test_two_readers_of_one_stream(self) -> None:
        stream, first = self.pending()
        with stream:
            second = Background(lambda: stream.readinto(bytearray(10)))
            refused = wait_until(lambda: isinstance(second.error or first.error, UnsupportedError))
            stream.cancel()
            first.join()
            second.join()
        assert refused, "two threads read one stream, and neither gets UnsupportedError"

    def test_closed_store(self) -> None:
        key = self.image(pattern(10))
        self.read(key)
        for _ in range(2):
            self.subject.close()
            for what, act in _calls(self.subject, key, Call()):
                with raises(ValueError, f"{what} of a closed store") as caught:
                    act()
                assert not isinstance(caught.error, PermanentError), (
                    f"{what} of a closed store is a plain ValueError"
                )

    def test_streams_outlive_the_store(self) -> None:
        data = pattern(SIZE)
        with self.subject.get(self.image(data)) as stream:
            got = stream.read(1000)
            self.subject.close()
            got += stream.read()
        expect(got, data, 0, SIZE, "a stream that was open when the store was closed")

    def test_store_is_a_context_manager(self) -> None:
        key = self.image(pattern(10))
        with self.subject as store:
            store.stat(key)
        with raises(ValueError, "stat after the with block of a store"):
            store.stat(key)

    def test_works_after_a_fork(self) -> None:
        data = pattern(SIZE)
        key = self.image(data)
        expect(self.read(key), data, 0, SIZE, "a read before the fork")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of threads; the child only reads
            child = os.fork()
        if child == 0:
            right = False
            try:
                right = self.read(key, 1000) == data[1000:]
            finally:
                os._exit(0 if right else 1)
        status = _status(child, 10)
        assert status is not None, (
            "a read in a forked child hangs: a client belongs to the process that made it"
        )
        assert status == 0, "a read in a forked child fails: a client belongs to the process that made it"
        expect(self.read(key), data, 0, SIZE, "a read in the parent after the fork")


def _calls(store: Store, key: str, call: Call) -> list[tuple[str, Callable[[], object]]]:
    return [
        ("stat", lambda: store.stat(key, call=call)),
        ("get", lambda: store.get(key, call=call).close()),
    ]


def _status(child: int, seconds: float) -> int | None:
    """Gives the exit status of `child`, None where it had to be killed after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
