"""Counters, gauges and one histogram, told in Prometheus' text format (version 0.0.4)."""

import threading
from bisect import bisect_left
from collections import defaultdict

_ABOUT = {
    "tidemill_requests_total": ("counter", "Requests by model and HTTP status."),
    "tidemill_request_seconds": ("histogram", "Seconds from a whole request to its reply."),
    "tidemill_rows_total": ("counter", "Rows that were asked for."),
    "tidemill_predictions_total": ("counter", "Answers by release and role; those of shadows are only kept."),
    "tidemill_failures_total": ("counter", "Rows that a release failed to answer, by release and role."),
    "tidemill_labels_total": ("counter", "Labels that were accepted."),
    "tidemill_journal_rows_total": ("counter", "Rows for the journal: written, or dropped."),
    "tidemill_journal_queue_rows": ("gauge", "Rows that wait to be written to the journal."),
    "tidemill_route_version": ("gauge", "Version of the route that is in force."),
    "tidemill_route_failed": ("gauge", "1 where the newest route could not be taken up, and an older one answers."),
}
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """What the service counts; may be used from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: defaultdict[str, defaultdict[Labels, float]] = defaultdict(lambda: defaultdict(float))
        self._seconds: dict[str, list[float]] = {}

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            self._values[name][tuple(labels.items())] += by

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        with self._lock:
            self._values[name][tuple(labels.items())] = value

    def value(self, name: str, **labels: str) -> float:
        """What a counter or a gauge shows now."""
        with self._lock:
            return self._values[name].get(tuple(labels.items()), 0.0)

    def observe(self, seconds: float, model: str) -> None:
        """Add a request's duration to the histogram of its model."""
        with self._lock:
            kept = self._seconds.setdefault(model, [0.0] * (len(_BUCKETS) + 2))
            kept[bisect_left(_BUCKETS, seconds)] += 1
            kept[-1] += seconds

    def text(self) -> str:
        """Everything, as Prometheus reads it."""
        with self._lock:
            lines: list[str] = []
            for name, (kind, about) in _ABOUT.items():
                lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
                lines += [
                    f"{name}{_labels(labels)} {value:.15g}" for labels, value in sorted(self._values[name].items())
                ]
                if kind == "histogram":
                    lines += [line for model in sorted(self._seconds) for line in self._histogram(name, model)]
            return "\n".join(lines) + "\n"

    def _histogram(self, name: str, model: str) -> list[str]:
        *counts, total = self._seconds[model]
        lines, sum_ = [], 0.0
        for bound, number in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=True):
            sum_ += number
            lines.append(f"{name}_bucket{_labels((('model', model), ('le', bound)))} {sum_:.0f}")
        shown = _labels((("model", model),))
        return [*lines, f"{name}_sum{shown} {total:.9g}", f"{name}_count{shown} {sum_:.0f}"]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    shown = (f'{name}="{_escaped(value)}"' for name, value in labels)
    return "{" + ",".join(shown) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
