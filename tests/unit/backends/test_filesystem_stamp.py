"""When the stamp of a file means something (docs/decisions/0008-filesystem-versions.md)."""

from __future__ import annotations

import os
import time

import pytest

from imgstore.backends.filesystem import stamp
from imgstore.model import Call, CancelToken

TICK = 4_000_000
NOW = 1_700_000_000_123_456_789


class Time:
    """The clocks of the machine, and the injected one that moves them; `late` ticks have not come yet."""

    def __init__(self, monkeypatch, late=0):
        self.at = NOW
        self.slept = []
        self.late = late
        monkeypatch.setattr(time, "time_ns", lambda: self.at)
        monkeypatch.setattr(time, "clock_getres", lambda clock: TICK / 1e9)
        monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: self.coarse())

    def coarse(self):
        return self.at - self.at % TICK - self.late * TICK

    def now(self):
        return self.at / 1e9

    def time(self):
        return self.at / 1e9

    def sleep(self, seconds, wake=None):
        self.slept.append(seconds)
        if wake is None or not wake.wait(0):
            self.at += max(int(seconds * 1e9), 1)


@pytest.fixture
def clock(monkeypatch):
    return Time(monkeypatch)


def found(ctime, ino=7, size=9, mtime=5):
    values = {"st_ino": ino, "st_size": size, "st_mtime_ns": mtime, "st_ctime_ns": ctime}
    return type("Found", (), values)()


def test_a_file_of_this_tick_is_waited_for_until_the_coarse_clock_has_passed_it(clock):
    file = found(clock.coarse())
    assert stamp.unsettled(file) > 0
    assert stamp.settle(file, clock, Call())
    assert clock.coarse() > file.st_ctime_ns
    assert 0 < clock.at - NOW <= TICK + 1


def test_a_file_of_an_earlier_tick_is_not_waited_for(clock):
    assert stamp.settle(found(clock.coarse() - 1), clock, Call())
    assert clock.slept == []


def test_a_fine_stamp_ahead_of_the_coarse_clock_is_waited_for(clock):
    file = found(NOW)
    assert stamp.settle(file, clock, Call())
    assert clock.coarse() > file.st_ctime_ns


def test_late_ticks_are_waited_for(monkeypatch):
    clock = Time(monkeypatch, late=3)
    file = found(NOW)
    assert stamp.settle(file, clock, Call())
    assert clock.coarse() > NOW
    assert len(clock.slept) > 1


@pytest.mark.parametrize("age", [0, 1, 1.999])
def test_a_stamp_of_whole_seconds_is_waited_for_two_seconds(clock, age):
    whole = NOW - NOW % 10**9
    clock.at = whole + int(age * 1e9)
    assert stamp.settle(found(whole), clock, Call())
    assert clock.at == pytest.approx(whole + 2 * 10**9, abs=10)


def test_a_stamp_from_far_ahead_is_not_waited_for(clock):
    assert stamp.settle(found(NOW + 3 * 10**9 + 1), clock, Call())
    assert clock.slept == []


def test_the_deadline_and_the_cancel_cut_the_wait_short(clock):
    whole = NOW - NOW % 10**9
    assert not stamp.settle(found(whole), clock, Call(deadline=clock.time() + 0.5))
    assert clock.at - NOW <= 0.51e9
    token = CancelToken()
    token.cancel()
    assert not stamp.settle(found(whole), clock, Call(cancel=token))


def test_a_clock_that_does_not_move_the_machines_is_not_waited_for_without_an_end(clock):
    clock.sleep = lambda seconds, wake=None: None
    assert stamp.settle(found(NOW), clock, Call())


def test_each_of_the_four_makes_another_version(tmp_path):
    base = {"ino": 7, "size": 9, "mtime": 5, "ctime": 3}
    tokens = {stamp.version_of(found(**base))}
    for name in base:
        tokens.add(stamp.version_of(found(**{**base, name: 100})))
    assert len(tokens) == 5
    (tmp_path / "a").write_bytes(b"x")
    told = os.stat(tmp_path / "a")
    assert stamp.version_of(told).startswith(f"{told.st_ino:x}-1-")
