"""Compares a candidate with the champion, on rows that are new to both and on classes that both were trained on."""

from datetime import datetime
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.checks.comparison import (
    CHAMPION_CHECKS,
    LEAST_COMPARED,
    cannot_compare,
    check_metric_thresholds,
    compare,
    compare_with_champion,
)
from tidemill.checks.gate import Finding
from tidemill.core.columns import PREFIX, TIME, is_internal
from tidemill.core.metric import MetricVersion, ProjectMetrics
from tidemill.core.model import Model, TrainedOn
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import TableReader
from tidemill.core.run import select_test_metrics
from tidemill.core.source import Source
from tidemill.data.arrays import Floats
from tidemill.data.keys import to_row_keys
from tidemill.data.metrics import Truth, intervals, losses, measure, measure_more, renormalize, restrict_classes
from tidemill.data.split import choose_split_kind
from tidemill.errors import DataError, NotFound
from tidemill.recipes.scoring import Candidate, SplitRows, measure_project_metrics, score
from tidemill.training.evaluate import filter_classes, find_slices, predict_baseline, to_truth

_LEARNED = f"{PREFIX}learned"


def check_champion(
    compared: Candidate,
    champion: Model | None,
    rows: SplitRows,
    policy: ModelPolicy,
    source: Source,
    tables: TableReader,
    metrics: list[MetricVersion],
    project_metrics: ProjectMetrics,
) -> list[Finding]:
    """Check whether the candidate is worse than the champion, on test rows that neither has learned from.

    A further finding states whether the champion itself would pass the thresholds and the comparison with the baseline.
    """
    if champion is None or not compared.measurable:
        return []
    scored = _score_champion(champion, compared, policy, source)
    if isinstance(scored, Finding):
        return [scored]
    unseen = _mark_unseen(champion, scored.rows, source, policy.training.group, tables)
    measured = _select_measured(scored, unseen)
    values = measure(measured.truth, measured.scores) | measure_project_metrics(
        metrics, project_metrics, measured.truth, measured.scores, measured.rows
    )
    champion_losses = losses(scored.truth, scored.scores)
    has_new_rows = unseen is None or int(unseen.sum()) >= LEAST_COMPARED
    own_checks = [_judge_champion(measured, values, rows, policy)] if has_new_rows else []
    return [
        _report_metrics(champion, compared.model, measured, values),
        *own_checks,
        *compare_with_champion(
            scored.candidate_losses,
            champion_losses,
            policy=policy.gate,
            slices=find_slices(scored.rows, policy.gate.slices),
            unseen=unseen,
            has_canary=policy.rollout.decides_later,
            in_time_order=choose_split_kind(policy.training, timed=bool(source.time)) == "time",
        ),
    ]


class _ChampionScores(NamedTuple):
    """The champion's scores and the candidate's losses, for the rows and classes that both models can predict."""

    rows: pl.DataFrame
    truth: Truth
    scores: Floats
    candidate_losses: Floats


def _score_champion(
    champion: Model, candidate: Candidate, policy: ModelPolicy, source: Source
) -> _ChampionScores | Finding:
    """Return the champion's scores for the test rows, or a finding with the reason why the two cannot be compared."""
    truth, champion_classes = candidate.truth, champion.manifest.signature.classes
    if champion.manifest.signature.task != truth.task:
        return cannot_compare(f"the champion is a model for {champion.manifest.signature.task}", policy.gate)
    shared = tuple(name for name in truth.classes if name in champion_classes)
    if truth.classes and len(shared) < 2:
        return cannot_compare(f"the champion was trained on other classes: {', '.join(champion_classes)}", policy.gate)
    rows = filter_classes(candidate.rows, policy.problem.label, shared)
    try:
        scores = score(champion, rows.drop(source.later, strict=False))
    except DataError as error:
        return cannot_compare(f"the champion cannot predict these rows ({error.problem})", policy.gate)
    if shared == truth.classes == champion_classes:
        return _ChampionScores(candidate.rows, truth, scores, candidate.losses)
    has_shared_class = np.isin(truth.values, [truth.classes.index(name) for name in shared])
    shared_truth, candidate_scores = restrict_classes(
        Truth(truth.task, truth.values[has_shared_class], truth.classes), candidate.scores[has_shared_class], shared
    )
    champion_scores = renormalize(shared, scores, champion_classes)
    return _ChampionScores(rows, shared_truth, champion_scores, losses(shared_truth, candidate_scores))


def _select_measured(scored: _ChampionScores, unseen: npt.NDArray[np.bool_] | None) -> _ChampionScores:
    """Return the rows that the champion has not learned from; if there are none, all test rows."""
    if unseen is None or not unseen.any():
        return scored
    truth = Truth(scored.truth.task, scored.truth.values[unseen], scored.truth.classes)
    rows = scored.rows.filter(unseen)
    return _ChampionScores(rows, truth, scored.scores[unseen], scored.candidate_losses[unseen])


def _report_metrics(champion: Model, compared: Model, measured: _ChampionScores, values: dict[str, float]) -> Finding:
    """Return the champion's metrics on these test rows, with the current code of the metrics, and whose rows are newer.

    The times are those of the compared rows, and of the newest row that each of the two has learned.
    """
    times = measured.rows[TIME]
    return Finding(
        about="metrics",
        reason="the champion was scored again, on these test rows and with these metrics",
        evidence={
            "champion_metrics": values,
            "champion_metrics_rows": measured.rows.height,
            "champion_metrics_at_release": select_test_metrics(champion.manifest.metrics),
            "compared_from": _format_time(times.min()),
            "compared_until": _format_time(times.max()),
            "candidate_learned_until": _format_time(compared.manifest.trained_on.trained_until),
            "champion_learned_until": _format_time(champion.manifest.trained_on.trained_until),
        },
    )


def _format_time(time: object) -> str:
    return time.isoformat() if isinstance(time, datetime) else ""


def _judge_champion(
    measured: _ChampionScores, values: dict[str, float], rows: SplitRows, policy: ModelPolicy
) -> Finding:
    """Return whether the champion would pass the checks of a candidate on the same rows, and all losses on them."""
    truth = measured.truth
    learned = filter_classes(rows.learned, policy.problem.label, truth.classes)
    shares = to_truth(learned[policy.problem.label], policy.problem.task, truth.classes)
    baseline = losses(truth, predict_baseline(shares, measured.rows.height))
    champion_losses = losses(truth, measured.scores)
    ranges = intervals(truth, measured.scores, policy.gate.confidence) if policy.gate.thresholds else {}
    findings = [
        *check_metric_thresholds(values | measure_more(truth, measured.scores), policy.gate.thresholds, ranges),
        *compare(champion_losses, baseline, None, policy=policy.gate, slices={}),
    ]
    failed = [finding.reason for finding in findings if finding.outcome == "fail"]
    count = measured.rows.height
    reason = f"the champion would pass the thresholds and the trivial baseline on these {count} rows"
    if failed:
        reason = f"the champion would not pass either, on {count} rows that neither has learned: {'; '.join(failed)}"
    return Finding(
        about=CHAMPION_CHECKS,
        reason=reason,
        evidence={
            "champion_passes": not failed,
            "compared_loss": float(measured.candidate_losses.mean()),
            "compared_champion_loss": float(champion_losses.mean()),
            "compared_baseline_loss": float(baseline.mean()),
        },
    )


def _mark_unseen(
    champion: Model, rows: pl.DataFrame, source: Source, group: str, tables: TableReader
) -> npt.NDArray[np.bool_] | None:
    """Mark the rows that the champion has not seen: neither the row nor another row of its `group`; None if unknown.

    With an event time, the unseen rows are newer than the champion's training rows. Without an event time, a new file
    can contain old rows, so the rows are looked up in the version of the table that the champion was trained on.
    """
    trained_on = champion.manifest.trained_on
    if trained_on.trained_until is None:
        return None
    if source.time:
        unseen = rows.select(unseen=pl.col(TIME) > trained_on.trained_until)["unseen"]
    else:
        unseen = _find_unseen(rows, trained_on, source.key, tables)
    if not group:
        return unseen.to_numpy()
    marked = pl.DataFrame([unseen.alias("unseen"), rows[group].alias("group")])
    group_unseen = pl.when(pl.col("group").is_null()).then("unseen").otherwise(pl.col("unseen").all().over("group"))
    return marked.select(group_unseen.alias("unseen"))["unseen"].to_numpy()


def _find_unseen(rows: pl.DataFrame, trained_on: TrainedOn, key: tuple[str, ...], tables: TableReader) -> pl.Series:
    """Mark the rows that a version of a table does not contain: by key, or as whole rows; none if it is deleted."""
    try:
        learned = tables.read(trained_on.table, trained_on.version)
    except NotFound:
        return pl.repeat(value=False, n=rows.height, eager=True)
    shared = [name for name in rows.columns if name in learned.columns and not is_internal(name)]
    unseen = _find_other_rows(rows, learned, shared)
    if not key or not set(key) <= set(shared):
        return unseen
    keys = to_row_keys(rows, key)
    return unseen.zip_with(keys.is_null(), ~keys.is_in(to_row_keys(learned, key).drop_nulls().implode()))


def _find_other_rows(rows: pl.DataFrame, learned: pl.DataFrame, shared: list[str]) -> pl.Series:
    """Mark the rows that differ from every learned row in at least one of the `shared` columns."""
    flat_columns = [name for name in shared if not rows.schema[name].is_nested()]
    schema = pl.Schema({name: rows.schema[name] for name in flat_columns})
    distinct = learned.select(flat_columns).cast(schema, strict=False).unique()
    learned_rows = distinct.with_columns(pl.lit(value=True).alias(_LEARNED))
    matched = rows.select(flat_columns).join(
        learned_rows, on=flat_columns, how="left", nulls_equal=True, maintain_order="left"
    )
    return matched[_LEARNED].is_null()
