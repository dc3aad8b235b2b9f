"""Events in OpenTelemetry's own SDK, read back through its reader in memory."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from imgstore.integrations._metering import BUCKETS, COUNTERS
from imgstore.integrations.opentelemetry import OpenTelemetryObserver
from tests.unit.integrations.metering import COUNTS, DURATIONS, EVENTS


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader):
    return MeterProvider([reader], shutdown_on_exit=False)


def metrics(reader):
    """Gives the metrics by their names, and sees that they come from one meter, ours."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    (resource,) = data.resource_metrics
    (ours,) = resource.scope_metrics
    assert ours.scope.name == "imgstore"
    return {each.name: each for each in ours.metrics}


def counts(reader):
    return {
        (
            name.removeprefix("imgstore."),
            *(point.attributes[each] for each in ("store", "op", "class")),
        ): point.value
        for name, metric in metrics(reader).items()
        if name != "imgstore.attempt.duration"
        for point in metric.data.data_points
    }


def test_every_event_counts_where_it_belongs(provider, reader):
    observe = OpenTelemetryObserver(provider)
    for event in EVENTS:
        observe(event)
    assert counts(reader) == COUNTS


def test_durations(provider, reader):
    observe = OpenTelemetryObserver(provider)
    for event in EVENTS:
        observe(event)
    points = metrics(reader)["imgstore.attempt.duration"].data.data_points
    found = {(each.attributes["store"], each.attributes["op"]): (each.count, each.sum) for each in points}
    assert found == {which: (count, pytest.approx(total)) for which, (count, total) in DURATIONS.items()}
    assert {tuple(each.explicit_bounds) for each in points} == {BUCKETS}


def test_units_and_kinds(provider, reader):
    observe = OpenTelemetryObserver(provider)
    for event in EVENTS:
        observe(event)
    found = metrics(reader)
    assert {name.removeprefix("imgstore."): metric.unit for name, metric in found.items()} == {
        "bytes": "By",
        "attempts": "{attempt}",
        "resumes": "{resume}",
        "stalls": "{stall}",
        "repairs": "{chunk}",
        "errors": "{error}",
        "attempt.duration": "s",
    }
    assert all(found[f"imgstore.{name}"].data.is_monotonic for name in COUNTERS)
    assert all(metric.description for metric in found.values())


def test_observers_of_one_provider_share_its_metrics(provider, reader):
    OpenTelemetryObserver(provider)(EVENTS[0])
    OpenTelemetryObserver(provider)(EVENTS[1])
    assert counts(reader) == {("attempts", "fast", "get", "opened"): 2}


def test_without_a_provider_it_is_the_programs_own_which_may_be_none():
    OpenTelemetryObserver()(EVENTS[0])


def test_a_provider_that_was_shut_down_ends_nothing(provider):
    observe = OpenTelemetryObserver(provider)
    provider.shutdown()
    observe(EVENTS[0])
