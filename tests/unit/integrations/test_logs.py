"""Which events become which lines, and how many."""

from __future__ import annotations

import io
import logging
import sys
import threading

import pytest

from imgstore import stack
from imgstore.backends.memory import MemoryStore
from imgstore.errors import ConnectionLostError, NotFoundError, StalledError
from imgstore.integrations.logs import LogObserver
from imgstore.model import Event
from tests import canary

LOST = ConnectionLostError("the connection broke", request_id="r\n1")


class Watch:
    """A clock that stands still, and the observer that reads it."""

    def __init__(self, caplog, **options):
        caplog.set_level(logging.DEBUG)
        self.at = 100.0
        self.caplog = caplog
        self.observe = LogObserver(now=lambda: self.at, **options)

    def lines(self, *events):
        self.caplog.clear()
        for event in events:
            self.observe(event)
        return [(each.levelname, each.getMessage()) for each in self.caplog.records]


@pytest.fixture
def switching():
    """Lets threads take turns as often as can be."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def watch(caplog):
    return Watch(caplog)


def test_a_break_and_its_mending(watch):
    lines = watch.lines(
        Event("opened", "fast", "disk", seconds=0.25),
        Event("delivered", "fast", "disk", count=10),
        Event("failed", "fast", "disk", offset=10, error=LOST),
        Event("opened", "fast", "disk", offset=10, seconds=0.0000004),
        Event("refetched", "fast", "disk", count=10),
        Event("resumed", "fast", "disk", offset=10, attempt=2, error=LOST),
    )
    told = "error=ConnectionLostError message='the connection broke' request_id='r\\n1'"
    assert lines == [
        ("DEBUG", "event=opened store='fast' key='disk' op=get offset=0 seconds=0.25"),
        ("INFO", f"event=failed store='fast' key='disk' op=get offset=10 {told}"),
        ("DEBUG", "event=opened store='fast' key='disk' op=get offset=10 seconds=0.0"),
        ("INFO", f"event=resumed store='fast' key='disk' op=get offset=10 attempt=2 {told}"),
    ]


def test_what_else_is_told(watch):
    lines = watch.lines(
        Event("stalled", "fast", "disk", offset=7, error=StalledError("slow")),
        Event("repaired", "fast", "disk", offset=4096, count=4096),
        Event("source", "cold", "disk", offset=5),
        Event("failed", "fast", "disk", "put", error=NotFoundError("no disk"), opening=True),
    )
    assert lines == [
        ("INFO", "event=stalled store='fast' key='disk' op=get offset=7 error=StalledError message='slow'"),
        ("INFO", "event=repaired store='fast' key='disk' op=get offset=4096 count=4096"),
        ("DEBUG", "event=source store='cold' key='disk' op=get offset=5"),
        (
            "INFO",
            "event=failed store='fast' key='disk' op=put offset=0 error=NotFoundError message='no disk'",
        ),
    ]


def test_the_record_has_the_fields(watch):
    watch.lines(Event("resumed", "fast", "disk", offset=10, attempt=2, error=LOST))
    assert watch.caplog.records[0].imgstore == {
        "event": "resumed",
        "store": "fast",
        "key": "disk",
        "op": "get",
        "offset": 10,
        "attempt": 2,
        "error": "ConnectionLostError",
        "message": "the connection broke",
        "request_id": "r\n1",
    }


def test_at_most_one_line_a_second_of_each_kind_and_store(watch):
    failed = Event("failed", "fast", "disk", error=LOST)
    assert len(watch.lines(*[failed] * 1000)) == 1
    assert len(watch.lines(Event("failed", "cold", "disk"), Event("resumed", "fast", "disk"))) == 2
    watch.at += 0.99
    assert watch.lines(failed) == []
    watch.at += 0.02
    (line,) = watch.lines(failed, failed)
    assert " omitted=1000 " in line[1]
    watch.at += 5
    (line,) = watch.lines(failed)
    assert " omitted=1 " in line[1]
    watch.at += 5
    (line,) = watch.lines(failed)
    assert "omitted" not in line[1]


def test_what_is_routine_is_never_left_out(watch):
    assert len(watch.lines(*[Event("opened", "fast", "disk")] * 5)) == 5


def test_the_level_and_the_logger_are_the_callers(caplog):
    watch = Watch(caplog, logger=logging.getLogger("mine"), level=logging.ERROR)
    assert [level for level, _ in watch.lines(Event("failed", "fast", "disk"))] == ["ERROR"]
    assert caplog.records[0].name == "mine"


def test_a_level_that_nobody_reads_costs_no_line_of_a_later_one(watch):
    logging.getLogger("imgstore.integrations.logs").setLevel(logging.WARNING)
    try:
        assert watch.lines(*[Event("failed", "fast", "disk")] * 3, Event("opened", "fast", "disk")) == []
    finally:
        logging.getLogger("imgstore.integrations.logs").setLevel(logging.NOTSET)
    assert "omitted" not in watch.lines(Event("failed", "fast", "disk"))[0][1]


def test_no_key_breaks_a_line_and_no_foreign_text_is_repeated(watch):
    (line,) = watch.lines(
        Event("failed", "fast", "a\nevent=resumed \x1b[2J\u202e", error=OSError(canary.TOKEN))
    )
    assert line[1] == (
        r"event=failed store='fast' key='a\nevent=resumed \x1b[2J\u202e' op=get offset=0 error=OSError"
    )


def test_threads_share_the_limit(watch, switching):
    events = [Event("failed", "fast", "disk")] * 2000
    threads = [threading.Thread(target=watch.lines, args=events) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    watch.at += 2
    (line,) = watch.lines(events[0])
    assert " omitted=7999" in line[1]


def test_a_read_of_a_store(watch):
    store = MemoryStore()
    store.store_id = "fast"
    store.writer.put("disk", io.BytesIO(b"boot"))
    watch.caplog.clear()
    with stack.build(store, observe=watch.observe).get("disk") as stream:
        stream.read()
    assert [each.imgstore["event"] for each in watch.caplog.records] == ["opened"]
