"""The threads of a hasher: who works on what, how much memory is out, and that they end, come what may."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import random
import signal
import threading

import pytest

from imgstore.errors import OperationCancelledError
from imgstore.hashing import Hasher, _schedule
from imgstore.hashing import hasher as module

DATA = random.Random(6).randbytes(50_000)
PIECE = 100
# For what has to happen, and does at once unless something is broken.
SOON = 20.0
# For what must not happen.
A_WHILE = 0.1


class Gate:
    """A digest whose updates wait until it is opened; `taken` is what it was given."""

    def __init__(self):
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.taken = bytearray()
        self.threads = set()

    def update(self, data):
        self.entered.release()
        assert self.open.wait(SOON)
        self.taken += data
        self.threads.add(threading.current_thread())

    def hexdigest(self):
        return self.taken.hex()


class Broken:
    """A digest that fails at one of its updates."""

    def __init__(self, at, error):
        self._left = at
        self._error = error

    def update(self, data):
        self._left -= 1
        if not self._left:
            raise self._error

    def hexdigest(self):
        return ""


@pytest.fixture
def stand_ins(monkeypatch):
    """Digests of the test's own, by name."""
    made = {}
    real = module.new
    monkeypatch.setattr(module, "new", lambda name: made[name] if name in made else real(name))
    return made


@pytest.fixture
def buffers(monkeypatch):
    """The buffers that were made."""
    made = []
    real = _schedule.paged
    monkeypatch.setattr(_schedule, "paged", lambda size: made.append(real(size)) or made[-1])
    return made


def hash_threads():
    return [each for each in threading.enumerate() if each.name == "imgstore-hash"]


@contextlib.contextmanager
def beside(function):
    """Runs `function` in a thread, which must have ended when the body has."""
    thread = threading.Thread(target=function)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(SOON)
        assert not thread.is_alive()


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_the_reader_waits_where_all_memory_is_in_use(stand_ins, buffers, pieces):
    gate = stand_ins["gate"] = Gate()
    with Hasher(["gate", "md5"], threads=2, memory=pieces * PIECE + PIECE - 1, piece=PIECE) as hasher:
        with beside(lambda: hasher.update(DATA)) as reader:
            try:
                assert gate.entered.acquire(timeout=SOON)
                reader.join(A_WHILE)
                assert reader.is_alive()
                assert len(buffers) == pieces
                assert hasher.size == pieces * PIECE
                assert not gate.taken
            finally:
                gate.open.set()
        found = hasher.finish()
    assert gate.taken == DATA
    assert found.whole == {"gate": DATA.hex(), "md5": hashlib.md5(DATA).hexdigest()}
    assert len(buffers) == pieces


def test_holes_wait_as_well(stand_ins, monkeypatch):
    monkeypatch.setattr(module, "HOLE", PIECE)
    gate = stand_ins["gate"] = Gate()
    with Hasher(["gate"], threads=1, memory=3 * PIECE, piece=PIECE) as hasher:
        with beside(lambda: hasher.skip(1000)) as reader:
            try:
                assert gate.entered.acquire(timeout=SOON)
                reader.join(A_WHILE)
                assert reader.is_alive()
                assert hasher.size == 3 * PIECE
            finally:
                gate.open.set()
        hasher.finish()
    assert gate.taken == bytes(1000)


def test_zeros_are_shared_by_all(stand_ins, buffers):
    gate = stand_ins["gate"] = Gate()
    gate.open.set()
    with Hasher(["gate"], threads=0) as hasher:
        hasher.skip(3 << 20)
        hasher.finish()
    assert gate.taken == bytes(3 << 20)
    assert not buffers


def test_a_slow_digest_holds_up_no_other(stand_ins):
    """As long as there is memory: the other takes all that is there while the slow one is at its first."""
    slow, quick = stand_ins["slow"], stand_ins["quick"] = Gate(), Gate()
    quick.open.set()
    with Hasher(["slow", "quick"], threads=2, memory=5 * PIECE, piece=PIECE) as hasher:
        hasher.update(DATA[: 5 * PIECE])
        for _ in range(5):
            assert quick.entered.acquire(timeout=SOON)
        assert not slow.taken
        slow.open.set()
        hasher.finish()
    assert slow.taken == quick.taken == DATA[: 5 * PIECE]


def test_the_lane_that_is_furthest_behind_comes_first(stand_ins):
    """Else one digest would take all that is there while the memory of it waits for the other."""
    taken = []
    for name in ("one", "other"):
        stand_ins[name] = Gate()
        stand_ins[name].update = lambda data, name=name: taken.append(name)
    with Hasher(["one", "other"], threads=0, memory=5 * PIECE, piece=PIECE) as hasher:
        hasher.update(DATA[: 20 * PIECE])
        hasher.finish()
    assert len(taken) == 40
    ahead = [taken[:count].count("one") - taken[:count].count("other") for count in range(41)]
    assert max(map(abs, ahead)) == 1


@pytest.mark.timeout(20)
def test_a_buffer_that_nothing_came_into_holds_up_nobody(buffers):
    with Hasher(["md5"], threads=0, memory=PIECE, piece=PIECE) as hasher:
        hasher.buffer()
        hasher.skip(10)
        hasher.buffer()
        assert hasher.finish().whole == {"md5": hashlib.md5(bytes(10)).hexdigest()}
    assert len(buffers) == 1


def test_digests_of_one_image_are_computed_at_the_same_time(stand_ins):
    """Neither of two goes on before both are at work; and so it is with chunks."""
    both = threading.Barrier(2)

    class Meeting(Gate):
        def update(self, data):
            both.wait(SOON)
            self.taken += data

    stand_ins.update(one=Meeting(), other=Meeting())
    with Hasher(["one", "other"], threads=2, memory=2 * PIECE, piece=PIECE) as hasher:
        hasher.update(DATA[: 4 * PIECE])
        hasher.finish()
    assert stand_ins["one"].taken == stand_ins["other"].taken == DATA[: 4 * PIECE]


def test_chunks_of_one_image_are_hashed_at_the_same_time(monkeypatch):
    from imgstore.hashing import _chunks

    both, met = threading.Barrier(2), threading.Event()

    class Meeting:
        def __init__(self, name):
            self._true = hashlib.new(name)

        def update(self, data):
            if not met.is_set():  # the first two; who takes the third may be the one to read the fourth
                both.wait(SOON)
                met.set()
            self._true.update(data)

        def digest(self):
            return self._true.digest()

    monkeypatch.setattr(_chunks, "new", Meeting)
    with Hasher(chunk=("sha256", 2 * PIECE), threads=2, memory=4 * PIECE, piece=PIECE) as hasher:
        hasher.update(DATA[: 8 * PIECE])
        chunks = hasher.finish().chunks
    pieces = [DATA[at : at + 2 * PIECE] for at in range(0, 8 * PIECE, 2 * PIECE)]
    assert chunks == b"".join(hashlib.sha256(each).digest() for each in pieces)


def test_small_images_need_no_thread(buffers, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda self: pytest.fail("a thread is started"))
    with Hasher(["md5", "sha256"], chunk=("md5", 10), threads=4, piece=PIECE) as hasher:
        hasher.update(DATA[: PIECE // 2 - 1])
        hasher.finish()
    assert len(buffers) == 1


@pytest.mark.parametrize(
    "names, chunk, most",
    [([], None, 0), (["md5"], None, 1), (["md5", "sha1"], None, 2), ([], ("md5", 10), 4)],
)
def test_there_are_no_more_threads_than_work(names, chunk, most):
    with Hasher(names, chunk=chunk, threads=4, memory=1000, piece=PIECE) as hasher:
        hasher.update(DATA)
        assert len(hash_threads()) == most
        hasher.finish()
        assert not hash_threads()


def test_where_no_thread_is_to_be_had_the_reader_does_the_work(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Hasher(["md5"], threads=4, memory=3 * PIECE, piece=PIECE) as hasher:
        hasher.update(DATA)
        assert hasher.finish().whole == {"md5": hashlib.md5(DATA).hexdigest()}


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("error", [MemoryError, ZeroDivisionError, SystemExit])
def test_what_fails_in_a_thread_is_raised_to_the_reader(stand_ins, threads, at, error):
    stand_ins["broken"] = Broken(at, error("it broke"))
    with Hasher(["md5", "broken"], threads=threads, memory=4 * PIECE, piece=PIECE) as hasher:
        with pytest.raises(error, match="it broke"):
            hasher.update(DATA)
            hasher.finish()
        # the reader works too: what would have ended its program is told as an interrupt after that
        expected = error if issubclass(error, Exception) else (error, OperationCancelledError)
        for again in (hasher.buffer, hasher.finish, lambda: hasher.update(b"x"), lambda: hasher.skip(1)):
            with pytest.raises(expected):
                again()
    assert not hash_threads()


def test_a_failure_wakes_a_reader_that_waits(stand_ins):
    gate = stand_ins["gate"] = Gate()
    gate.update = lambda data, wait=gate.update: wait(data) or 1 / 0
    caught = []

    def read():
        try:
            hasher.update(DATA)
        except ZeroDivisionError as exc:
            caught.append(type(exc))

    with Hasher(["gate"], threads=1, memory=2 * PIECE, piece=PIECE) as hasher:
        hasher.update(DATA[:PIECE])
        assert gate.entered.acquire(timeout=SOON)  # by the thread: the reader has not waited yet
        with beside(read) as reader:
            reader.join(A_WHILE)
            gate.open.set()
    assert caught == [ZeroDivisionError]


def test_closing_in_the_middle_ends_the_threads_and_drops_the_rest(stand_ins):
    gate = stand_ins["gate"] = Gate()
    hasher = Hasher(["gate", "md5"], threads=2, memory=5 * PIECE, piece=PIECE)
    hasher.update(DATA[: 4 * PIECE])
    assert gate.entered.acquire(timeout=SOON)
    with beside(hasher.close) as closing:
        closing.join(A_WHILE)
        assert closing.is_alive()  # it waits for the part that is in work
        gate.open.set()
    assert not hash_threads()
    assert gate.taken == DATA[:PIECE]
    hasher.close()
    for again in (hasher.buffer, hasher.finish, lambda: hasher.update(b"x"), lambda: hasher.skip(1)):
        with pytest.raises(ValueError, match="the hasher is closed"):
            again()


def test_a_hasher_that_is_finished_is_closed():
    hasher = Hasher(["md5"], threads=1, piece=PIECE)
    hasher.update(DATA)
    hasher.finish()
    assert not hash_threads()
    with pytest.raises(ValueError, match="the hasher is closed"):
        hasher.finish()


def test_the_threads_of_a_hasher_that_is_dropped_end():
    hasher = Hasher(["md5"], threads=1, piece=PIECE)
    hasher.update(DATA)
    running = hash_threads()
    assert len(running) == 1
    del hasher
    gc.collect()
    running[0].join(SOON)
    assert not running[0].is_alive()


def test_an_interrupt_ends_the_work(stand_ins):
    """It comes as Ctrl-C does, while the reader waits."""
    gate = stand_ins["gate"] = Gate()
    with Hasher(["gate"], threads=1, memory=2 * PIECE, piece=PIECE) as hasher:

        def interrupt():
            assert gate.entered.acquire(timeout=SOON)
            # One that comes as the reader begins to wait, CPython keeps until the wait is over.
            assert not gate.open.wait(A_WHILE)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        try:
            with pytest.raises(KeyboardInterrupt), beside(interrupt):
                hasher.update(DATA)
        finally:
            gate.open.set()
        with pytest.raises(OperationCancelledError, match="hashing was interrupted"):
            hasher.update(b"more")
    assert not hash_threads()


def test_a_lock_that_an_interrupt_left_taken_is_given_back():
    hasher = Hasher(["md5"], threads=1, memory=4 * PIECE, piece=PIECE)
    hasher.update(DATA)
    hasher._schedule._lock.acquire()
    hasher.close()
    assert not hash_threads()


def test_interrupts_anywhere_leave_nothing_behind():
    """A timer interrupts the reader wherever it is; closing never hangs, and no thread stays.

    Not while it starts them: of a thread whose `start` is interrupted, CPython keeps an entry for ever.
    """
    drawn = random.Random(1)
    interrupted = 0

    def strike(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, strike)
    try:
        for _ in range(60):
            hasher = Hasher(["md5", "sha1"], chunk=("sha256", 900), threads=2, memory=4000, piece=1000)
            hasher.update(DATA)
            try:
                signal.setitimer(signal.ITIMER_REAL, drawn.uniform(0.0002, 0.008))
                for _ in range(100):
                    hasher.update(DATA[:5000])
                    hasher.skip(700)
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                hasher.close()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 30


def test_many_hashers_at_once():
    found = {}

    def run(number):
        data = DATA[number : number + 20_000]
        with Hasher(["sha256"], chunk=("md5", 700), threads=2, memory=500, piece=PIECE) as hasher:
            for at in range(0, len(data), 333):
                hasher.update(data[at : at + 333])
            found[number] = hasher.finish()

    readers = [threading.Thread(target=run, args=(number,)) for number in range(12)]
    for each in readers:
        each.start()
    for each in readers:
        each.join(SOON)
    for number in range(12):
        data = DATA[number : number + 20_000]
        assert found[number].whole == {"sha256": hashlib.sha256(data).hexdigest()}
        assert found[number].chunks == b"".join(
            hashlib.md5(data[at : at + 700]).digest() for at in range(0, len(data), 700)
        )


def test_after_a_fork_the_childs_is_refused_and_the_parents_goes_on(stand_ins):
    gate = stand_ins["gate"] = Gate()
    with Hasher(["gate"], threads=1, memory=4 * PIECE, piece=PIECE) as hasher:
        hasher.update(DATA[: 2 * PIECE])
        assert gate.entered.acquire(timeout=SOON)
        with hasher._schedule._lock:  # as a thread may have held it
            child = os.fork()
        if not child:
            status = 1
            with contextlib.suppress(BaseException):
                refused = 0
                for each in (
                    hasher.buffer,
                    hasher.finish,
                    lambda: hasher.update(b"x"),
                    lambda: hasher.skip(1),
                ):
                    try:
                        each()
                    except ValueError as exc:
                        refused += "belongs to the process that made it" in str(exc)
                hasher.close()
                with Hasher(["md5"], threads=1, piece=PIECE) as own:
                    own.update(DATA)
                    status = 0 if refused == 4 and own.finish().size == len(DATA) else 2
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        gate.open.set()
        hasher.update(DATA[2 * PIECE :])
        hasher.finish()
    assert gate.taken == DATA
