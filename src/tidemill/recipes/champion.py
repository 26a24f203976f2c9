"""Compares a candidate with the champion: on the rows and classes that both know, and that are new to both."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.checks.comparison import cannot_compare, compare_with_champion
from tidemill.checks.gate import Finding
from tidemill.core.metric import MetricVersion
from tidemill.core.model import Model, TrainedOn
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import ProjectMetrics, TableReader
from tidemill.core.run import select_test_metrics
from tidemill.core.source import Source
from tidemill.data.arrays import Floats
from tidemill.data.frame import TIME
from tidemill.data.metrics import Truth, among, losses, measure, narrowed
from tidemill.errors import DataError, NotFound
from tidemill.recipes.scoring import Candidate, measure_own, score
from tidemill.training.evaluate import filter_classes, find_slices


def check_champion(
    candidate: Candidate,
    champion: Model | None,
    policy: ModelPolicy,
    source: Source,
    tables: TableReader,
    metrics: list[MetricVersion],
    own_metrics: ProjectMetrics,
) -> list[Finding]:
    """Whether the candidate is worse than the champion on the test rows that the champion has not learned from."""
    if champion is None or not candidate.measurable:
        return []
    rival = _score_rival(champion, candidate, policy, source)
    if isinstance(rival, Finding):
        return [rival]
    unseen = _mark_unseen(champion, rival.rows, source, policy.training.group, tables)
    return [
        _measure_again(champion, rival, unseen, metrics, own_metrics),
        *compare_with_champion(
            rival.losses,
            losses(rival.truth, rival.scores),
            policy=policy.gate,
            slices=find_slices(rival.rows, policy.gate.slices),
            unseen=unseen,
            on_trial=policy.rollout.decides_later,
        ),
    ]


class _Rival(NamedTuple):
    """A champion's scores of the rows that both can judge, over the classes that both know; the candidate's losses."""

    rows: pl.DataFrame
    truth: Truth
    scores: Floats
    losses: Floats


def _score_rival(champion: Model, candidate: Candidate, policy: ModelPolicy, source: Source) -> _Rival | Finding:
    """The champion's scores of the test rows, or why there are none to compare with."""
    truth, theirs = candidate.truth, champion.manifest.signature.classes
    if champion.manifest.signature.task != truth.task:
        return cannot_compare(f"the champion does {champion.manifest.signature.task}", policy.gate)
    both = tuple(name for name in truth.classes if name in theirs)
    if truth.classes and len(both) < 2:
        return cannot_compare(f"the champion knows other classes: {', '.join(theirs)}", policy.gate)
    shared = filter_classes(candidate.rows, policy.problem.label, both)
    try:
        scores = score(champion, shared.drop(source.later, strict=False))
    except DataError as cannot:
        return cannot_compare(f"the champion cannot answer for these rows ({cannot.problem})", policy.gate)
    if both == truth.classes == theirs:
        return _Rival(candidate.rows, truth, scores, candidate.losses)
    inside = np.isin(truth.values, [truth.classes.index(name) for name in both])
    known, own = narrowed(Truth(truth.task, truth.values[inside], truth.classes), candidate.scores[inside], both)
    return _Rival(shared, known, among(both, scores, theirs), losses(known, own))


def _measure_again(
    champion: Model,
    rival: _Rival,
    unseen: npt.NDArray[np.bool_] | None,
    metrics: list[MetricVersion],
    own: ProjectMetrics,
) -> Finding:
    """The champion's metrics on these test rows, and by the metrics as they are now.

    Where it has not learned some of the rows they are measured on those, else on all.
    """
    fresh = unseen if unseen is not None and unseen.any() else np.ones(rival.rows.height, dtype=bool)
    truth, scores = Truth(rival.truth.task, rival.truth.values[fresh], rival.truth.classes), rival.scores[fresh]
    values = measure(truth, scores) | measure_own(metrics, own, truth, scores, rival.rows.filter(fresh))
    return Finding(
        about="metrics",
        reason="the champion is scored again, on these test rows and by these metrics",
        evidence={
            "champion_metrics": values,
            "champion_metrics_rows": int(fresh.sum()),
            "champion_metrics_at_release": select_test_metrics(champion.manifest.metrics),
        },
    )


def _mark_unseen(
    champion: Model, rows: pl.DataFrame, source: Source, group: str, tables: TableReader
) -> npt.NDArray[np.bool_] | None:
    """Which rows the champion has not learned from, nor from others of their `group`; None: nobody knows.

    With an event time these are the rows that are newer than its own. Without one a row that comes again is as new as
    its file, so that they are looked up in the version of the table that the champion was trained on.
    """
    trained_on = champion.manifest.trained_on
    if trained_on.trained_until is None:
        return None
    if source.time:
        unseen = rows.select(fresh=pl.col(TIME) > trained_on.trained_until)["fresh"]
    else:
        unseen = _find_unseen(rows, trained_on, source.key, tables)
    marked = rows.with_columns(unseen.alias("_fresh"))
    if not group:
        return marked["_fresh"].to_numpy()
    alone = pl.col(group).is_null()  # null is no group
    fresh = pl.when(alone).then("_fresh").otherwise(pl.col("_fresh").all().over(group))
    return marked.select(fresh.alias("_fresh"))["_fresh"].to_numpy()


def _find_unseen(rows: pl.DataFrame, trained_on: TrainedOn, key: tuple[str, ...], tables: TableReader) -> pl.Series:
    """Which rows are not in a version of a table, by their key, or else as a whole; none where that is gone."""
    try:
        learned = tables.read(trained_on.table, trained_on.version)
    except NotFound:
        return pl.repeat(value=False, n=rows.height, eager=True)
    shared = [name for name in rows.columns if name in learned.columns and not name.startswith("_")]
    columns = list(key) if key and set(key) <= set(shared) else shared
    plain = [name for name in columns if not rows.schema[name].is_nested()]
    kinds = pl.Schema({name: rows.schema[name] for name in plain})
    known = learned.select(plain).cast(kinds, strict=False).unique().with_columns(_known=pl.lit(value=True))
    found = rows.select(plain).join(known, on=plain, how="left", nulls_equal=True, maintain_order="left")
    return found["_known"].is_null()
