"""The report is a fold over events."""

from __future__ import annotations

import pytest

from imgstore.errors import ConnectionLostError, StalledError, UnavailableError
from imgstore.model import Event
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
        ([event("repaired", count=9), event("repaired", count=9)], {"repaired_chunks": 2}),
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
        "bytes held received refetched attempts resumes stalls repaired_chunks sources failures seconds "
        "digests"
    )
    assert list(Report().as_dict()) == names.split()


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
