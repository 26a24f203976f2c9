"""The metrics of one service, for Prometheus."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_COUNTERS = {
    "tidemill_requests_total": ("Requests by model and HTTP status.", ("model", "status")),
    "tidemill_rows_total": ("Rows of prediction requests.", ("model",)),
    "tidemill_predictions_total": (
        "Predictions by release and role; those of a shadow go to the journal only.",
        ("release", "role"),
    ),
    "tidemill_failures_total": ("Rows that a release could not predict, by release and role.", ("release", "role")),
    "tidemill_warnings_total": (
        "Rows with an unknown column, an absent input, or a value outside its range or domain, by model and kind.",
        ("model", "kind"),
    ),
    "tidemill_shadow_dropped_total": ("Requests that a slow shadow was not asked.", ("model",)),
    "tidemill_models_ended_total": (
        "Processes of models that were ended, by release and reason.",
        ("release", "reason"),
    ),
    "tidemill_labels_total": ("Labels that were accepted.", ("model",)),
    "tidemill_journal_rows_total": ("Rows for the journal: written, dropped, or refused.", ("outcome",)),
}
_GAUGES = {
    "tidemill_journal_queue_rows": ("Rows that wait for the journal.", ()),
    "tidemill_journal_failed": ("1 if the journal cannot be written.", ()),
    "tidemill_journal_damaged_files": ("Files of the journal that are damaged or missing.", ()),
    "tidemill_route_version": ("Version of the route in force.", ("model",)),
    "tidemill_route_failed": (
        "1 if the newest route could not be loaded, and an older one is in force.",
        ("model",),
    ),
}
_SECONDS = ("tidemill_request_seconds", "Seconds from a whole request to its response.")
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class ServiceMetrics:
    """Counters, gauges and one histogram, in a separate registry; safe to use from many threads."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._counters = {name: Counter(name, *about, registry=registry) for name, about in _COUNTERS.items()}
        self._gauges = {name: Gauge(name, *about, registry=registry) for name, about in _GAUGES.items()}
        self._seconds = Histogram(*_SECONDS, ("model",), buckets=_BUCKETS, registry=registry)

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        """Add to a counter."""
        _child(self._counters[name], labels).inc(by)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        _child(self._gauges[name], labels).set(value)

    def value(self, name: str, **labels: str) -> float:
        """Return the current value of a counter or a gauge; 0 if it was never set."""
        return self._registry.get_sample_value(name, labels) or 0.0

    def observe(self, seconds: float, model: str) -> None:
        """Add a request's duration to the histogram of its model."""
        self._seconds.labels(model).observe(seconds)

    def text(self) -> str:
        """Return all metrics in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry).decode()


def _child(metric: Any, labels: dict[str, str]) -> Any:
    return metric.labels(**labels) if labels else metric
