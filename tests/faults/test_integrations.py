"""Reads that break, as an operator sees them: every figure is held against the server's own log."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from imgstore.errors import ProtocolViolationError, RetriesExhaustedError
from imgstore.files import open_image
from imgstore.integrations import observers
from imgstore.integrations._metering import COUNTERS, counted
from imgstore.integrations.logs import LogObserver
from imgstore.integrations.opentelemetry import OpenTelemetryObserver
from imgstore.integrations.prometheus import PrometheusObserver
from imgstore.testing import server as wire
from tests.faults import rows
from tests.faults.rows import BUFFER, CHUNK, IMAGE, N
from tests.unit.integrations.metering import EVENTS

PAGE = Path(__file__).parents[2] / "docs" / "observing.md"

rig = rows.rig


class Meters:
    """The adapters of metrics as observers of a rig's stores, scraped over HTTP and read from memory."""

    def __init__(self, rig):
        self.registry = CollectorRegistry()
        self.reader = InMemoryMetricReader()
        provider = MeterProvider([self.reader], shutdown_on_exit=False)
        each = PrometheusObserver(self.registry), OpenTelemetryObserver(provider)
        rig.events = Told(observers(*each))

    def scraped(self):
        """Gives the counters as a scrape gets them: name, operation and class to value."""
        return scrape(*start_http_server(0, addr="127.0.0.1", registry=self.registry))

    def collected(self):
        (resource,) = self.reader.get_metrics_data().resource_metrics
        (scope,) = resource.scope_metrics
        return {
            (metric.name.removeprefix("imgstore."), labels["op"], labels["class"]): point.value
            for metric in scope.metrics
            for point in metric.data.data_points
            if "class" in (labels := point.attributes)
        }


def scrape(server, thread):
    """Gives our counters from a server of metrics, and ends it: name, operation and class to value."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as reply:
            text = reply.read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    return {
        (name[1], each.labels["op"], each.labels["class"]): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if (name := re.fullmatch(r"imgstore_(\w+)_total", each.name))
    }


class Told(list):
    """The list of a rig's events, which hands each on."""

    def __init__(self, observe):
        super().__init__()
        self.observe = observe

    def append(self, event):
        super().append(event)
        self.observe(event)


def test_a_read_with_two_cuts_a_stall_and_an_overload(rig):
    meters = Meters(rig)
    rig.script(
        wire.Status(503),
        wire.Cut(at=BUFFER),
        wire.Status(503),
        wire.Stall(at=2 * BUFFER),
        wire.Reset(at=CHUNK),
    )
    assert rig.read(stall_timeout=1) == IMAGE
    exchanges = rig.exchanges
    served = [each for each in exchanges if each.status == 206]
    assert (len(exchanges), len(served), rig.sent) == (6, 4, N)
    assert meters.scraped() == {
        ("bytes", "get", "received"): rig.sent,
        ("attempts", "get", "opened"): 4,
        ("attempts", "get", "failed"): 2,
        ("errors", "get", "UnavailableError"): 2,
        ("errors", "get", "TruncatedError"): 1,
        ("errors", "get", "TimedOutError"): 1,
        ("errors", "get", "ConnectionLostError"): 1,
        ("stalls", "get", "TimedOutError"): 1,
        ("resumes", "get", "UnavailableError"): 1,
        ("resumes", "get", "TimedOutError"): 1,
        ("resumes", "get", "ConnectionLostError"): 1,
    }
    assert meters.collected() == meters.scraped()


def test_what_is_fetched_twice_shows(rig):
    rig.put(etag=None)  # nothing but the bytes themselves tells one version from another
    meters = Meters(rig)
    rig.script(wire.Cut(at=BUFFER))
    assert rig.read() == IMAGE
    found = meters.scraped()
    assert found[("bytes", "get", "received")] == rig.sent == N + BUFFER
    assert found[("bytes", "get", "refetched")] == BUFFER
    assert found[("attempts", "get", "opened")] == rig.requests == 2
    assert meters.collected() == found


def test_a_reply_that_is_refused_is_an_attempt_once(rig):
    meters = Meters(rig)
    rig.script(wire.Cut(at=BUFFER), then=rows.refused(wire.NoRanges()))
    rig.fails(ProtocolViolationError, skip_limit=1)
    found = meters.scraped()
    assert found[("attempts", "get", "opened")] == rig.requests
    assert ("attempts", "get", "failed") not in found


def test_attempts_in_vain(rig):
    meters = Meters(rig)
    rig.script(then=wire.Status(503))
    rig.fails(RetriesExhaustedError)
    assert (
        meters.scraped()
        == meters.collected()
        == {
            ("attempts", "get", "failed"): rig.requests,
            ("errors", "get", "UnavailableError"): rig.requests,
        }
    )


def test_a_file_of_an_image_is_observed_by_its_store(rig):
    meters = Meters(rig)
    with open_image(*rig.store()) as file:
        while file.read(BUFFER):
            pass
    found = meters.scraped()
    assert found == {("bytes", "get", "received"): N, ("attempts", "get", "opened"): rig.requests}


def test_the_lines_of_a_break(rig, caplog):
    rig.events = Told(LogObserver())
    rig.script(wire.Cut(at=BUFFER))
    assert rig.read() == IMAGE
    fields = [each.imgstore for each in caplog.records if hasattr(each, "imgstore")]
    assert [(each["event"], each["offset"]) for each in fields] == [
        ("opened", 0),
        ("failed", BUFFER),
        ("opened", BUFFER),
        ("resumed", BUFFER),
    ]


def test_the_example_of_the_documentation(rig, tmp_path, monkeypatch):
    """Its code as it stands, but for the port: a read with a cut, scraped from where it says."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "imgstore.conf").write_text(
        "[imgstore]\nenabled_stores = web:http\n"
        f"[store_web]\nurl = {rig.server.url('/')}\ntrust_env = false\n"
    )
    monkeypatch.chdir(tmp_path)
    rig.script(wire.Cut(at=BUFFER))
    assert code.count("9000") == 1
    names = {}
    exec(compile(code.replace("9000", "0"), str(PAGE), "exec"), names)
    assert scrape(names["server"], names["thread"]) == {
        ("bytes", "get", "received"): N,
        ("attempts", "get", "opened"): 2,
        ("errors", "get", "TruncatedError"): 1,
        ("resumes", "get", "TruncatedError"): 1,
    }


def test_the_documentation_names_every_metric_and_class():
    page = PAGE.read_text()
    for name in COUNTERS:
        assert f"`imgstore_{name}_total` | `imgstore.{name}`" in page
    assert "`imgstore_attempt_duration_seconds` | `imgstore.attempt.duration`" in page
    for event in EVENTS:
        for _, kind, _ in counted(event):
            assert kind.endswith("Error") or f"`{kind}`" in page or not kind
