"""The ring of parts, played by a seeded scheduler that steps one connection after the other, in any order."""

from __future__ import annotations

import random

import pytest

from imgstore.layers._parallel_plan import RECEIVE, SLOW, PartPlan

CONTENT = random.Random(5).randbytes(4096)


def made(start=0, stop=100, *, part_size=16, ring=3, grain=1):
    sizes = []

    def memory(size):
        sizes.append(size)
        return memoryview(bytearray(size))

    return PartPlan(start, stop, part_size=part_size, ring=ring, grain=grain, memory=memory), sizes


def receive(plan, piece, count):
    """One receive of at most `count` bytes; gives how many came."""
    target = plan.target(piece)[:count]
    target[:] = CONTENT[piece.at : piece.at + len(target)]
    plan.received(piece, len(target))
    return len(target)


def complete(plan, piece):
    while receive(plan, piece, len(CONTENT)):
        pass
    plan.ended(piece)


def drain(plan):
    """Delivers all that is ready."""
    got = b""
    while ready := bytes(plan.ready()):
        got += ready
        plan.delivered(len(ready))
    return got


class Played:
    """One seed: a range, a ring, connections of very different speeds, a reader that dawdles."""

    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        self.start = rng.randrange(300)
        self.stop = rng.randint(self.start + 1, 1200)
        self.ring = rng.randint(1, 7)
        self.connections = rng.randint(1, self.ring)
        self.plan, self.sizes = made(
            self.start,
            self.stop,
            part_size=rng.choice((16, 64, 100)),
            ring=self.ring,
            grain=rng.choice((1, 4)),
        )
        self.now = 0.0
        self.pieces = []
        self.asked = []
        self.got = b""

    def run(self):
        for _ in range(100_000):
            if self.plan.finished:
                return
            self.now += self.rng.random()
            self.rng.choice((self.read, self.begin, self.go_on, self.go_on, self.go_on))()
        pytest.fail("the read came to no end")

    def read(self):
        ready = bytes(self.plan.ready())
        if ready:
            count = self.rng.randint(1, len(ready))
            self.got += ready[:count]
            self.plan.delivered(count)

    def begin(self):
        if len(self.plan.active) >= self.connections:
            return
        piece = self.plan.take() or self.plan.split(self.now)
        if piece is not None:
            piece.began = self.now
            self.pieces.append(piece)
            self.asked.append(piece.start)

    def go_on(self):
        if not self.plan.active:
            return
        piece = self.rng.choice(self.plan.active)
        target = self.plan.target(piece)
        if self.rng.random() < 0.5:
            self.meanwhile(piece)
        if target:
            count = self.rng.randint(1, len(target))
            target[:] = b"\0" * len(target)  # it may write to all of what it was given
            target[:count] = CONTENT[piece.at : piece.at + count]
            self.plan.received(piece, count)
        else:
            self.plan.ended(piece)

    def meanwhile(self, pending):
        """Another connection begins, may be with half of the piece, before the pending receive is over."""
        before = len(self.pieces)
        self.begin()
        if len(self.pieces) > before and self.pieces[-1] is not pending:
            receive(self.plan, self.pieces[-1], 50)


def test_any_order_of_steps_gives_the_range_in_order():
    for seed in range(300):
        played = Played(seed)
        played.run()
        assert played.got == CONTENT[played.start : played.stop], seed
        assert len(played.sizes) <= played.ring, seed
        assert len(set(played.asked)) == len(played.asked), seed
        assert sum(piece.at - piece.start for piece in played.pieces) == len(played.got), seed


def test_memory_is_made_when_it_is_needed_and_used_again():
    plan, sizes = made(ring=3)
    for _ in range(5):
        complete(plan, plan.take())
        drain(plan)
    assert sizes == [16]
    taken = [plan.take(), plan.take(), plan.take()]
    assert (sizes, taken[2]) == ([16, 16], None)  # 80 to 96, and the last 4


def test_no_more_parts_are_given_out_than_there_is_room_for():
    plan, sizes = made(ring=2)
    first, second = plan.take(), plan.take()
    assert plan.take() is None
    complete(plan, second)
    assert (plan.take(), bytes(plan.ready())) == (None, b"")
    complete(plan, first)
    assert plan.take() is None
    plan.delivered(15)
    assert plan.take() is None
    assert plan.delivered(1)
    assert plan.take().start == 32
    assert sizes == [16, 16]


def test_parts_end_at_multiples_of_their_size():
    plan, _ = made(start=10, stop=40)
    pieces = [plan.take() for _ in range(3)]
    assert [(piece.start, piece.stop) for piece in pieces] == [(10, 16), (16, 32), (32, 40)]
    assert plan.take() is None


def test_what_came_of_a_part_is_delivered_while_the_rest_is_on_its_way():
    plan, _ = made()
    piece, later = plan.take(), plan.take()
    assert plan.received(later, 2) is False
    assert bytes(plan.ready()) == b""
    assert plan.received(piece, 2) is True
    assert len(plan.ready()) == 2


def slow(plan, *, received, seconds):
    """Gives a piece of which so much came in so long."""
    piece = plan.take()
    piece.began = 0.0
    while received:
        received -= receive(plan, piece, received)
    return piece, seconds


@pytest.mark.parametrize(
    "received, seconds, splits",
    [
        (160, SLOW / 9 - 0.001, False),  # nine times as much is left
        (160, SLOW / 9 + 0.001, True),
        (1590, 60.0, False),  # less is left than one receive may bring
        (0, SLOW - 0.01, False),
        (0, SLOW, True),
    ],
)
def test_a_piece_is_split_when_the_rest_of_it_takes_long(received, seconds, splits):
    plan, _ = made(stop=1600, part_size=1600)
    piece, now = slow(plan, received=received, seconds=seconds)
    other = plan.split(now)
    assert (other is not None) is splits
    if splits:
        assert (other.start, other.stop) == (received + (1600 - received) // 2, 1600)
        assert piece.stop == other.start


def test_the_slowest_is_split():
    plan, _ = made(stop=3200, part_size=1600)
    _, _ = slow(plan, received=800, seconds=10.0)
    slower, now = slow(plan, received=400, seconds=10.0)
    assert plan.split(now).part is slower.part


def test_one_that_is_not_open_yet_is_not_slow():
    plan, _ = made(stop=1600, part_size=1600)
    plan.take()
    assert plan.split(100.0) is None


def test_a_piece_is_split_behind_what_a_pending_receive_may_write():
    plan, _ = made(stop=1600, part_size=1600)
    piece, now = slow(plan, received=1300, seconds=60.0)
    pending = plan.target(piece)
    other = plan.split(now)
    assert len(pending) == 200 == 1600 // 8
    assert other.start == 1500 == piece.at + len(pending)
    assert plan.split(now) is None
    assert plan.target(piece) == pending


def test_a_piece_is_split_where_a_chunk_ends():
    plan, _ = made(stop=1600, part_size=1600, grain=500)
    piece, now = slow(plan, received=1, seconds=10.0)
    assert plan.split(now).start == 1000
    assert piece.stop == 1000


def test_a_receive_is_bounded():
    plan, _ = made(stop=64 << 20, part_size=16 << 20)
    assert len(plan.target(plan.take())) == RECEIVE


def test_behind_a_cut_nothing_is_given_out_nor_received_nor_delivered():
    plan, _ = made()
    first, second, third = plan.take(), plan.take(), plan.take()
    receive(plan, second, 1)
    plan.cut(32)
    plan.cut(16)
    assert not plan.target(second)
    assert not plan.target(third)
    for piece in (second, third):
        plan.ended(piece)
    complete(plan, first)
    assert (drain(plan), plan.finished, plan.given_out) == (CONTENT[:16], True, True)


def test_a_piece_that_is_split_twice_is_delivered_in_order():
    plan, _ = made(stop=1600, part_size=1600)
    slowest, now = slow(plan, received=1, seconds=10.0)
    last = plan.split(now)
    receive(plan, last, 100)
    middle = plan.split(now)
    assert (slowest.stop, middle.stop) == (middle.start, last.start)
    complete(plan, last)
    complete(plan, slowest)
    assert drain(plan) == CONTENT[: slowest.stop]
    complete(plan, middle)
    assert drain(plan) == CONTENT[slowest.stop : 1600]
