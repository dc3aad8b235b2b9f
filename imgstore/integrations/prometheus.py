"""Events as Prometheus metrics. Needs the extra `prometheus`."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from imgstore.integrations._metering import BUCKETS, COUNTERS, DURATION, LABELS, MeteringObserver

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
except ImportError as exc:
    raise ImportError(
        "metrics for Prometheus need its client library: pip install 'prometheus_client>=0.20'"
    ) from exc


class PrometheusObserver(MeteringObserver):
    """Counts events in `imgstore_{bytes,attempts,resumes,stalls,repairs,errors}_total{store,op,class}`.

    And in the histogram `imgstore_attempt_duration_seconds{store,op}`. Observers of one registry count into
    the same metrics; an event that is told to two of them counts twice.

    >>> from imgstore.model import Event
    >>> registry = CollectorRegistry()
    >>> observe = PrometheusObserver(registry)
    >>> observe(Event("delivered", "fast", "disk", count=4096))
    >>> labels = {"store": "fast", "op": "get", "class": "received"}
    >>> registry.get_sample_value("imgstore_bytes_total", labels)
    4096.0
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Registers the metrics, unless an observer of this registry has done so. Call it from one thread.

        Raises: ValueError where other software has metrics of these names in the registry.
        """
        if registry not in _METRICS:
            _METRICS[registry] = _Metrics(registry)
        self._metrics = _METRICS[registry]

    def _count(self, name: str, amount: int, labels: Mapping[str, str]) -> None:
        self._metrics.counters[name].labels(**labels).inc(amount)

    def _time(self, seconds: float, labels: Mapping[str, str]) -> None:
        self._metrics.duration.labels(**labels).observe(seconds)


class _Metrics:
    """The metrics of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.counters = {
            name: Counter(f"imgstore_{name}", text, LABELS, registry=registry)
            for name, text in COUNTERS.items()
        }
        self.duration = Histogram(
            "imgstore_attempt_duration_seconds", DURATION, LABELS[:2], registry=registry, buckets=BUCKETS
        )


_METRICS: WeakKeyDictionary[CollectorRegistry, _Metrics] = WeakKeyDictionary()
