"""Events in a registry of Prometheus, read back as what a scrape would get."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import weakref

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from imgstore.integrations.prometheus import PrometheusObserver
from imgstore.model import Event
from tests.unit.integrations.metering import COUNTS, DURATIONS, EVENTS


@pytest.fixture
def registry():
    return CollectorRegistry()


def samples(registry):
    """Gives every sample of the exposition: its name, and its labels in the order of the documentation."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (each.name, *(each.labels[name] for name in ("store", "op", "class", "le") if name in each.labels)): (
            each.value
        )
        for family in families
        for each in family.samples
    }


def counters(registry):
    return {
        (name.removeprefix("imgstore_").removesuffix("_total"), *labels): value
        for (name, *labels), value in samples(registry).items()
        if name.endswith("_total")
    }


def test_every_event_counts_where_it_belongs(registry):
    observe = PrometheusObserver(registry)
    for event in EVENTS:
        observe(event)
    assert counters(registry) == COUNTS


def test_durations(registry):
    observe = PrometheusObserver(registry)
    for event in EVENTS:
        observe(event)
    found = samples(registry)
    name = "imgstore_attempt_duration_seconds"
    for which, (count, total) in DURATIONS.items():
        assert found[(f"{name}_count", *which)] == count
        assert found[(f"{name}_sum", *which)] == pytest.approx(total)
    bounds = [
        float(labels[-1]) for name, *labels in found if labels[:1] == ["fast"] and name.endswith("_bucket")
    ]
    assert bounds == [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, float("inf")]
    assert [found[f"{name}_bucket", "fast", "get", le] for le in ("0.01", "0.03", "0.1", "0.3")] == [
        0,
        1,
        1,
        2,
    ]


def test_no_label_holds_a_key(registry):
    observe = PrometheusObserver(registry)
    for number in range(1000):
        observe(Event("delivered", "fast", f"disk{number}", count=1))
        observe(Event("failed", "fast", f"disk{number}", error=type(f"Odd{number}", (OSError,), {})()))
    assert counters(registry) == {
        ("bytes", "fast", "get", "received"): 1000,
        ("errors", "fast", "get", "other"): 1000,
    }


def test_observers_of_one_registry_share_its_metrics(registry):
    PrometheusObserver(registry)(EVENTS[0])
    PrometheusObserver(registry)(EVENTS[1])
    assert counters(registry) == {("attempts", "fast", "get", "opened"): 2}
    other = CollectorRegistry()
    PrometheusObserver(other)
    assert counters(other) == {}


def test_a_registry_goes_when_nobody_has_it():
    registry = CollectorRegistry()
    PrometheusObserver(registry)(EVENTS[0])
    gone = weakref.ref(registry)
    del registry
    gc.collect()
    assert gone() is None


def test_names_that_are_taken_are_told(registry):
    Counter("imgstore_errors", "of somebody else", registry=registry)
    with pytest.raises(ValueError, match="imgstore_errors"):
        PrometheusObserver(registry)


def test_it_counts_from_many_threads(registry):
    observe = PrometheusObserver(registry)

    def work(number):
        for _ in range(500):
            observe(Event("delivered", f"store{number % 2}", "disk", count=3))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert counters(registry) == {("bytes", f"store{n}", "get", "received"): 4500 for n in (0, 1)}


def test_what_cannot_be_counted_ends_nothing_and_is_logged_once(registry, caplog):
    observe = PrometheusObserver(registry)
    for _ in range(3):
        observe(Event("delivered", "fast", "disk", count=-5))  # a counter only grows
    observe(Event("delivered", "fast", "disk", count=5))
    assert counters(registry) == {("bytes", "fast", "get", "received"): 5}
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.exc_info[0] is ValueError


@pytest.mark.parametrize(
    "module, library, package",
    [
        ("prometheus", "prometheus_client", "prometheus_client>=0.20"),
        ("opentelemetry", "opentelemetry.metrics", "opentelemetry-api>=1.30"),
    ],
)
def test_without_its_library_an_adapter_says_what_to_install(module, library, package):
    code = f"import sys; sys.modules[{library!r}] = None; import imgstore.integrations.{module}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert last.endswith(f"pip install '{package}'")


def test_the_logs_and_the_core_import_neither_library():
    code = (
        "import sys, imgstore, imgstore.stack, imgstore.files, imgstore.integrations.logs;"
        "sys.exit(any(name.startswith(('prometheus_client', 'opentelemetry')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
