"""Parts on their way: cut without a gap, within their memory, ended by the first that fails."""

import itertools
import random
import threading

import pytest

from imgstore.backends import _in_flight
from imgstore.backends._in_flight import InFlight
from imgstore.backends._intake import Cutter
from imgstore.buffer import paged
from imgstore.errors import ConnectionLostError, OperationCancelledError, UnsupportedError
from imgstore.model import NO_CALL, Call, CancelToken

LONG = 30.0  # seconds after which something hangs
SIZE = 10


class Service:
    """Keeps the parts it is sent. Those of `held` wait to be let go; those of `failing` are refused."""

    def __init__(self, held=(), failing=()):
        self.parts = {}
        self.held, self.failing = held, failing
        self.go = threading.Event()
        self.asked = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._now = self.most = 0

    def send(self, number, offset, data, call):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self.asked.release()
        try:
            if number in self.held:
                call.cancel.subscribe(self.go.set)
                assert self.go.wait(LONG)
            if call.cancel.cancelled:
                raise OperationCancelledError("called off")
            if number in self.failing:
                raise ConnectionLostError(f"part {number}")
            self.parts[number] = offset, bytes(data)
            return number
        finally:
            with self._lock:
                self._now -= 1

    def image(self):
        data = b""
        for number in sorted(self.parts):
            offset, part = self.parts[number]
            assert offset == len(data)
            data += part
        return data


def image(size):
    """Gives an image with zeros in it, and the pieces and holes that a source gives it in."""
    rng, data, pieces = random.Random(size), b"", []
    while len(data) < size:
        count = min(rng.randrange(1, 8), size - len(data))
        hole = rng.random() < 0.4
        pieces.append(count if hole else rng.randbytes(count))
        data += bytes(count) if hole else pieces[-1]
    return data, pieces


def run(flight, pieces, size_of=lambda _number, _offset: SIZE):
    """Sends an image as a writer does; gives what came of its parts."""
    cutter, memory = Cutter(lambda _: iter(pieces)), paged(SIZE)
    return flight.run(cutter, memory[: cutter.fill(memory)], size_of)


@pytest.fixture(params=[1, 3])
def workers(request):
    return request.param


@pytest.mark.parametrize("size", [1, 9, 10, 11, 30, 95])
def test_all_of_an_image_is_sent_in_order_and_without_a_gap(workers, size):
    data, pieces = image(size)
    service = Service()
    flight = InFlight(service.send, workers, SIZE, NO_CALL)
    assert run(flight, pieces) == list(range(-(-size // SIZE)))
    flight.close()
    assert service.image() == data


def test_memory_is_used_again_and_parts_are_sent_while_one_is_filled(monkeypatch):
    made, service = [], Service(held=range(100))
    monkeypatch.setattr(_in_flight, "paged", lambda size: made.append(size) or paged(size))
    data, pieces = image(20 * SIZE)
    flight = InFlight(service.send, 3, SIZE, NO_CALL)

    def read():
        at = 0
        for piece in pieces:
            at += piece if isinstance(piece, int) else len(piece)
            if at > 4 * SIZE and not service.go.is_set():
                # what follows the fourth part is asked for while three are on their way
                assert all(service.asked.acquire(timeout=LONG) for _ in range(3))
                assert not service.asked.acquire(blocking=False)
                service.go.set()
            yield piece

    run(flight, read())
    flight.close()
    assert service.image() == data
    assert service.most == 3
    assert made == [SIZE] * 3  # and the writer's, with the first part


def test_larger_parts_are_fewer():
    service = Service()
    data, pieces = image(20 * SIZE)
    flight = InFlight(service.send, 4, SIZE, NO_CALL)
    run(flight, pieces, lambda number, _: SIZE if number < 2 else 4 * SIZE)
    flight.close()
    assert service.image() == data
    assert len(service.parts) == 7


@pytest.mark.parametrize("size", [2 * SIZE, 3 * SIZE, 40 * SIZE])
def test_memory_of_larger_parts_is_that_of_all_or_two_of_them(size, monkeypatch):
    service, held = Service(), []
    flight = InFlight(service.send, 4, SIZE, NO_CALL)
    add = flight._add
    monkeypatch.setattr(flight, "_add", lambda *part: (add(*part), held.append(len(flight._flying))))
    run(flight, image(10 * size)[1], lambda number, _: size)
    flight.close()
    # the parts of `size` on their way are those that were just added, too
    assert max(held[1:]) * size <= max(5 * SIZE, 2 * size)


def test_the_first_failure_ends_the_others(workers):
    service = Service(held={0} if workers > 1 else (), failing={1})
    flight = InFlight(service.send, workers, SIZE, NO_CALL)
    with pytest.raises(ConnectionLostError, match="part 1"):
        run(flight, itertools.repeat(bytes(SIZE)))  # without end, but for the failure
    flight.close()
    assert set(map(type, flight.failures)) <= {OperationCancelledError}
    # the part held, and those that began while the failure was on its way to the writer
    assert bool(flight.failures) == (workers > 1)
    assert len(flight.failures) <= workers
    assert flight.sent == sorted(service.parts)


def test_what_comes_within_the_patience_counts(monkeypatch):
    service = Service(held={0, 1})
    flight = InFlight(service.send, 3, SIZE, NO_CALL)

    def read():
        yield bytes(2 * SIZE)
        yield bytes(SIZE)
        raise RuntimeError("the source's own")

    with pytest.raises(RuntimeError, match="the source's own"):
        run(flight, read())
    wait = _in_flight.wait
    monkeypatch.setattr(_in_flight, "wait", lambda *given: (service.go.set(), wait(*given)))
    flight.close(LONG)
    assert flight.sent == [0, 1]
    assert flight.failures == []


def test_without_patience_what_is_under_way_is_called_off():
    service = Service(held={0, 1, 2})
    flight = InFlight(service.send, 3, SIZE, NO_CALL)

    def refuse(number, offset):
        if number == 2:
            assert service.asked.acquire(timeout=LONG)
            raise UnsupportedError("no more")
        return SIZE

    with pytest.raises(UnsupportedError, match="no more"):
        run(flight, image(50 * SIZE)[1], refuse)
    flight.close()
    assert (flight.sent, service.parts) == ([], {})
    assert 1 <= len(flight.failures) <= 2


def test_a_cancel_of_the_caller_reaches_the_parts(workers):
    token = CancelToken()
    service = Service(held=range(100))
    flight = InFlight(service.send, workers, SIZE, Call(cancel=token))
    threading.Thread(target=lambda: (service.asked.acquire(timeout=LONG), token.cancel())).start()
    with pytest.raises(OperationCancelledError):
        run(flight, image(50 * SIZE)[1])
    flight.close()
    assert service.parts == {}


def test_closing_calls_off_nothing_of_the_caller():
    token = CancelToken()
    flight = InFlight(Service().send, 2, SIZE, Call(cancel=token))
    run(flight, image(30)[1])
    flight.close()
    assert not token.cancelled
