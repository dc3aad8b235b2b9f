"""The report is a fold over events."""

from __future__ import annotations

import threading

import pytest

from imgstore.errors import (
    ConnectionLostError,
    OperationCancelledError,
    StalledError,
    UnavailableError,
)
from imgstore.model import Event
from imgstore.transfer.pace import Pace
from imgstore.transfer.progress import Report


class Clock:
    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


def event(kind, store="web", **fields):
    return Event(kind, store, "disk.img", **fields)


OPENED = event("opened")
BROKEN = event("failed", error=ConnectionLostError("reset", store="web"))
REFUSED = event("failed", error=UnavailableError("503"), opening=True)
STALLED = event("stalled", error=StalledError("slow"))
RESUMED = event("resumed", attempt=2, error=ConnectionLostError("reset"))


def received(count, **fields):
    return event("delivered", count=count, **fields)


@pytest.mark.parametrize(
    "events, expected",
    [
        ([], {"attempts": 0, "received": 0, "resumes": 0}),
        ([OPENED, received(10), received(5)], {"attempts": 1, "received": 15, "resumes": 0}),
        (
            [OPENED, received(10), BROKEN, OPENED, RESUMED, received(5)],
            {"attempts": 2, "received": 15, "resumes": 1},
        ),
        ([REFUSED, REFUSED, OPENED, received(5)], {"attempts": 3, "received": 5, "resumes": 0}),
        ([OPENED, BROKEN, REFUSED, OPENED, RESUMED], {"attempts": 3, "resumes": 1}),
        ([OPENED, received(1), STALLED, OPENED, RESUMED], {"attempts": 2, "stalls": 1, "resumes": 1}),
        ([OPENED, STALLED, REFUSED, OPENED, RESUMED], {"attempts": 3, "stalls": 1}),
        ([OPENED, OPENED, BROKEN, BROKEN, OPENED], {"attempts": 3}),  # two streams at once
        ([OPENED, BROKEN, STALLED, OPENED, RESUMED], {"attempts": 2, "stalls": 1}),
        ([OPENED, received(10), event("refetched", count=4)], {"received": 10, "refetched": 4}),
        ([event("repaired", count=9), event("repaired", count=9)], {"repaired_chunks": 2, "repaired": 18}),
        ([event("source", store="b"), received(3, store="b"), received(4)], {"sources": {"b": 3, "web": 4}}),
        ([OPENED], {"sources": {"web": 0}, "failures": []}),
        (
            [
                event("failed", store="mirror", offset=7, error=ConnectionLostError("reset", store="web")),
                BROKEN,
            ],
            {
                "failures": [
                    {"source": "web", "offset": 7, "type": "ConnectionLostError", "message": "reset"}
                ],
                "attempts": 0,
            },
        ),
        (
            [event("opened", operation="stat"), event("failed", operation="stat", opening=True)],
            {"attempts": 0, "sources": {}},
        ),
    ],
)
def test_the_fold(events, expected):
    report = Report()
    for each in events:
        report.observe(each)
    told = report.as_dict()
    assert {name: told[name] for name in expected} == expected


def test_the_names_are_those_of_the_contract():
    names = (
        "bytes held received refetched attempts resumes stalls repaired_chunks repaired sources failures "
        "seconds digests"
    )
    assert list(Report().as_dict()) == names.split()


@pytest.mark.parametrize(
    "came, told, expected",
    [(100, 0, 0), (130, 0, 30), (130, 40, 40), (0, 0, 0)],
    ids=["once", "of two streams", "told already", "holes"],
)
def test_p16_what_was_received_beyond_the_target_came_again(came, told, expected):
    report = Report()
    report.found(50)
    report.observe(received(came))
    report.observe(event("refetched", count=told))
    report.delivered(100)
    report.settle()
    assert report.refetched == expected


def test_time_stops_with_the_transfer():
    clock = Clock()
    report = Report(now=clock)
    clock.at += 2.0004
    assert report.seconds == pytest.approx(2.0004)
    report.finish()
    clock.at += 5
    report.finish()
    assert report.as_dict()["seconds"] == 2.0


def test_the_numbers_given_out_are_a_copy():
    report = Report()
    report.observe(received(3))
    report.as_dict()["sources"]["web"] = 0
    report.delivered(2)
    assert report.as_dict()["sources"] == {"web": 3}
    assert report.as_dict()["bytes"] == 2


class TestFollowed:
    @pytest.fixture
    def clock(self):
        return Clock()

    @pytest.fixture
    def report(self, clock):
        report = Report(now=clock)
        report.total = 100
        return report

    def test_at_most_once_in_a_while(self, report, clock):
        told = []
        report.follow(told.append, every=1.0)
        for _ in range(20):
            clock.at += 0.25
            report.delivered(5)
        assert [(each.seconds, each.bytes) for each in told] == [(n, 20 * n) for n in (1, 2, 3, 4, 5)]
        assert (told[1].rate, told[1].left, told[-1].left) == (20.0, 3.0, 0.0)

    def test_what_was_held_is_no_speed(self, report, clock):
        told = []
        report.follow(told.append)
        report.found(60)
        clock.at += 2
        report.delivered(20)
        assert [(each.bytes, each.held, each.rate, each.left) for each in told] == [(80, 60, 10.0, 2.0)]

    def test_it_may_call_the_transfer_off(self, report, clock):
        def enough(progress):
            raise OperationCancelledError("enough")

        report.follow(enough, every=0.0)
        with pytest.raises(OperationCancelledError, match="enough"):
            report.delivered(1)
        assert report.bytes == 1

    def test_one_thread_at_a_time(self, report):
        """A callback that is slow is not entered by another thread that brings bytes, and holds none up."""
        entered, over, told = threading.Event(), threading.Event(), []

        def slow(progress):
            told.append(progress)
            entered.set()
            over.wait(5)

        report.follow(slow, every=0.0)
        thread = threading.Thread(target=report.delivered, args=(1,))
        thread.start()
        assert entered.wait(5)
        report.delivered(1)
        over.set()
        thread.join()
        assert (len(told), report.bytes) == (1, 2)

    def test_of_an_unknown_size_nothing_is_left_to_tell(self, clock):
        report, told = Report(now=clock), []
        report.follow(told.append, every=0.0)
        clock.at += 1
        report.delivered(5)
        assert (told[0].total, told[0].left, told[0].rate) == (None, None, 5.0)


def test_a_rate_is_that_of_the_last_seconds_and_nothing_in_a_stall():
    clock = Clock()
    report = Report(now=clock)
    pace = Pace(report)
    for _ in range(30):
        clock.at += 1
        report.delivered(100)
        rate = pace.look().rate
    assert rate == pytest.approx(100)
    clock.at += 1
    assert pace.look().rate < 100
    clock.at += 1.5
    assert pace.look().rate == 0.0
    report.delivered(1)
    assert pace.look().rate > 0
