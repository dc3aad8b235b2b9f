"""Events as OpenTelemetry metrics. Needs the extra `opentelemetry`, and the SDK of the program around it."""

from __future__ import annotations

from collections.abc import Mapping

from imgstore.integrations._metering import BUCKETS, COUNTERS, DURATION, MeteringObserver

try:
    from opentelemetry.metrics import MeterProvider, get_meter
except ImportError as exc:
    raise ImportError(
        "metrics for OpenTelemetry need its API: pip install 'opentelemetry-api>=1.30'"
    ) from exc

# By the OpenTelemetry semantic conventions ("Instrument units"): UCUM, and in braces what is merely counted.
_UNITS = {
    "bytes": "By",
    "attempts": "{attempt}",
    "resumes": "{resume}",
    "stalls": "{stall}",
    "repairs": "{chunk}",
    "errors": "{error}",
}


class OpenTelemetryObserver(MeteringObserver):
    """Counts events in `imgstore.{bytes,attempts,resumes,stalls,repairs,errors}`.

    And in the histogram `imgstore.attempt.duration`. The attributes are `store`, `op` and `class`, so that an
    exporter to Prometheus gives the names and labels of `PrometheusObserver`. Without `meter_provider` it is
    the program's own, and counts nothing where the program has none.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        meter = get_meter("imgstore", meter_provider=meter_provider)
        self._counters = {
            name: meter.create_counter(f"imgstore.{name}", _UNITS[name], text)
            for name, text in COUNTERS.items()
        }
        self._duration = meter.create_histogram(
            "imgstore.attempt.duration", "s", DURATION, explicit_bucket_boundaries_advisory=BUCKETS
        )

    def _count(self, name: str, amount: int, labels: Mapping[str, str]) -> None:
        self._counters[name].add(amount, labels)

    def _time(self, seconds: float, labels: Mapping[str, str]) -> None:
        self._duration.record(seconds, labels)
