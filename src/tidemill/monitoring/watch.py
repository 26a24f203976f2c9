"""The watch: evaluate the model in production by every value of its policy."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import polars as pl
from msgspec import to_builtins
from msgspec.structs import replace

from tidemill.checks.changes import check_changes
from tidemill.checks.label_free import estimate_without_labels
from tidemill.checks.quality import performance
from tidemill.checks.stream import check_days_since, check_growth
from tidemill.clock import parse_duration
from tidemill.core.check import Verdict
from tidemill.core.metric import find_metric_info
from tidemill.core.model import Model
from tidemill.core.policy import ModelPolicy, WatchValue
from tidemill.core.resources import JournalReader
from tidemill.core.route import Route
from tidemill.core.run import select_test_metrics
from tidemill.core.watch import DETECTORS, OTHER_VALUES
from tidemill.data.dependence import estimate_inflation
from tidemill.data.metrics import losses, measure, measure_more, normal_quantile, standard_error
from tidemill.data.spellings import unify_columns
from tidemill.errors import ConfigurationError
from tidemill.monitoring.earlier_windows import read_earlier_windows
from tidemill.monitoring.inputs import check_inputs
from tidemill.monitoring.label_delays import add_delays, measure_delays
from tidemill.monitoring.learning import evaluate_learning
from tidemill.monitoring.newest_rows import keep_served
from tidemill.monitoring.references import (
    MEMORY,
    LiveWindow,
    Reference,
    add_window,
    choose_reference,
    list_references,
    read_windows,
    to_memory,
)
from tidemill.monitoring.repetition import require_repetition
from tidemill.monitoring.standing import mark_standing
from tidemill.monitoring.windows import add_labels, extract_scores, is_labelled, read_predictions

_MOST_WINDOWS = 8
_NO_ROWS = ("age", "growth", "learning")


def watch(
    policy: ModelPolicy,
    champion: Model,
    route: Route,
    journal: JournalReader,
    now: datetime,
    earlier: Sequence[Verdict] = (),
    reported: Sequence[Verdict] = (),
) -> list[Verdict]:
    """Return a verdict for each value of the watch policy, on the predictions of the current champion.

    `earlier` are the verdicts of earlier evaluations of this champion, `reported` those on the drift of any champion of
    the model; both newest first.
    """
    arm = route.arm("champion")
    assert arm is not None
    watched = [value for value in policy.watch.values if value.value not in _NO_ROWS]
    predictions = {
        length: read_predictions(journal, policy.name, now - length, now, arm.release, with_shadows=True)
        for length in {_window_length(value) for value in watched}
    }
    windows = {
        length: _unify_labels(
            add_labels(keep_served(predictions[length]), journal, policy.name, now - length, now), policy
        )
        for length in {_window_length(value) for value in watched if value.value != "drift"}
    }

    def evaluate(value: WatchValue) -> Verdict:
        if value.value == "learning":
            return evaluate_learning(value, champion, route, journal, now, earlier)
        rows = predictions.get(_window_length(value), pl.DataFrame())
        if value.value == "drift":
            return _evaluate_drift(value, champion, rows, route, policy.name, journal, now)
        rows = windows.get(_window_length(value), pl.DataFrame())
        if value.value in DETECTORS:
            return _evaluate_changes(value, champion, rows, arm.release)
        return _evaluate(value, champion, route, rows, now, policy, earlier)

    verdicts = [evaluate(value) for value in policy.watch.values]
    pairs = zip(verdicts, policy.watch.values, strict=True)
    repeated = [(require_repetition(verdict, value, earlier), value) for verdict, value in pairs]
    return [
        mark_standing(verdict, value, reported, now, arm.value) if value.value == "drift" else verdict
        for verdict, value in repeated
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
    """Return the verdict on the inputs; a window with too few rows grows until it has enough, at most eightfold.

    Inputs of rows that the champion predicted as a shadow are among them: in a canary it may serve few of the rows.
    """
    arm = route.arm("champion")
    assert arm is not None
    length = _window_length(value)
    longest = length * _MOST_WINDOWS
    if rows.height < value.minimum:
        older = read_predictions(journal, name, now - longest, now, arm.release, with_shadows=True)
        while rows.height < value.minimum and length < longest and older.height:
            length *= 2
            rows = older.filter(pl.col("known_at") > now - length)
    if value.reference == "release":
        return check_inputs(value, champion, rows, arm.release)
    read_earlier = partial(read_earlier_windows, journal, name, value.reference, length, now)
    return check_inputs(value, champion, rows, arm.release, read_earlier)


def _evaluate_changes(value: WatchValue, champion: Model, rows: pl.DataFrame, release: str) -> Verdict:
    """Return the verdict of a detector on the losses, in the order in which their labels became known."""
    signature = champion.manifest.signature
    if rows.width:
        rows = rows.filter(is_labelled(rows, signature)).sort("truth_known_at", "known_at")
    return check_changes(
        "adwin" if value.value == "adwin" else "page_hinkley",
        losses(*extract_scores(rows, signature)),
        rows["truth_known_at"].to_list() if rows.width else [],
        subject=release,
        limit=value.limit,
        action=value.action,
        minimum=value.minimum,
    )


def _unify_labels(rows: pl.DataFrame, policy: ModelPolicy) -> pl.DataFrame:
    """Replace the declared spellings of classes in labels that were stored before the spellings were declared."""
    return unify_columns(rows, {"truth": policy.problem.spellings})


def _window_length(value: WatchValue) -> timedelta:
    """Return the period that a value needs: its window; for `silence`, at least twice its limit."""
    length = parse_duration(value.window)
    return max(length, timedelta(days=2 * value.limit)) if value.value == "silence" else length


def _evaluate(
    value: WatchValue,
    champion: Model,
    route: Route,
    rows: pl.DataFrame,
    now: datetime,
    policy: ModelPolicy,
    earlier: Sequence[Verdict],
) -> Verdict:
    arm = route.arm("champion")
    assert arm is not None
    bounds: dict[str, Any] = {"subject": arm.release, "limit": value.limit, "action": value.action}
    if value.value == "age":
        return check_days_since("age", champion.manifest.trained_on.trained_until or route.since, now, **bounds)
    if value.value == "growth":
        trained_on = champion.manifest.trained_on
        times, window = (trained_on.trained_from, trained_on.trained_until), policy.training.window or ""
        return check_growth(*times, now, **bounds, window=window)
    if value.value == "silence":
        newest = rows["known_at"].max() if rows.height else max(route.since, now - _window_length(value))
        assert isinstance(newest, datetime)
        return check_days_since("silence", newest, now, **bounds)
    return _evaluate_performance(value, champion, rows, bounds, policy.gate.confidence, now, earlier)


def _add_estimate(verdict: Verdict, metric: str, rows: pl.DataFrame, champion: Model, confidence: float) -> Verdict:
    """Add the estimate for the rows without a label: it is shown, and changes neither outcome nor action."""
    signature = champion.manifest.signature
    if not rows.width or signature.task != "classification":
        return verdict
    without = rows.filter(pl.col("truth").is_null())["probability"].list.to_array(len(signature.classes)).to_numpy()
    estimate = estimate_without_labels(metric, without, *extract_scores(rows, signature), confidence)
    if estimate is None:
        return verdict
    evidence = verdict.evidence | {"without_labels": to_builtins(estimate)}
    return replace(verdict, reason=f"{verdict.reason}; {estimate.describe()}", evidence=evidence)


def _evaluate_performance(
    value: WatchValue,
    champion: Model,
    rows: pl.DataFrame,
    bounds: dict[str, Any],
    confidence: float,
    now: datetime,
    earlier: Sequence[Verdict],
) -> Verdict:
    release_metrics = select_test_metrics(champion.manifest.metrics)
    reference = release_metrics.get(value.value)
    if reference is None:
        raise ConfigurationError(
            f"[watch] of model {champion.manifest.name!r} uses {value.value!r}, which was not measured at release",
            f"use one of: {', '.join((*release_metrics, *OTHER_VALUES))}",
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
            f"use one of: {', '.join((*measured, *OTHER_VALUES))}",
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
    error = standard_error(value.value, truth, scores) * (estimate_inflation(losses(truth, scores)) if count else 1.0)
    around, length = normal_quantile((1 + confidence) / 2) * error, _window_length(value)
    began, live = read_windows(earlier, value.value, length)
    at_release = Reference(about="at release", value=reference, reach=(high - low) / 2)
    references = list_references(at_release, began, live, length, now)
    chosen = choose_reference(value.value, measured[value.value], references, around)
    reach = math.hypot(around, chosen.reach)
    verdict = performance(
        value.value,
        measured[value.value],
        chosen.value,
        count,
        minimum=value.minimum,
        reach=reach,
        about=chosen.about,
        **bounds,
    )
    if count >= value.minimum and math.isfinite(measured[value.value]):
        current = LiveWindow(until=now, value=measured[value.value], reach=around, rows=count)
        began, live = add_window(began, live, current, length)
    if began is not None:
        listed = {reference.about: reference.value for reference in references}
        memory = {"references": listed, MEMORY: to_memory(began, live, length)}
        verdict = replace(verdict, evidence=verdict.evidence | memory)
    measured_delays = measure_delays(rows, now, length, earlier)
    if measured_delays is not None:
        verdict = add_delays(verdict, *measured_delays)
    verdict = _add_estimate(verdict, value.value, rows, champion, confidence)
    excluded = int(rows["truth"].count()) - count if rows.width else 0
    if not excluded:
        return verdict
    reason = f"{verdict.reason}; {excluded} labels are of classes that the model was not trained on, and are excluded"
    return replace(verdict, reason=reason, evidence=verdict.evidence | {"left_out": excluded})
