"""The watch: evaluate the model in production by every value of its policy."""

import math
from datetime import datetime, timedelta
from typing import Any

import polars as pl
from msgspec.structs import replace

from tidemill.checks.quality import performance
from tidemill.checks.stream import check_days_since
from tidemill.clock import parse_duration
from tidemill.core.check import Verdict
from tidemill.core.metric import find_metric_info
from tidemill.core.model import Model
from tidemill.core.policy import ModelPolicy, WatchValue
from tidemill.core.resources import JournalReader
from tidemill.core.route import Route
from tidemill.core.run import select_test_metrics
from tidemill.data.metrics import measure, measure_more, normal_quantile, standard_error
from tidemill.data.spellings import unify_columns
from tidemill.errors import ConfigurationError
from tidemill.monitoring.inputs import check_inputs
from tidemill.monitoring.windows import extract_scores, read_window

_MOST_WINDOWS = 8


def watch(policy: ModelPolicy, champion: Model, route: Route, journal: JournalReader, now: datetime) -> list[Verdict]:
    """Return a verdict for each value of the watch policy, on the predictions of the current champion."""
    arm = route.arm("champion")
    assert arm is not None
    windows = {
        length: _unify_labels(read_window(journal, policy.name, now - length, now, arm.release), policy)
        for length in {_window_length(value) for value in policy.watch.values if value.value != "age"}
    }
    return [
        _evaluate(
            value, champion, route, windows.get(_window_length(value), pl.DataFrame()), now, policy.gate.confidence
        )
        if value.value != "drift"
        else _evaluate_drift(value, champion, windows[_window_length(value)], route, policy.name, journal, now)
        for value in policy.watch.values
    ]


def _evaluate_drift(
    value: WatchValue,
    champion: Model,
    rows: pl.DataFrame,
    route: Route,
    name: str,
    journal: JournalReader,
    now: datetime,
) -> Verdict:
    """Return the verdict on the inputs; a window with too few rows grows until it has enough, at most eightfold."""
    arm = route.arm("champion")
    assert arm is not None
    length = _window_length(value)
    longest = length * _MOST_WINDOWS
    while rows.height < value.minimum and length < longest:
        length *= 2
        rows = read_window(journal, name, now - length, now, arm.release)
    return check_inputs(value, champion, rows, arm.release)


def _unify_labels(rows: pl.DataFrame, policy: ModelPolicy) -> pl.DataFrame:
    """Replace the declared spellings of classes in labels that were stored before the spellings were declared."""
    return unify_columns(rows, {"truth": policy.problem.spellings})


def _window_length(value: WatchValue) -> timedelta:
    """Return the period that a value needs: its window; for `silence`, at least twice its limit."""
    length = parse_duration(value.window)
    return max(length, timedelta(days=2 * value.limit)) if value.value == "silence" else length


def _evaluate(
    value: WatchValue, champion: Model, route: Route, rows: pl.DataFrame, now: datetime, confidence: float
) -> Verdict:
    arm = route.arm("champion")
    assert arm is not None
    bounds: dict[str, Any] = {"subject": arm.release, "limit": value.limit, "action": value.action}
    if value.value == "age":
        return check_days_since("age", champion.manifest.trained_on.trained_until or route.since, now, **bounds)
    if value.value == "silence":
        newest = rows["known_at"].max() if rows.height else max(route.since, now - _window_length(value))
        assert isinstance(newest, datetime)
        return check_days_since("silence", newest, now, **bounds)
    return _evaluate_performance(value, champion, rows, bounds, confidence)


def _evaluate_performance(
    value: WatchValue, champion: Model, rows: pl.DataFrame, bounds: dict[str, Any], confidence: float
) -> Verdict:
    release_metrics = select_test_metrics(champion.manifest.metrics)
    reference = release_metrics.get(value.value)
    if reference is None:
        raise ConfigurationError(
            f"[watch] of model {champion.manifest.name!r} uses {value.value!r}, which was not measured at release",
            f"use one of: {', '.join((*release_metrics, 'drift', 'age', 'silence'))}",
        )
    truth, scores = extract_scores(rows, champion.manifest.signature)
    count = len(truth.values)
    measured = measure(truth, scores) if count else {value.value: reference}
    if value.value not in measured:
        measured |= measure_more(truth, scores)
    if value.value not in measured and find_metric_info(value.value).always:
        raise ConfigurationError(
            f"[watch] of model {champion.manifest.name!r} uses {value.value!r}, a metric of the project's own, which "
            "is not measured on live predictions",
            f"use one of: {', '.join((*measured, 'drift', 'age', 'silence'))}",
        )
    if value.value not in measured:
        return Verdict(
            check="performance",
            subject=bounds["subject"],
            outcome="undecided",
            action="hold",
            reason=f"{value.value} is not defined on these {count} labels: they are all the same",
            evidence={"metric": value.value, "reference": reference, "rows": count, "limit": value.limit},
        )
    low, high = champion.manifest.intervals.get(f"test_{value.value}", (0.0, 0.0))
    around = normal_quantile((1 + confidence) / 2) * standard_error(value.value, truth, scores)
    reach = math.hypot(around, (high - low) / 2)
    verdict = performance(
        value.value, measured[value.value], reference, count, minimum=value.minimum, reach=reach, **bounds
    )
    excluded = int(rows["truth"].count()) - count if rows.width else 0
    if not excluded:
        return verdict
    reason = f"{verdict.reason}; {excluded} labels are of classes that the model was not trained on, and are excluded"
    return replace(verdict, reason=reason, evidence=verdict.evidence | {"left_out": excluded})
