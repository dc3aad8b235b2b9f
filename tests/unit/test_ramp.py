from __future__ import annotations

import pytest

from imgstore.ramp import FIRST_HOLD, LONGEST_HOLD, PATIENCE, RECHECK, SETTLE, SHARE, SOON, SOONEST, Ramp

MIB = 1 << 20
TICK = 0.01
CONNECT = 0.1  # seconds in which a new connection brings nothing: two round trips of 50 ms


def each_limited(_time, connections):
    """A server that gives each connection 8 MiB a second."""
    return 8 * MIB * connections


def all_limited(_time, _connections):
    """A line that one connection fills."""
    return 100 * MIB


def two_cores(_time, connections):
    """Two of our own cores take what comes; more threads only get into each other's way."""
    return {1: 600, 2: 1000, 3: 1020, 4: 1050}.get(connections, 1000) * MIB


def up_to_five(_time, connections):
    """A line that five connections fill."""
    return 10 * MIB * min(connections, 5)


def round_trips(_time, connections):
    """Parts of 4 MiB, each asked for 50 ms before it begins to come, at 200 MiB/s from then on."""
    return connections * 4 * MIB / (0.05 + 4 / 200)


def play(server, *, most=8, seconds=60.0, first=1):
    """Runs a ramp against a server; gives the connections wanted at each tick."""
    ramp = Ramp(most, first=first)
    total, wanted, opened = 0.0, [ramp.observe(0.0, 0)], [CONNECT]
    for tick in range(1, int(seconds / TICK)):
        time = tick * TICK
        opened = opened[: wanted[-1]] + [time + CONNECT] * (wanted[-1] - len(opened))
        total += server(time, sum(each <= time for each in opened)) * TICK if opened[0] <= time else 0
        wanted.append(ramp.observe(time, int(total)))
    return wanted


@pytest.mark.parametrize(
    "server, most, settled",
    [
        (each_limited, 8, 8),
        (each_limited, 1, 1),
        (each_limited, 6, 6),
        (all_limited, 8, 1),
        (two_cores, 8, 2),
        (up_to_five, 16, 8),
        (round_trips, 8, 8),
    ],
)
def test_as_many_connections_as_help(server, most, settled):
    wanted = play(server, most=most)
    assert max(wanted) <= most
    assert wanted.count(settled) / len(wanted) > 0.9


@pytest.mark.parametrize(
    "server, most, settled",
    [(each_limited, 8, 8), (each_limited, 2, 2), (all_limited, 8, 4), (two_cores, 3, 3), (round_trips, 8, 8)],
)
def test_four_are_there_at_once_and_more_if_they_help(server, most, settled):
    wanted = play(server, most=most, first=4)
    assert wanted[0] == min(4, most)
    assert wanted.count(settled) / len(wanted) > 0.9
    if settled == 8:
        assert wanted.index(8) * TICK < CONNECT + SETTLE + SOON + 2 * TICK


def test_the_first_ones_are_not_measured_before_they_may_all_receive():
    """Or the little that one brings would be taken for what four do, and any more for growth."""
    ramp = Ramp(8)
    assert [ramp.observe(tick * TICK, tick * MIB, receiving=1) for tick in range(9)] == [4] * 9
    assert ramp._began is None
    ramp.observe(9 * TICK, 9 * MIB, receiving=4)
    assert ramp._began == (9 * TICK, 9 * MIB)


@pytest.mark.parametrize("server", [each_limited, round_trips])
def test_eight_that_help_are_there_within_a_second(server):
    assert play(server).index(8) * TICK < CONNECT + 1.0


def test_bursts_that_keep_to_a_limit_on_the_whole_are_growth():
    class Bursts:
        """nginx: what a socket takes, 2.5 MiB, then nothing until the limit of 8 MiB/s is kept again."""

        def __init__(self):
            self.sent = {}

        def __call__(self, time, connections):
            count = 0.0
            for each in range(connections):
                begun, sent = self.sent.setdefault(each, (time, 0.0))
                if sent <= (time - begun) * 8 * MIB:
                    self.sent[each] = begun, sent + 2.5 * MIB
                    count += 2.5 * MIB
            return count / TICK

    assert play(Bursts()).index(8) * TICK < 2.0


def test_a_doubling_in_vain_is_taken_back_and_tried_again_more_and_more_seldom():
    wanted = play(all_limited, seconds=900.0)
    ups = [tick * TICK for tick in range(1, len(wanted)) if wanted[tick - 1] < wanted[tick]]
    downs = [tick * TICK for tick in range(1, len(wanted)) if wanted[tick - 1] > wanted[tick]]
    assert [down - up for up, down in zip(ups, downs, strict=False)] == pytest.approx(
        [SETTLE + PATIENCE] * len(ups), abs=2 * TICK
    )
    waits = [up - down - SETTLE for down, up in zip(downs, ups[1:], strict=False)]
    assert waits == pytest.approx([0.5, 10, 20, 40, 80, 160, 160, 160, 160], abs=2 * TICK)
    assert (waits[0], waits[1], waits[-1]) == pytest.approx((RECHECK, FIRST_HOLD, LONGEST_HOLD), abs=2 * TICK)


def test_a_line_that_becomes_wider_is_used():
    def widened(time, connections):
        return each_limited(time, connections) if time > 15 else 8 * MIB

    wanted = play(widened, seconds=60.0)
    assert wanted[int(15 / TICK)] == 1
    assert wanted[-1] == 8


@pytest.mark.parametrize("gain, kept", [(1 + SHARE - 0.05, False), (1 + SHARE + 0.05, True)])
def test_twice_the_connections_bring_a_fifth_more_or_go(gain, kept):
    ramp = Ramp(2, first=1)
    wanted = [ramp.observe(time / 10, time * MIB) for time in range(1, 5)]
    assert wanted == [1, 1, 1, 2]
    after = [ramp.observe(0.4 + time / 10, int((4 + time * gain) * MIB)) for time in range(1, 14)]
    assert (after[-1] == 2) is kept


def test_a_last_step_that_is_no_doubling_is_asked_for_its_own_share():
    """Five instead of four bring a quarter at most: a fifth of that is enough."""

    def hardly_five(_time, connections):
        return min(connections, 4.25) * MIB

    assert play(hardly_five, most=5, seconds=10.0)[-1] == 5


def test_nothing_is_decided_before_the_first_byte():
    ramp = Ramp(8, first=1)
    assert [ramp.observe(second, 0) for second in range(30)] == [1] * 30
    assert [ramp.observe(30.0, MIB), ramp.observe(30.25, 2 * MIB)] == [1, 2]


def test_there_is_at_least_one_connection():
    with pytest.raises(ValueError, match="most is 0; there is at least one connection"):
        Ramp(0)


@pytest.mark.parametrize("told", [True, False])
def test_connections_that_are_known_to_receive_are_judged_sooner(told):
    ramp = Ramp(4, first=1)
    reached = {}
    for tick in range(1, 100):
        wanted = ramp.observe(tick * TICK, tick * ramp.wanted * MIB, receiving=ramp.wanted if told else 0)
        reached.setdefault(wanted, tick * TICK)
    assert reached[4] - reached[2] == pytest.approx(SOONEST if told else SETTLE + SOONEST, abs=2.5 * TICK)


@pytest.mark.parametrize("pause, seconds", [(0.02, SOONEST), (0.11, SOON)])
def test_growth_is_believed_sooner_in_a_steady_flow(pause, seconds):
    ramp = Ramp(2, first=1)
    time = 0.0
    while ramp.observe(time, int((1 + time) * MIB)) == 1:
        time += pause
    assert time == pytest.approx(seconds, abs=1e-6 + pause / 2)


def test_a_step_that_failed_for_a_lucky_moment_before_it_is_soon_tried_again():
    """The first connection begins with what a buffer on the way had gathered."""

    def lucky(time, connections):
        return (40 if time < 0.25 else 8) * MIB * connections

    wanted = play(lucky)
    assert wanted[150] == 1
    assert wanted.index(8) * TICK < 4.0
